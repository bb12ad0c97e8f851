"""`run` and `status` on a real small study."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import yaml

pytestmark = pytest.mark.slow


@pytest.fixture
def study_file(small_study, tmp_path):
    study = small_study(grid={"budgets": [2e8, 4e8], "sizes": [8, 12, 16], "tolerance": 0.05, "min_cells": 3})
    path = tmp_path / "small.yaml"
    path.write_text(study.to_yaml())
    return path


def test_run_then_status(isoflop, study_file, tmp_path):
    code, out, err = isoflop("run", study_file, "--json")
    assert code == 0
    document = json.loads(out)
    assert document["runs"] == {"done": 6}
    assert document["law"] is None
    assert document["reason"].startswith("a law needs")
    assert "6/6" in err
    assert (tmp_path / document["report"]).exists()

    code, out, _ = isoflop("status", "studies/small", "--json")
    status = json.loads(out)
    assert status["states"] == {"done": 6}
    assert {row["state"] for row in status["runs"]} == {"done"}
    assert all(row["step"] == row["steps"] for row in status["runs"])
    code, out, _ = isoflop("status", study_file)
    assert code == 0
    assert "small: 6 done" in out


def test_a_failed_run_is_named_and_the_verb_still_exits_0(isoflop, study_file, tmp_path):
    code, out, _ = isoflop("plan", study_file, "--json")
    victim = json.loads(out)["runs"][0]["id"]
    (tmp_path / "studies" / "small" / "runs" / victim / "metrics.csv").mkdir(parents=True)
    code, out, err = isoflop("run", study_file)
    assert code == 0
    assert f"failed: {victim}: " in err
    assert "no law: " in out
    code, out, _ = isoflop("status", study_file, "--json")
    assert json.loads(out)["states"] == {"failed": 1, "done": 5}
    assert "metrics.csv" in next(row["message"] for row in json.loads(out)["runs"] if row["run"] == victim)


def test_status_of_what_is_no_study_exits_2(isoflop, study_file):
    code, _, err = isoflop("status", study_file)
    assert code == 2
    assert "must hold plan.csv" in err


def test_a_wrong_profile_exits_2_before_anything_is_written(isoflop, study_file, tmp_path):
    (tmp_path / "profile.yaml").write_text("workers: none")
    code, _, err = isoflop("run", study_file, "--launcher", tmp_path / "profile.yaml")
    assert code == 2
    assert "profile.yaml" in err
    assert not (tmp_path / "studies").exists()


@pytest.fixture
def arms_file(mixed_corpora, tmp_path):
    """Text alone, sound alone and both, by two seeds of a moment each."""
    content = {
        "name": "arms",
        "data": {"corpus": str(mixed_corpora[0])},
        "model": {"sequence_length": 16},
        "recipe": {"base": "tiny", "tokens_per_step": 32, "warmup_steps": 4},
        "grid": {"budgets": [1e8], "sizes": [8], "seeds": 2, "tolerance": 0.05},
        "training": {"validation_tokens": 640},
        "limits": {"epochs": 10},
        "axes": {"share": {"key": "data.text_share", "values": [0, 0.5, 1]}},
    }
    path = tmp_path / "arms.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_study_with_axes_compares_its_arms(isoflop, arms_file, tmp_path):
    code, out, _ = isoflop("plan", arms_file)
    assert code == 0
    assert "share=0.5" in out
    assert "expected" not in out
    code, out, _ = isoflop("run", arms_file, "--json")
    assert code == 0
    document = json.loads(out)
    assert (document["runs"], document["law"]) == ({"done": 6}, None)
    rows = document["ablation"]["rows"]
    # Who never saw sound knows nothing of it, and who never saw text nothing of that.
    worst = {
        measure: max((row for row in rows if row["measure"] == measure), key=lambda row: row["mean"])["levels"]["share"]
        for measure in ("loss_text", "loss_semantic", "bits_per_audio_second")
    }
    assert worst == {"loss_text": "0", "loss_semantic": "1", "bits_per_audio_second": "1"}
    place = tmp_path / "studies" / "arms"
    assert json.loads((place / "ablation.json").read_text()) == document["ablation"]
    assert not (place / "law.json").exists()
    assert (place / "figures" / "ablation.png").exists()
    points = pd.read_csv(place / "points.csv", dtype=str)
    assert list(points["axis_share"]) == ["0", "0", "0.5", "0.5", "1", "1"]
    # Every arm was validated on the same windows.
    assert len(set(points["held_out"])) == 1

    code, out, err = isoflop("fit", "studies/arms", "--out", "arms.json", "--figures", "pictures")
    assert code == 0
    assert "compares its arms and fits no law" in err
    assert "audio loss, bits per second of sound, at 1e8 FLOPs, d8" in out
    assert json.loads((tmp_path / "arms.json").read_text()) == document["ablation"]
    assert (tmp_path / "pictures" / "ablation.png").exists()
    # A run again has nothing to do.
    code, out, err = isoflop("run", "studies/arms")
    assert code == 0
    assert "ablation over share: 3 arms, held against share=0" in out
    assert "0 of 6" in err or "nothing" in err


def test_what_tells_exponents_is_refused_for_a_study_with_axes(isoflop, arms_file):
    for words in (
        ["next", arms_file],
        ["tune", arms_file],
        ["rehearse", arms_file],
        ["plan", arms_file, "--suggest"],
        ["run", arms_file, "--until", "ratio±0.1"],
    ):
        code, _, err = isoflop(*words)
        assert (code, "must be of a study without axes, but arms varies share" in err) == (2, True), (words, err)
    code, _, err = isoflop("fit", arms_file, "--group", "seed")
    assert (code, "--group must be of a law" in err) == (2, True)


def test_arms_of_two_tokenisations_train_each_on_its_own(isoflop, arms_file, mixed_corpora):
    two, one = mixed_corpora
    axis = f"axes={{codec: {{key: data.corpus, values: {{two: {two}, one: {one}}}}}}}"
    code, out, _ = isoflop("run", arms_file, "--set", axis, "--set", "grid.seeds=1", "--json")
    assert code == 0
    document = json.loads(out)
    assert document["runs"] == {"done": 2}
    by_measure = {row["measure"]: row for row in document["ablation"]["rows"] if row["levels"]["codec"] == "one"}
    assert by_measure["loss_text"]["against"] is None
    assert by_measure["bits_per_audio_second"]["against"] is not None
    assert "bits per second of sound alone" in " ".join(document["ablation"]["notes"])


@pytest.mark.parametrize(
    ("axis", "said"),
    [
        ("{a: {key: data.text_shar, values: [0, 1]}}", "did you mean 'text_share'?"),
        ("{a: {key: grid.seeds, values: [1, 2]}}", "must be a key of data, model, recipe, training, trainer.options"),
        ("{a: {key: data.text_share, values: []}}", "must have two or more, but got 0"),
        ("{a: {key: data.text_share, values: [0, 0.0]}}", "twice"),
        ("{a b: {key: data.text_share, values: [0, 1]}}", "names must be letters, digits and '_'"),
        ("{a: {key: training.logger, values: [csv, tensorboard]}}", "arms must differ in what is trained"),
        ("{a: {key: data.text_share, values: [0, 1], baseline: 0.5}}", "baseline must be one of 0, 1"),
        ("{a: {key: data.text_share, values: [0, 1.5]}}", "a=1.5: data.text_share must be <= 1"),
        ("{a: {key: data.corpus, values: [x, y]}}", "arm a=x: "),
    ],
)
def test_a_wrong_axis_exits_2_with_one_error(isoflop, arms_file, axis, said):
    code, _, err = isoflop("plan", arms_file, "--set", f"axes={axis}")
    assert (code, err.count("error: ")) == (2, 1)
    assert said in err
