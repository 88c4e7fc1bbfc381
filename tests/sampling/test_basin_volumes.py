"""Volumes of basins against closed forms, exhaustive grids, and landscapes with a known number of minima."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.special import ndtr

from torchscape import problems
from torchscape.errors import PotentialError, TorchscapeError
from torchscape.potentials import DoubleWell, Quadratic, SeparableSurface
from torchscape.sampling import SamplingWarning
from torchscape.sampling.basins import (
    MinimaCount,
    Noisy,
    Quenched,
    Region,
    SteepestDescent,
    Sublevel,
    assign,
    basin_volumes,
    count_minima,
    mbar_volumes,
    walks,
)

# --- products of wells ----------------------------------------------------------------------------------


def wells_of(ndim: int, n: int, device="cpu") -> tuple[DoubleWell, torch.Tensor, torch.Tensor]:
    """A product of tilted double wells in a box, n of its minima, and the boxes that are their basins [n D 2]."""
    u = DoubleWell(ndim, tilt=[0.05 * i for i in range(ndim)], bounded=True, device=device)
    left = torch.tensor([[i * (j + 1) % 3 == 0 for j in range(ndim)] for i in range(n)])
    wells = torch.tensor([[x for x, _ in u.wells(j)] for j in range(ndim)]).double()
    top = tops_of(u)
    low = torch.where(left, -2.0, top)
    high = torch.where(left, top, 2.0)
    minima = torch.where(left, wells[:, 0], wells[:, 1])
    return u, minima.to(device), torch.stack([low, high], 2)


def tops_of(u: SeparableSurface) -> torch.Tensor:
    return torch.tensor([u.barriers(j)[0][0] for j in range(u.ndim)]).double()


def same_side(u: SeparableSurface) -> Region:
    """Basins of a product of double wells: on the minimum's side of the barrier in every coordinate."""
    top = tops_of(u)
    return Region(lambda x, minimum: ((x > top.to(x)) == (minimum > top.to(x))).all(1))


def log_sides(box):
    return (box[..., 1] - box[..., 0]).log().sum(1)


def check_boxes(ndim: int, n: int, oracle=None, largest: float = 0.2, **options):
    """Thermodynamic integration and MBAR, each within its own error bar, of each basin and of their mean."""
    u, minima, box = wells_of(ndim, n)
    found = basin_volumes(u, minima, oracle=oracle or same_side(u), **options)
    assert found.is_found.all()
    for value, error in ((found.log_volume, found.error), mbar_volumes(found)):
        z = (value - log_sides(box)) / error
        assert z.abs().max() < 3.5
        assert abs(z.mean()) < 3.0 / n**0.5
        assert 0.01 < error.min() <= error.max() < largest
    return found


@pytest.mark.parametrize(("ndim", "n_force_constants"), [(2, 6), (5, 7), (10, 8), (20, 9)])
def test_volumes_of_boxes(ndim, n_force_constants):
    """From a burn-in that is long enough in two dimensions; in twenty it leaves r^2 15 % too small."""
    found = check_boxes(ndim, 6, n_force_constants=n_force_constants, n_ladders=32, steps=50, burn_in=32)
    assert (found.walks.burn_in >= 6 * ndim).all()


def test_volumes_of_boxes_tested_by_quenches():
    check_boxes(
        2,
        2,
        Quenched(SteepestDescent(tol=0.05), capture=0.5),
        n_force_constants=5,
        n_ladders=32,
        steps=8,
        burn_in=12,
        n_draws=200,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("ndim", "n", "n_force_constants", "n_ladders"), [(10, 3, 8, 16), (20, 1, 9, 32)])
def test_volumes_of_boxes_tested_by_quenches_in_many_dimensions(ndim, n, n_force_constants, n_ladders):
    """Every move followed downhill: 7 10^4 descents in ten dimensions (15 s of CPU), 1.5 10^5 in twenty."""
    options = {
        "n_force_constants": n_force_constants,
        "n_ladders": n_ladders,
        "steps": 40,
        "burn_in": 32,
        "n_draws": 200,
    }
    found = check_boxes(ndim, n, Quenched(capture=1.0), largest=0.4, **options)
    assert found.n_evaluations > 10 * found.n_quenches


def test_mean_squares_are_those_of_truncated_normals(device):
    """At every force constant, against the closed form of a normal law cut off at the walls of its box."""
    u, minima, box = wells_of(3, 1, device)
    repeated = minima.expand(30, 3).contiguous()
    found = basin_volumes(u, repeated, oracle=same_side(u), n_force_constants=6, n_ladders=8, steps=60)
    a, b = (box[0, :, i] - minima[0].cpu() for i in (0, 1))
    exact, share = truncated_normal(found.force_constant.cpu()[..., None], a, b)
    off = (found.mean_square.cpu() / exact.sum(2)).log()
    assert (off.mean(0).abs() < 3.5 * off.std(0) / 30**0.5).all()
    assert (off.std(0) < 0.15).all()
    free = (found.inside.cpu() - share[:, -1].prod(1)).mean()
    assert abs(free) < 3.5 * 0.5 / (30 * 500) ** 0.5


def truncated_normal(k, a, b):
    """Second moment about 0 of exp(-k y^2 / 2) cut off at a and b, and the share of the full law between them."""
    width = k.clamp(min=1e-12).rsqrt()
    za, zb = a / width, b / width
    share = torch.as_tensor(ndtr(zb.numpy()) - ndtr(za.numpy()))
    edge = (zb * (-0.5 * zb**2).exp() - za * (-0.5 * za**2).exp()) / (2 * math.pi) ** 0.5
    flat = ((b**3 - a**3) / (3 * (b - a))).expand_as(share)
    return torch.where(k > 0, (1 - edge / share) * width**2, flat), share


def test_volumes_of_ellipsoids_in_twenty_dimensions():
    """Long in some directions and short in others, unlike a box."""
    curvature = torch.linspace(1.0, 3.0, 20).double()
    u, origin = Quadratic(curvature.tolist()), torch.zeros(4, 20).double()
    found = basin_volumes(u, origin, oracle=Sublevel(0.5), n_ladders=32, steps=50)
    exact = 10 * math.log(math.pi) - math.lgamma(11) - 0.5 * float(curvature.log().sum())
    assert (found.error < 0.2).all()
    assert ((found.log_volume - exact) / found.error).abs().max() < 3.5


# --- surfaces -------------------------------------------------------------------------------------------


def gridded(name: str, n: int, device="cpu"):
    """Minima, their areas counted on n x n cells, and the sets of cells as an oracle."""
    u = problems.get(name, device=device).potential
    low, side = u.bounds.lower, u.bounds.upper - u.bounds.lower
    centre = (torch.arange(n, device=device).double() + 0.5) / n
    found = assign(u, low + side * torch.cartesian_prod(centre, centre))
    label = found.label.reshape(n, n)

    def labels(x):
        i, j = ((x - low) / side * n).long().clamp(0, n - 1).unbind(1)
        return label[i, j]

    areas = found.hits.double() / n**2 * side.prod()
    return u, found.minima.x, areas, Region(lambda x, minimum: labels(x) == labels(minimum))


@pytest.mark.parametrize("name", ["himmelblau", "six-hump-camel"])
@pytest.mark.slow_on_stand_in
def test_areas_of_curved_basins_by_counting_cells(name, device):
    """The walks see the very cells that are counted, so that nothing but their own error is left."""
    u, minima, areas, cells = gridded(name, 40, device)
    found = basin_volumes(u, minima, oracle=cells, n_force_constants=12, n_ladders=32, steps=200)
    z = (found.log_volume - areas.log()) / found.error
    assert z.abs().max() < 3.5
    assert (found.error < 0.05).all()


# --- noise ----------------------------------------------------------------------------------------------


def test_volume_of_a_noisy_basin_is_the_integral_of_its_probability():
    """Against independent points and noises: V times the fraction that ends in the minimum."""
    u, oracle = (
        DoubleWell(1, tilt=0.6, bounded=True),
        Noisy(0.8, 0.02, 10, then=Quenched(SteepestDescent(tol=0.05), capture=0.5)),
    )
    minima = torch.tensor([[x for x, _ in u.wells(0)]]).double().T.contiguous()
    found = basin_volumes(u, minima, oracle=oracle, n_force_constants=5, n_ladders=48, steps=8, burn_in=8)
    x = u.sample(8000, seed=9)
    member, _ = oracle.member(u, x, minima[:1].expand_as(x), torch.arange(len(x)))
    p = member.double().mean()
    sharp = tops_of(u)[0] + 2
    assert abs(4 * p - sharp) > 0.02  # noise makes a difference here
    assert ((found.log_volume - (4 * torch.stack([p, 1 - p])).log()) / found.error).abs().max() < 3.5


# --- a known number of minima ---------------------------------------------------------------------------


class Staircase(SeparableSurface):
    """U = sum cos(2 pi n g(x_i)) on [0, 1]^D, g = (e^(a x) - 1) / (e^a - 1): n wells a coordinate."""

    n, a, length_scale = 10, 1.5, 0.05

    def __init__(self, ndim: int):
        self.box = ((0.0, 1.0),) * ndim
        super().__init__(bounded=True)

    def energy(self, x):
        return torch.cos(2 * math.pi * self.n * torch.expm1(self.a * x) / math.expm1(self.a)).sum(1)

    def at(self, height: torch.Tensor) -> torch.Tensor:
        """x with n g(x) = height: walls between basins at integers, minima half-way."""
        return torch.log1p(height / self.n * math.expm1(self.a)) / self.a

    def walls(self) -> torch.Tensor:
        return self.at(torch.arange(self.n + 1).double())

    def interval(self, x: torch.Tensor) -> torch.Tensor:
        return torch.searchsorted(self.walls(), x.contiguous()) - 1


def check_count(ndim: int, n_basins: int, oracle, **options) -> MinimaCount:
    """10^D minima counted by the walked volumes of the few basins that random starts hit."""
    u = Staircase(ndim)
    x = u.sample(n_basins, seed=5)
    hit = u.interval(x)
    minima, exact = u.at(hit + 0.5), u.walls().diff()[hit].log().sum(1)
    found = basin_volumes(u, minima, oracle=oracle(u), **options)
    z = (found.log_volume - exact) / found.error
    assert abs(z.mean()) < 3.5 / n_basins**0.5
    assert 0.7 < z.std() < 1.4
    count = count_minima(found.log_volume, 0.0, error=found.error)
    assert abs(count.log_omega - ndim * math.log(10)) < 2.5 * count.log_omega_error
    p = u.walls().diff()
    assert abs(count.gibbs + ndim * float((p * p.log()).sum())) < 2.5 * count.gibbs_error
    return count


def same_interval(u: Staircase) -> Region:
    return Region(lambda x, minimum: (u.interval(x) == u.interval(minimum)).all(1))


def by_quenches(u: Staircase) -> Quenched:
    return Quenched(SteepestDescent(tol=0.05), capture=0.2)


@pytest.mark.parametrize(("ndim", "n_basins"), [(3, 60), (6, 100)])
def test_minima_of_a_product_are_counted_by_walked_volumes(ndim, n_basins):
    count = check_count(ndim, n_basins, same_interval, n_force_constants=7, n_ladders=6, steps=60, burn_in=32)
    assert count.log_omega_error < 0.2


@pytest.mark.slow
@pytest.mark.parametrize(("ndim", "n_basins"), [(3, 40), (6, 60)])
def test_minima_of_a_product_are_counted_by_quenches(ndim, n_basins):
    """A thousand, and a million of them: 5 10^5 descents, 100 s of CPU, ln Omega to 0.13."""
    options = {"n_force_constants": 6, "n_ladders": 6, "steps": 40, "burn_in": 32, "n_draws": 100}
    count = check_count(ndim, n_basins, by_quenches, **options)
    assert count.log_omega_error < 0.3


# --- batches, seeds, refusals ---------------------------------------------------------------------------


def test_a_basin_does_not_notice_the_others():
    u, minima, _ = wells_of(8, 5)
    options = {
        "oracle": same_side(u),
        "n_force_constants": 5,
        "n_ladders": 8,
        "steps": 20,
        "burn_in": 32,
        "n_draws": 50,
    }
    together = basin_volumes(u, minima, **options)
    assert len(together.walks.burn_in.unique()) > 1  # some burn in longer than others
    for rows in ([1], [4, 0], [2, 3, 1]):
        alone = basin_volumes(u, minima[rows], basins=torch.tensor(rows), **options)
        assert (together.walks.square[:, rows] - alone.walks.square).abs().max() < 1e-9
        assert (together.walks.burn_in[rows] == alone.walks.burn_in).all()
        assert (together.log_volume[rows] - alone.log_volume).abs().max() < 1e-9
        assert (together.error[rows] - alone.error).abs().max() < 1e-9


@pytest.mark.parametrize("oracle", [Quenched(), Noisy(0.1, 0.01, 3)], ids=lambda one: type(one).__name__)
def test_quenches_do_not_notice_one_another(oracle):
    u, minima, _ = wells_of(2, 3)
    x, key = u.sample(120, seed=1), torch.arange(120)
    centre = minima[key % 3]
    together, _ = oracle.member(u, x, centre, key)
    parts = [oracle.member(u, x[i::7], centre[i::7], key[i::7])[0] for i in range(7)]
    assert all((together[i::7] == part).all() for i, part in enumerate(parts))
    assert 0 < together.double().mean() < 1


def test_seeds_decide_everything():
    u, minima, _ = wells_of(2, 3)
    options = {"oracle": same_side(u), "n_force_constants": 4, "n_ladders": 2, "steps": 10, "n_draws": 50}
    first, again, other = (basin_volumes(u, minima, seed=seed, **options) for seed in (3, 3, 4))
    assert (first.walks.square == again.walks.square).all()
    assert (first.log_volume == again.log_volume).all()
    assert (first.error == again.error).all()
    assert (first.log_volume != other.log_volume).all()
    twins = basin_volumes(u, minima[:1].expand(2, 2).contiguous(), **options)
    assert twins.log_volume[0] != twins.log_volume[1]


def test_a_point_that_is_no_minimum_has_no_volume():
    u, minima, _ = wells_of(2, 1)
    points = torch.cat([minima, torch.zeros(1, 2).double()])
    around = Sublevel(u.energy(minima)[0].item() + 0.3)  # the barrier at 0 lies above it
    found = basin_volumes(u, points, oracle=around, n_force_constants=4, n_ladders=4, steps=20, n_draws=50)
    assert found.is_found.tolist() == [True, False]
    assert found.log_volume.isnan().tolist() == [False, True]
    assert found.error.isnan().tolist() == [False, True]
    value, error = mbar_volumes(
        basin_volumes(u, minima, oracle=around, n_force_constants=4, n_ladders=8, steps=60)
    )
    assert abs(value - found.log_volume[0]) < 4 * (error**2 + found.error[0] ** 2).sqrt()


def test_an_open_basin_is_complained_of(monkeypatch):
    """A strip that goes on for ever: without a force constant the walk never settles."""
    monkeypatch.setattr(walks, "_DOUBLINGS", 3)
    u, strip = Quadratic([1.0, 1.0]), Region(lambda x, minimum: x[:, 0].abs() < 1)
    with pytest.warns(SamplingWarning, match="box if they are open"):
        basin_volumes(
            u, torch.zeros(1, 2).double(), oracle=strip, n_force_constants=4, n_ladders=2, steps=10, burn_in=0
        )


def test_what_makes_no_sense_is_refused():
    u, minima, _ = wells_of(2, 1)
    for wrong in (minima[:, :1], minima[:0]):
        with pytest.raises(PotentialError, match=r"\[N, 2\]"):
            basin_volumes(u, wrong)
    for option in ({"n_force_constants": 3}, {"n_ladders": 1}, {"steps": 4}, {"burn_in": -1}, {"inside": 1.0}):
        with pytest.raises(TorchscapeError, match="4 force constants, 2 ladders, 8 steps"):
            basin_volumes(u, minima, **option)
    with pytest.raises(TorchscapeError, match="NaN"):
        basin_volumes(u, minima * math.nan)
    with pytest.raises(PotentialError, match=r"\[B, 2\]"):
        assign(u, minima[:0])
