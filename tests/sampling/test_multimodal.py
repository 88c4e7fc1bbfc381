"""Parallel tempering and superposition sampling on surfaces with barriers, against quadrature."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

from torchscape import random
from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.optimise import relax
from torchscape.points import Status
from torchscape.potentials import Bounds, Potential, Quadratic
from torchscape.sampling import (
    ABOBA,
    BAOAB,
    HMC,
    HarmonicMixture,
    ParallelTempering,
    Superposition,
    diagnose,
    reweight,
    sample,
)

T = 0.25


class TwoWells(Potential):
    """A tilted double well in x, a weakly coupled parabola in y; barriers of 10 T and more at T = 1/4."""

    ndim = 2

    def __init__(self, bounds=None) -> None:
        self.bounds = None if bounds is None else Bounds.of(bounds)

    def energy(self, x):
        x, y = x.unbind(1)
        return 3 * (x**2 - 1) ** 2 + 0.2 * x + (y - 0.3 * x**2) ** 2


def boltzmann(x: float, t: float = T) -> float:
    """Weight of x; y integrated out gives the same factor sqrt(pi t) at every x."""
    return math.exp(-(3 * (x**2 - 1) ** 2 + 0.2 * x) / t)


def exact(f, t: float = T) -> float:
    """<f(x)> by quadrature."""
    whole = scipy.integrate.quad(boltzmann, -3, 3, args=(t,), points=[-1, 0, 1])[0]
    return scipy.integrate.quad(lambda x: f(x) * boltzmann(x, t), -3, 3, points=[-1, 0, 1])[0] / whole


def minima(u: Potential) -> Network:
    found = relax(u, torch.tensor([[-1.0, 0.3], [1.0, 0.3]]).double())
    return Network.of(found.energy, [], [], coords=found.x)


# --- tempering ------------------------------------------------------------------------------------------

LADDER = (1.0, 1.8, 3.2, 5.8)


def test_tempering_populates_both_wells_at_every_rung_where_one_chain_does_not():
    u, n = TwoWells(), 1500
    starts = torch.tensor([[1.0, 0.3]]).double().expand(n, 2)
    inner = HMC(0.15, n_leapfrog=6, target=None)
    tempering = ParallelTempering(inner, ladder=LADDER)
    state = sample(u, starts, sampler=tempering, steps=0, burn_in=200, temperature=T).state
    for k, factor in enumerate(LADDER):
        left = float((tempering.rung(state.x[None], k)[0, :, 0] < 0).double().mean())
        p = exact(lambda x: float(x < 0), T * factor)
        assert abs(left - p) < 4 * (p * (1 - p) / n) ** 0.5
    alone = sample(u, starts, sampler=inner, steps=0, burn_in=200, temperature=T).state
    assert float((alone.x[:, 0] < 0).double().mean()) < 0.2


def test_one_rung_is_diagnosed_on_its_own():
    u = Quadratic([1.0, 2.0])
    run = sample(u, u.sample(20), sampler=ParallelTempering(HMC(0.4, 5), ladder=(1.0, 3.0)), steps=400, burn_in=40)
    for k, factor in enumerate((1.0, 3.0)):
        rung = run.only(slice(k, None, 2))
        assert diagnose(rung).warnings == ()
        assert float(rung.points[:, 0].var()) == pytest.approx(factor, rel=0.08)
    assert diagnose(run, warn=False).r_hat > 1.01  # two temperatures do not agree


def test_exchanges_follow_their_formula_and_carry_everything_along():
    u = Quadratic([1.0, 2.0])
    tempering = ParallelTempering(HMC(0.3, 2, target=None), ladder=(1.0, 2.0, 3.0))
    state = tempering.init(u, u.sample(2000), temperature=0.7, seed=3)
    moved = tempering._exchanged(state, 0)
    t, e = state.temperature.reshape(-1, 3), state.energy.reshape(-1, 3)
    probability = ((1 / t[:, 0] - 1 / t[:, 1]) * (e[:, 0] - e[:, 1])).exp().clamp(max=1)
    torch.testing.assert_close(moved.memory.swap_acceptance.reshape(-1, 3)[:, 0], probability)
    walker = moved.memory.walker
    torch.testing.assert_close(moved.x, state.x[walker])
    torch.testing.assert_close(moved.energy, state.energy[walker])
    torch.testing.assert_close(moved.grad, state.grad[walker])
    torch.testing.assert_close(
        moved.p / moved.temperature.sqrt()[:, None], state.p[walker] / state.temperature[walker].sqrt()[:, None]
    )
    assert torch.equal(moved.temperature, state.temperature)
    assert torch.equal(walker.sort().values, torch.arange(6000))
    assert torch.equal(walker.reshape(-1, 3)[:, 2], torch.arange(2, 6000, 3))  # rung 2 has no partner
    exchanged = (walker != torch.arange(6000)).reshape(-1, 3)[:, 0]
    spread = float((probability * (1 - probability)).sum()) ** 0.5
    assert abs(float(exchanged.sum()) - float(probability.sum())) <= 4 * spread


def test_a_ladder_does_not_depend_on_its_neighbours():
    u = TwoWells()
    tempering = ParallelTempering(BAOAB(0.1), ladder=LADDER, every=2)
    starts = u.sample(5)
    together = sample(u, starts, sampler=tempering, steps=20, temperature=T, seed=1)
    apart = sample(u, starts[3:4], chains=torch.tensor([3]), sampler=tempering, steps=20, temperature=T, seed=1)
    assert torch.equal(together.x[:, 12:16], apart.x)


def test_broken_rungs_are_left_out_of_exchanges():
    u = TwoWells()
    starts = u.sample(3)
    starts[1] = torch.nan
    samples = sample(u, starts, sampler=ParallelTempering(BAOAB(0.05)), steps=10, temperature=T)
    assert samples.status.tolist() == [Status.RUNNING] * 4 + [Status.NOT_FINITE] * 4 + [Status.RUNNING] * 4
    assert bool(torch.isfinite(samples.x[:, samples.alive]).all())


@pytest.mark.parametrize("kind", ["tempering", "superposition"])
def test_seeds_repeat_continue_and_belong_to_the_chain(kind):
    """Same seed, same samples; another seed others; stopped and continued the same; alone as in company."""
    u = TwoWells()
    if kind == "tempering":
        sampler, rows = ParallelTempering(HMC(0.15, 4, target=None), ladder=LADDER), 4
    else:
        sampler, rows = Superposition(HarmonicMixture.of(u, minima(u), temperature=T)), 1
    starts, options = u.sample(5), {"sampler": sampler, "temperature": T}
    whole, again, other = (sample(u, starts, steps=12, seed=seed, **options) for seed in (3, 3, 4))
    assert torch.equal(whole.x, again.x)
    assert not torch.equal(whole.x, other.x)
    first = sample(u, starts, steps=7, seed=3, **options)
    rest = sample(u, first.state, sampler=sampler, steps=5)
    assert torch.equal(torch.cat([first.x, rest.x]), whole.x)
    chosen = torch.tensor([4, 1])
    apart = sample(u, starts[chosen], chains=chosen, steps=12, seed=3, **options)
    kept = (chosen[:, None] * rows + torch.arange(rows)).flatten()
    # other batch sizes sum in another order; rounding grows a hundredfold in twelve steps at most
    torch.testing.assert_close(apart.x, whole.x[:, kept], rtol=1e-10, atol=1e-12)
    assert torch.equal(apart.acceptance > 0, whole.acceptance[kept] > 0)


def test_independence_moves_are_in_detailed_balance():
    """Flows between three thirds of the plane, each counted in both directions in the stationary state, agree; the
    draws alone, accepted all of them, would not have the stationary shares."""
    u, n = TwoWells(), 20000
    mixture = HarmonicMixture.of(u, minima(u), temperature=T)
    sampler = Superposition(mixture)
    starts = torch.tensor([[1.0, 0.3]]).double().expand(n, 2)
    run = sample(u, starts, sampler=sampler, burn_in=30, steps=2, temperature=T)
    before, after = (torch.bucketize(x[:, 0].contiguous(), torch.tensor([-0.95, 0.9]).double()) for x in run.x)
    flow = torch.zeros(3, 3).double().index_put_((before, after), torch.ones(n).double(), accumulate=True)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert abs(float(flow[i, j] - flow[j, i])) < 4 * float(flow[i, j] + flow[j, i]) ** 0.5
        assert float(flow[i, j]) > 200
    share = exact(lambda x: float(x < -0.95))
    drawn = float((mixture.draw(torch.arange(n))[:, 0] < -0.95).double().mean())
    assert abs(float(flow[0].sum()) / n - share) < 4 * (share * (1 - share) / n) ** 0.5
    assert abs(drawn - share) > 8 * (share * (1 - share) / n) ** 0.5


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ParallelTempering(HMC(), ladder=(1.0,)), "two or more"),
        (lambda: ParallelTempering(HMC(), ladder=(2.0, 1.0)), "ascending"),
        (lambda: ParallelTempering(HMC(), every=0), "every=0; give"),
        (lambda: ParallelTempering(ABOBA(0.1)), "BAOAB"),
    ],
)
def test_tempering_refuses(build, message):
    with pytest.raises(TorchscapeError, match=message):
        build()


# --- superposition --------------------------------------------------------------------------------------


def test_the_mixture_is_the_density_that_it_draws_from():
    u = TwoWells()
    mixture = HarmonicMixture.of(u, minima(u), temperature=T)
    parts = [
        scipy.stats.multivariate_normal(c.numpy(), T * np.linalg.inv(h.numpy()))
        for c, h in zip(mixture.centres, u.hessian(mixture.centres), strict=True)
    ]
    x = 2 * torch.rand(50, 2, generator=torch.Generator().manual_seed(0)).double() - 1
    density = sum(float(w.exp()) * part.pdf(x.numpy()) for w, part in zip(mixture.log_weight, parts, strict=True))
    np.testing.assert_allclose(mixture.log_prob(x).numpy(), np.log(density), rtol=1e-10)
    drawn = mixture.draw(random.fold(5, torch.arange(40000)))
    for sign, part, w in zip((-1, 1), parts, mixture.log_weight.exp(), strict=True):
        mine = drawn[drawn[:, 0] * sign > 0]
        assert len(mine) / 40000 == pytest.approx(float(w), abs=0.01)
        np.testing.assert_allclose(mine.T.cov().numpy(), part.cov, atol=0.004)


def test_weights_take_away_what_is_not_harmonic():
    u = TwoWells()
    weighted = reweight(u, HarmonicMixture.of(u, minima(u), temperature=T), 40000, seed=2)
    x = weighted.x[:, 0]
    assert weighted.ess > 20000
    error = 4 / weighted.ess**0.5
    left, fourth = exact(lambda x: float(x < 0)), exact(lambda x: x**4)
    assert float(weighted.mean((x < 0).double())) == pytest.approx(left, abs=0.5 * error)
    assert float(weighted.mean(x**4)) == pytest.approx(fourth, abs=error)
    assert abs(float((x**4).mean()) - fourth) > error  # unweighted, it is wrong
    whole = scipy.integrate.quad(boltzmann, -3, 3, points=[-1, 0, 1])[0] * math.sqrt(math.pi * T)
    assert weighted.log_partition == pytest.approx(math.log(whole), abs=error)


@pytest.mark.parametrize("bounds", [None, [(-1.1, 1.4), (-9.0, 9.0)]])
def test_metropolised_draws_have_the_true_density(bounds):
    u, n = TwoWells(bounds), 8000
    sampler = Superposition(HarmonicMixture.of(u, minima(u), temperature=T))
    starts = torch.tensor([[1.0, 0.3]]).double().expand(n, 2)
    run = sample(u, starts, sampler=sampler, burn_in=30, steps=10, temperature=T)
    low, high = (-3.0, 3.0) if bounds is None else bounds[0]
    x = run.state.x[:, 0].numpy()
    edges = np.array([low, -0.95, -0.8, 0.0, 0.8, 0.9, 1.0, 1.1, high])
    mass = np.array([scipy.integrate.quad(boltzmann, a, b)[0] for a, b in itertools.pairwise(edges)])
    counts = np.histogram(x, edges)[0]
    assert scipy.stats.chisquare(counts, n * mass / mass.sum()).pvalue > 1e-3
    assert 0.3 < float(run.acceptance.mean()) < 0.95


def test_superposition_refuses_what_is_no_minimum():
    u = TwoWells()
    with pytest.raises(TorchscapeError, match="l2"):
        HarmonicMixture.of(u, Network.of([0.0], [], [], coords=torch.zeros(1, 2).double()))
    with pytest.raises(TorchscapeError, match="coordinates"):
        HarmonicMixture.of(u, Network.of([0.0], [], []))
    with pytest.raises(TorchscapeError, match="positive"):
        HarmonicMixture.of(u, minima(u), temperature=0.0)
