"""`export`: a run's weights, from the study that kept them."""

from __future__ import annotations

import json

from isoflop.study import Study

STUDY = """
name: kept
data: {corpus: CORPUS}
model: {sequence_length: 16}
recipe: {base: tiny, tokens_per_step: 32, warmup_steps: 2, optimizer: cautious, mlp: gated}
grid: {budgets: [1.5e7], sizes: [8], min_cells: 1, tolerance: 0.1}
training: {validation_tokens: 64, keep_weights: true}
"""


def test_a_study_that_keeps_its_weights_has_them_to_export(isoflop, small_corpus, tmp_path):
    (tmp_path / "kept.yaml").write_text(STUDY.replace("CORPUS", str(small_corpus)))
    assert Study.load(tmp_path / "kept.yaml").training.keep_weights
    code, out, err = isoflop("run", "kept.yaml", "--json")
    assert json.loads(out)["runs"] == {"done": 1}, err
    code, out, err = isoflop("export", "kept.yaml", "d8-", "--out", "model", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["step"] == facts["steps"] > 0
    assert (tmp_path / "model" / "model.safetensors").stat().st_size > 4 * facts["params"]
    assert json.loads((tmp_path / "model" / "config.json").read_text())["hidden_size"] == 8
    code, _, err = isoflop("export", "studies/kept", "d8-", "--out", "model")
    assert code == 2
    assert "must be a folder without a model, but model has one" in err
    code, _, err = isoflop("export", "studies/kept", "d9-", "--out", "other")
    assert code == 2
    assert "RUN must be the id of one run of studies/kept, but got 'd9-', which 0 have" in err
    code, _, err = isoflop("export", "studies/kept", "d8-", "--out", "kept.yaml")
    assert code == 2
    assert "--out must name a directory, but kept.yaml is a file" in err
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "model.safetensors").touch()
    assert isoflop("export", "studies/kept", "d8-", "--out", "half")[0] == 0
    assert (tmp_path / "half" / "config.json").exists()
    code, _, err = isoflop("export", "studies/kept", "d8-", "--out", "third")
    assert (code, err.startswith("wrote third: d8-l2-")) == (0, True)
