from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from isoflop.planning.probes import Probe
from isoflop.planning.runs import Run
from isoflop.training import probe
from isoflop.training.data import Source, open_source
from isoflop.training.group import Job
from isoflop.training.module import Cadence, TrainingModule
from isoflop.training.options import Options
from isoflop.training.parallel import ALONE


@pytest.mark.parametrize("tokens", ["corpus", "uniform"])
def test_a_probe_takes_twenty_real_steps_and_writes_nothing(
    study: Path, planned: Callable[..., Run], tokens: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned(batch_size=4)
    source: Source = open_source(study / "corpus") if tokens == "corpus" else probe.Uniform(run)
    seen: list[range] = []
    step = TrainingModule.training_step

    def counted(module: TrainingModule, chunk: tuple[int, int], number: int) -> dict[str, list[float]]:
        seen.append(range(*chunk))
        return step(module, chunk, number)

    monkeypatch.setattr(TrainingModule, "training_step", counted)
    job = Job(run, study, Cadence(), "cpu", 2, Options())
    found = Probe.from_json(probe.measure(job, source, ALONE))
    assert [each for chunk in seen for each in chunk] == list(range(20))
    assert found.of(run)
    assert (found.kind, found.accelerator, found.devices, found.strategy) == ("cpu", "cpu", 1, "single")
    assert (found.batch_size, found.micro_batch) == (4, 2)
    assert 0 < found.step_seconds < 5
    assert found.peak_bytes > 2**26
    assert found.flops == run.shape.training_flops(run.tokens_per_step) > found.causal_flops > 0
    assert [path.name for path in study.iterdir()] == ["corpus"]
