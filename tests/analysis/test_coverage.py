"""Completeness: published examples, enumeration, simulated sampling, and surfaces whose points are counted."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom

import torchscape as tsc
from torchscape import Network, analysis
from torchscape.errors import TorchscapeError
from torchscape.explore.writing import pairs_that_found
from torchscape.optimise import relax
from torchscape.saddles import SaddleSearch, climb

COUNTS = torch.tensor([1, 1, 4, 2, 5, 2, 4, 1, 2])
SPIDERS = torch.tensor([46, 22, 17, 15, 15, 9, 8, 6, 6, 4] + [2] * 4 + [1] * 12)

some_hits = st.lists(st.integers(0, 6), min_size=1, max_size=12).filter(any).map(torch.tensor)

# --- against published programs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hits", "richness", "interval"),
    [(COUNTS, 9.75, (9.07, 17.45)), ([1, 1, 4, 5], 5.0, (4.08, 17.27)), ([2, 2, 4, 5], 4.0, (4.0, 4.95))],
    ids=["ones and twos", "no twos", "no ones"],
)
def test_chao1_and_its_interval_are_those_of_estimates(hits, richness, interval):
    """The numbers that the program EstimateS 8.2 prints for these counts, as quoted in scikit-bio's tests."""
    estimate = analysis.completeness(torch.as_tensor(hits))
    assert estimate.richness == richness
    assert estimate.richness_interval == pytest.approx(interval, abs=0.0051)


def test_coverage_is_that_of_inext():
    """Spiders on girdled plots (Ellison et al. 2010): 168 of 26 species; iNEXT prints a coverage of 0.9289."""
    estimate = analysis.completeness(SPIDERS)
    assert (estimate.n_hits, estimate.n_found, estimate.n_once, estimate.n_twice) == (168, 26, 12, 4)
    assert round(estimate.coverage, 4) == 0.9289


def test_without_points_hit_once_only_the_limits_say_that_more_may_exist():
    """0 of n new ones: the limit of the coverage is Wilson's for 0 successes in n trials."""
    from scipy.stats import binomtest

    estimate = analysis.completeness(torch.tensor([30, 30, 40]))
    wilson = binomtest(0, 100).proportion_ci(method="wilson")
    assert estimate.coverage == 1.0
    assert estimate.coverage_interval == pytest.approx((1 - wilson.high, 1.0))


# --- rarefaction and extrapolation ----------------------------------------------------------------------------


def test_rarefaction_is_the_average_over_all_subsets():
    hits = [3, 1, 2, 1]
    searches = [point for point, k in enumerate(hits) for _ in range(k)]
    for m in range(1, len(searches) + 1):
        found = [len(set(subset)) for subset in itertools.combinations(searches, m)]
        curve = analysis.rarefaction_curve(torch.tensor(hits), [m])
        assert float(curve.found) == pytest.approx(np.mean(found), abs=1e-12)


def test_rarefaction_of_many_searches_is_hypergeometric():
    hits = np.random.default_rng(0).geometric(0.002, 300)
    n = int(hits.sum())
    m = np.array([1, 10, 1000, n // 2, n - 1, n])
    expected = [(1 - hypergeom.pmf(0, n, hits, k)).sum() for k in m]
    curve = analysis.rarefaction_curve(torch.as_tensor(hits), torch.as_tensor(m))
    np.testing.assert_allclose(curve.found.numpy(), expected, rtol=1e-7)


@pytest.mark.parametrize("further", [1, 20, 168, 500])
def test_the_variance_beyond_is_that_of_the_delta_method(further):
    """Gradients by autograd, and the covariance of multinomial frequency counts written out as a matrix."""
    n, k = int(SPIDERS.sum()), int(SPIDERS.max())
    f = torch.bincount(SPIDERS, minlength=k + 1)[1:].double().requires_grad_()
    f0 = f[0] * (f[0] - 1) / (2 * (f[1] + 1))
    found = f.sum() + f0 * (1 - (1 - f[0] / (n * f0 + f[0])) ** further)
    (gradient,) = torch.autograd.grad(found, f)
    covariance = torch.diag(f) - torch.outer(f, f) / (f.sum() + f0)
    sigma = (gradient @ covariance @ gradient).item() ** 0.5
    curve = analysis.rarefaction_curve(SPIDERS, [n + further], level=0.6827)
    assert float(curve.found) == pytest.approx(found.item(), rel=1e-12)
    assert float(curve.upper - curve.found) == pytest.approx(1.0000217 * sigma, rel=1e-5)


@given(some_hits)
def test_curves_rise_through_what_was_found_to_the_richness(hits):
    estimate = analysis.completeness(hits)
    n = estimate.n_hits
    curve = analysis.rarefaction_curve(hits, [1, *range(1, 3 * n + 1), 10_000 * n])
    found = curve.found.numpy()
    assert found[0] == pytest.approx(1.0)
    assert found[n] == pytest.approx(estimate.n_found)
    assert bool((np.diff(found) >= -1e-9).all())
    assert found[-1] == pytest.approx(estimate.richness)
    assert bool((curve.lower <= curve.found).all() and (curve.found <= curve.upper).all())
    assert estimate.expected_new(n) == pytest.approx(found[2 * n] - estimate.n_found)


@given(some_hits, st.sampled_from([0.5, 0.95, 0.999]))
def test_estimates_lie_within_their_limits_and_limits_within_reason(hits, level):
    estimate = analysis.completeness(hits, level=level)
    low, high = estimate.coverage_interval
    assert 0 <= low <= estimate.coverage <= high <= 1
    low, high = estimate.richness_interval
    assert estimate.n_found <= low <= high
    assert low <= estimate.richness or estimate.richness == estimate.n_found
    assert estimate.richness <= high
    wider = analysis.completeness(hits, level=0.9999)
    assert wider.richness_interval[1] >= high
    assert wider.coverage_interval[0] <= estimate.coverage_interval[0]


@given(some_hits)
def test_points_without_a_hit_are_known_and_change_nothing_else(hits):
    more = analysis.completeness(torch.cat([hits, torch.zeros(4, dtype=torch.int64)]))
    assert more == dataclasses.replace(analysis.completeness(hits), n_known=len(hits) + 4)


# --- simulated sampling ---------------------------------------------------------------------------------------


def simulated(share: np.ndarray, n: int, repeats: int = 400, seed: int = 0) -> list[torch.Tensor]:
    """Hits of n independent searches that end in point i with probability share[i], many times over."""
    return list(torch.as_tensor(np.random.default_rng(seed).multinomial(n, share, size=repeats)))


def unequal(n: int, sigma: float = 1.0) -> np.ndarray:
    weight = np.exp(sigma * np.random.default_rng(1).normal(size=n))
    return weight / weight.sum()


SAMPLINGS = {
    "alike": (np.full(100, 0.01), 200),
    "alike, many searches": (np.full(49, 1 / 49), 200),
    "alike, few": (np.full(50, 0.02), 50),
    "unequal": (unequal(100), 200),
    "very unequal": (unequal(100, 2.0), 400),
    "geometric": (0.95 ** np.arange(200) / (0.95 ** np.arange(200)).sum(), 300),
}
WITHIN = 4 * (0.95 * 0.05 / 400) ** 0.5  # four standard errors of a rate of 0.95 over 400 repetitions


@pytest.mark.parametrize("name", SAMPLINGS)
def test_the_limits_of_the_coverage_hold_at_their_level(name):
    share, n = SAMPLINGS[name]
    estimates = [
        (analysis.completeness(hits), float(share[hits.numpy() > 0].sum())) for hits in simulated(share, n)
    ]
    held = np.mean([e.coverage_interval[0] <= c <= e.coverage_interval[1] for e, c in estimates])
    assert abs(held - 0.95) < WITHIN
    errors = np.array([e.coverage - c for e, c in estimates])
    assert abs(errors.mean()) < 4 * errors.std() / len(errors) ** 0.5 + 0.005


@pytest.mark.parametrize("name", [name for name in SAMPLINGS if name.startswith("alike")])
def test_the_limits_of_the_richness_hold_for_equal_chances(name):
    """Read outwards to whole numbers, for a count is one: else nothing could end at what was found."""
    share, n = SAMPLINGS[name]
    estimates = [analysis.completeness(hits) for hits in simulated(share, n)]
    limits = np.array([e.richness_interval for e in estimates])
    held = (np.floor(limits[:, 0]) <= len(share)) & (len(share) <= np.ceil(limits[:, 1]))
    assert held.mean() > 0.95 - WITHIN
    richness = np.array([e.richness for e in estimates])
    assert abs(richness.mean() - len(share)) < 4 * richness.std() / 20 + 0.01 * len(share)


@pytest.mark.parametrize("name", ["unequal", "very unequal", "geometric"])
def test_the_richness_is_a_lower_bound_for_unequal_chances(name):
    share, n = SAMPLINGS[name]
    estimates = [analysis.completeness(hits) for hits in simulated(share, n)]
    richness = np.array([e.richness for e in estimates])
    found = np.mean([e.n_found for e in estimates])
    assert found + 4 < richness.mean() < len(share)
    assert np.mean([math.floor(e.richness_interval[0]) <= len(share) for e in estimates]) > 0.975


@pytest.mark.parametrize("name", ["alike", "unequal", "geometric"])
def test_curves_foretell_what_more_searches_find(name):
    """The true expectation over the sampling lies within the limits, and close to the mean extrapolation."""
    share, n = SAMPLINGS[name]
    m = np.array([n // 2, n, 3 * n // 2])
    truth = torch.as_tensor([(1 - (1 - share) ** k).sum() for k in m])
    curves = [analysis.rarefaction_curve(hits, torch.as_tensor(m)) for hits in simulated(share, n)]
    held = torch.stack([(c.lower <= truth) & (truth <= c.upper) for c in curves]).double().mean(0)
    assert bool((held > 0.85).all())
    mean = torch.stack([c.found for c in curves]).mean(0)
    np.testing.assert_allclose(mean, truth, rtol=0.02)


# --- surfaces whose points are counted ------------------------------------------------------------------------


def quenched(potential, n: int, seed: int) -> tsc.StationaryPoints:
    return relax(potential, potential.sample(n, seed=seed), max_evaluations=60)


def test_minima_of_double_wells():
    """In five dimensions 2^5 minima with basins of one size: 60 quenches foretell all 32."""
    potential = tsc.problems.get("double-well", ndim=5).potential
    with tsc.Landscape.in_memory(potential) as landscape:
        landscape.add_minima(quenched(potential, 60, seed=1))
        estimate = analysis.coverage(landscape).minima
    assert estimate.n_found < 32
    assert estimate.n_hits == 60
    low, high = estimate.richness_interval
    assert math.floor(low) <= 32 <= math.ceil(high)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_minima_of_schwefel(seed):
    """49 minima with basins of very different sizes. The coverage is checked by searches that were not counted."""
    potential = tsc.problems.get("schwefel").potential
    with tsc.Landscape.in_memory(potential) as landscape:
        landscape.add_minima(quenched(potential, 150, seed))
        estimate = analysis.coverage(landscape.network()).minima
        fresh = quenched(potential, 1000, seed=100 + seed)
        inside = fresh[fresh.converged & potential.bounds.interior(fresh.x)]
        known = (landscape.find(inside) >= 0).double().mean()
    assert estimate.n_found < 49
    assert math.floor(estimate.richness_interval[0]) <= 49
    noise = 3 * (float(known * (1 - known)) / len(inside)) ** 0.5
    low, high = estimate.coverage_interval
    assert low - noise <= float(known) <= high + noise


def test_transition_states_of_seven_lennard_jones_atoms():
    """12 transition states, some reached by one climb in hundreds: the bound stays below, the coverage holds."""
    potential = tsc.problems.get("lj7").potential
    with tsc.Landscape.in_memory(potential) as landscape:
        landscape.add_minima(relax(potential, potential.sample(40, seed=1)))
        minima = landscape.minima().x
    assert len(minima) == 4
    # Two searches of forty climbs each, followed in one batch.
    both = climb(potential, minima.repeat(20, 1), seed=3)
    found, fresh = (both.candidate_ts[(both.candidate_pair >= 40) == second] for second in (False, True))
    found, fresh = (torch.bincount(rows[rows >= 0], minlength=len(both)) for rows in (found, fresh))
    assert int((found + fresh).sum()) == both.outcomes["VERIFIED"]
    estimate = analysis.completeness(found[found > 0])
    assert estimate.n_hits == int(found.sum())
    assert estimate.n_found <= 12
    assert math.floor(estimate.richness_interval[0]) <= 12
    known = float(fresh[found > 0].sum() / fresh.sum())
    noise = 3 * (known * (1 - known) / int(fresh.sum())) ** 0.5
    low, high = estimate.coverage_interval
    assert low - noise <= known <= high + noise


# --- what counts as a hit -------------------------------------------------------------------------------------


def wells() -> tsc.FunctionPotential:
    return tsc.FunctionPotential(lambda x: (x[0] ** 2 - 1) ** 2 + x[1] ** 2, 2)


def test_only_searches_count():
    """One quench finds one well; climbing out of it makes the other known, as the end of a path, without a hit."""
    strategies = [tsc.BasinHopping(walkers=1, hops=0), tsc.ClimbFromMinima(searches=5, max_minima=1)]
    with tsc.Landscape.in_memory(wells()) as landscape:
        report = tsc.explore(landscape, wells(), strategies=strategies, progress=False)
        network = landscape.network()
        estimate = analysis.coverage(landscape)
        summary = landscape.summary()["coverage"]
    assert sorted(network.hits.tolist()) == [0, 1]
    assert (estimate.minima.n_known, estimate.minima.n_found) == (2, 1)
    assert network.ts_hits.tolist() == [report.outcomes["VERIFIED"]]
    assert summary["minima"]["n_hits"] == 1
    assert summary["transition_states"]["n_hits"] == report.outcomes["VERIFIED"]


def test_every_quench_is_a_hit_however_many_paths_follow():
    strategies = [tsc.BasinHopping(walkers=8, hops=2), tsc.ConnectMinima()]
    with tsc.Landscape.in_memory(wells()) as landscape:
        report = tsc.explore(landscape, wells(), strategies=strategies, progress=False)
        refused = sum(n for kind, n in landscape.refusals().items() if kind.startswith("minimum"))
        network = landscape.network()
    assert network.n_edges == 1
    assert int(network.hits.sum()) == report.n_quenches - refused == 24 - refused


def test_two_maxima_of_one_path_are_one_search():
    """Candidates 0 and 1 climb from the path of pair 0 to one saddle, candidate 3 from that of pair 2."""
    ts = tsc.StationaryPoints.of(torch.zeros(2, 1), torch.zeros(2))
    found = SaddleSearch(
        ts, ts, ts, mode=torch.ones(2, 1), pair=torch.tensor([0, 1]), hits=torch.tensor([3, 1]),
        outcome=torch.tensor([0, 0, 0, 0, 1]), candidate_pair=torch.tensor([0, 0, 1, 2, 2]),
        candidate_ts=torch.tensor([0, 0, 1, 0, -1]), n_evaluations=0, n_hessians=0, n_hvps=0,
    )  # fmt: skip
    assert pairs_that_found(found).tolist() == [2, 1]


def test_nothing_hit_is_nothing_known():
    network = Network.of([0.0, 1.0], [], [], hits=[0, 0])
    estimate = analysis.coverage(network)
    for kind in (estimate.minima, estimate.transition_states):
        assert math.isnan(kind.coverage)
        assert math.isnan(kind.richness)
        assert math.isnan(kind.expected_new(5))
        assert math.isnan(kind.n_missing)
    with pytest.raises(TorchscapeError, match="at least one hit"):
        analysis.rarefaction_curve(network.hits)


def test_levels_and_sizes_that_make_no_sense():
    with pytest.raises(TorchscapeError, match="between 0 and 1"):
        analysis.completeness(COUNTS, level=95.0)
    with pytest.raises(TorchscapeError, match=">= 1"):
        analysis.rarefaction_curve(COUNTS, [0, 5])


def test_hits_may_lie_on_any_device(device):
    assert analysis.completeness(COUNTS.to(device)) == analysis.completeness(COUNTS)
    curve = analysis.rarefaction_curve(COUNTS.to(device))
    assert torch.equal(curve.found, analysis.rarefaction_curve(COUNTS).found)
