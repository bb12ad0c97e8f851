"""A ladder from a CSV or a function is the same table as one in the file."""

from __future__ import annotations

import sys

import pytest
import yaml

from isoflop.errors import InputError
from isoflop.study import Study

OPTIONS = {"width": 8, "wide": 0.5, "kind": "x", "on": True}
ROWS = [
    {
        "name": "a",
        "params": 1000,
        "flops_per_sample": 6e3,
        "options": {"width": 8, "wide": 0.5, "kind": "x", "on": True},
    },
    {"name": "b", "params": 2000, "flops_per_sample": 12e3, "learning_rate": 0.1},
]
CSV = """# what the models cost
name,params,flops_per_sample,learning_rate,options.width,options.wide,options.kind,options.on
a,1000,6e3,,8,0.5,x,true
b,2000,1.2e4,0.1,,,,
"""


@pytest.fixture
def load(tmp_path):
    """Load a study with that ladder, beside which files lie."""

    def make(ladder, **files):
        for name, text in files.items():
            (tmp_path / name.replace("_csv", ".csv").replace("_py", ".py")).write_text(text)
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump({"name": "x", "recipe": {"ladder": ladder}, "grid": {"budgets": [1e6]}}))
        return Study.load(path)

    return make


def test_all_three_are_the_same_table(load, tmp_path):
    rows = load(ROWS).recipe.ladder
    assert load("sizes.csv", sizes_csv=CSV).recipe.ladder == rows
    code = f"print('told on the way')\ndef sizes():\n    return {ROWS!r}\n"
    called = load("own_ladder:sizes", own_ladder_py=code)
    assert called.recipe.ladder == rows
    assert "own_ladder" not in sys.modules
    (tmp_path / "copy.yaml").write_text(called.to_yaml())
    (tmp_path / "own_ladder.py").unlink()
    assert Study.load(tmp_path / "copy.yaml").recipe.ladder == rows


@pytest.mark.parametrize(
    ("ladder", "files", "message"),
    [
        ("none.csv", {}, "recipe.ladder must be a CSV of sizes, but got .*none.csv"),
        ("empty.csv", {"empty_csv": "name,params\n"}, "recipe.ladder must have sizes, but .*empty.csv has none"),
        ("ragged.csv", {"ragged_csv": "name,params\na\n"}, "must be as long as its header"),
        ("bad.csv", {"bad_csv": "name,prams,flops_per_sample\na,5,3\n"}, "did you mean 'params'"),
        ("sizes", {}, "must be rows, a .csv file or package.module:function, but got 'sizes'"),
        ("no_such_module:sizes", {}, "no_such_module:sizes.* No module named"),
        ("m:sizes", {"m_py": "sizes = 3"}, "m:sizes must name a function, but got int"),
        ("m:sizes", {"m_py": "def sizes():\n    return 3"}, "must return a list of rows, but got int"),
        ("m:sizes", {"m_py": "def sizes():\n    raise KeyError('why')"}, "m:sizes: 'why'"),
    ],
)
def test_a_wrong_ladder_is_refused(load, ladder, files, message):
    with pytest.raises(InputError, match=message):
        load(ladder, **files)
