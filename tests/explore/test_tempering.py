"""Basin-hopping with replica exchange: detailed balance by enumeration, resuming, and what the ladder is for."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch

import torchscape as tsc
from torchscape.errors import TorchscapeError
from torchscape.explore import BasinHopping, Restart, TemperedBasinHopping, exchange_probability
from torchscape.explore.basin_hopping import Hops
from torchscape.explore.tempering import TemperedHops, exchanged
from torchscape.potentials.base import Potential

LEVELS = (0.0, 0.7, 1.9)  # energies of three minima
TEMPERATURES = (0.4, 0.9, 2.0)


class Tilted(Potential):
    """A double well in each coordinate, tilted: minima of 2^D different energies."""

    def __init__(self, ndim: int = 2) -> None:
        self.ndim = ndim

    def energy(self, x):
        weight = torch.arange(1, self.ndim + 1, dtype=x.dtype, device=x.device)
        return ((x**2 - 1) ** 2 + 0.3 * weight * x).sum(1)


class DoubleFunnel(Potential):
    """Two rippled funnels in the plane: a wide one of depth 1 round (-4, 0), where starts are drawn, and a narrow
    one of depth 1.6 round (4, 0). Each ripple is a minimum; between the funnels lies a plain at energy zero."""

    ndim = 2
    floor = -1.6

    def energy(self, x):
        a, b = ((x - torch.tensor([[c, 0.0]]).to(x)).square().sum(1) for c in (-4.0, 4.0))
        ripple = 0.08 * (2 - torch.cos(2 * math.pi * x).sum(1))
        return 1e-3 * x.square().sum(1) - torch.exp(-a / 12) - 1.6 * torch.exp(-b / 3) + ripple

    def sample(self, n, seed=0):
        return super().sample(n, seed) - torch.tensor([[4.0, 0.0]]).double()


def joint_states(rungs: int) -> list[tuple[int, ...]]:
    return list(itertools.product(range(len(LEVELS)), repeat=rungs))


def product_weights(states, temperatures) -> np.ndarray:
    weight = np.array(
        [math.exp(-sum(LEVELS[s] / t for s, t in zip(state, temperatures, strict=True))) for state in states]
    )
    return weight / weight.sum()


def exchange_matrix(states, temperatures, parity: int) -> np.ndarray:
    """P[i, j] of one round of exchanges between joint states, every pair of the parity tried on its own."""
    pairs = [(k, k + 1) for k in range(parity, len(temperatures) - 1, 2)]
    p = np.zeros((len(states),) * 2)
    for i, state in enumerate(states):
        for outcome in itertools.product((False, True), repeat=len(pairs)):
            moved, probability = list(state), 1.0
            for swap, (k, l) in zip(outcome, pairs, strict=True):
                numbers = (temperatures[k], LEVELS[state[k]], temperatures[l], LEVELS[state[l]])
                q = float(exchange_probability(*(torch.tensor(n, dtype=torch.float64) for n in numbers)))
                probability *= q if swap else 1 - q
                if swap:
                    moved[k], moved[l] = moved[l], moved[k]
            p[i, states.index(tuple(moved))] += probability
    return p


@pytest.mark.parametrize("parity", [0, 1])
@pytest.mark.parametrize("rungs", [2, 3])
def test_exchanges_are_in_detailed_balance_with_the_product_of_boltzmann_weights(rungs, parity):
    """Every joint state of three minima on two or three rungs, enumerated."""
    states, t = joint_states(rungs), TEMPERATURES[:rungs]
    flow = product_weights(states, t)[:, None] * exchange_matrix(states, t, parity)
    np.testing.assert_allclose(flow, flow.T, rtol=1e-12, atol=1e-16)
    np.testing.assert_allclose(flow.sum(), 1, rtol=1e-12)


@pytest.mark.parametrize("parity", [0, 1])
def test_exchanges_happen_with_the_enumerated_probabilities(parity):
    """Many ladders in each joint state of three rungs, and where they are after one round."""
    states, n = joint_states(3), 400
    levels = torch.tensor([s for s in states for _ in range(n)]).flatten()
    rows = torch.arange(len(levels))
    state = {
        "seed": 5,
        "hop": torch.full_like(rows, 4),
        "x": levels.double()[:, None],
        "energy": torch.tensor(LEVELS, dtype=torch.float64)[levels],
        "temperature": torch.tensor(TEMPERATURES, dtype=torch.float64).repeat(len(states) * n),
        "walker": rows,
        "n_tried": torch.zeros_like(rows),
        "n_exchanged": torch.zeros_like(rows),
    }
    moved = exchanged(state, 3, parity)
    assert torch.equal(moved["energy"], torch.tensor(LEVELS, dtype=torch.float64)[moved["x"][:, 0].long()])
    assert torch.equal(moved["x"], state["x"][moved["walker"]])
    assert int(moved["n_tried"].sum()) == n * len(states)
    assert int(moved["n_exchanged"].sum()) * 2 == int((moved["walker"] != rows).sum())
    after = moved["x"][:, 0].long().reshape(len(states), n, 3)
    code = (after * torch.tensor([9, 3, 1])).sum(2)
    p = exchange_matrix(states, TEMPERATURES, parity)
    statistic = freedom = 0.0
    for i in range(len(states)):
        count, expected = np.bincount(code[i].numpy(), minlength=27), n * p[i]
        assert (count[expected == 0] == 0).all()
        some = expected > 0
        statistic += ((count - expected)[some] ** 2 / expected[some]).sum()
        freedom += some.sum() - 1
    assert scipy.stats.chi2.sf(statistic, freedom) > 1e-3


def test_hops_and_exchanges_together_keep_the_product_distribution():
    """With restarts as moves each rung's distribution is known: v_a exp(-E_a / T_k) / Z_k over the two wells.

    Joint counts of the wells on two rungs, after 8 hops with an exchange after each, against the product."""
    u, temperatures = Tilted(1), (0.25, 1.0)
    minima = tsc.optimise.relax(u, torch.tensor([[-1.0], [1.0]]).double())
    barrier = min(np.roots([4, 0, -4, 0.3]), key=abs)
    v = scipy.stats.norm.cdf(barrier)
    weight = [np.array([v, 1 - v]) * np.exp(-minima.energy.numpy() / t) for t in temperatures]
    product = np.outer(weight[0] / weight[0].sum(), weight[1] / weight[1].sum())
    n = 400
    settings = TemperedBasinHopping(
        ladders=n, temperatures=temperatures, hops=8, every=1, move=Restart(), adapt=0.0
    )
    state = walked(u, settings)[0]
    right = (state["x"][:, 0] > 0).long().reshape(n, 2)
    count = np.bincount((right * torch.tensor([2, 1])).sum(1).numpy(), minlength=4)
    assert scipy.stats.chisquare(count, n * product.flatten()).pvalue > 1e-3
    assert 0.2 < float(state["n_exchanged"].sum() / state["n_tried"].sum()) < 1


# --- seeds, rounds, resuming -------------------------------------------------------------------------------


def walked(potential, settings, seed=0, stops=None):
    """The state and the quenches of a run in tasks that end at the given hops."""
    state, parts = dict(settings.start(None, potential, seed)), []
    for until in stops or (settings.hops,):
        found = TemperedHops(settings, state, until).run(potential)
        state = {**state, **found.state}
        parts.append(found.minima.x)
    return state, torch.cat(parts)


SETTINGS = TemperedBasinHopping(ladders=3, temperatures=(0.1, 0.3, 1.0), hops=7, every=2)


def test_seeds_repeat_and_tasks_may_end_anywhere():
    state, x = walked(Tilted(), SETTINGS, 3)
    again, same = walked(Tilted(), SETTINGS, 3)
    parts, cut = walked(Tilted(), SETTINGS, 3, stops=(1, 2, 5, 7))
    assert torch.equal(x, same)
    torch.testing.assert_close(x, cut)
    for name in state:
        torch.testing.assert_close(state[name], again[name])
        torch.testing.assert_close(state[name], parts[name])
    assert not torch.equal(x, walked(Tilted(), SETTINGS, 4)[1])
    assert int(state["n_exchanged"].sum()) > 0


def test_a_ladder_does_not_notice_the_others():
    few = walked(Tilted(), SETTINGS)[0]
    many = walked(Tilted(), TemperedBasinHopping(ladders=5, temperatures=(0.1, 0.3, 1.0), hops=7, every=2))[0]
    torch.testing.assert_close(few["x"], many["x"][:9])
    assert torch.equal(few["walker"], many["walker"][:9])


def test_before_the_first_exchange_walkers_are_those_of_basin_hopping():
    settings = TemperedBasinHopping(ladders=2, temperatures=(0.1, 1.0), hops=3, every=4)
    plain = BasinHopping(walkers=4, hops=3, temperature=[0.1, 1.0, 0.1, 1.0])
    reference = Hops(plain, dict(plain.start(None, Tilted(), 1)), 3).run(Tilted())
    assert torch.equal(walked(Tilted(), settings, 1)[1], reference.minima.x)


def test_more_hops_go_on_where_fewer_stopped(tmp_path):
    """A file explored for 4 hops, closed, and explored for 7 holds what one explored for 7 at once does."""
    found = []
    for name, lengths in (("once", (7,)), ("twice", (4, 7))):
        for hops in lengths:
            with tsc.Landscape.open(tmp_path / f"{name}.db", Tilted()) as landscape:
                strategy = TemperedBasinHopping(
                    ladders=3, temperatures=(0.1, 0.3, 1.0), hops=hops, every=2, round_hops=3
                )
                report = tsc.explore(landscape, Tilted(), strategies=[strategy], progress=False)
                network = landscape.network()
            assert report.is_complete
        found.append(network)
    torch.testing.assert_close(found[0].energy, found[1].energy)
    assert torch.equal(found[0].hits, found[1].hits)
    assert int(found[0].hits.sum()) == 9 * 8


# --- what it is for ------------------------------------------------------------------------------------------


def test_a_ladder_crosses_to_the_narrow_funnel_where_cold_walkers_stay():
    """Ladders of four walkers against four cold walkers each, with as many quenches: how many find the lowest
    minimum. All start in the wide funnel; the way to the narrow one leads over a plain twenty T_0 higher."""
    u, n, hops = DoubleFunnel(), 24, 24
    bottom = float(tsc.optimise.relax(u, torch.tensor([[4.0, 0.0]]).double()).energy)
    move = {"step": 1.5, "adapt": 0.0}
    ladder = TemperedBasinHopping(ladders=n, temperatures=(0.05, 0.15, 0.4, 1.2), hops=hops, every=3, **move)
    tempered = TemperedHops(ladder, dict(ladder.start(None, u, 0)), hops).run(u)
    plain = BasinHopping(walkers=4 * n, temperature=0.05, hops=hops, **move)
    cold = Hops(plain, dict(plain.start(None, u, 0)), hops).run(u)
    assert tempered.n_quenches == cold.n_quenches
    lowest = [one.minima.energy.reshape(hops + 1, n, 4) < bottom + 1e-6 for one in (tempered, cold)]
    with_ladder, without = (int(one.any(0).any(1).sum()) for one in lowest)
    assert with_ladder > 2 * without
    table = [[with_ladder, n - with_ladder], [without, n - without]]
    assert scipy.stats.fisher_exact(table, alternative="greater").pvalue < 0.01
    # What is found comes down to the coldest rung.
    assert int((tempered.state["energy"].reshape(n, 4)[:, 0] < bottom + 1e-6).sum()) >= with_ladder // 2


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TemperedBasinHopping(temperatures=(1.0,)), "two or more"),
        (lambda: TemperedBasinHopping(temperatures=(2.0, 1.0)), "ascending"),
        (lambda: TemperedBasinHopping(temperatures=(0.0, 1.0)), "positive"),
        (lambda: TemperedBasinHopping(every=0), "every"),
    ],
)
def test_refusals_name_the_remedy(build, message):
    with pytest.raises(TorchscapeError, match=message):
        build()
