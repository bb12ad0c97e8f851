"""`check-trainer`: what it says, in words and as JSON, and its exit code."""

from __future__ import annotations

import json

STUDY = """
name: own
trainer: {command: [sh, train.sh, "{steps}", "{checkpoints}", "{progress}", "{result}"]}
data: {external: nothing}
recipe:
  base: tiny
  tokens_per_step: 10
  learning_rate: 0.1
  warmup_steps: 0
  ladder: [{name: n5, params: 5, flops_per_sample: 30}]
grid: {budgets: [3e4], min_cells: 1}
"""
#: Counts to its steps with a checkpoint at each.
SCRIPT = """
done=$(cat $2/step 2>/dev/null || echo 0)
while [ $done -lt $1 ]; do
    done=$((done + 1))
    sleep 0.02
    echo $done > $2/.step && mv $2/.step $2/step
    echo $done 2.5 >> $3
done
echo '{"loss": 2.5}' > $4
"""


def test_a_trainer_is_checked_through_the_real_worker(isoflop, tmp_path):
    (tmp_path / "own.yaml").write_text(STUDY)
    (tmp_path / "train.sh").write_text(SCRIPT)
    code, out, err = isoflop("check-trainer", "own.yaml", "--json")
    assert code == 0, (out, err)
    found = json.loads(out)
    assert found["passed"]
    assert len(found["checks"]) == 7
    assert not (tmp_path / "studies").exists()
    (tmp_path / "train.sh").write_text("echo oops; exit 4")
    code, out, _ = isoflop("check-trainer", "own.yaml", "--keep", "kept")
    assert code == 1
    assert "FAIL  returns a finite loss: error: the command must end with exit code 0, but sh ended with exit" in out
    (log,) = (tmp_path / "kept").rglob("output.txt")
    assert log.read_text().startswith("oops\n")


def test_a_wrong_call_is_refused(isoflop, tmp_path):
    (tmp_path / "own.yaml").write_text(STUDY)
    (tmp_path / "plain.yaml").write_text("name: x\ngrid: {budgets: [1e9], sizes: [8]}\n")
    code, _, err = isoflop("check-trainer", "plain.yaml")
    assert code == 2
    assert "a study must name a trainer of its own to be checked, but plain.yaml names none" in err
    code, _, err = isoflop("check-trainer", "own.yaml", "--keep", ".")
    assert code == 2
    assert "--keep must name a folder that is new or empty" in err
