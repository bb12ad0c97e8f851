from __future__ import annotations

from pathlib import Path

import pytest

from isoflop.tokens.codecs.weights import from_pretrained


class Hub:
    """A class of transformers whose cache holds one model and whose hub another; it notes where it looked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool]] = []

    def from_pretrained(self, weights: str, *, local_files_only: bool) -> str:
        self.asked.append((weights, local_files_only))
        if weights == "some/cached" or (weights == "some/new" and not local_files_only):
            return weights
        raise OSError(f"no {weights}")


def test_the_hub_is_asked_only_for_what_is_not_here(tmp_path: Path) -> None:
    hub = Hub()
    assert from_pretrained(hub, "some/cached") == "some/cached"
    assert from_pretrained(hub, "some/new") == "some/new"
    for absent in (str(tmp_path), "some/other"):
        with pytest.raises(OSError, match=f"no {absent}"):
            from_pretrained(hub, absent)
    assert hub.asked == [
        ("some/cached", True),
        ("some/new", True),
        ("some/new", False),
        (str(tmp_path), True),
        ("some/other", True),
        ("some/other", False),
    ]
