"""What counts as a minimum: closed-form landscapes in every unit and precision, and what falls, or is flat."""

from __future__ import annotations

import warnings

import pytest
import torch

import torchscape as tsc
from torchscape import FunctionPotential, StationaryPoints, Status
from torchscape.errors import PotentialError
from torchscape.optimise import default_tol
from torchscape.potentials import ClusterPotential, LennardJones
from torchscape.saddles import certify_minima

FLOATS = [torch.float64, torch.float32]


def candidate(u, *rows):
    x = torch.tensor(rows, dtype=u.dtype)
    energy, grad = u.energy_and_grad(x)
    status = torch.full((len(x),), int(Status.CONVERGED))
    return StationaryPoints.of(x, energy, grad_rms=grad.square().mean(1).sqrt(), status=status)


def statuses(u, *rows):
    return [Status(code).name for code in certify_minima(u, candidate(u, *rows)).status.tolist()]


def explored(u, walkers=16, hops=1, temperature=1.0):
    """The minima, the refusals and the advice."""
    hopping = tsc.BasinHopping(walkers=walkers, hops=hops, temperature=temperature)
    with tsc.Landscape.in_memory(u) as landscape, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        tsc.explore(landscape, u, strategies=[hopping], progress=False)
        return landscape.minima(), landscape.refusals(), " ".join(str(w.message) for w in told)


# --- units and precision ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("s", [1e-21, 1e-9, 1e-4, 1.0, 1e6])
def test_the_unit_of_energy_changes_no_minimum(s, dtype):
    u = FunctionPotential(lambda x: s * ((x**2 - 1) ** 2).sum(), 2, dtype=dtype)
    minima, refusals, _ = explored(u, walkers=24, hops=1, temperature=s)
    assert len(minima) == 4
    assert refusals == {}
    torch.testing.assert_close(minima.x.abs(), torch.ones(4, 2, dtype=dtype), rtol=0, atol=1e-3)
    torch.testing.assert_close(
        minima.eigenvalues.double() / s, torch.full((4, 2), 8.0).double(), rtol=1e-2, atol=0
    )


def test_the_unit_of_length_changes_no_minimum():
    for length in (1e-7, 1e7):
        u = FunctionPotential(lambda x, k=length: ((x / k) ** 2 - 1).square().sum(), 2, length_scale=length)
        assert len(explored(u, walkers=24)[0]) == 4


def test_energies_that_differ_by_less_than_the_unit_says_are_told_apart():
    """Two wells 1e-3 of the barrier apart in energy, and a tenth of a length: in every unit two minima."""
    for s in (1.0, 1e-18):
        u = FunctionPotential(lambda x, s=s: s * ((x**2 - 1) ** 2 + 1e-3 * x).sum(), 1)
        low, high = explored(u, walkers=8, temperature=s)[0].energy.tolist()
        assert (high - low) / s == pytest.approx(2e-3, rel=1e-3)


@pytest.mark.parametrize(("dtype", "k"), [(torch.float32, 1e-3), (torch.float32, 1e-5), (torch.float64, 1e-8)])
def test_a_soft_double_well_has_two_minima(dtype, k):
    """Its gradient along the soft axis is below every absolute tolerance, also where the curvature is negative."""
    u = FunctionPotential(lambda x: k * (x[0] ** 2 - 1) ** 2 + x[1] ** 2, 2, bounds=[(-2, 2)] * 2, dtype=dtype)
    minima, _, _ = explored(u, walkers=24, hops=2, temperature=k)
    assert sorted(minima.x[:, 0].round(decimals=2).tolist()) == [-1.0, 1.0]
    assert minima.index.tolist() == [0, 0]
    assert minima.n_zero.tolist() == [0, 0]
    assert bool((minima.eigenvalues > 0).all())


def test_a_network_in_single_precision_has_the_minima_of_double_precision():
    torch.manual_seed(0)
    data = torch.randn(40, 3), torch.randint(0, 2, (40,))
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh(), torch.nn.Linear(2, 2))
    u = tsc.ModulePotential(net, data, torch.nn.functional.cross_entropy, l2=1e-3, dtype=torch.float32)
    minima, _, _ = explored(u, walkers=12, temperature=0.02)
    polished = tsc.relax(u.double(), minima.x.double())
    assert len(minima) > 1
    assert bool((u.symmetry.distance(minima.x.double(), polished.x) < 1e-3).all())
    torch.testing.assert_close(minima.energy.double(), polished.energy, rtol=1e-6, atol=0)
    apart = (polished.energy[1:] - polished.energy[:-1]) > 1e-7  # else two families of one energy
    assert bool(apart.all())


def test_default_tolerances_follow_the_potential():
    class Weak(tsc.Potential):
        ndim = 1

        def energy(self, x):
            return 2.0**-60 * ((x**2 - 1) ** 2).sum(1)

    assert 2.0**-62 < Weak().energy_scale < 2.0**-56
    assert default_tol(torch.float64, Weak()) == 1e-8 * Weak().energy_scale
    assert tsc.Landscape.in_memory(Weak()).matching.energy_tol == 1e-6 * Weak().energy_scale
    weak = Weak()
    weak.energy_scale = 3.0
    assert default_tol(torch.float64, weak) == pytest.approx(3e-8)
    with pytest.raises(PotentialError, match="must be positive"):
        weak.energy_scale = 0.0
    assert LennardJones(7).energy_scale == 1.0


def test_an_explicit_tolerance_is_absolute():
    u = FunctionPotential(lambda x: 1e-12 * ((x**2 - 1) ** 2).sum(), 1)
    points = tsc.relax(u, u.sample(8), tol=1e-15)
    assert bool(points.converged.all())
    assert bool((points.grad_rms <= 1e-15).all())


# --- what is no minimum --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("name", "f", "reason", "remedy"),
    [
        ("constant", lambda x: 0 * x.sum(), "flat in every direction", "does not depend on"),
        ("exponential", lambda x: (-x).exp().sum(), "falls for ever", "regularise"),
        ("bowl and exponential", lambda x: x[0] ** 2 + (-x[1]).exp(), "falls for ever", "regularise"),
        ("power law", lambda x: x[0] ** 2 + 1 / (1 + x[1] ** 2), "falls for ever", "regularise"),
        ("kink", lambda x: x.abs().sum(), "on a kink", "smooth"),
        ("valley with a kink", lambda x: (x[0] - x[1]).abs() + x.square().sum(), "on a kink", "smooth"),
    ],
)
def test_no_minimum_is_stored_and_the_reason_is_named(name, f, reason, remedy, dtype):
    minima, refusals, advice = explored(FunctionPotential(f, 2, dtype=dtype), walkers=8)
    assert len(minima) == 0
    assert refusals.get(f"minimum: {reason}", 0) > 8, refusals
    assert remedy in advice


@pytest.mark.parametrize("hidden", [0, 3])
def test_separable_data_have_no_minimum_at_finite_weights(hidden):
    torch.manual_seed(0)
    x = torch.cat([torch.randn(20, 2) + 3, torch.randn(20, 2) - 3])
    y = torch.arange(2).repeat_interleave(20)
    net = torch.nn.Linear(2, 2)
    if hidden:
        net = torch.nn.Sequential(torch.nn.Linear(2, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, 2))
    u = tsc.ModulePotential(net, (x, y), torch.nn.functional.cross_entropy)
    minima, refusals, advice = explored(u, walkers=6, temperature=0.02)
    assert len(minima) == 0
    assert refusals == {"minimum: falls for ever": 12}
    assert "l2=" in advice
    assert len(explored(u.with_(l2=1e-2), walkers=6, temperature=0.02)[0]) >= 1


def test_saddles_and_points_on_the_way_are_told_from_minima():
    u = FunctionPotential(lambda x: 1e-9 * (x[0] ** 2 - 1) ** 2 + x[1] ** 2, 2)
    assert statuses(u, [0.0, 0.0], [1.0, 0.0]) == ["WRONG_INDEX", "CONVERGED"]
    judged = certify_minima(u, candidate(u, [0.2, 0.0], [-0.3, 1e-9], [3.0, 0.0]))  # all below 1e-8
    torch.testing.assert_close(judged.x[:, 0], torch.tensor([1.0, -1.0, 1.0]).double(), atol=1e-3, rtol=0)
    assert judged.index.tolist() == [0, 0, 0]


@pytest.mark.parametrize("power", [4, 6])
def test_a_minimum_without_curvature_is_a_minimum(power):
    u = FunctionPotential(lambda x: x[0] ** power + x[1] ** 2, 2)
    minima, refusals, _ = explored(u, walkers=8)
    assert len(minima) == 1
    assert refusals == {}
    assert statuses(FunctionPotential(lambda x: (x**power).sum(), 2), [0.0, 0.0]) == ["CONVERGED"]


def test_flat_directions_are_counted_and_not_walked_along():
    ring = FunctionPotential(lambda x: (x.square().sum() - 1) ** 2, 2)
    judged = certify_minima(ring, candidate(ring, [1.0 + 1e-4, 0.0], [0.6, 0.8]))
    assert judged.n_zero.tolist() == [1, 1]
    assert judged.index.tolist() == [0, 0]
    torch.testing.assert_close(judged.x, torch.tensor([[1.0, 0.0], [0.6, 0.8]]).double(), atol=1e-6, rtol=0)


def test_many_coordinates_are_judged_without_hessians():
    d = 600
    falling = FunctionPotential(lambda x: (x[: d // 2] ** 2).sum() + (-x[d // 2 :]).exp().sum(), d)
    bowl = FunctionPotential(lambda x: (torch.linspace(1, 50, d).to(x) * x**2).sum(), d)
    assert statuses(falling, [0.0] * (d // 2) + [21.0] * (d // 2)) == ["UNBOUNDED"]
    assert statuses(bowl, [0.0] * d, [1e-3] * d) == ["CONVERGED", "CONVERGED"]


def test_what_did_not_converge_is_left_alone():
    u = FunctionPotential(lambda x: x.square().sum(), 1)
    given = candidate(u, [0.1]).replace(status=torch.tensor([int(Status.MAX_STEPS)]))
    assert certify_minima(u, given).x.item() == given.x.item()


# --- clusters ------------------------------------------------------------------------------------------------


class Pairs(ClusterPotential):
    """Lennard-Jones pairs as a user would write them."""

    def energy(self, x):
        p = self.atoms(x)
        d2 = (p[:, :, None] - p[:, None]).square().sum(3) + torch.diag(x.new_full((self.n_atoms,), torch.inf))
        return 2 * (d2**-6 - d2**-3).sum((1, 2))


@pytest.mark.parametrize("container", [None, 2.5])
def test_a_dissociated_cluster_is_no_minimum(container):
    u = Pairs(6, container=container)
    minima, _, _ = explored(u, walkers=24, hops=4)
    expected = torch.tensor([-12.7120622568, -12.302927529932], dtype=torch.float64)  # Wales & Doye 1997
    torch.testing.assert_close(minima.energy, expected, rtol=0, atol=1e-8)


def test_a_loose_atom_is_named():
    u = Pairs(3)
    pair = [0.0, 0, 0, 2 ** (1 / 6), 0, 0]
    assert statuses(u, [*pair, 40.0, 0, 0]) == ["LOOSE"]
    assert u.is_bound(torch.tensor([[*pair, 40.0, 0, 0], [*pair, 0, 1.0, 0]]).double()).tolist() == [False, True]


def test_the_container_of_a_subclass_is_applied_once():
    class Louder(LennardJones):
        def energy(self, x):
            return 2 * super().energy(x)

    x = 3 * LennardJones(4, container=1.0).sample(5)
    wall = LennardJones(4, container=1.0).energy(x) - LennardJones(4, container=None).energy(x)
    assert bool((wall > 0).all())
    torch.testing.assert_close(Pairs(4, container=1.0).energy(x) - Pairs(4).energy(x), wall)
    louder = Louder(4, container=1.0).energy(x) - Louder(4, container=None).energy(x)
    torch.testing.assert_close(louder, wall)


def test_a_container_without_its_derivatives_is_refused():
    class OwnGradient(Pairs):
        def energy_and_grad(self, x):
            return super().energy_and_grad(x)

    assert OwnGradient(4).container is None
    with pytest.raises(PotentialError, match="walls_included"):
        OwnGradient(4, container=2.0)


# --- float64 twins -------------------------------------------------------------------------------------------


def test_a_potential_that_has_no_float64_twin_says_so():
    constants = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    u = FunctionPotential(lambda x: x @ constants @ x, 2, dtype=torch.float32)
    with pytest.raises(PotentialError, match="float64"):
        u.double()
    assert len(explored(u, walkers=4)[0]) == 1  # in float32 then


def test_the_twin_is_made_once_and_agrees():
    u = LennardJones(5, dtype=torch.float32)
    assert u.double() is u.double()
    assert u.double().dtype == torch.float64
    x = u.sample(3).double()
    torch.testing.assert_close(u.double().energy(x), LennardJones(5).energy(x))
    assert LennardJones(5).double().dtype == torch.float64
