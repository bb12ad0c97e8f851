from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from isoflop.errors import CorruptFileError, InputError
from isoflop.planning.runs import Run
from isoflop.training.data import check, open_source


def test_a_corpus_gives_what_the_run_asks_for(small_corpus: Path, planned: Callable[..., Run]) -> None:
    source, run = open_source(small_corpus), planned()
    check(source, run)
    batch = source.batches(run)
    assert batch(3).shape == (run.batch_size, run.shape.sequence_length + 1)
    assert np.array_equal(batch(3), source.batches(run)(3))
    assert not np.array_equal(batch(3), batch(4))
    assert not np.array_equal(batch(3), source.batches(replace(run, seed=1))(3))
    assert source.validation(run).shape == (640 // 16, 17)
    assert source.types == ("text", "control", "semantic", "acoustic_1", "acoustic_2")
    assert source.token_types.shape == (source.vocabulary,)
    assert batch(3).dtype == source.validation(run).dtype == np.int64
    names, origins = source.origins(run)
    assert names == ("speech",)
    assert origins.tolist() == [0] * 40
    # 25 frames a second of three codes.
    assert source.audio_rate == 75.0


def test_a_run_reads_its_mixture(small_corpus: Path, planned: Callable[..., Run]) -> None:
    source, run = open_source(small_corpus), planned()
    mixed = replace(run, mixture=(("speech", 1.0),))
    np.testing.assert_array_equal(source.batches(mixed)(3), source.batches(run)(3))
    np.testing.assert_array_equal(source.validation(mixed), source.validation(run))
    for ask in (source.batches, source.validation):
        with pytest.raises(InputError, match="a source must be one of speech, but got 'music'"):
            ask(replace(run, mixture=(("music", 1.0),)))


def test_tokens_that_the_run_was_not_planned_on_are_refused(small_corpus: Path, planned: Callable[..., Run]) -> None:
    source, run = open_source(small_corpus), planned()
    with pytest.raises(InputError, match=r"planned on, another-corpus, but got small-corpus"):
        check(source, replace(run, data="another-corpus"))
    with pytest.raises(InputError, match=rf"model, 99, but has {source.vocabulary}"):
        check(source, replace(run, shape=replace(run.shape, vocabulary=99)))


def test_a_corrupt_shard_is_named_and_not_opened(small_corpus: Path, tmp_path: Path) -> None:
    copy = tmp_path / "corpus"
    shutil.copytree(small_corpus, copy)
    shard = copy / "shards" / "00000.tokens"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(bytes(content))
    with pytest.raises(CorruptFileError, match=r"00000\.tokens"):
        open_source(copy)
