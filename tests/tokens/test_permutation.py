from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from isoflop.tokens.permutation import key, permuted

FROZEN = [0, 6, 7, 10, 9, 5, 1, 2, 4, 11, 8, 3]


@given(size=st.integers(1, 3000), secret=st.integers(-(2**63), 2**64))
def test_permutations_are_permutations(size: int, secret: int) -> None:
    order = permuted(np.arange(size), size, secret)
    assert np.array_equal(np.sort(order), np.arange(size))


@given(size=st.integers(1, 2**61), secret=st.integers(0, 2**64 - 1), data=st.data())
def test_a_place_goes_where_it_goes_whatever_is_asked_with_it(size: int, secret: int, data: st.DataObject) -> None:
    places = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=20, unique=True)))
    together = permuted(places, size, secret)
    assert ((together >= 0) & (together < size)).all()
    assert len(set(together.tolist())) == len(places)
    assert permuted(places[-1:], size, secret)[0] == together[-1]


def test_permutations_are_frozen_and_look_random() -> None:
    # Frozen: a change here changes every run's data order, so it needs a new training revision.
    assert permuted(np.arange(12), 12, key(0, "speech", 0)).tolist() == FROZEN
    size = 20_000
    orders = [permuted(np.arange(size), size, key(seed, number)) for seed in (0, 1) for number in (0, 1)]
    for index, order in enumerate(orders):
        for other in [np.arange(size), *orders[:index]]:
            assert abs(np.corrcoef(order, other)[0, 1]) < 4 / np.sqrt(size)
        assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 4 / np.sqrt(size)


def test_every_place_is_as_likely_everywhere() -> None:
    for size in (2, 5, 12, 30):
        orders = np.stack([permuted(np.arange(size), size, key(number)) for number in range(2000)])
        counts = np.stack([np.bincount(orders[:, place], minlength=size) for place in range(size)])
        expected = 2000 / size
        freedom = (size - 1) ** 2
        chi_squared = ((counts - expected) ** 2 / expected).sum()
        assert abs(chi_squared - freedom) < 4 * np.sqrt(2 * freedom)
