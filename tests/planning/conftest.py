from __future__ import annotations

import pytest

from isoflop.fitting.lines import lines_through
from isoflop.fitting.minima import find_minimum, profiles
from isoflop.fitting.points import judge
from isoflop.fitting.sharing import models_of


@pytest.fixture(scope="session")
def through_minima():
    """What a fit finds by minima alone, which is what a plan is forecast to tell: (all minima, lines)."""

    def fitted(table, window):
        points = judge(table)
        found = profiles(points)
        minima, models = [find_minimum(profile, window) for profile in found], models_of(points, found)
        return minima, lines_through(found, minima, width=window, bootstrap=100, seed=0, models=models)

    return fitted
