"""The notebooks run from the first cell to the last, as in a fresh kernel, and hold no outputs in the repository."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
#: In a process of its own: the kernel's sockets and threads are none of this one's business.
EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=300, resources={"metadata": {"path": sys.argv[2]}}).execute()
shown = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ())]
figures = sum("image/png" in each for each in shown)
sounds = sum("<audio" in each.get("text/html", "") for each in shown)
print(f"{figures} figures, {sounds} sounds")
"""


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def test_there_are_four():
    assert [path.stem for path in NOTEBOOKS] == ["01_plan", "02_fit", "03_recommend", "04_audio"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, path, path.parent],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    figures, sounds = (int(word) for word in done.stdout.split() if word.isdecimal())
    assert figures >= 2
    assert (sounds > 0) == (path.stem == "04_audio")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path):
    for cell in cells(path):
        assert not cell.get("outputs"), f"{path.name}: clear the outputs before it is committed"
        assert cell.get("execution_count") is None
        assert "outputs" in cell or cell["cell_type"] == "markdown"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_explains_and_imports_what_is_documented(path):
    """Every stretch of code is led up to by text; what it imports of isoflop stands in the site's reference."""
    assert cells(path)[0]["cell_type"] == "markdown"
    reference = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    code = "\n".join(source(cell) for cell in cells(path) if cell["cell_type"] == "code")
    tree = ast.parse(code.replace("%matplotlib inline", ""))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("isoflop"):
            for name in node.names:
                parts = [f"::: {node.module}.{name.name}\n", f"::: {node.module}\n"]
                assert any(part in reference for part in parts), f"{node.module}.{name.name} is not in the reference"
