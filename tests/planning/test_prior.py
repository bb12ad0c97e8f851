"""Published laws: every one is whole, and their optima are those that their authors state."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from isoflop.errors import InputError
from isoflop.fitting.cost import six_nd
from isoflop.fitting.losscurve import LossCurve
from isoflop.planning.costs import ladder_cost
from isoflop.planning.prior import Line, Prior, Surface, chosen, from_law, names, published
from isoflop.planning.recipes import named
from isoflop.study import Model
from isoflop.study_grid import PriorChoice
from isoflop.study_recipe import RecipeChoice

SIX_ND = six_nd(1e6, 1e12)
LINE = Line("params", 1e20, 1e9, 0.5)
BUDGETS = np.array([3e18, 9e18, 1.8e19, 3e19, 9e19, 1.8e20, 3e20])


def soda_cost():
    recipe = named(RecipeChoice(base="marin-2025"))
    model = Model(sequence_length=4096, tied_head=False)
    return ladder_cost([recipe.shape(width, 144_644, model) for width in range(256, 3073, 128)])


def exponents(prior, cost):
    found = prior.exponents(BUDGETS, cost)
    assert found.ratio == found.b / found.a
    return [found.a, found.b]


def test_a_single_budget_has_no_exponents():
    found = published("soda-surface").exponents(BUDGETS[:1], SIX_ND)
    assert all(math.isnan(each) for each in (found.a, found.b, found.ratio))


@pytest.mark.parametrize("name", names())
def test_every_published_law_has_its_source_and_an_optimum(name):
    prior = published(name)
    assert "arXiv" in prior.source
    sizes = [prior.optimum(budget, SIX_ND) for budget in BUDGETS]
    assert sizes == sorted(sizes)
    assert 1e7 < sizes[0] < sizes[-1] < 1e10


@pytest.mark.parametrize("name", ["hoffmann2022", "besiroglu2024", "cuervo2024", "soda-surface"])
def test_under_6nd_the_optimum_is_the_closed_form(name):
    surface = published(name).surface
    a, b = surface.beta / (surface.alpha + surface.beta), surface.alpha / (surface.alpha + surface.beta)
    scale = (surface.alpha * surface.A / (surface.beta * surface.B)) ** (1 / (surface.alpha + surface.beta))
    for budget in (1e18, 1e21):
        assert published(name).optimum(budget, SIX_ND) == pytest.approx(scale * (budget / 6) ** a, rel=1e-6)
    assert exponents(published(name), SIX_ND) == pytest.approx([a, b], abs=1e-6)
    assert surface.ratio_under_6nd == pytest.approx(b / a)


def test_the_two_soda_priors_are_those_of_the_shared_facts():
    """soda-surface: ratio 1.56 under 6ND, about 1.38 (a .400, b .552) as counted; the anchor's line lies below it."""
    surface, anchor, cost = published("soda-surface"), published("soda-anchor"), soda_cost()
    assert surface.surface.ratio_under_6nd == pytest.approx(1.56, abs=0.005)
    a, b = exponents(surface, cost)
    assert (a, b, b / a) == pytest.approx((0.400, 0.552, 1.38), abs=0.006)
    assert exponents(anchor, cost)[0] == pytest.approx(0.367)
    assert anchor.optimum(3e18, cost) == pytest.approx(2.7e8)
    assert anchor.optimum(3e20, cost) == pytest.approx(1.44e9, rel=0.02)
    for budget in BUDGETS:
        assert 1.2 < surface.optimum(budget, cost) / anchor.optimum(budget, cost) < 1.6


def test_a_law_of_tokens_gives_the_size_that_they_leave():
    llama = published("llama3")
    params = llama.optimum(1e21, SIX_ND)
    assert 6 * params * 0.29 * 1e21**0.53 == pytest.approx(1e21)


@pytest.mark.parametrize("name", ["soda-anchor", "llama3", "soda-surface"])
def test_the_loss_is_least_at_the_optimum(name):
    prior, cost = published(name), soda_cost()
    best = prior.optimum(3e19, cost)
    losses = prior.loss(best * np.array([0.5, 0.9, 1.0, 1.1, 2.0]), 3e19, cost)
    assert np.argmin(losses) == 2
    assert (losses > prior.surface.E).all()


def test_without_a_surface_the_loss_is_relative():
    prior = Prior("mine", "here", line=LINE)
    losses = prior.loss(np.array([1e9, 2e9]), 1e20, SIX_ND)
    assert losses[0] == 1
    assert losses[1] == pytest.approx(math.exp(0.03 / 2 * math.log(2) ** 2))


def test_a_reader_is_told_what_a_line_leaves_open():
    assert "d²ln L/d(ln N)² = 0.03 (grid.prior.curvature)" in Prior("x", "y", line=LINE).notes(SIX_ND)[0]
    assert published("soda-anchor").notes(SIX_ND) == published("soda-surface").notes(SIX_ND) == []


def test_a_line_speaks_of_no_sizes_that_there_are_not():
    assert LINE.at(1e38) == pytest.approx(1e18)
    for flops in (1.0, 1e60):
        with pytest.raises(InputError, match=r"a prior's params must be from 1 to 1e\+24 at .* at 10\^"):
            LINE.at(flops)


def test_a_study_s_choice_is_resolved():
    assert chosen(None) is None
    assert chosen(PriorChoice(published="llama3")) is published("llama3")
    own = chosen(PriorChoice(budget=1e11, params=2e4, exponent=0.6))
    assert own.optimum(1e12, SIX_ND) == pytest.approx(2e4 * 10**0.6)
    assert own.valley.curvature == 0.03
    sharp = chosen(PriorChoice(budget=1e11, params=2e4, exponent=0.6, curvature=0.09))
    assert sharp.loss(np.array([4e4]), 1e11, SIX_ND) == pytest.approx(math.exp(0.09 / 2 * math.log(2) ** 2))
    with pytest.raises(InputError, match=r"must be read before .*law\.json"):
        chosen(PriorChoice(law="law.json"))


def test_a_fitted_law_becomes_the_line_of_its_optimum_or_the_surface_that_leads():
    law = SimpleNamespace(
        provenance=SimpleNamespace(
            params_convention="total", flops_convention="counted", isoflop="1", points_digest="abc", simulated=False
        ),
        power_laws=SimpleNamespace(
            params=SimpleNamespace(reference=1e12, scale=3e5, exponent=SimpleNamespace(value=0.55))
        ),
        method="parabola",
        parametric=None,
        loss_curve=LossCurve(floor=2.0, scale=0.5, exponent=0.2, reference=1e12, scatter=0.0),
        interior=[SimpleNamespace(curvature=each) for each in (0.01, 0.02, 0.06)],
    )
    prior = from_law(law, "law.json")
    assert prior.source == "fitted by isoflop 1 to points abc"
    assert prior.optimum(1e13, SIX_ND) == pytest.approx(3e5 * 10**0.55)
    best = 3e5 * 10**0.55
    losses = prior.loss(best * np.array([0.5, 1.0, 2.0]), 1e13, SIX_ND)
    expected = (2 + 0.5 * 10**-0.2) * np.exp(0.02 * math.log(2) ** 2 * np.array([1, 0, 1]))
    assert losses == pytest.approx(expected)
    assert prior.notes(soda_cost()) == []
    assert "counts C by another convention, counted, than this grid, 6nd" in prior.notes(SIX_ND)[0]
    law.method, law.parametric = "parametric", SimpleNamespace(values=(1.7, 400.0, 410.0, 0.34, 0.28))
    assert from_law(law, "law.json").surface == Surface(1.7, 400.0, 410.0, 0.34, 0.28)
    assert from_law(law, "law.json").notes(SIX_ND) == []
    law.provenance.simulated = True
    assert from_law(law, "law.json").source == "fitted by isoflop 1 to simulated points abc"
    law.provenance.params_convention = "non_embedding"
    with pytest.raises(InputError, match=r"must be total parameters, but the law law\.json counts non_embedding"):
        from_law(law, "law.json")


def test_an_unknown_law_and_impossible_ones_are_refused():
    with pytest.raises(InputError, match="'soda-ancor'; did you mean 'soda-anchor'"):
        published("soda-ancor")
    with pytest.raises(InputError, match="B must be positive and finite, but got 0"):
        Surface(1, 1, 0, 0.3, 0.3)
    with pytest.raises(InputError, match="must have a surface or a line, but 'x' has neither"):
        Prior("x", "nowhere")
