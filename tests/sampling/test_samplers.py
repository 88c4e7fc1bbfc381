"""What every sampler promises: seeds, rows that never notice each other, walls, statuses, counts, Ctrl-C."""

from __future__ import annotations

import copy

import pytest
import torch

from torchscape.errors import TorchscapeError
from torchscape.points import Status
from torchscape.potentials import Bounds, ModulePotential, Potential
from torchscape.sampling import (
    ABOBA,
    BAOA,
    BAOAB,
    GLA1,
    GLA2,
    HMC,
    OBABO,
    SGLD,
    AdaptiveLangevin,
    CCAdL,
    sample,
)
from torchscape.sampling.chains import reflect

SAMPLERS = [
    SGLD(0.02),
    *(scheme(0.1) for scheme in (GLA1, GLA2, BAOAB, BAOA, OBABO, ABOBA)),
    AdaptiveLangevin(0.1),
    CCAdL(0.1),
    HMC(0.1, n_leapfrog=4),
]
each_sampler = pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda one: type(one).__name__)


class Wells(Potential):
    """Double wells without coupling: every operation is elementwise, so that rows can be compared bit by bit."""

    def __init__(self, ndim: int = 3, bounds=None, device="cpu", dtype=torch.float64) -> None:
        self.ndim, self.device, self.dtype = ndim, torch.device(device), dtype
        self.bounds = None if bounds is None else Bounds.of(bounds, device=device, dtype=dtype)

    def energy(self, x):
        return ((x**2 - 1) ** 2 + 0.2 * x).sum(1)


class Counted(Wells):
    """Counts its batches; raises KeyboardInterrupt at one of them."""

    calls, stop_at = 0, None

    def energy_and_grad(self, x):
        self.calls += 1
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        return super().energy_and_grad(x)


class Holed(Wells):
    """NaN to the right of x0 = 1.5."""

    def energy(self, x):
        return super().energy(x) + torch.where(x[:, 0] > 1.5, torch.nan, 0.0)


def starts(potential: Potential, n: int = 6):
    return potential.sample(n, seed=11).clamp(-1, 1)


@each_sampler
def test_same_seed_same_samples_and_other_seed_others(sampler, device, dtype):
    u = Wells(device=device, dtype=dtype)
    one, same, other = (
        sample(u, starts(u), sampler=sampler, steps=20, burn_in=5, seed=seed) for seed in (3, 3, 4)
    )
    assert one.x.dtype == dtype
    assert one.x.device.type == device.type
    assert torch.equal(one.x, same.x)
    assert not torch.equal(one.x, other.x)


@each_sampler
def test_a_chain_does_not_depend_on_its_neighbours_or_on_how_chains_were_batched(sampler):
    u = Wells()
    settings = {"sampler": sampler, "steps": 15, "burn_in": 10, "seed": 8}
    together = sample(u, starts(u), **settings)
    chosen = torch.tensor([4, 1])
    apart = sample(u, starts(u)[chosen], chains=chosen, **settings)
    assert torch.equal(together.x[:, chosen], apart.x)
    assert torch.equal(together.energy[:, chosen], apart.energy)


@each_sampler
def test_the_temperature_of_one_chain_is_its_own(sampler):
    u, t = Wells(), torch.tensor([0.1, 0.5, 1.0, 2.0, 3.0, 4.0]).double()
    mixed = sample(u, starts(u), sampler=sampler, steps=10, temperature=t)
    alone = sample(u, starts(u), sampler=sampler, steps=10, temperature=0.5)
    assert torch.equal(mixed.x[:, 1], alone.x[:, 1])
    assert not torch.equal(mixed.x[:, 2], alone.x[:, 2])


@each_sampler
def test_continuing_is_the_same_as_never_having_stopped(sampler):
    u = Wells()
    whole = sample(u, starts(u), sampler=sampler, steps=20, seed=2)
    first = sample(u, starts(u), sampler=sampler, steps=12, seed=2)
    rest = sample(u, first.state, sampler=sampler, steps=8)
    assert torch.equal(torch.cat([first.x, rest.x]), whole.x)


@each_sampler
def test_a_broken_chain_stays_where_it_was_and_leaves_the_others_alone(sampler):
    holed, whole = Holed(), Wells()
    x = starts(whole, 120)
    settings = {"sampler": sampler, "steps": 60, "temperature": 2.0}
    found, reference = sample(holed, x, **settings), sample(whole, x, **settings)
    assert bool(torch.isfinite(found.x).all())
    if sampler.is_exact:  # a trajectory into the hole is refused
        assert bool(found.alive.all())
        assert float(found.x[..., 0].max()) <= 1.5
        return
    assert set(found.status.tolist()) == {Status.RUNNING, Status.NOT_FINITE}
    assert torch.equal(found.x[:, found.alive], reference.x[:, found.alive])


def test_a_start_that_is_not_finite_is_a_status():
    x = torch.zeros(3, 3).double()
    x[1, 0] = 2.0
    found = sample(Holed(), x, steps=5)
    assert found.status.tolist() == [Status.RUNNING, Status.NOT_FINITE, Status.RUNNING]


@each_sampler
def test_one_gradient_a_step(sampler):
    u = Counted()
    samples = sample(u, starts(u), sampler=sampler, steps=30, burn_in=10, thin=10)
    extra = 0 if sampler.is_evaluated else len(samples)
    assert u.calls == samples.state.n_evaluations + extra
    if not sampler.is_exact:
        assert samples.state.n_evaluations == 1 + 40


@each_sampler
def test_recorded_energies_and_virials_are_those_of_the_positions(sampler):
    u = Wells()
    samples = sample(u, starts(u), sampler=sampler, steps=9, thin=3, observables={"first": lambda x: x[:, 0]})
    assert len(samples) == 3
    for k in range(3):
        energy, grad = u.energy_and_grad(samples.x[k])
        torch.testing.assert_close(samples.energy[k], energy)
        torch.testing.assert_close(samples.virial[k], 0.5 * (samples.x[k] * grad).sum(1))
        torch.testing.assert_close(samples.grad_square[k], grad.square().sum(1))
    assert torch.equal(samples.observed["first"], samples.x[..., 0])


@pytest.mark.parametrize("stop_at", [3, 12, 27])
def test_ctrl_c_returns_what_there_is(stop_at):
    u = Counted()
    u.stop_at = stop_at
    cut = sample(u, starts(u), sampler=BAOAB(0.1), burn_in=5, steps=30, thin=2)
    whole = sample(Wells(), starts(u), sampler=BAOAB(0.1), burn_in=5, steps=30, thin=2)
    assert cut.interrupted
    assert not whole.interrupted
    # Call 1 evaluates the starts, call 1 + n is step n; of the steps after burn-in every second is kept.
    assert len(cut) == max(0, stop_at - 2 - 5) // 2
    assert torch.equal(cut.x, whole.x[: len(cut)])
    u.stop_at = None
    rest = sample(u, cut.state, sampler=BAOAB(0.1), steps=1)
    assert rest.x.shape == (1, 6, 3)


def test_positions_need_not_be_kept():
    samples = sample(Wells(), starts(Wells()), steps=5, keep_positions=False)
    assert samples.x is None
    assert samples.energy.shape == (5, 6)
    with pytest.raises(TorchscapeError, match="keep_positions=True"):
        _ = samples.points


# --- walls ----------------------------------------------------------------------------------------------


def test_reflection_is_free_flight_between_walls():
    """Against a flight in many short legs, each turned round at the wall it passes."""
    box = Bounds.of([(-1, 2), (0, float("inf")), (-float("inf"), 1), (-float("inf"), float("inf"))])
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(50, 4, generator=generator).double()
    p = 5 * torch.randn(50, 4, generator=generator).double()
    folded, turned = reflect(box, x + p, p)
    y, q = x.clone(), p.clone()
    for _ in range(1000):
        y = y + q / 1000
        low, high = y < box.lower, y > box.upper
        y = torch.where(low, 2 * box.lower - y, torch.where(high, 2 * box.upper - y, y))
        q = torch.where(low | high, -q, q)
    torch.testing.assert_close(folded, y, atol=1e-10, rtol=0)
    assert torch.equal(turned, q)


@each_sampler
def test_chains_in_a_flat_box_are_uniform(sampler):
    """Without a potential the density in the box is constant, and momenta are untouched by the walls.

    SGLD and Langevin steps reflect exactly; mean and variance of a uniform density on (0, 1)."""

    class Flat(Wells):
        def energy(self, x):
            return 0 * x.sum(1)

    u = Flat(2, bounds=[(0, 1), (0, 1)])
    state = sample(u, torch.full((4000, 2), 0.1).double(), sampler=sampler, steps=0, burn_in=80).state
    assert bool(((state.x >= 0) & (state.x <= 1)).all())
    torch.testing.assert_close(state.x.mean(0), torch.full((2,), 0.5).double(), atol=0.02, rtol=0)
    torch.testing.assert_close(state.x.var(0), torch.full((2,), 1 / 12).double(), atol=0.005, rtol=0)
    if sampler.has_momenta:
        torch.testing.assert_close(state.p.var(0), torch.ones(2).double(), atol=0.1, rtol=0)


# --- refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda u: sample(u, torch.zeros(3, 2)), "one row per chain"),
        (lambda u: sample(u, starts(u), temperature=0.0), "positive"),
        (lambda u: sample(u, starts(u), steps=-1), "steps=-1; give"),
        (lambda u: sample(u, starts(u), thin=0), "thin=0; give"),
        (lambda u: sample(u, starts(u), sampler=HMC(), batch_size=3), "decides by energies"),
        (lambda u: sample(u, starts(u), batch_size=3), "no data"),
        (lambda u: BAOAB(-0.1), "step_size=-0.1; give a positive number"),
        (lambda u: SGLD(0.0), "step_size=0.0; give a positive number"),
        (lambda u: AdaptiveLangevin(0.1, inertia=0.0), "inertia=0.0; give a positive number"),
        (lambda u: HMC(target=1.5), "target=1.5; give a number between 0 and 1"),
        (lambda u: HMC(n_leapfrog=0), "n_leapfrog=0; give a whole number"),
        (lambda u: sample(Wells(bounds=[(0, 1)] * 3), torch.full((2, 3), 2.0).double()), "clamp"),
    ],
)
def test_refusals_name_the_remedy(call, message):
    with pytest.raises(TorchscapeError, match=message):
        call(Wells())


# --- minibatches ----------------------------------------------------------------------------------------


def regression(n: int = 40) -> ModulePotential:
    """A line through the origin: U(theta) = mean (theta x - y)^2, a parabola of known curvature."""
    x = torch.linspace(0.5, 1.5, n).double()[:, None]
    y = 2 * x + torch.sin(40 * x)
    return ModulePotential(torch.nn.Linear(1, 1, bias=False).double(), (x, y), torch.nn.functional.mse_loss)


@pytest.mark.parametrize(
    "sampler", [SGLD(0.05), BAOAB(0.2), AdaptiveLangevin(0.2), CCAdL(0.2)], ids=lambda s: type(s).__name__
)
def test_minibatches_are_drawn_afresh_and_records_are_of_all_the_data(sampler):
    u = regression()
    samples = sample(u, u.sample(4), sampler=sampler, steps=10, batch_size=8, temperature=0.01)
    again = sample(u, u.sample(4), sampler=sampler, steps=10, batch_size=8, temperature=0.01)
    full = sample(u, u.sample(4), sampler=sampler, steps=10, temperature=0.01)
    assert torch.equal(samples.x, again.x)
    assert not torch.allclose(samples.x, full.x)
    torch.testing.assert_close(samples.energy, u.energy(samples.x.reshape(-1, 1)).reshape(10, 4))


class NoisyBowl(Potential):
    """U = x^2 / 2 from n data that pull in random directions which cancel: gradient noise of constant variance."""

    ndim, n_samples = 200, 1000

    def __init__(self) -> None:
        pull = torch.randn(self.n_samples, self.ndim, generator=torch.Generator().manual_seed(1)).double()
        self.all_pulls = (5 * 4) ** 0.5 * (pull - pull.mean(0)) / pull.std(0)
        self.pull = self.all_pulls.mean(0)

    def energy(self, x):
        return 0.5 * x.square().sum(1) + x @ self.pull

    def on(self, indices):
        part = copy.copy(self)
        part.pull = self.all_pulls[indices].mean(0)
        return part


def test_adaptive_langevin_carries_away_the_heat_of_minibatches():
    """Four data a step give gradients of noise variance V = 5. Langevin dynamics heats by h V / (2 gamma), half
    the temperature here; the thermostat that adapts takes on that much friction more, and keeps the positions."""
    u, h, gamma = NoisyBowl(), 0.1, 0.5
    settings = {"steps": 150, "burn_in": 200, "thin": 3, "batch_size": 4}
    variance, state = {}, {}
    for sampler in (BAOAB(h, gamma), AdaptiveLangevin(h, gamma)):
        samples = sample(u, torch.zeros(24, 200).double(), sampler=sampler, **settings)
        name = type(sampler).__name__
        variance[name], state[name] = float(samples.x.square().mean()), samples.state
    assert variance["BAOAB"] == pytest.approx(1.5, rel=0.1)
    assert variance["AdaptiveLangevin"] == pytest.approx(1.0, rel=0.06)
    assert float(state["AdaptiveLangevin"].memory.mean()) == pytest.approx(gamma + h * 5 / 2, rel=0.1)
