"""The code of a submission: whole, once, and importable."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import isoflop
from isoflop.launching import snapshot
from isoflop.store import StudyDirectory, read_json


def test_the_copy_is_the_package_and_imports_by_itself(tmp_path):
    place = StudyDirectory(tmp_path)
    folder = snapshot.take(place.code)
    assert snapshot.take(place.code) == folder
    assert [path.name for path in place.code.iterdir() if path.is_dir()] == [folder.name]
    package = Path(isoflop.__file__).parent
    ours = {path.relative_to(package): path.read_bytes() for path in package.rglob("*.*") if path.suffix != ".pyc"}
    ours = {path: content for path, content in ours.items() if "__pycache__" not in path.parts}
    assert {path: (folder / "isoflop" / path).read_bytes() for path in ours} == ours
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import isoflop.launching.worker; print(isoflop.__file__)"],
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(folder))
    assert read_json(folder.with_suffix(".json"))["version"] == isoflop.__version__
