"""The rules of the house (docs/structure.md), held."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "isoflop"
CONTENT = ["grids", "launchers", "analysis", "notebooks"]
MODULES = sorted(PACKAGE.rglob("*.py"))

#: A room may import rooms of a higher rank, and its own.
RANKS = {
    "__main__": -2,
    "cli": -1,
    "rehearsal": 0,
    "auditing": 0,
    "choosing": 0,
    "workflow": 1,
    "results": 2,
    "interpretation": 3,
    "tuning": 2,
    "launching": 3,
    "reporting": 3,
    "facts": 4,
    "training": 4,
    "tokens": 5,
    "trainer": 5,
    "store": 6,
    "run_directory": 7,
    "tables": 6,
    "claims": 7,
    "adopted": 7,
    "recommendation": 7,
    "planning": 8,
    "fitting": 9,
    "arms": 10,
    "study_template": 10,
    "flops": 11,
    "study": 11,
    "study_axes": 12,
    "study_data": 12,
    "study_grid": 12,
    "study_ladder": 12,
    "study_recipe": 13,
    "study_trainer": 13,
    "settings": 14,
    "machine": 13,
    "table_files": 12,
    "files": 13,
    "child": 13,
    "names": 15,
    "plain": 15,
    "errors": 16,
}


def room_of(module: str) -> str:
    """The first component under the package: a folder or a module at its top."""
    return module.split(".")[1] if "." in module else module


def imports_of(path: Path) -> list[tuple[str, bool]]:
    """Every absolute import of a file and whether it runs when the module is imported."""
    tree = ast.parse(path.read_text())
    late = {
        id(node)
        for parent in ast.walk(tree)
        if isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(parent, ast.If) and "TYPE_CHECKING" in ast.dump(parent.test))
        for node in ast.walk(parent)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) not in late) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "isoflop" else [node.module]
            )
            found += [(name, id(node) not in late) for name in names]
    return found


def names(paths):
    return [str(path.relative_to(ROOT)) for path in paths]


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_arrows_run_one_way(path):
    relative = path.relative_to(PACKAGE)
    if relative == Path("__init__.py"):
        return
    here = relative.parts[0].removesuffix(".py")
    for module, _ in imports_of(path):
        if module.startswith("isoflop.") and module != "isoflop.__version__":
            there = room_of(module)
            assert there == here or RANKS[there] > RANKS[here], f"{relative} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_torch_lives_in_training_and_codecs_alone(path):
    for module, _ in imports_of(path):
        if module.split(".")[0] in {"torch", "lightning"}:
            parts = path.relative_to(PACKAGE).parts
            # Codecs with weights load it when they are made; `isoflop.tokens.codecs` itself loads none.
            assert parts[0] == "training" or parts[:2] == ("tokens", "codecs"), f"{path} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_a_module_tells_one_story(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 400, f"{path} has {len(lines)} lines: it wants to be two"
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


def test_content_folders_hold_content():
    for folder in CONTENT:
        if not (ROOT / folder).exists():
            continue
        assert (ROOT / folder / "README.md").exists()
        assert not list((ROOT / folder).rglob("__init__.py"))
        for script in (ROOT / folder).rglob("*.py"):
            assert len(script.read_text().splitlines()) < 40, f"{script} holds logic: it belongs in the package"
    assert not {path.stem for path in MODULES} & set(CONTENT)
    assert not {path.parent.name for path in MODULES} & set(CONTENT)


def test_tests_mirror_the_package():
    #: Tests of the whole house, and of what a room's `__init__` holds.
    others = {
        *("test_analysis.py", "test_commands.py", "test_docs.py", "test_grids.py", "test_layout.py"),
        *("test_notebooks.py", "test_public.py"),
        *("fitting/test_coverage.py", "fitting/test_fit.py"),
        *("launching/test_slurm_faults.py", "reporting/test_browser.py"),
    }
    for path in (ROOT / "tests").rglob("test_*.py"):
        relative = path.relative_to(ROOT / "tests")
        module = PACKAGE / relative.parent / relative.name.removeprefix("test_")
        assert str(relative) in others or module.exists(), f"{relative} mirrors nothing"


LIGHT = [
    "import isoflop",
    "import isoflop.launching.local",
    "import isoflop.launching.slurm, isoflop.launching.task, isoflop.launching.tending, isoflop.cli.watching",
    "import isoflop.store",
    "import isoflop.tuning.tuner, isoflop.tuning.result",
    "import isoflop.cli",
    "import isoflop.workflow",
    "import isoflop.tokens.encoding, isoflop.tokens.tokenizers",
    "import isoflop.tokens.codecs.joined, isoflop.tokens.codecs.mimi",
    "from isoflop import Law, Plan, Recommendation, Run, Study, fit, plan, points, recommend, run",
]


@pytest.mark.parametrize("statement", LIGHT)
def test_nothing_heavy_is_imported(statement):
    script = (
        f"{statement}\nimport sys, json\n"
        "print(json.dumps([m for m in ('torch', 'lightning', 'transformers', 'matplotlib') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_what_runs_on_login_nodes_and_in_crews_loads_no_tables():
    script = (
        "import isoflop.launching.crew, isoflop.launching.states, isoflop.cli.watching, sys\n"
        "print([m for m in ('pandas', 'numpy', 'pydantic', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_the_package_loads_no_tables_either():
    script = "import isoflop, sys; print([m for m in ('pandas', 'scipy', 'numpy', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_advice_by_a_law_loads_no_tables():
    script = (
        "import isoflop.cli, isoflop.recommendation.comparison, isoflop.fitting.law, sys\n"
        "isoflop.recommend('besiroglu2024', flops=1e22)\n"
        "print([m for m in ('pandas', 'scipy', 'torch', 'rich.progress') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
