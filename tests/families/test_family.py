"""Families along a control parameter, against catastrophes with closed forms and one fold found independently."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import torchscape as tsc
from torchscape import problems
from torchscape.errors import FingerprintMismatch, PotentialError, TorchscapeError
from torchscape.families import Continuation, continue_points, locate_fold
from torchscape.potentials.base import Potential
from torchscape.potentials.bounds import Bounds
from torchscape.potentials.closed_form import ClosedForm
from torchscape.saddles import find_stationary
from torchscape.symmetry.base import Symmetry

DATA = Path(__file__).parents[3] / "shared" / "data" / "gp_schwefel_2d_n60.csv"
BOTH = [tsc.BasinHopping(walkers=6, hops=0), tsc.ConnectMinima(neighbours=1)]
MINIMA = [tsc.BasinHopping(walkers=6, hops=0)]
COARSE = Continuation(least_part=2**-5)  # enough where the place of an event is not at issue


class Cusp(ClosedForm):
    """U = sum over coordinates of x^4/4 - a x^2/2, plus b x_0: folds at b = +-2 (a/3)^(3/2)."""

    def __init__(self, a: float = 1.5, b: float = 0.0, ndim: int = 1, device: torch.device | str = "cpu") -> None:
        self.a, self.b, self.ndim, self.device = a, b, ndim, torch.device(device)

    def energy(self, x):
        return (x**4 / 4 - self.a * x**2 / 2).sum(1) + self.b * x[:, 0]

    def _energy_and_grad(self, x):
        grad = x**3 - self.a * x
        grad[:, 0] += self.b
        return self.energy(x), grad

    def _hessian(self, x):
        return torch.diag_embed(3 * x**2 - self.a)

    def settings(self):
        return {"a": self.a, "b": self.b, "ndim": self.ndim}


class Wells(Potential):
    """Double wells, tilted by p in coordinate 0 (folds at p = +-8/27^(1/2)) and a little in the others."""

    def __init__(self, p: float, ndim: int = 3) -> None:
        self.p, self.ndim = p, ndim

    def energy(self, x):
        tilt = 0.05 * torch.arange(self.ndim, dtype=x.dtype, device=x.device)
        tilt[0] = self.p
        return ((x**2 - 1) ** 2 + tilt * x).sum(1)

    def settings(self):
        return {"p": self.p, "ndim": self.ndim}


class Ring(Potential):
    """(r^2 - 1)^2 in x_0 = r^2-like radius of a plane: a circle of stationary points, with its zero mode known.

    U = (r^2 - s)^2 / 4 + z^3 / 3 - p z: a fold in z at p = 0 for the circle r^2 = s.
    """

    ndim = 3

    class Rotations(Symmetry):
        def zero_modes(self, x):
            turned = torch.stack([-x[:, 1], x[:, 0], torch.zeros_like(x[:, 0])], 1)
            length = turned.norm(dim=1, keepdim=True)
            return torch.where(length > 1e-9, turned / length.clamp(min=1e-300), 0.0)[:, None]

        def project_out(self, x, v):
            modes = self.zero_modes(x)
            return v - torch.einsum("bzd,bz->bd", modes, torch.einsum("bzd,bd->bz", modes, v))

    symmetry = Rotations()

    def __init__(self, p: float) -> None:
        self.p = p

    def energy(self, x):
        r2 = (x[:, :2] ** 2).sum(1)
        return (r2 - 1) ** 2 / 4 + x[:, 2] ** 3 / 3 - self.p * x[:, 2]

    def settings(self):
        return {"p": self.p}


class Moving(ClosedForm):
    """A double well whose two minima and saddle sit at x_0 = p, in the box |x_0| <= 1."""

    ndim = 2

    def __init__(self, p: float) -> None:
        self.p, self.bounds = p, Bounds.of([(-1.0, 1.0), (-2.0, 2.0)])

    def energy(self, x):
        return (x[:, 0] - self.p) ** 2 + (x[:, 1] ** 2 - 1) ** 2

    def _energy_and_grad(self, x):
        return self.energy(x), torch.stack([2 * (x[:, 0] - self.p), 4 * x[:, 1] * (x[:, 1] ** 2 - 1)], 1)

    def _hessian(self, x):
        return torch.diag_embed(torch.stack([torch.full_like(x[:, 0], 2.0), 12 * x[:, 1] ** 2 - 4], 1))

    def settings(self):
        return {"p": self.p}


class Cubic(ClosedForm):
    """x^3/3 - p x in the box |x| <= 3: stationary points at +-p^(1/2)."""

    ndim = 1

    def __init__(self, p: float) -> None:
        self.p, self.bounds = p, Bounds.of([(-3.0, 3.0)])

    def energy(self, x):
        return (x**3 / 3 - self.p * x)[:, 0]

    def _energy_and_grad(self, x):
        return self.energy(x), x**2 - self.p

    def _hessian(self, x):
        return 2 * x[:, :, None]

    def settings(self):
        return {"p": self.p}


def exchange(p: float) -> tsc.FunctionPotential:
    """U = x^3/3 - p x^2/2: the stationary points 0 and p pass through each other at p = 0."""
    return tsc.FunctionPotential(
        lambda x: (x**3 / 3 - p * x**2 / 2)[:, 0],
        1,
        [(-2.0, 2.0)],
        batched=True,
        name=f"exchange {p}",
        check=False,
    )


def family(potentials, values, strategies=BOTH, **options) -> tsc.analysis.Family:
    return tsc.explore_family(potentials, values, strategies=strategies, progress=False, **options)


# --- closed forms ---------------------------------------------------------------------------------------


def test_folds_of_the_cusp(device):
    """At b = +-2 (a/3)^(3/2), x = +-(a/3)^(1/2): gradient and smallest eigenvalue vanish there."""
    found = family(lambda b: Cusp(1.5, b, device=device), [-0.9, 0.1, 0.9])
    assert found.counts().tolist() == [[1, 0], [2, 1], [1, 0]]
    assert found.n_branches == 3
    birth, death = found.events
    assert (birth.kind, birth.appears, death.kind, death.appears) == ("fold", True, "fold", False)
    exact = 2 * 0.5**1.5
    for event, sign in ((birth, -1), (death, 1)):
        assert event.value == pytest.approx(sign * exact, abs=1e-12)
        assert event.uncertainty < 1e-9
        assert event.x.tolist() == pytest.approx([sign * 0.5**0.5], abs=1e-7)
        u = Cusp(1.5, event.value)
        assert u.energy_and_grad(event.x[None])[1].abs().max() < 1e-8
        assert torch.linalg.eigvalsh(u.hessian(event.x[None])[0]).abs().min() < 1e-6
        assert abs(event.eigenvalue) < 1e-6
    # the transition state meets one minimum at each fold, and each fold takes another minimum
    saddle = int((found.index[:, 1] == 1).nonzero())
    assert set(birth.branches) & set(death.branches) == {saddle}
    assert {*birth.branches, *death.branches} == {0, 1, 2}


def test_branches_are_the_roots_of_the_cubic():
    """Every branch at every value solves x^3 - a x + b = 0, and keeps to one root of the three."""
    values = [0.05, 0.35, 0.65]
    found = family(lambda b: Cusp(1.5, b), values)
    place = torch.stack([coords[:, 0] for coords in found.coords], 1)
    a, b = 1.5, torch.tensor(values, dtype=torch.float64)
    angle = torch.arccos(-(b / 2) / (a / 3) ** 1.5)
    roots = torch.stack([2 * (a / 3) ** 0.5 * torch.cos((angle + 2 * torch.pi * k) / 3) for k in range(3)])
    for branch in place:
        assert any(torch.allclose(branch, root, atol=1e-7) for root in roots)
    assert torch.allclose(found.softest, 3 * place**2 - a, atol=1e-6)
    assert torch.allclose(found.energy, place**4 / 4 - a * place**2 / 2 + b * place, atol=1e-12)
    assert torch.allclose(found.log_det, (3 * place**2 - a).abs().log(), atol=1e-6)
    assert torch.equal(found.index, (found.softest < 0).long())


def test_single_steps_bracket_the_folds():
    """A list of potentials cannot be asked in between: mu^2 is extrapolated, and the interval holds the fold."""
    values = [-0.9, -0.6, -0.3, 0.3, 0.6, 0.9]
    found = family([Cusp(1.5, b) for b in values], values)
    assert [event.kind for event in found.events] == ["fold", "fold"]
    for event, exact in zip(found.events, (-(2**-0.5), 2**-0.5), strict=True):
        assert abs(event.value - exact) < 0.05
        assert abs(event.value - exact) < event.uncertainty
        assert len(event.branches) == 2


def test_extrapolation_is_exact_where_the_square_root_law_is():
    """U = x^3/3 - p x: mu^2 = 4 p, so that two values determine the fold at p = 0."""
    values = [-0.4, 0.5, 1.1]
    found = family([Cubic(p) for p in values], values, [tsc.StationarySearch(starts=8)])
    assert [(event.kind, event.branches, event.appears) for event in found.events] == [("fold", (0, 1), True)]
    assert found.events[0].value == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("as_list", [False, True])
def test_pitchfork(as_list):
    """x^4/4 - a x^2/2 at a = 0: two minima end on the branch x = 0, which changes from saddle to minimum."""
    values = [-0.7, -0.3, 0.35, 0.8]
    found = family([Cusp(a) for a in values] if as_list else Cusp, values, continuation=COARSE)
    assert found.counts().tolist() == [[1, 0], [1, 0], [2, 1], [2, 1]]
    (event,) = found.events
    assert (event.kind, event.appears, len(event.branches), event.through) == ("pitchfork", True, 2, (0,))
    assert found.index[0].tolist() == [0, 0, 1, 1]
    assert abs(event.value) <= event.uncertainty
    assert event.value == pytest.approx(0.0, abs=0.35 if as_list else 1e-6)
    assert found.coords[3][[*event.branches], 0].abs().tolist() == pytest.approx([0.8**0.5] * 2, abs=1e-6)


@pytest.mark.slow
def test_branches_that_pass_through_each_other():
    found = family(exchange, [-1.0, -0.3, 0.6, 1.1], [tsc.StationarySearch(starts=20)])
    (event,) = found.events
    assert event.kind == "transcritical"
    assert event.value == pytest.approx(0.0, abs=1e-5)
    still = int((found.present.all(1)).nonzero())
    assert found.index[still].tolist() == [0, 0, 1, 1]
    assert event.through == (still,)


@pytest.mark.slow
def test_wells_in_several_dimensions():
    """2^D minima; half of everything vanishes at p = 8/27^(1/2), minima with saddles of their own well pattern."""
    found = family(Wells, [0.5, 1.2, 1.7], [tsc.StationarySearch(starts=150)])
    assert found.counts().tolist() == [[8, 12], [8, 12], [4, 4]]
    folds = found.events_of("fold")
    assert found.events == folds
    assert [event.value for event in folds] == pytest.approx([8 / 27**0.5] * len(folds), abs=1e-9)
    with_minima = [event for event in folds if (found.index[[*event.branches], 1] == 0).any()]
    assert len(with_minima) == 4
    for event in with_minima:
        minimum, saddle = sorted(event.branches, key=lambda branch: int(found.index[branch, 1]))
        assert found.index[[minimum, saddle], 1].tolist() == [0, 1]
        assert torch.allclose(found.coords[1][minimum, 1:], found.coords[1][saddle, 1:], atol=1e-6)
    # the other four transition states meet saddles of index two, which are not followed
    assert sum(len(event.branches) for event in folds) == 12


def test_a_wall_is_not_a_fold():
    """The minima and the saddle at x_0 = p reach the wall at p = 1 with all eigenvalues unchanged."""
    found = family(Moving, [0.4, 1.3], continuation=COARSE)
    assert {event.kind for event in found.events} == {"left the box"}
    assert len(found.events) == 3
    for event in found.events:
        assert event.value == pytest.approx(1.0, abs=1e-9)
        assert event.uncertainty < 1e-9
        assert event.x[0].item() == 1.0
    assert found.counts().tolist()[-1] == [0, 0]
    assert "wall of the box" in found.notes[0]


class Fading(Potential):
    """(s - p)^2 / 2 with s = exp(x_0), and (x_1 - p)^2 / 2: a minimum at x_0 = ln p, with curvature p^2 along x_0.

    As a noise that vanishes: x_0 runs to minus infinity while its curvature fades, and reaches the wall at -10
    where p = exp(-10).
    """

    ndim = 2

    def __init__(self, p: float) -> None:
        self.p, self.bounds = p, Bounds.of([(-10.0, 3.0), (-4.0, 4.0)])

    def energy(self, x):
        return 0.5 * (x[:, 0].exp() - self.p) ** 2 + 0.5 * (x[:, 1] - self.p) ** 2

    def settings(self):
        return {"p": self.p}


@pytest.mark.parametrize("values", [[-0.5, 0.4, 0.9], [-0.01, 0.3]])
def test_a_minimum_that_fades_into_a_wall_has_left_the_box(values):
    """At p = exp(-10), where no step in p comes near: x_0 is -1.2 at the value before, and -10 on the wall."""
    (event,) = family(Fading, values, MINIMA, continuation=COARSE).events
    assert (event.kind, event.branches, event.appears) == ("left the box", (0,), True)
    assert event.value == pytest.approx(math.exp(-10), rel=1e-6)
    assert event.uncertainty < 1e-9
    assert event.x.tolist() == pytest.approx([-10.0, math.exp(-10)], abs=1e-9)
    assert event.reason == "coordinate 0 reaches its bound -10"


# --- between two values ---------------------------------------------------------------------------------


def bubble(p: float) -> tsc.FunctionPotential:
    """U' = (x + 2) (x^2 - q) with q = 0.1^2 - (p - 0.55)^2: a minimum at -2 always.

    Another at q^(1/2) and a saddle at -q^(1/2) are born at p = 0.45 and die at p = 0.65.
    """
    q = 0.1**2 - (p - 0.55) ** 2
    return tsc.FunctionPotential(
        lambda x: (x**4 / 4 + 2 * x**3 / 3 - q * x**2 / 2 - 2 * q * x)[:, 0],
        1,
        [(-4.0, 4.0)],
        batched=True,
        name=f"{p}",
        check=False,
    )


def test_what_is_born_and_dies_between_two_values():
    """The landscape in the middle shows it, and both folds are where q vanishes; without it there is no trace."""
    blind = family(bubble, [0.0, 1.0], continuation=COARSE)
    assert (blind.counts().tolist(), blind.events) == ([[1, 0], [1, 0]], ())
    found = family(bubble, [0.0, 1.0], halvings=1, continuation=COARSE)
    assert found.values.tolist() == [0.0, 0.5, 1.0]
    assert found.counts().tolist() == [[1, 0], [2, 1], [1, 0]]
    birth, death = found.events
    assert (birth.kind, birth.appears, death.kind, death.appears) == ("fold", True, "fold", False)
    assert birth.value == pytest.approx(0.45, abs=1e-9)
    assert death.value == pytest.approx(0.65, abs=1e-9)
    assert birth.branches == death.branches
    assert len(birth.branches) == 2


@pytest.mark.slow
def test_gaps_are_halved_where_they_remain_in_doubt():
    """Beside the middle that showed something new, and nowhere else."""
    found = family(bubble, [0.0, 1.0, 2.0], halvings=3, continuation=COARSE)
    assert found.values.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0]
    assert [event.value for event in found.events] == pytest.approx([0.45, 0.65], abs=1e-9)


def test_only_what_has_values_in_between_can_be_halved():
    with pytest.raises(PotentialError, match="values in between"):
        family([bubble(0.0), bubble(1.0)], [0.0, 1.0], halvings=1)


# --- what continuation adds -----------------------------------------------------------------------------


def test_a_fold_tells_of_its_partner():
    """Nobody looks for transition states; the fold at 0.707 says that one ends there, and it is followed back."""
    found = family(lambda b: Cusp(1.5, b), [0.2, 0.6, 0.9], MINIMA, continuation=COARSE)
    assert found.counts().tolist() == [[2, 1], [2, 1], [1, 0]]
    assert [network.n_edges for network in found.networks] == [1, 1, 0]
    assert [len(event.branches) for event in found.events] == [2]


def test_minima_that_one_member_missed_are_followed_to_it():
    """One walker finds one of two minima in each member; the neighbours' minima fill the gaps."""
    lone = [tsc.BasinHopping(walkers=1, hops=0)]
    values = [-0.3, -0.2, -0.1, 0.1, 0.2, 0.3]
    found = family([Cusp(1.5, b) for b in values], values, lone, seed=3)
    n_alone = []
    for b in values:
        with tsc.Landscape.in_memory(Cusp(1.5, b)) as landscape:
            tsc.explore(landscape, Cusp(1.5, b), strategies=lone, seed=3, progress=False)
            n_alone.append(landscape.n_minima)
    assert n_alone == [1] * 6
    assert len(set((found.index[:, 0] == 0).nonzero()[:, 0].tolist())) == found.counts()[0, 0]
    assert (found.counts()[:, 0] >= found.counts()[0, 0]).all()


def test_the_minima_of_a_network_know_their_branches():
    found = family(lambda b: Cusp(1.5, b), [0.3, 0.9], continuation=COARSE)
    for k, network in enumerate(found.networks):
        branch = found.branch_of(k)
        assert torch.equal(found.energy[branch, k], network.energy)
        assert (found.index[branch, k] == 0).all()
    assert len(set(found.branch_of(0).tolist())) == 2
    with pytest.raises(TorchscapeError, match="left the box"):
        found.events_of("folds")
    assert "fold at 0.70710678" in str(found)


@pytest.mark.slow
def test_order_of_values_and_batches_do_not_matter():
    values = [0.6, 0.1, 0.9, 0.3]
    one, other = (family(lambda b: Cusp(1.5, b), v) for v in (values, sorted(values)))
    assert torch.equal(one.values, other.values)
    assert torch.equal(one.energy.nan_to_num(), other.energy.nan_to_num())
    assert [event.value for event in one.events] == [event.value for event in other.events]


# --- the pieces -----------------------------------------------------------------------------------------


def test_fold_with_a_zero_mode():
    """The circle r = 1 with z = +-p^(1/2): the fold at p = 0 is found although the angle costs nothing."""
    x = torch.tensor([0.6, 0.8, 0.2], dtype=torch.float64)
    fold = locate_fold(Ring, 0.04, x, (-0.5, 0.5))
    assert fold is not None
    assert fold.value == pytest.approx(0.0, abs=1e-12)
    assert fold.x.tolist() == pytest.approx([0.6, 0.8, 0.0], abs=1e-6)
    assert fold.distance_at(0.25) == pytest.approx(0.5, rel=1e-5)


def test_no_fold_where_there_is_none():
    with pytest.warns(UserWarning, match="no fold"):
        assert locate_fold(Moving, 0.1, torch.tensor([0.1, 1.0], dtype=torch.float64), (-1.0, 1.0)) is None


def bent_pitchfork(a):
    """x^4/4 - a x^2/2 + 2 (y - x^2)^2: a pitchfork at a = 0 with y coupled to x."""
    return tsc.FunctionPotential(
        lambda z: z[:, 0] ** 4 / 4 - a * z[:, 0] ** 2 / 2 + 2 * (z[:, 1] - z[:, 0] ** 2) ** 2,
        2,
        batched=True,
        name=f"{a}",
        check=False,
    )


@pytest.mark.parametrize("a", [1e-3, 0.04])
def test_a_pitchfork_is_no_fold(a):
    """The extended system is singular there; Newton's method stopped beside it and called the place a fold."""
    with pytest.warns(UserWarning, match="no fold"):
        assert locate_fold(bent_pitchfork, a, torch.tensor([a**0.5, a]).double(), (-1.0, 1.0)) is None


def test_a_pitchfork_with_a_coupled_coordinate_is_the_only_event():
    strategies = [tsc.BasinHopping(walkers=8, hops=0), tsc.ConnectMinima()]
    found = tsc.explore_family(
        bent_pitchfork, [-1.0, 1.0], strategies=strategies, progress=False, continuation=COARSE
    )
    assert [event.kind for event in found.events] == ["pitchfork"]
    assert found.events[0].value == pytest.approx(0.0, abs=1e-5)


def test_a_cusp_is_no_fold():
    """U = x^4/4 - p x: the third derivative vanishes at p = 0 with the second, and the branch does not turn."""

    def quartic(p):
        return tsc.FunctionPotential(lambda x: (x**4 / 4 - p * x)[:, 0], 1, batched=True, name=f"{p}", check=False)

    with pytest.warns(UserWarning, match="no fold"):
        assert locate_fold(quartic, 1e-3, torch.tensor([0.1]).double(), (-1.0, 1.0)) is None


@pytest.mark.parametrize("gap", [1e-3, 0.1])
def test_folds_beside_a_broken_pitchfork_are_found(gap):
    """U = x^4/4 - p x^2/2 + gap x: folds at x = (gap/2)^(1/3), p = 3 x^2, however close to where both derivatives
    vanish."""

    def broken(p):
        return tsc.FunctionPotential(
            lambda x: (x**4 / 4 - p * x**2 / 2 + gap * x)[:, 0], 1, batched=True, name=f"{p}", check=False
        )

    at = (gap / 2) ** (1 / 3)
    fold = locate_fold(broken, 3.3 * at**2, torch.tensor([1.2 * at]).double(), (-1.0, 3.0))
    assert fold is not None
    assert fold.value == pytest.approx(3 * at**2, rel=1e-6)


def test_a_fold_outside_the_box_is_refused():
    """x^3/3 - p x has its fold at x = 0, p = 0; the box begins at 0.05."""

    def boxed(p):
        return tsc.FunctionPotential(
            lambda x: (x**3 / 3 - p * x)[:, 0], 1, bounds=[(0.05, 2.0)], batched=True, name=f"{p}", check=False
        )

    with pytest.warns(UserWarning, match="outside the potential's box"):
        assert locate_fold(boxed, 0.01, torch.tensor([0.1]).double(), (-1.0, 1.0)) is None


def test_continuation_stops_at_the_fold_and_nowhere_else():
    starts = torch.tensor([[-1.4], [0.1], [1.2]], dtype=torch.float64)
    points = find_stationary(Cusp(1.5, 0.05), starts)
    done = continue_points(lambda b: Cusp(1.5, b), points, 0.05, 1.0, options=COARSE)
    assert done.arrived.tolist() == [True, False, False]
    assert ((done.reached[1:] < 2**-0.5) & (done.failed[1:] > 2**-0.5)).all()
    assert ((done.failed - done.reached)[1:] <= 2 * COARSE.least_part).all()
    # rows do not notice each other
    for rows in (slice(0, 1), slice(1, 3)):
        apart = continue_points(lambda b: Cusp(1.5, b), points[rows], 0.05, 1.0, options=COARSE)
        assert torch.equal(apart.points.x, done.points.x[rows])
        assert torch.equal(apart.reached, done.reached[rows])


def test_continuation_beyond_dense_hessians():
    """The same branches by minimising and eigenvector-following, as for many coordinates."""
    points = find_stationary(Cusp(1.5, 0.05), torch.tensor([[-1.4], [0.1]], dtype=torch.float64))
    options = Continuation(dense_limit=0)
    done = continue_points(lambda b: Cusp(1.5, b), points, 0.05, 0.5, options=options)
    dense = continue_points(lambda b: Cusp(1.5, b), points, 0.05, 0.5)
    assert done.arrived.all()
    assert done.points.index.tolist() == [0, 1]
    assert torch.allclose(done.points.x, dense.points.x, atol=1e-6)


# --- whole numbers, files, mistakes ---------------------------------------------------------------------


@pytest.mark.slow
def test_clusters_are_explored_but_not_followed():
    """K-means for K = 2..6: the lowest (soft) costs are the known ones, and no branch crosses from K to K + 1."""
    pytest.importorskip("sklearn")
    hopping = [tsc.BasinHopping(walkers=32, hops=2)]
    found = family(lambda k: problems.get("kmeans", k=k).potential, [2, 3, 4, 5, 6], hopping)
    lowest = [float(network.energy.min()) for network in found.networks]
    assert lowest == pytest.approx([152.347952, 78.851441, 57.228473, 46.446182, 39.039987], rel=0.02)
    assert not found.followed.any()
    assert (found.present.sum(1) == 1).all()
    assert found.events == ()
    assert len(found.notes) == 4
    assert "8 coordinates at 2, 12 at 3" in found.notes[0]


def test_whole_numbers_are_not_asked_in_between():
    asked = []

    def well(n):
        assert isinstance(n, int)
        asked.append(n)
        return Cusp(1.0, 0.02 * n)

    found = family(well, [1, 2, 3])
    assert sorted(asked) == [1, 2, 3]
    assert found.n_branches == 3
    assert found.followed.all()


@pytest.mark.slow
def test_a_folder_is_resumed(tmp_path):
    values = [0.1, 0.6, 0.9]
    first = family(lambda b: Cusp(1.5, b), values, folder=tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.db")) == ["0.1.db", "0.6.db", "0.9.db"]
    again = family(lambda b: Cusp(1.5, b), [*values, 0.3], folder=tmp_path)
    assert torch.equal(again.energy[:, [0, 2, 3]].nan_to_num(), first.energy.nan_to_num())
    assert again.events[0].value == pytest.approx(first.events[0].value, abs=1e-12)
    with tsc.Landscape.open(tmp_path / "0.6.db") as landscape:
        assert (landscape.n_minima, landscape.n_transition_states) == (2, 1)
    with pytest.raises(FingerprintMismatch):
        family(lambda b: Cusp(1.4, b), values, folder=tmp_path)


def test_mistakes_are_named():
    with pytest.raises(PotentialError, match="one for each"):
        family([Cusp()], [0.0, 1.0])
    with pytest.raises(PotentialError, match="different"):
        family(Cusp, [1.0, 1.0])
    with pytest.raises(PotentialError, match="function of the value"):
        family([Cusp()], [0.0], continuous=True)
    with pytest.raises(PotentialError, match=r"\.potential"):
        family(lambda k: problems.get("himmelblau"), [0.0])


# --- found independently --------------------------------------------------------------------------------


@pytest.mark.slow
def test_fold_of_the_gaussian_process():
    """nu = 1.60745 +- 0.005 (independent), located to 1e-3 and better: gradient and an eigenvalue vanish."""
    if not DATA.exists():
        pytest.skip(f"reference data {DATA.name} are not beside this checkout")

    def process(nu):
        return problems.get("gp", data=str(DATA), nu=nu).potential

    found = family(process, [1.59, 1.62, 2.5], [tsc.BasinHopping(walkers=10, hops=0)])
    assert found.counts()[:, 0].tolist() == [1, 2, 2]
    assert sorted(found.energy[found.index[:, 2] == 0, 2].tolist()) == pytest.approx(
        [69.36769, 72.41933], abs=1e-5
    )
    (event,) = found.events_of("fold")
    assert event.value == pytest.approx(1.60745, abs=0.005)
    assert event.uncertainty < 1e-3
    assert len(event.branches) == 2
    u = process(event.value)
    assert u.energy_and_grad(event.x[None])[1].abs().max() < 1e-7
    values = torch.linalg.eigvalsh(u.hessian(event.x[None])[0])
    assert values.abs().min() < 1e-6 * values.abs().max()
