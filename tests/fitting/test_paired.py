from __future__ import annotations

import math

import numpy as np
import pytest

from isoflop.fitting.paired import Difference, adjusted, difference

#: Extra hours of sleep by two drugs, the same ten patients (Student 1908, Biometrika 6, 1-25; R's `sleep`).
FIRST = (0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0)
SECOND = (1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4)


def test_student_s_own_paired_data() -> None:
    """t = 4.0621 with 9 degrees of freedom, p = 0.002833, 95 %: 0.7001 to 2.4599, as R's t.test has it."""
    found = difference(dict(enumerate(SECOND)), dict(enumerate(FIRST)))
    assert found is not None
    assert found.value == pytest.approx(1.58)
    assert (found.low, found.high) == pytest.approx((0.7001142, 2.4598858), abs=1e-7)
    assert found.p == pytest.approx(0.00283289, abs=1e-8)
    assert (found.seeds, found.verdict) == (10, "worse")


def test_only_seeds_that_both_have_are_pairs() -> None:
    found = difference({0: 2.0, 1: 3.0, 5: 9.0}, {0: 1.0, 1: 1.0, 7: 0.0})
    assert found is not None
    assert (found.value, found.seeds) == (1.5, 2)
    assert found.high - found.value == pytest.approx(12.7062 * 0.5, rel=1e-5)
    assert difference({0: 1.0}, {1: 1.0}) is None


def test_one_seed_tells_no_certainty() -> None:
    found = difference({0: 2.0}, {0: 1.0})
    assert found is not None
    assert (found.value, found.verdict, found.p) == (1.0, "one seed", 1.0)
    assert math.isinf(found.low)
    assert math.isinf(found.high)


@pytest.mark.parametrize(("by", "p"), [(0.0, 1.0), (1.0, 0.0)])
def test_differences_without_scatter(by: float, p: float) -> None:
    found = difference({0: 1.0 + by, 1: 2.0 + by}, {0: 1.0, 1: 2.0})
    assert found is not None
    assert (found.p, found.low, found.high) == (p, by, by)


def test_holm_s_adjustment() -> None:
    """As R's p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")."""
    family = [Difference(1.0, 0.0, 2.0, p, p, 3) for p in (0.01, 0.04, 0.03, 0.005)]
    assert [each.adjusted for each in adjusted(family)] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    # One seed is no test, and makes others no harder.
    alone = Difference(1.0, -math.inf, math.inf, 1.0, 1.0, 1)
    assert [each.adjusted for each in adjusted([alone, *family])] == pytest.approx([1.0, 0.03, 0.06, 0.06, 0.02])


def test_of_arms_that_do_nothing_one_in_twenty_studies_says_otherwise_at_most() -> None:
    """And more than one in twenty does so where nothing is adjusted: the arms share their baseline."""
    generator = np.random.default_rng(0)
    wrong, unadjusted, studies = 0, 0, 600
    for _ in range(studies):
        losses = 2 + 0.1 * generator.standard_normal((3, 1)) + 0.01 * generator.standard_normal((3, 6))
        base, *arms = (dict(enumerate(column)) for column in losses.T.tolist())
        family = [each for arm in arms if (each := difference(arm, base)) is not None]
        wrong += any(each.verdict != "not told apart" for each in adjusted(family))
        unadjusted += any(each.p < 0.05 for each in family)
    assert wrong / studies < 0.05 + 2 * math.sqrt(0.05 * 0.95 / studies)
    assert unadjusted / studies > 0.1
