"""Atoms in periodic boxes, and cutoffs: against sums written out, crystals, and another program's minimum."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

import torchscape as tsc
from torchscape import problems, random
from torchscape.errors import PotentialError, TorchscapeError
from torchscape.explore import Angular, BasinHopping
from torchscape.optimise import relax
from torchscape.potentials import BinaryLennardJones, Dzugutov, LennardJones, Morse, Potential
from torchscape.potentials.contract import check_contract
from torchscape.saddles import connect
from torchscape.symmetry import PeriodicAtoms

KOB_ANDERSEN = {"sigma": (1.0, 0.8, 0.88), "epsilon": (1.0, 1.5, 0.5)}
MADE = {
    "lj": lambda **k: LennardJones(5, box=(4.0, 4.4, 5.0), cutoff=2.0, **k),
    "plane": lambda **k: LennardJones(6, box=4.0, cutoff=1.9, dim=2, **k),
    "mixture": lambda **k: BinaryLennardJones(4, 2, box=4.0, cutoff=2.0, **KOB_ANDERSEN, **k),
    "dzugutov": lambda **k: Dzugutov(5, box=4.0, **k),
}


def loose(u) -> torch.Tensor:
    """Atoms with room, some of them beyond the edge of the box."""
    grid = torch.cartesian_prod(*[torch.arange(3.0)] * u.dim)[: u.n_atoms] * 1.3
    noise = 0.1 * random.normal(random.fold(3, torch.arange(3)), u.ndim)
    x = (grid.reshape(1, -1) + noise).double()
    x[:, : u.dim] -= torch.tensor(u.box)
    return x.to(u.device, u.dtype)


@pytest.mark.parametrize("name", MADE)
def test_contract(name):
    u = MADE[name]()
    check_contract(u, x=loose(u), smooth=False)  # at the cutoff curvatures jump


@pytest.mark.parametrize("name", MADE)
def test_closed_forms_are_autograds(name):
    u = MADE[name]()
    x, v = loose(u), random.normal(random.fold(7, torch.arange(3)), u.ndim)
    for ours, theirs in zip(u.energy_and_grad(x), Potential.energy_and_grad(u, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-10)
    torch.testing.assert_close(u.hvp(x, v), Potential._hvp(u, x, v), rtol=1e-9, atol=1e-8)
    torch.testing.assert_close(torch.einsum("bij,bj->bi", u.hessian(x), v), u.hvp(x, v), rtol=1e-9, atol=1e-8)


def test_energies_are_those_of_a_sum_over_images():
    """Every pair and all 27 images of it, written out: with the cutoff within half of the box, at most one
    counts."""
    u = MADE["mixture"]()
    x, box = loose(u), np.array(u.box)
    for row, energy in zip(x.reshape(3, 6, 3).numpy(), u.energy(x).tolist(), strict=True):
        total = 0.0
        for i, j in itertools.combinations(range(6), 2):
            kind = int(i >= 4) + int(j >= 4)
            sigma, epsilon = u.sigma[kind], u.epsilon[kind]
            for image in itertools.product((-2, -1, 0, 1, 2), repeat=3):
                r = float(np.linalg.norm(row[i] - row[j] + box * image)) / sigma
                if r < 2.0:
                    c = 2.0**-6
                    total += (
                        4 * epsilon * (r**-12 - r**-6 + (6 * c * c - 3 * c) * (r / 2.0) ** 2 + 4 * c - 7 * c * c)
                    )
        assert energy == pytest.approx(total, abs=1e-10)


def test_a_mixture_as_another_program_has_it():
    """A_10 B_3 of Kob and Andersen, free but cut off at 2.5 sigma: a minimum at -48.6156136322 in the file beside
    the tests of pele, which shifts by the same parabola."""
    lines = """1.24342609645 1.23801614964 1.45244601846 1.54705873394 -0.403679545541 1.08622723447 0.515778716226
    -0.0239372880257 0.929025197905 1.04140082421 0.241886695439 1.84618383498 -0.307544717649 0.713226563322
    0.942468435734 1.30210329252 0.121573963563 0.157672262695 0.214664735372 1.61889690366 1.31813573836
    1.81592085872 1.01267158584 0.527274249323 2.06001024046 0.485922757848 1.4552068885 0.702832288765
    0.981025991721 0.534817514968 2.08286438437 0.152336117975 0.614255316989 1.27757950097 0.457317267256
    0.998456233073 0.473319917047 0.762648179788 1.38036530142"""
    x = torch.tensor([float(word) for word in lines.split()], dtype=torch.float64)[None]
    energy, grad = BinaryLennardJones(10, 3, cutoff=2.5, **KOB_ANDERSEN).energy_and_grad(x)
    assert float(energy) == pytest.approx(-48.6156136322, abs=1e-8)
    assert float(grad.abs().max()) < 1e-3


def face_centred(cells: int, a: float) -> torch.Tensor:
    basis = np.array([(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)])
    sites = [np.array(cell) + one for cell in np.ndindex(cells, cells, cells) for one in basis]
    return torch.tensor(np.array(sites) * a).reshape(1, -1)


def test_a_crystal():
    """32 atoms on a face-centred lattice: no force, 32 translations onto itself, and shells of 12 neighbours at
    1, 6 at 2^(1/2), 24 at 3^(1/2), 12 at 2 (of which the cutoff lets pass those below it)."""
    nearest, cutoff = 1.1, 1.55
    a = nearest * 2**0.5
    u = LennardJones(32, box=2 * a, cutoff=cutoff)
    x = face_centred(2, a)
    energy, grad = u.energy_and_grad(x)
    c = cutoff**-6

    def pair(r: float) -> float:
        return (
            4 * (r**-12 - r**-6 + (6 * c * c - 3 * c) * (r / cutoff) ** 2 + 4 * c - 7 * c * c)
            if r < cutoff
            else 0.0
        )

    assert float(energy) == pytest.approx(16 * (12 * pair(nearest) + 6 * pair(nearest * 2**0.5)), abs=1e-9)
    assert float(grad.abs().max()) < 1e-10
    assert u.symmetry.translation_order(x).item() == 32
    assert float(u.symmetry.log_degeneracy(x)) == pytest.approx(math.lgamma(33) - math.log(32))
    values = torch.linalg.eigvalsh(u.hessian(x))[0]
    assert int((values.abs() < 1e-8).sum()) == 3
    assert float(values[3]) > 0
    shaken = x + 0.02 * random.normal(random.fold(1, torch.arange(2)), u.ndim)
    found = relax(u, shaken)
    torch.testing.assert_close(found.energy, energy.expand(2), atol=1e-8, rtol=0)
    assert float(u.symmetry.distance(x.expand(2, -1), found.x).max()) < 1e-4


@pytest.mark.parametrize("species", [None, ["a", "b", "b", "a", "b", "b", "b"]])
def test_images_are_recognised(species):
    g = PeriodicAtoms(7, (2.0, 3.0, 2.5), species=species)
    x = 5 * random.uniform(random.fold(2, torch.arange(20)), 21) - 1
    y = g.random_image(x, random.fold(3, torch.arange(20)))
    assert float(g.distance(x, y).max()) < 1e-9
    assert bool((g.distance(x[:-1], x[1:]) > 0.3).all())
    torch.testing.assert_close(g.invariants(x), g.invariants(y))
    torch.testing.assert_close(g.canonical(x), g.canonical(y), atol=1e-8, rtol=0)
    assert g.translation_order(x).tolist() == [1] * 20
    # no more than the straight way, and 1-Lipschitz
    z = x + 0.05 * random.normal(random.fold(4, torch.arange(20)), 21)
    distance = g.distance(x, z)
    assert bool((distance <= (x - z).norm(dim=1) + 1e-9).all())
    assert bool(((g.invariants(x) - g.invariants(z)).norm(dim=1) <= distance + 1e-9).all())


def test_two_atoms_by_hand():
    """The way around the edge, and a translation that closes half of what is left: |d|/2^(1/2) for one relative
    move."""
    g = PeriodicAtoms(2, (1.0, 1.0))
    a = torch.tensor([[0.1, 0.5, 0.9, 0.5]], dtype=torch.float64)  # 0.2 apart through the edge
    b = torch.tensor([[0.3, 0.2, 0.6, 0.2]], dtype=torch.float64)  # 0.3 apart
    assert float(g.distance(a, b)) == pytest.approx(0.1 / 2**0.5, abs=1e-12)


def test_a_landscape_in_a_box():
    """Few atoms in a plane: what the search finds is told apart modulo the box, and bands lead across its
    edges."""
    u = LennardJones(7, box=2.9, cutoff=1.45, dim=2)
    with tsc.Landscape.in_memory(u) as landscape:
        tsc.explore(landscape, u, strategies=[BasinHopping(walkers=12, hops=0)], progress=False)
        x = landscape.minima().x
        assert landscape.n_families == 0
        image = u.symmetry.random_image(x, random.fold(5, torch.arange(len(x))))
        before = landscape.n_minima
        landscape.add_minima(relax(u, image))
        assert landscape.n_minima == before >= 2
        shifted = x[1:2] + torch.tensor([2.9, -5.8]).double().repeat(7)
        one, other = connect(u, x[:1], x[1:2]), connect(u, x[:1], shifted)
        assert len(one) == len(other)
        torch.testing.assert_close(one.ts.energy, other.ts.energy, atol=1e-6, rtol=0)


def test_the_mixture_at_a_density():
    problem = problems.get("kob-andersen", n=60, n_b=12, density=1.2)
    u = problem.potential
    assert u.box == pytest.approx(((60 / 1.2) ** (1 / 3),) * 3)
    assert u.cutoff == pytest.approx(0.5 * u.box[0])
    x = u.sample(2)
    assert bool(((x >= 0) & (x <= u.box[0])).all())
    assert bool(torch.isfinite(u.energy(x)).all())
    assert u.fingerprint() != problems.get("kob-andersen", n=60, n_b=12).potential.fingerprint()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: LennardJones(4, box=3.0), "does not end, and a box of 3 has room for 1.5: give a cutoff"),
        (lambda: LennardJones(4, box=3.0, cutoff=1.6), "ends at 1.6"),
        (lambda: Dzugutov(4, box=3.0), "ends at 1.94, and a box of 3"),
        (lambda: Morse(4, box=9.0), "does not end"),
        (lambda: LennardJones(4, box=(3.0, 3.0), cutoff=1.0), "give 3 sides or one for all"),
        (lambda: LennardJones(4, box=3.0, cutoff=1.0, container=2.0), "no container"),
        (lambda: LennardJones(4, cutoff=0.0), "cutoff=0.0"),
        (lambda: LennardJones(4, box=-1.0, cutoff=1.0), "box=-1.0"),
    ],
)
def test_what_is_wrong_is_told(make, told):
    with pytest.raises(PotentialError, match=told):
        make()


def test_moves_of_free_clusters_are_refused():
    u = MADE["lj"]()
    key, step = random.fold(0, torch.arange(3)), torch.ones(3).double()
    with pytest.raises(TorchscapeError, match="for free clusters, not for a periodic box"):
        Angular()(u, u.sample(3), step, key)
