"""Morse, Dzugutov, Gupta, binary Lennard-Jones, Thomson: derivatives, symmetry, energies that others have
published."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from clusters_data import icosahedron, octahedron

from torchscape import random
from torchscape.errors import PotentialError, UnknownName
from torchscape.native import library
from torchscape.optimise import relax
from torchscape.potentials import (
    BinaryLennardJones,
    Dzugutov,
    Gupta,
    LennardJones,
    Morse,
    PairPotential,
    Potential,
    Thomson,
    Trimer,
)
from torchscape.potentials.contract import check_contract
from torchscape.potentials.native_pairs import Formula, evaluator

MADE = {
    "morse-3": lambda **k: Morse(6, 3, **k),
    "morse-14": lambda **k: Morse(6, 14, **k),
    "morse-plane": lambda **k: Morse(6, 6, dim=2, **k),
    "dzugutov": lambda **k: Dzugutov(6, **k),
    "gupta": lambda **k: Gupta(6, "Pt", **k),
    "gupta-boxed": lambda **k: Gupta(6, "Au", container=1.0, **k),
    "blj": lambda **k: BinaryLennardJones(2, 4, **k),
    "kob-andersen": lambda **k: BinaryLennardJones(4, 2, epsilon=(1, 1.5, 0.5), sigma=(1, 0.8, 0.88), **k),
    "lj-plane": lambda **k: LennardJones(6, dim=2, container=1.2, **k),
    "thomson": lambda **k: Thomson(6, **k),
}


def loose_grid(u) -> torch.Tensor:
    """Clusters with no two atoms close, a little irregular; on the sphere, spread over it."""
    noise = 0.1 * random.normal(random.fold(3, torch.arange(3)), u.ndim)
    if isinstance(u, Thomson):
        octahedron = torch.cat([torch.eye(3), -torch.eye(3)]).double().reshape(1, -1)
        return (1.1 * octahedron + noise).to(u.device, u.dtype)
    grid = torch.cartesian_prod(*[torch.arange(3.0)] * u.dim)[: u.n_atoms] * 1.15
    return (grid.reshape(1, -1) + noise).to(u.device, u.dtype)


@pytest.mark.parametrize("name", ["morse-plane", "dzugutov", "gupta-boxed", "kob-andersen", "thomson"])
def test_contract(name, device):
    u = MADE[name](device=device)
    check_contract(u, x=loose_grid(u))


@pytest.mark.parametrize("name", ["morse-14", "gupta", "kob-andersen", "thomson"])
def test_single_precision_and_its_double(name):
    u = MADE[name](dtype=torch.float32)
    x = loose_grid(u)
    check_contract(u, x=x)
    exact = MADE[name]()
    torch.testing.assert_close(u.double().energy(x.double()), exact.energy(x.double()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MADE)
def test_closed_forms_are_autograds(name):
    u = MADE[name]()
    x = loose_grid(u)
    v = random.normal(random.fold(7, torch.arange(3)), u.ndim)
    for ours, theirs in zip(u.energy_and_grad(x), Potential.energy_and_grad(u, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-10)
    product, oracle = u.hvp(x, v), Potential._hvp(u, x, v)
    scale = oracle.abs().max()
    assert float((product - oracle).abs().max() / scale) < 1e-11
    assert float((torch.einsum("bij,bj->bi", u.hessian(x), v) - oracle).abs().max() / scale) < 1e-11


@pytest.mark.parametrize("name", MADE)
def test_shares_of_atoms_are_the_energy(name):
    u = MADE[name](container=None) if name not in ("gupta-boxed", "lj-plane", "thomson") else MADE[name]()
    x = 0.8 * loose_grid(u) if name in ("gupta-boxed", "lj-plane") else loose_grid(u)
    inside = u.wall is None or float(u.wall.energy(u.atoms(x)).max()) == 0.0
    if inside:
        torch.testing.assert_close(u.atom_energies(x).sum(1), u.energy(x))
    else:
        walls = u.wall.energy(u.atoms(x))
        torch.testing.assert_close(u.atom_energies(x).sum(1), u.energy(x) - walls)


IN_C = {
    "lj": lambda n, **k: LennardJones(n, **k),
    "lj-cut": lambda n, **k: LennardJones(n, cutoff=1.7, **k),
    "morse": lambda n, **k: Morse(n, 6, **k),
    "dzugutov": lambda n, **k: Dzugutov(n, **k),
    "blj": lambda n, **k: BinaryLennardJones(n // 2, n - n // 2, **k),
    "kob-andersen": lambda n, **k: BinaryLennardJones(
        n - 1, 1, epsilon=(1, 1.5, 0.5), sigma=(1, 0.8, 0.88), cutoff=2.5, **k
    ),
}


@pytest.mark.skipif(library("int f(void) { return 1; }") is None, reason="no C compiler")
@pytest.mark.parametrize("name", IN_C)
@pytest.mark.parametrize("n", [2, 5, 8])
@pytest.mark.parametrize("options", [{}, {"container": 1.1}, {"dim": 2, "container": None}], ids=str)
def test_pairs_in_c_are_those_of_the_formulas(name, n, options):
    """To rounding; and no row's bits depend on those beside it, whichever number of them there is."""
    u = IN_C[name](n, **options)
    compiled = evaluator(u.terms_in_c(), n, u.dim)
    x = u.sample(19, seed=n)  # two full sets of rows side by side, and some
    radius = u.container or 0.0
    energy, grad = compiled(x, radius)
    # forces between random atoms cancel where they are added up
    torch.testing.assert_close((energy, grad), u._by_arrays(x), rtol=1e-10, atol=1e-8)
    torch.testing.assert_close((energy, grad), Potential.energy_and_grad(u, x), rtol=1e-10, atol=1e-8)
    assert all(torch.equal(a, b) for a, b in zip(u.energy_and_grad(x), (energy, grad), strict=True))
    x[3] = torch.nan
    x[4, : u.dim] = x[4, u.dim : 2 * u.dim]  # two atoms in one place
    rows = torch.tensor([3, 12, 4, 0])
    some = compiled(x[rows], radius)
    assert torch.equal(some[0][[1, 3]], energy[[12, 0]])
    assert torch.equal(some[1][[1, 3]], grad[[12, 0]])
    assert not some[0][0].isfinite()
    assert not (some[0][2] + some[1][2].sum()).isfinite()


def test_a_wrong_formula_in_c_is_not_used(caplog):
    class Mistaken(LennardJones):
        def terms_in_c(self):
            return Formula("u = 1 / square; w = -2 / (square * square);")

    u, x = Mistaken(4), loose_grid(LennardJones(4))
    torch.testing.assert_close(u.energy_and_grad(x), LennardJones(4)._by_arrays(x))
    assert library("int f(void) { return 1; }") is None or "not those of its formulas" in caplog.text


def test_one_kind_of_a_mixture_is_lennard_jones():
    """With all sigma and epsilon 1 the energies are the same to the last bit, and so is every derivative."""
    one, two = LennardJones(7), BinaryLennardJones(3, 4, sigma=1.0)
    x = one.sample(4)
    for ours, theirs in zip(one.energy_and_grad(x), two.energy_and_grad(x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    torch.testing.assert_close(one.hessian(x), two.hessian(x), rtol=1e-10, atol=1e-6)


def test_pairs_of_a_mixture():
    """Every pair alone: depth and place of its minimum."""
    sigma, epsilon = (1.0, 0.8, 0.88), (1.0, 1.5, 0.5)
    for (n_a, n_b), s, e in zip(((2, 0), (1, 1), (0, 2)), sigma, epsilon, strict=True):
        u = BinaryLennardJones(n_a, n_b, sigma=sigma, epsilon=epsilon)
        x = torch.tensor([[0.0, 0, 0, 2 ** (1 / 6) * s, 0, 0]], dtype=torch.float64)
        energy, grad = u.energy_and_grad(x)
        assert float(energy) == pytest.approx(-e, abs=1e-12)
        assert float(grad.abs().max()) < 1e-12


def test_species_decide_which_atoms_are_alike():
    u = BinaryLennardJones(2, 3, sigma=1.2)
    x = u.sample(2)
    swapped = u.atoms(x)[:, [0, 2, 1, 3, 4]].flatten(1)
    assert not torch.allclose(u.energy(x), u.energy(swapped))
    assert "2 + 3 like atoms" in u.symmetry.describe()


# --- published energies -------------------------------------------------------------------------------------

# N: rho = 3, 6, 10, 14, from J. P. K. Doye's table of Morse clusters, to four decimals
MORSE = {
    5: (-9.2995, -9.0449, -9.0036, -9.0003),
    6: (-13.5442, -12.4878, -12.0949, -12.0182),
    7: (-17.5530, -16.2076, -15.9565, -15.8831),
}


@pytest.mark.parametrize("n", [5, 6, pytest.param(7, marks=pytest.mark.slow)])
@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_lowest_morse_clusters(n, which):
    """From random starts, of which hardly any leads to the octahedron: that is put among them."""
    u = Morse(n, (3, 6, 10, 14)[which])
    starts = u.sample(30, seed=n)
    if n == 6:
        starts = torch.cat([starts[:4], torch.as_tensor(octahedron()).reshape(1, -1) / 1.1])
    lowest = relax(u, starts).energy.min()
    assert float(lowest) == pytest.approx(MORSE[n][which], abs=6e-5)


@pytest.mark.parametrize(("rho", "energy"), [(3, -51.737046), (6, -42.439863), (14, -37.258877)])
def test_the_morse_icosahedron(rho, energy):
    u = Morse(13, rho)
    point = relax(u, torch.tensor(icosahedron()).reshape(1, -1) / 1.1)
    assert float(point.energy[0]) == pytest.approx(energy, abs=1e-6)


def test_morse_dimers_and_curvature():
    """At rho = 6 the curvature of the pair is that of Lennard-Jones at the same distance: 2 rho^2 = 72."""
    u = Morse(2, 6)
    x = torch.tensor([[0.0, 0, 0, 1, 0, 0]], dtype=torch.float64)
    assert float(u.hessian(x)[0, 0, 0]) == pytest.approx(72.0)
    lj = LennardJones(2)
    r = 2 ** (1 / 6)
    assert float(lj.hessian(r * x)[0, 0, 0]) * r**2 == pytest.approx(72.0)


def test_a_platinum_icosahedron():
    """As pele's test of the same potential has it: coordinates in r_0, energy -64.91633912 eV."""
    words = """0.7869137533 -0.4286528603 -0.2291436461 -0.0405401944 -0.9198190250 -0.0881646939 0.0527767263
    -0.3358099361 -0.8601916199 0.5594968632 0.4473550749 -0.5850812613 0.0405390334 0.9198189288 0.0881650028
    -0.7793510819 -0.3473690927 -0.3569734867 0.4085085971 -0.4975907438 0.6640839900 0.7793515688 0.3473694423
    0.3569718655 -0.0527756922 0.3358105627 0.8601915382 -0.7869142038 0.4286517960 0.2291444024 -0.4085087273
    0.4975909382 -0.6640837117 -0.0000001231 0.0000000324 0.0000000370 -0.5594965194 -0.4473551174 0.5850815838"""
    x = torch.tensor([float(word) for word in words.split()], dtype=torch.float64)[None]
    energy, grad = Gupta(13, "Pt").energy_and_grad(x)
    assert float(energy) == pytest.approx(-64.91633912, abs=1e-7)
    assert float(grad.abs().max()) < 1e-3


def test_minima_of_magnesium_as_another_program_has_them():
    """Globus (S. K. Ignatov, github.com/skignatov/globus, samples/globalopt-abc) has the same function, with its
    own parameters: the five lowest minima of Mg_13 that it found are among ours from random starts, and none is
    lower; nor of Mg_14."""
    own = {"repulsion": 1.249626, "attraction": 5.017854, "p": 16.807377, "q": 0.431717}
    theirs = torch.tensor([-177.409533, -174.132985, -172.866380, -172.718601, -172.183040], dtype=torch.float64)
    u = Gupta(13, None, **own)
    ours = relax(u, u.sample(600, seed=1)).energy
    assert float(ours.min()) == pytest.approx(float(theirs[0]), abs=1e-6)
    assert float((ours[:, None] - theirs).abs().min(0).values.max()) < 2e-6
    u = Gupta(14, None, **own)
    assert float(relax(u, u.sample(100, seed=1)).energy.min()) == pytest.approx(-194.5367, abs=1e-4)


def test_metals():
    with pytest.raises(UnknownName, match=r"unknown metal 'au'; .*known: Au, Cu, Pd, Pt"):
        Gupta(3, "au")
    with pytest.raises(PotentialError, match="repulsion=None; give a positive number"):
        Gupta(3, None)
    own = Gupta(3, None, repulsion=0.2975, attraction=2.695, p=10.612, q=4.004)
    assert torch.equal(own.energy(own.sample(2)), Gupta(3, "Pt").energy(own.sample(2)))
    assert own.fingerprint() == Gupta(3, "Pt").fingerprint() != Gupta(3, "Au").fingerprint()


def test_bulk_cohesion_of_a_metal():
    """Cleri and Rosato fitted the cohesive energy: -3.78 eV an atom for gold, in the middle of a large crystal."""
    sites = [p for p in np.ndindex(13, 13, 13) if sum(p) % 2 == 0]
    p = (np.array(sites) - 6) / 2**0.5
    u = Gupta(2, "Au")
    r = np.linalg.norm(p, axis=1)
    r = np.sort(r[r > 1e-9])
    repulsion, attraction, pp, q = (u.parameters[n] for n in ("repulsion", "attraction", "p", "q"))
    r = r[r < 5**0.5 + 1e-6]  # their sums reach the fifth neighbours
    energy = (repulsion * np.exp(-pp * (r - 1))).sum() - attraction * np.exp(-2 * q * (r - 1)).sum() ** 0.5
    assert energy == pytest.approx(-3.78, abs=0.03)


THOMSON = {
    2: 0.5, 3: 1.732050808, 4: 3.674234614, 5: 6.474691495, 6: 9.985281374, 7: 14.452977414, 8: 19.675287861,
    9: 25.759986531, 10: 32.716949460, 11: 40.596450510, 12: 49.165253058,
}  # fmt: skip


@pytest.mark.parametrize(
    "n", [n if n in (3, 5, 8, 12) else pytest.param(n, marks=pytest.mark.slow) for n in THOMSON]
)
def test_lowest_energies_of_the_thomson_problem(n):
    u = Thomson(n)
    points = relax(u, u.sample(12, seed=1))
    best = points.energy.argmin()
    assert float(points.energy[best]) == pytest.approx(THOMSON[n], abs=1e-8)
    radius = u.atoms(points.x[best][None]).norm(dim=2)
    torch.testing.assert_close(radius, torch.ones_like(radius), atol=1e-7, rtol=0)


def test_charges_are_held_on_the_sphere_apart_from_everything_else():
    """The n radial modes have the curvature k, and what remains does not know it."""
    spectra = []
    for k in (3.0, 30.0):
        u = Thomson(5, stiffness=k)
        points = relax(u, u.sample(8))
        x = points.x[points.energy.argmin()][None]
        values = torch.linalg.eigvalsh(u.hessian(x))[0]
        radial = (values - k).abs() < 1e-5
        assert int(radial.sum()) == 5
        spectra.append(values[~radial])
    torch.testing.assert_close(*spectra, atol=1e-5, rtol=0)
    assert int((spectra[0].abs() < 1e-6).sum()) == 3  # rotations


def test_dzugutov_is_smooth_at_its_ends():
    u = Dzugutov(2, container=None)
    r = torch.linspace(1.5, 2.0, 2001, dtype=torch.float64)
    x = torch.zeros(len(r), 6, dtype=torch.float64)
    x[:, 3] = r
    energy, grad = u.energy_and_grad(x)
    assert bool(torch.isfinite(u.hessian(x)).all())
    assert float(energy[r >= 1.94].abs().max()) == 0.0
    slope = (energy[2:] - energy[:-2]) / (r[2:] - r[:-2])
    torch.testing.assert_close(slope, grad[1:-1, 3], atol=2e-5, rtol=1e-4)


def test_the_dzugutov_dimer_by_scipy():
    from scipy.optimize import minimize_scalar

    def pair(r: float) -> float:
        first = 5.82 * (r**-16 - 1.28) * math.exp(1.1 / (r - 1.87)) if r < 1.87 else 0.0
        return first + (1.28 * math.exp(0.27 / (r - 1.94)) if r < 1.94 else 0.0)

    best = minimize_scalar(pair, bounds=(1.0, 1.3), method="bounded", options={"xatol": 1e-10})
    u = Dzugutov(2)
    x = torch.tensor([[0.0, 0, 0, best.x, 0, 0]], dtype=torch.float64)
    assert float(u.energy(x)) == pytest.approx(best.fun, abs=1e-12)
    assert best.fun == pytest.approx(-0.581, abs=1e-3)


# --- in a plane ---------------------------------------------------------------------------------------------


def test_seven_atoms_in_a_plane():
    """The centred hexagon: 12 pairs at a, 6 at 3^(1/2) a, 3 at 2 a. Forces are radial, so that only a relaxes, to
    the energy -S_6^2/S_12."""
    s6, s12 = (12 + 6 / 3 ** (k / 2) + 3 / 2**k for k in (6, 12))
    u = LennardJones(7, dim=2)
    assert (u.ndim, u.symmetry.dim) == (14, 2)
    points = relax(u, u.sample(60))
    assert float(points.energy.min()) == pytest.approx(-s6 * s6 / s12, abs=1e-9)
    best = points.x[points.energy.argmin()][None]
    assert u.symmetry.point_group_order(best).item() == 12  # D_6, of the plane
    values = torch.linalg.eigvalsh(u.hessian(best))[0]
    assert int((values.abs() < 1e-6).sum()) == 3
    assert u.fingerprint() != LennardJones(7).fingerprint()


def test_starts_in_a_plane_are_in_the_disc():
    u = LennardJones(9, dim=2)
    p = u.atoms(u.sample(50))
    assert p.shape == (50, 9, 2)
    assert float(p.norm(dim=2).max()) <= u.packing_radius
    share = (p.norm(dim=2)[:, 0] < u.packing_radius / 2**0.5).double().mean()
    assert 0.25 < float(share) < 0.75  # uniform: half of them


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: LennardJones(3, dim=4), "dim=4; give a whole number from 2 to 3"),
        (lambda: Morse(3, 0), "rho=0; give a positive number"),
        (lambda: Morse(3, container="big"), "give a radius, 'auto' or None"),
        (lambda: Gupta(3, container="big"), "give a radius, 'auto' or None"),
        (lambda: BinaryLennardJones(1, 1, sigma=(1, 2)), "give three"),
        (lambda: BinaryLennardJones(1, -1), "n_b=-1"),
        (lambda: Thomson(1), "n_atoms=1"),
    ],
)
def test_what_is_wrong_is_told(make, told):
    with pytest.raises(PotentialError, match=told):
        make()


def test_pairs_must_be_written():
    with pytest.raises(NotImplementedError, match="must define pair_energy"):
        PairPotential(3).energy(torch.ones(1, 9).double())
    trimer = Trimer()
    with pytest.raises(NotImplementedError, match="must define atom_energies"):
        trimer.atom_energies(torch.ones(1, 9).double())


class Weaker(LennardJones):
    """Half as deep: formulas of its own in the place of those of its base."""

    def pair_energy(self, inverse):
        return 0.5 * super().pair_energy(inverse)

    def weight(self, inverse):
        return 0.5 * super().weight(inverse)


@pytest.mark.parametrize("n", [2, 3, 6, 7])
@pytest.mark.parametrize("box", [None, 6.0], ids=["free", "box"])
def test_formulas_of_a_subclass_are_used(n, box):
    options = {} if box is None else {"box": box, "cutoff": 2.5}
    u = Weaker(n, **options)
    x = u.sample(4, seed=2)
    # forces between random atoms of 1e5 and more cancel where they are added up
    torch.testing.assert_close(u.energy_and_grad(x), Potential.energy_and_grad(u, x), rtol=1e-10, atol=1e-8)
    assert u.terms_in_c() is None
    whole = LennardJones(n, container=None, **options)
    torch.testing.assert_close(whole._by_arrays(x), Potential.energy_and_grad(whole, x), rtol=1e-10, atol=1e-8)
    torch.testing.assert_close(
        whole.energy_and_grad(x), Potential.energy_and_grad(whole, x), rtol=1e-10, atol=1e-8
    )
