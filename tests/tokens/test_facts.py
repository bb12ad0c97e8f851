from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isoflop import workflow
from isoflop.errors import InputError
from isoflop.study import Study
from isoflop.tokens.facts import facts
from isoflop.tokens.mixture import validation_windows
from isoflop.tokens.shards import Corpus, Document, publishing, write_corpus
from isoflop.tokens.stream import Layout, Utterance

LENGTH = 16


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Two sources of sound and one of text."""
    generator = np.random.default_rng(0)
    documents = [
        Document(
            f"{source} {n}",
            (Utterance(generator.integers(0, 9, 7), generator.integers(0, 8, (50, 2)) if seconds else None),),
            seconds,
            source,
        )
        for source, count, seconds in (("calls", 60, 2.0), ("books", 40, 2.0), ("prose", 400, 0.0))
        for n in range(count)
    ]
    directory = tmp_path_factory.mktemp("tokens") / "corpus"
    with publishing(directory) as place:
        write_corpus(place, documents, Layout(9, (8, 8), 0), fingerprint="x", frame_rate=25.0, holdout=0.3)
    return Corpus.open(directory)


def test_the_facts_of_each_source(corpus: Corpus) -> None:
    found = facts(corpus, "name", LENGTH)
    assert (found.fingerprint, found.vocabulary, found.unique_tokens) == ("name", 31, corpus.unique_tokens)
    assert found.mixture == ()
    calls, _, prose = found.sources
    assert calls.tokens_per_second == pytest.approx(50)
    # Of 113 tokens of a document, 100 are sound.
    assert calls.audio_share == pytest.approx(100 / 113)
    assert calls.orders == prose.orders == 2
    assert prose.tokens_per_second == 0
    assert sum(source.share for source in found.sources) == pytest.approx(1)
    # Sources at their own shares come to their end together.
    epochs = [entry.epochs for entry in found.entries(10_000)]
    assert epochs == [pytest.approx(10_000 / (2 * corpus.unique_tokens), rel=1e-6)] * 3


def test_a_mixture_s_validation_can_be_had(corpus: Corpus) -> None:
    for weights, text_share in [({}, None), ({"calls": 3, "books": 1, "prose": 0}, None), ({}, 0.2), ({}, 0.9)]:
        found = facts(corpus, "name", LENGTH, weights, text_share)
        assert found.held_out_tokens is not None
        assert found.held_out_tokens > LENGTH
        assert found.held_out_tokens % LENGTH == 1
        shares = {source.name: source.share for source in found.sources}
        assert dict(found.mixture) == ({} if not weights and text_share is None else shares)
        validation_windows(corpus, LENGTH, found.held_out_tokens - 1, shares)
        with pytest.raises(InputError, match="must be held out for"):
            validation_windows(corpus, LENGTH, found.held_out_tokens - 1 + LENGTH, shares)


def test_a_study_s_weights_reach_its_runs_and_their_ids(corpus: Corpus) -> None:
    def study(**data: object) -> Study:
        return Study.parse(
            {
                "name": "mixed",
                "data": {"corpus": str(corpus.directory), **data},
                "model": {"sequence_length": LENGTH},
                "recipe": {"base": "tiny", "tokens_per_step": 32, "warmup_steps": 4},
                "grid": {"budgets": [2e8], "sizes": [8, 12, 16, 24, 32], "tolerance": 0.05},
                "training": {"validation_tokens": 320},
                "limits": {"epochs": 100},
            }
        )

    own = workflow.plan(study())
    mixed = workflow.plan(study(weights={"calls": 1, "books": 3, "prose": 4}, text_share=0.05))
    assert [run.mixture for run in own.runs] == [()] * 5
    assert {run.mixture for run in mixed.runs} == {(("calls", 0.2375), ("books", 0.7125), ("prose", 0.05))}
    assert not {run.id for run in own.runs} & {run.id for run in mixed.runs}
    # Weights that ask for what is there already are no other work; nor are equal ones in another unit.
    tokens = {name: counts["train"]["tokens"] for name, counts in corpus.sources.items()}
    assert [run.id for run in workflow.plan(study(weights=tokens)).runs] == [run.id for run in own.runs]
    other_unit = workflow.plan(study(weights={"calls": 10, "books": 30, "prose": 1}, text_share=0.05))
    assert [run.id for run in other_unit.runs] == [run.id for run in mixed.runs]
    # The source that is read most often says how often data repeat.
    run = mixed.runs[0]
    assert mixed.epochs(run) == pytest.approx(run.tokens * 0.7125 / (2 * tokens["books"]))
    with pytest.raises(InputError, match="for the sources calls, books, prose, but got music"):
        workflow.plan(study(weights={"music": 1}))
    with pytest.raises(InputError, match="text_share must be of a corpus, or of abstract sources"):
        Study.parse({**study().model_dump(), "data": {"embedded": True, "text_share": 0.1}})


def test_a_relative_corpus_keeps_its_mixture(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(
        "name: x\ndata: {corpus: here, weights: {calls: 1, books: 1, prose: 0}, text_share: 0}\n"
        "grid: {budgets: [1e9], sizes: [8]}\n"
    )
    loaded = Study.load(tmp_path / "study.yaml")
    assert loaded.data.corpus == tmp_path / "here"
    assert (loaded.data.weights, loaded.data.text_share) == ({"calls": 1, "books": 1, "prose": 0}, 0)
    (tmp_path / "again.yaml").write_text(loaded.to_yaml())
    assert Study.load(tmp_path / "again.yaml") == loaded


def test_described_sources_have_a_share_of_text_too() -> None:
    def shares(text_share: float | None, sources: dict[str, dict[str, float]]) -> dict[str, float]:
        data = {"abstract": {"vocabulary": 64, "sources": sources}, "text_share": text_share}
        grid = {"budgets": [1e9], "sizes": [8], "min_cells": 1}
        study = Study.parse({"name": "x", "data": data, "recipe": "tiny", "grid": grid, "limits": {"epochs": 100}})
        return {source.name: source.share for source in workflow.plan(study).data.sources}

    calls = {"unique_tokens": 1e6, "share": 0.6, "tokens_per_second": 75}
    talks = {"unique_tokens": 1e6, "share": 0.2, "tokens_per_second": 75}
    prose = {"unique_tokens": 1e6, "share": 0.2}
    every = {"calls": calls, "talks": talks, "prose": prose}
    assert shares(None, every) == {"calls": 0.6, "talks": 0.2, "prose": 0.2}
    assert shares(0.5, every) == {"calls": 0.375, "talks": 0.125, "prose": 0.5}
    assert shares(0, every) == {"calls": 0.75, "talks": 0.25}
    assert shares(1, every) == {"prose": 1.0}
    with pytest.raises(InputError, match=r"with sources of text and of sound .* but got 0.5 and the text sources \[\]"):
        shares(0.5, {"calls": {**calls, "share": 1}})
