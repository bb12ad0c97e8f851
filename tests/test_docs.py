"""The site builds strictly, loads nothing from elsewhere, and its reference is what the code says."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
import yaml

from isoflop.cli import app
from isoflop.launching.profiles import Options, SlurmProfile, parse_profile
from isoflop.planning.prior import record
from isoflop.planning.recipes import named
from isoflop.study import Study, Training
from isoflop.study_grid import Grid

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it as `make docs` does; a broken link, anchor or reference is an error."""
    place = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", place],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return place


def text_of(page: Path) -> str:
    """What a page says, without its markup."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page.read_text(encoding="utf-8"))).split())


@pytest.mark.slow
def test_every_page_is_on_the_site_and_in_its_navigation(site):
    home = (site / "index.html").read_text(encoding="utf-8")
    for page in [*PAGES, *(Path(f"reference/{name}.md") for name in ("cli", "study", "launcher", "laws"))]:
        name = str(page.relative_to(ROOT / "docs") if page.is_absolute() else page).removesuffix("md") + "html"
        assert (site / name).is_file()
        assert name == "index.html" or f'href="{name}"' in home, f"{name} is not in the navigation"


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(site):
    loading = re.compile(r"""<(?:script|img|iframe|source)[^>]+src=["']?(?:https?:)?//|<link[^>]+href=["']?https?://""")
    for page in site.rglob("*.html"):
        assert not loading.search(page.read_text(encoding="utf-8")), page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet


@pytest.mark.slow
def test_the_reference_has_every_verb_option_and_key(site):
    cli = text_of(site / "reference" / "cli.html")
    verbs = dict(typer.main.get_command(app).commands)
    verbs |= {f"corpus {verb}": command for verb, command in verbs.pop("corpus").commands.items()}
    for verb, command in verbs.items():
        assert f"isoflop {verb}" in cli
        for parameter in command.params:
            shown = parameter.metavar if parameter.param_type_name == "argument" else max(parameter.opts, key=len)
            assert shown in cli, f"{verb} {shown}"
    study, launcher = (text_of(site / "reference" / f"{name}.html") for name in ("study", "launcher"))
    for model, page in ((Grid, study), (Training, study), (Options, launcher)):
        for name, field in model.model_fields.items():
            assert f"{name} " in page
            assert field.description in page
    assert record("llama3")["title"] in text_of(site / "reference" / "laws.html")


def snippets() -> Iterator[tuple[str, dict[str, object]]]:
    """Every YAML block that a page shows, with the page's name."""
    for page in PAGES:
        for match in re.finditer(r"^```yaml\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            yield page.stem, yaml.safe_load(match[1])


@pytest.mark.parametrize("shown", [pytest.param(shown, id=page) for page, shown in snippets()])
def test_yaml_that_pages_show_is_taken(shown):
    """A part of a launcher profile, or of a study, each of whose keys is known and heeded."""
    if set(shown) <= set(SlurmProfile.model_fields):
        assert parse_profile({"launcher": "slurm", **shown}, "shown").model_fields_set >= set(shown)
        return
    study = Study.parse({"name": "shown", "grid": {"budgets": [1e18], "sizes": [128]}, **shown})
    assert study.model_fields_set >= set(shown)
    assert named(study.recipe).name == (study.recipe.name or study.recipe.base)


def test_files_that_pages_name_are_there():
    """What stands in backticks and looks like a path of this repository."""
    named = re.compile(r"`((?:docs|grids|launchers|notebooks|analysis|isoflop|tests|benchmarks)/[\w./-]*)`")
    for page in [*PAGES, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "grids/README.md"))]:
        for match in named.finditer(page.read_text(encoding="utf-8")):
            assert (ROOT / match[1]).exists(), f"{page.name} names {match[1]}"


def test_links_of_the_readme_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert (ROOT / target).exists(), target
