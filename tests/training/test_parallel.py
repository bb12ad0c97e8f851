from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from isoflop.training.module import Windows
from isoflop.training.parallel import Member


@given(count=st.integers(1, 12), rows=st.integers(1, 5), size=st.integers(1, 5))
def test_members_share_out_the_windows_and_make_as_many_passes(count: int, rows: int, size: int) -> None:
    tokens = torch.arange(count)[:, None]
    shares = [Windows(tokens, tokens[:, 0], rows, Member(rank, size)) for rank in range(size)]
    assert len({len(share) for share in shares}) == 1
    own = [int(row) for share in shares for window, _ in list(share)[: share.real] for row in window]
    assert sorted(own) == list(range(count))


@given(rows=st.integers(1, 4), size=st.integers(1, 4))
def test_members_share_out_a_step_in_order(rows: int, size: int) -> None:
    tokens = torch.arange(rows * size)[:, None]
    assert torch.equal(torch.cat([Member(rank, size).rows(tokens) for rank in range(size)]), tokens)
