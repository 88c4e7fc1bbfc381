"""Basin-hopping: Metropolis statistics, seeds, and walkers that never notice each other."""

from __future__ import annotations

import pytest
import torch

import torchscape as tsc
from torchscape import random
from torchscape.explore import BasinHopping, Gaussian, Mixture, PerLayer, Restart, Uniform
from torchscape.explore.basin_hopping import Hops
from torchscape.potentials.base import Potential
from torchscape.potentials.counted import Metered


class Tilted(Potential):
    """A double well in each coordinate, tilted: minima of 2^D different energies."""

    def __init__(self, ndim: int = 2, tilt: float = 0.3) -> None:
        self.ndim, self.tilt = ndim, tilt

    def energy(self, x):
        weight = torch.arange(1, self.ndim + 1, dtype=x.dtype, device=x.device)
        return ((x**2 - 1) ** 2 + self.tilt * weight * x).sum(1)


def walked(potential, settings, seed=0):
    """The result of all hops of a basin-hopping run as one task."""
    state = settings.start(None, potential, seed)
    return Hops(settings, dict(state), until=settings.hops).run(potential)


def test_the_same_seed_repeats_the_run_and_another_does_not():
    settings = BasinHopping(walkers=6, hops=8, temperature=0.5)
    first, again, other = (walked(Tilted(), settings, seed) for seed in (3, 3, 4))
    assert torch.equal(first.minima.x, again.minima.x)
    assert not torch.equal(first.minima.x, other.minima.x)


def test_a_walker_takes_the_same_walk_whoever_walks_beside_it():
    """Walker 2 of five and walker 2 of eight quench from the same points to the same minima."""
    few = walked(Tilted(), BasinHopping(walkers=5, hops=6, temperature=0.5))
    many = walked(Tilted(), BasinHopping(walkers=8, hops=6, temperature=0.5))
    torch.testing.assert_close(few.minima.x.reshape(7, 5, 2)[:, 2], many.minima.x.reshape(7, 8, 2)[:, 2])


def test_rounds_change_nothing():
    """A run in rounds of two hops and the same run in one go visit the same minima."""
    potential = Tilted()
    settings = BasinHopping(walkers=4, hops=6, temperature=0.5)
    whole = walked(potential, settings)
    state, parts = dict(settings.start(None, potential, 0)), []
    for until in (2, 4, 6):
        found = Hops(settings, state, until).run(potential)
        parts.append(found.minima.x)
        state = {**state, **found.state}
    torch.testing.assert_close(torch.cat(parts), whole.minima.x)


def test_walkers_start_from_the_lowest_minima_that_are_known():
    """Files begun before there was that setting go on: it is no part of what a search from random points is."""
    surface = tsc.FunctionPotential(lambda x: ((x**2 - 1) ** 2 + x / 10).sum(), 1)
    around = BasinHopping(walkers=5, from_lowest=2)
    with tsc.Landscape.in_memory(surface) as landscape:
        assert torch.equal(around.start(landscape, surface, 3)["x"], surface.sample(5, seed=3))
        hopping = BasinHopping(walkers=16, hops=0)
        tsc.explore(landscape, surface, strategies=[hopping], progress=False)
        x = landscape.minima().x
        assert len(x) == 2
        assert torch.equal(around.start(landscape, surface, 3)["x"], x[[0, 1, 0, 1, 0]])
    assert "from_lowest" not in hopping.identity()
    assert around.identity()["from_lowest"] == "2"


def test_restarts_sample_the_basins_and_metropolis_weights_them():
    """With restarts as moves, the chain's stationary distribution is known.

    Each hop proposes basin a with the probability v_a that a random start falls into it, whatever the walker is
    in; Metropolis then makes v_a exp(-E_a / T) / Z stationary.
    """
    potential = Tilted(1, tilt=0.3)
    minima = tsc.optimise.relax(potential, torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
    temperature = 0.5
    settings = BasinHopping(walkers=100, hops=20, temperature=temperature, move=Restart(), adapt=0.0)
    state = dict(settings.start(None, potential, 0))
    right = []
    for until in range(5, 21, 5):
        state = {**state, **Hops(settings, state, until).run(potential).state}
        right.append((state["x"][:, 0] > 0).double().mean())
    # The barrier of this well lies at the middle root of 4 x^3 - 4 x + 0.3.
    barrier = float(min(map(abs, map(complex, _roots([4, 0, -4, 0.3])))))
    v_right = 1 - torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor(barrier))
    weights = torch.tensor([1 - v_right, v_right]) * torch.exp(-minima.energy / temperature)
    expected = float(weights[1] / weights.sum())
    assert abs(float(torch.stack(right).mean()) - expected) < 4 * (expected * (1 - expected) / 400) ** 0.5


def _roots(coefficients):
    import numpy as np

    return np.roots(coefficients)


def test_a_colder_walker_stays_lower():
    """On a ladder, mean energy grows with temperature."""
    temperature = [0.02] * 40 + [5.0] * 40
    settings = BasinHopping(walkers=80, hops=15, temperature=temperature, step=1.5, adapt=0.0)
    energy = walked(Tilted(3), settings).state["energy"]
    assert energy[:40].mean() < energy[40:].mean() - 0.2


def test_the_step_adapts_to_the_target_acceptance():
    """Steps that are accepted too often grow, and the reverse."""
    settings = BasinHopping(walkers=12, hops=44, temperature=0.05, step=0.01, acceptance=0.5, adapt=0.4)
    state = settings.start(None, Tilted(3), 0)
    early = Hops(settings, dict(state), until=24).run(Tilted(3)).state
    assert bool((early["step"] > 0.05).all())
    late = Hops(settings, {**state, **early}, until=44).run(Tilted(3)).state
    rate = (late["accepted"] - early["accepted"]).double().mean() / 20
    assert 0.35 < rate < 0.65


def test_a_ladder_needs_one_temperature_per_walker():
    with pytest.raises(ValueError, match="one per walker"):
        BasinHopping(walkers=3, temperature=[1.0, 2.0]).start(None, Tilted(), 0)


def test_without_a_number_there_are_as_many_walkers_as_temperatures():
    state = BasinHopping(temperature=[1.0, 2.0, 4.0]).start(None, Tilted(), 0)
    assert state["temperature"].tolist() == [1.0, 2.0, 4.0]
    assert len(state["hop"]) == 3


@pytest.mark.parametrize(
    ("ndim", "walkers", "hops", "ends"),
    [(2, 512, 6, [0, 1, 2]), (100, 256, 12, [0, 1, 2]), (101, 64, 50, [0, 1, 3, 7, 12])],
    ids=str,
)
def test_few_coordinates_have_many_walkers_that_make_few_hops(ndim, walkers, hops, ends):
    """As documented: about 3200 jumps whatever the size, committed about every 320, and sooner at first."""
    settings = BasinHopping()
    state = settings.start(None, Tilted(ndim), 0)
    assert len(state["hop"]) == walkers
    assert settings.progress(state) == (0, walkers * (hops + 1))
    zero = torch.zeros_like(state["hop"])
    for done, until, then in zip([-1, *ends], ends, [*ends[1:], None], strict=False):
        task = settings.propose(None, Tilted(ndim), {**state, "hop": zero + done}).tasks[0]
        assert task.until == until
        assert then is None or task.then == then
    assert settings.propose(None, Tilted(ndim), {**state, "hop": zero + hops}) is None


@pytest.mark.parametrize(
    ("move", "spread"), [(Gaussian(), 1.0), (Uniform(), 1 / 3**0.5)], ids=["gaussian", "uniform"]
)
def test_moves_have_the_width_they_promise(move, spread):
    potential = Tilted(50)
    potential.length_scale = 2.0
    x = torch.zeros(400, 50, dtype=torch.float64)
    key = random.fold(0, torch.arange(400))
    jump = move(potential, x, torch.full((400,), 0.5, dtype=torch.float64), key)
    assert abs(float(jump.std()) - spread) < 0.02
    assert abs(float(jump.mean())) < 0.02


def test_per_layer_moves_follow_the_size_of_each_tensor():
    net = torch.nn.Linear(40, 30)
    torch.nn.init.normal_(net.weight, std=5.0)
    torch.nn.init.normal_(net.bias, std=0.5)
    data = (torch.randn(8, 40), torch.randn(8, 30))
    potential = tsc.ModulePotential(net, data, torch.nn.functional.mse_loss)
    x = potential.flatten(net).expand(200, -1)
    step = torch.full((200,), 0.1, dtype=torch.float64)
    jump = PerLayer()(potential, x, step, random.fold(1, torch.arange(200))) - x
    weight, bias = jump[:, :1200], jump[:, 1200:]
    for moved, tensor in ((weight, net.weight), (bias, net.bias)):
        size = float(tensor.detach().square().mean().sqrt())
        torch.testing.assert_close(float(moved.std()), 0.1 * size, rtol=0.05, atol=0)
    with pytest.raises(tsc.errors.TorchscapeError, match="Gaussian"):
        PerLayer()(Tilted(), torch.zeros(1, 2).double(), step[:1], random.fold(1, torch.arange(1)))


@pytest.mark.parametrize("bounds", [None, [(-1.0, 1.0), (0.0, 3.0)]])
def test_restarts_are_samples_of_the_potential(bounds):
    """A batch of them at once: row for row what ``sample`` draws from the seed of each."""
    potential = Tilted()
    potential.bounds = bounds and tsc.Bounds.of(bounds)
    key = random.fold(3, torch.arange(5))
    drawn = Restart()(Metered(potential), torch.zeros(5, 2).double(), torch.ones(5).double(), key)
    expected = [potential.sample(1, seed=int(k) & 0x7FFFFFFF) for k in key]
    assert torch.equal(drawn, torch.cat(expected))


def test_a_mixture_uses_its_parts_in_proportion():
    potential = Tilted(1)
    x = torch.full((3000, 1), 100.0, dtype=torch.float64)
    mixture = Mixture(((3.0, Gaussian()), (1.0, Restart())))
    moved = mixture(potential, x, torch.ones(3000).double(), random.fold(2, torch.arange(3000)))
    assert abs(float((moved < 50).double().mean()) - 0.25) < 0.03


def test_float32_finds_the_minima_of_float64():
    """A network of 27 coordinates: 24 minima either way (19 in float32 once, five of them the same)."""
    torch.manual_seed(0)
    data = torch.randn(60, 4), torch.randint(0, 3, (60,))
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 3))
    energies = []
    for dtype in (torch.float64, torch.float32):
        u = tsc.ModulePotential(net, data, torch.nn.functional.cross_entropy, l2=1e-3, dtype=dtype)
        landscape = tsc.Landscape.in_memory(u)
        hopping = BasinHopping(walkers=12, hops=3, temperature=0.02)
        tsc.explore(landscape, u, strategies=[hopping], progress=False)
        energies.append(landscape.network().energy.double())
    assert len(energies[0]) > 10
    assert torch.allclose(*energies, atol=1e-6)
