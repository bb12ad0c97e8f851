from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from isoflop.errors import CorruptFileError, InputError
from isoflop.tokens.shard_files import write_shard
from isoflop.tokens.shards import Corpus, Document, first_order, held_out, publishing, write_corpus
from isoflop.tokens.stream import Composition, Layout, Utterance, interleave, split

LAYOUT = Layout(text_entries=20, codebook_sizes=(8, 8), semantic=0)


def some_documents(count: int) -> list[Document]:
    generator = np.random.default_rng(0)
    return [
        Document(
            f"document {number}",
            tuple(
                Utterance(generator.integers(0, 20, generator.integers(1, 9)), generator.integers(0, 8, (5, 2)))
                for _ in range(generator.integers(1, 4))
            ),
            seconds=float(number),
        )
        for number in range(count)
    ]


def table_size(corpus: Corpus) -> int:
    return (corpus.directory / "shards" / "00000.json").stat().st_size


def content(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def written(directory: Path, documents: list[Document]) -> Corpus:
    with publishing(directory) as place:
        (place / "codec.npz").write_bytes(b"a codec")
        write_corpus(place, documents, LAYOUT, fingerprint="some-data", frame_rate=25.0, holdout=0.2)
    return Corpus.open(directory)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return written(tmp_path / "corpus", some_documents(60))


def test_every_document_is_read_back_from_its_side(corpus: Corpus) -> None:
    documents = {document.name: document for document in some_documents(60)}
    names = {part: [name for name, _ in corpus.documents(part)] for part in ("train", "validation")}
    assert sorted(names["train"] + names["validation"]) == sorted(documents)
    for part, found in names.items():
        for number, name in enumerate(found):
            assert held_out(name, 0.2) == (part == "validation")
            expected = interleave(documents[name].utterances, LAYOUT, first_order(name))
            np.testing.assert_array_equal(corpus.document(part, number), expected)


def test_pass_1_holds_the_twins_at_the_same_places(corpus: Corpus) -> None:
    pairs = list(zip(corpus.documents("train", 0), corpus.documents("train", 1), strict=True))
    differing = 0
    for (name, first), (twin, second) in pairs:
        assert name == twin
        assert first.shape == second.shape
        differing += not np.array_equal(first, second)
        for one, other in zip(split(first, LAYOUT), split(second, LAYOUT), strict=True):
            np.testing.assert_array_equal(one.text, other.text)
            np.testing.assert_array_equal(one.codes, other.codes)
    assert differing == len(pairs) == corpus.index["splits"]["train"]["documents"]
    assert {first_order(name) for name, _ in corpus.documents("train")} == {"text_first", "audio_first"}


def test_the_index_counts(corpus: Corpus) -> None:
    train, validation = corpus.index["splits"]["train"], corpus.index["splits"]["validation"]
    documents = some_documents(60)
    kept = [document for document in documents if not held_out(document.name, 0.2)]
    utterances = [utterance for document in kept for utterance in document.utterances]
    text = sum(len(utterance.text) for utterance in utterances)
    assert train["tokens_by_type"] == {
        "text": text,
        "control": 2 * len(kept) + 4 * len(utterances),
        "semantic": 5 * len(utterances),
        "acoustic_1": 5 * len(utterances),
    }
    assert corpus.unique_tokens == train["tokens"] == sum(train["tokens_by_type"].values())
    assert (train["documents"], train["utterances"]) == (len(kept), len(utterances))
    assert train["seconds"] + validation["seconds"] == sum(range(60))
    assert (corpus.fingerprint, corpus.vocabulary, corpus.layout) == ("some-data", 42, LAYOUT)
    assert corpus.bytes == 7 + 2 * train["tokens"] + validation["tokens"] + table_size(corpus)


def test_documents_are_found_by_name_and_by_number(corpus: Corpus) -> None:
    for part in ("train", "validation"):
        for number, (name, ids) in enumerate(corpus.documents(part)):
            assert corpus.named(name) == (part, number)
            np.testing.assert_array_equal(corpus.document(part, number), ids)
    assert corpus.named("3") == ("validation", 3)


def test_sources_lie_in_shards_of_their_own_and_are_counted_apart(tmp_path: Path) -> None:
    spoken = [replace(document, name=f"s{document.name}", source="lectures") for document in some_documents(30)]
    prose = [
        Document(f"prose {number}", (Utterance(np.arange(number % 7), None),), 0.0, source="prose")
        for number in range(40)
    ]
    corpus = written(tmp_path / "corpus", [*spoken[:10], *prose, *spoken[10:]])
    assert list(corpus.sources) == ["lectures", "prose"]
    assert corpus.sources["prose"]["train"]["seconds"] == 0
    for split_name, counts in corpus.index["splits"].items():
        for count in ("documents", "tokens", "utterances"):
            parts = [source[split_name][count] for source in corpus.sources.values()]
            assert counts[count] == sum(parts) > min(parts) > 0
        alone = [len(corpus.tokens(split_name, source=source)) for source in corpus.sources]
        assert alone == [source[split_name]["tokens"] for source in corpus.sources.values()]
        whole = corpus.tokens(split_name)
        assert len(whole) == sum(alone)
        # Documents lie one after the other, over the ends of shards too.
        joined = np.concatenate([ids for _, ids in corpus.documents(split_name)])
        np.testing.assert_array_equal(whole.read(0, len(whole)), joined)
    # Text alone is its own twin.
    np.testing.assert_array_equal(
        *(corpus.tokens("train", n, "prose").read(0, len(corpus.tokens("train", n, "prose"))) for n in (0, 1))
    )


def test_twins_are_on_one_side(tmp_path: Path) -> None:
    """Ten thousand random documents: each is on one side only, and on the training side in both orders."""
    generator = np.random.default_rng(1)
    names = [bytes(generator.integers(33, 126, 12, dtype=np.uint8)).decode() + str(n) for n in range(10_000)]
    codes, text = np.zeros((1, 2), dtype=int), np.array([1])
    documents = (Document(name, (Utterance(text, codes),), 0.1) for name in names)
    composition = Composition(LAYOUT, (0, 1))
    table = write_shard(tmp_path, "00000", documents, composition, source="speech", holdout=0.1)
    train, validation = (set(table["documents"][part]["names"]) for part in ("train", "validation"))
    assert len(train) + len(validation) == 10_000
    assert train | validation == set(names)
    assert 900 < len(validation) < 1100
    ids = np.fromfile(tmp_path / "00000.tokens", dtype=np.uint8).reshape(-1, 9)
    assert len(ids) == 2 * len(train) + len(validation)
    first, second = ids[: len(train)], ids[len(train) : 2 * len(train)]
    text_first = ids[:, 1] == LAYOUT.controls["text_start"]
    assert (text_first[: len(train)] != text_first[len(train) : 2 * len(train)]).all()
    assert {row.tobytes() for row in first} == {row.tobytes() for row in second} == {row.tobytes() for row in ids}


def test_sides_are_drawn_by_hash_in_the_share_asked_for() -> None:
    names = [f"name {number}" for number in range(20_000)]
    assert abs(np.mean([held_out(name, 0.06) for name in names]) - 0.06) < 0.006
    assert abs(np.mean([first_order(name) == "text_first" for name in names]) - 0.5) < 0.012
    # A larger share holds out the same documents and more.
    assert all(held_out(name, 0.2) for name in names if held_out(name, 0.06))


def test_the_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (written(tmp_path / name, some_documents(60)) for name in ("a", "b"))
    assert content(first.directory) == content(second.directory)
    assert first.digest == second.digest != written(tmp_path / "c", some_documents(61)).digest


@pytest.mark.parametrize("name", ["shards/00000.tokens", "shards/00000.json", "codec.npz"])
def test_one_flipped_bit_is_found_and_the_file_named(corpus: Corpus, name: str) -> None:
    corpus.verify()
    path = corpus.directory / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=rf"{name} is not what was written; delete .*corpus and run again"):
        Corpus.open(corpus.directory).verify()


def test_a_missing_or_cut_file_is_found_on_opening(corpus: Corpus) -> None:
    tokens = corpus.directory / "shards" / "00000.tokens"
    content = tokens.read_bytes()
    tokens.write_bytes(content[:-1])
    with pytest.raises(CorruptFileError, match=rf"must have {len(content)} bytes, but has {len(content) - 1}; delete"):
        Corpus.open(corpus.directory)
    tokens.unlink()
    with pytest.raises(CorruptFileError, match=r"00000.tokens must have .* but is missing; delete"):
        Corpus.open(corpus.directory)


def test_a_changed_index_is_found(corpus: Corpus) -> None:
    path = corpus.directory / "index.json"
    text = path.read_text(encoding="utf-8")
    for damaged in (
        text.replace("some-data", "more-data"),
        text.replace('"format": 2', '"format": 1'),
        text[:99],
        "[]",
    ):
        path.write_text(damaged, encoding="utf-8")
        with pytest.raises(CorruptFileError, match=r"index.json .*delete .*corpus and run again"):
            Corpus.open(corpus.directory)
    path.unlink()
    assert not Corpus.stands(corpus.directory)
    with pytest.raises(InputError, match=r"a folder that holds index\.json, but"):
        Corpus.open(corpus.directory)


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'document 0' comes twice"):
        written(tmp_path / "corpus", some_documents(3) + some_documents(1))
    with pytest.raises(InputError, match="train holds none"):
        written(tmp_path / "corpus", [])
    with pytest.raises(KeyboardInterrupt), publishing(tmp_path / "corpus"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_stands_there_is_never_replaced(tmp_path: Path) -> None:
    place = tmp_path / "corpus"
    place.mkdir()
    written(place, some_documents(60))  # into an empty directory
    with pytest.raises(InputError, match=r"made where nothing is, but .*corpus exists; give another folder"):
        written(place, some_documents(60))
    Corpus.open(place).verify()
    # Another maker was quicker.
    with pytest.raises(InputError, match="exists; give another"), publishing(tmp_path / "other") as inside:  # noqa: PT012
        (inside / "late").write_text("")
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "first").write_text("")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "other"]


def test_places_of_dead_makers_are_removed_and_those_of_living_ones_are_not(tmp_path: Path) -> None:
    dead = (
        "import os, sys; from pathlib import Path; from isoflop.tokens.shards import publishing\n"
        "with publishing(Path(sys.argv[1])) as place: (place / 'half').write_text('x'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", dead, str(tmp_path / "corpus")], check=False)
    assert len(list(tmp_path.glob(".corpus.making-*"))) == 1
    # One that is alive, one that has not come to its lock yet, and one that never will.
    alive, new, old = (tmp_path / f".corpus.making-{name}" for name in ("alive", "new", "old"))
    for place in (alive, new, old):
        place.mkdir()
    os.utime(old, (0, 0))
    with (alive / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        written(tmp_path / "corpus", some_documents(60))
    assert sorted(path.name for path in tmp_path.iterdir()) == [alive.name, new.name, "corpus"]


def test_what_is_not_there_is_refused(corpus: Corpus) -> None:
    count = corpus.index["splits"]["validation"]["documents"]
    with pytest.raises(InputError, match=rf"0 <= document < {count} must hold in validation, but got {count}"):
        corpus.document("validation", count)
    with pytest.raises(InputError, match="0 <= pass < 2 must hold, but got 2"):
        corpus.tokens("train", 2)
    with pytest.raises(InputError, match="a source must be one of speech, but got 'music'"):
        corpus.tokens("train", source="music")
    with pytest.raises(InputError, match=rf"a number under {count} \(held out\), but got 'document 60'"):
        corpus.named("document 60")
    with pytest.raises(InputError, match="0 <= start <= stop <= "):
        corpus.tokens("validation").read(5, 4)
    with pytest.raises(InputError, match="0 < holdout < 1"):
        write_corpus(corpus.directory, [], LAYOUT, fingerprint="", frame_rate=25.0, holdout=1.0)
