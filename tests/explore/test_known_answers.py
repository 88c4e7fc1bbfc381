"""Known answers through the public API and through the command line, with fixed seeds, energies to 1e-6.

The numbers are published ones, or solved for here in plain NumPy and SciPy; none is taken from the package.
"""

from __future__ import annotations

import itertools
import json

import networkx
import numpy as np
import pytest
import scipy.optimize
import torch

import torchscape as tsc
from torchscape import problems
from torchscape.cli import main
from torchscape.explore import BasinHopping, ClimbFromMinima, ConnectMinima, Uniform
from torchscape.optimise import relax

LJ6 = [-12.712062257, -12.302927530]
LJ7 = [-16.505384168, -15.935043060, -15.593210938, -15.533060054]
LJ7_SADDLES = [  # all twelve, counted in 8000 single-ended searches; the last is met once in 650
    -15.444733800, -15.319864441, -15.283421275, -15.097845644, -15.033384354, -15.026438106,
    -14.816399804, -14.811129645, -14.596945713, -14.568061437, -14.548572943, -12.548937709,
]  # fmt: skip
TRIMER, TRIMER_SADDLE = [-2.2190981696, -2.1850988403], [-1.98506966]
HIMMELBLAU_SADDLES = [13.31192627, 67.71915009, 104.01516292, 178.3372392]
MUELLER_BROWN, MUELLER_BROWN_SADDLES = [-146.69951721, -108.16672412, -80.76781813], [-72.24894011, -40.66484351]
CAMEL = [-1.0316284535, -1.0316284535, -0.2154638244, -0.2154638244, 2.1042503, 2.1042503]


def explored(name: str, *strategies, seed: int = 0) -> dict:
    """The summary of the landscape of a problem, nothing found of it being refused or contradictory."""
    potential = problems.parse(name).potential
    with tsc.Landscape.in_memory(potential) as landscape:
        report = tsc.explore(landscape, potential, strategies=strategies, seed=seed, progress=False)
        assert report.is_complete
        summary = landscape.summary()
        network = landscape.network(coords=True)
        points = landscape.minima()
    assert summary["complete"]
    assert summary["n_inconsistent_ends"] == summary["n_turned_out_saddles"] == 0
    assert bool((points.grad_rms <= 1e-8).all())
    assert bool((points.index == 0).all())
    return {**summary, "network": network}


def close(found, expected) -> None:
    assert len(found) == len(expected), (found, expected)
    np.testing.assert_allclose(found, sorted(expected), rtol=0, atol=1e-6)


def among(found, expected) -> None:
    """Every energy found is one of those known, and none twice."""
    which = np.abs(np.subtract.outer(found, expected)).argmin(1)
    np.testing.assert_allclose(found, np.asarray(expected)[which], rtol=0, atol=1e-6)
    assert len(set(which.tolist())) == len(found)


# --- surfaces -----------------------------------------------------------------------------------------------


def test_himmelblau():
    found = explored("himmelblau", BasinHopping(walkers=16, hops=1, temperature=50.0), ConnectMinima())
    close(found["energies"], [0.0] * 4)
    close(found["ts_energies"], HIMMELBLAU_SADDLES)
    assert networkx.is_isomorphic(networkx.Graph(found["connections"]), networkx.cycle_graph(4))
    published = [(3.0, 2.0), (-2.805118, 3.131312), (-3.779310, -3.283186), (3.584428, -1.848126)]
    x = sorted(map(tuple, found["network"].coords.tolist()))
    np.testing.assert_allclose(x, sorted(published), rtol=0, atol=1e-6)


def test_mueller_brown():
    found = explored("mueller-brown", BasinHopping(walkers=16, hops=1, temperature=50.0), ConnectMinima())
    close(found["energies"], MUELLER_BROWN)
    close(found["ts_energies"], MUELLER_BROWN_SADDLES)
    # The shallow minimum in the middle is the way between the other two: no saddle joins them.
    assert sorted(map(sorted, found["connections"])) == [[0, 2], [1, 2]]


def camel_stationary_points() -> tuple[np.ndarray, np.ndarray]:
    """(x, y) and the Hessian's index of all stationary points, from the real roots of one polynomial.

    dU/dx = 8 x - 8.4 x^3 + 2 x^5 + y and dU/dy = x - 8 y + 16 y^3; the first gives y, the second a polynomial.
    """
    y = -np.polynomial.Polynomial([0, 8, 0, -8.4, 0, 2])
    roots = (np.polynomial.Polynomial([0, 1]) - 8 * y + 16 * y**3).roots()
    x = roots[np.abs(roots.imag) < 1e-9].real
    points = np.stack([x, y(x)], 1)
    for _ in range(3):  # Newton's method on the gradient, for the last digits
        x, y_ = points.T
        grad = np.stack([8 * x - 8.4 * x**3 + 2 * x**5 + y_, x - 8 * y_ + 16 * y_**3], 1)
        points = points - np.linalg.solve(camel_hessian(points), grad[:, :, None])[:, :, 0]
    return points, (np.linalg.eigvalsh(camel_hessian(points)) < 0).sum(1)


def camel_hessian(points: np.ndarray) -> np.ndarray:
    x, y = points.T
    one = np.ones_like(x)
    return np.array([[8 - 25.2 * x**2 + 10 * x**4, one], [one, -8 + 48 * y**2]]).transpose(2, 0, 1)


def test_six_hump_camel():
    points, index = camel_stationary_points()
    assert np.bincount(index).tolist() == [6, 7, 2]  # 6 - 7 + 2 = 1, as on any surface that rises outside
    x, y = points[index == 1].T
    saddles = (4 - 2.1 * x**2 + x**4 / 3) * x**2 + x * y + 4 * (y**2 - 1) * y**2
    strategies = [BasinHopping(walkers=32, hops=1), ConnectMinima(), ClimbFromMinima(searches=2)]
    found = explored("six-hump-camel", *strategies)
    close(found["energies"], CAMEL)
    close(found["ts_energies"], saddles)
    assert found["n_components"] == 1


def schwefel_lines() -> tuple[np.ndarray, np.ndarray]:
    """(position, energy) of the 7 wells and 7 barriers of 418.9829 - x sin sqrt|x| on [-500, 500].

    With s = sqrt|x| the slope is -(sin s + (s/2) cos s); at s = 0 it vanishes without a turning point.
    """
    s = np.linspace(0.5, 500**0.5, 2000)
    slope = np.sin(s) + 0.5 * s * np.cos(s)
    roots = [
        scipy.optimize.brentq(lambda s: np.sin(s) + 0.5 * s * np.cos(s), low, high, xtol=1e-14)
        for low, high in zip(s[:-1][slope[:-1] * slope[1:] < 0], s[1:][slope[:-1] * slope[1:] < 0], strict=True)
    ]
    x = np.sort([sign * root**2 for root in roots for sign in (1, -1)])
    energy = 418.9829 - x * np.sin(np.sqrt(np.abs(x)))
    curvature = [energy_of(a + 1e-3) + energy_of(a - 1e-3) - 2 * energy_of(a) for a in x]
    wells = np.array(curvature) > 0
    return np.stack([x[wells], energy[wells]]), np.stack([x[~wells], energy[~wells]])


def energy_of(x: float) -> float:
    return 418.9829 - x * np.sin(np.sqrt(abs(x)))


def check_schwefel(found: dict, x: np.ndarray | None = None) -> None:
    """All 49 minima; of the 84 saddles between two of them at least 80, and nothing that is none of them."""
    wells, barriers = schwefel_lines()
    assert wells.shape == barriers.shape == (2, 7)
    close(found["energies"], np.add.outer(wells[1], wells[1]).ravel())
    between = [b for b in barriers.T if wells[0].min() < b[0] < wells[0].max()]
    assert len(between) == 6  # the seventh leads out of the box
    inner = [b[1] + w for b in between for w in wells[1] for _ in range(2)]
    assert len(inner) == 84
    assert found["n_connected_pairs"] >= 80
    assert found["n_transition_states"] - found["n_leaving_the_box"] == found["n_connected_pairs"]
    outer = [b + w for b in barriers[1] for w in wells[1] for _ in range(2)]
    assert all(np.abs(np.subtract(outer, energy)).min() < 1e-6 for energy in found["ts_energies"])
    if x is not None:  # every edge joins neighbours of the grid
        column = np.abs(np.subtract.outer(x, wells[0])).argmin(2)
        steps = [np.abs(column[i] - column[j]).sum() for i, j in found["connections"]]
        assert set(steps) == {1}


def test_schwefel():
    """A uniform start falls into each of the wells, so that few hops are needed."""
    found = explored(
        "schwefel", BasinHopping(walkers=256, hops=1, temperature=200.0, step=5.0), ConnectMinima(neighbours=8)
    )
    check_schwefel(found, found["network"].coords.numpy())


def test_every_quench_of_schwefel_converges():
    """Near its lowest minimum U is 1e-5, but its rounding error that of the constant 838 in it.

    Quenches that took the energy at its word there bounced until they had spent all their evaluations.
    """
    potential = problems.get("schwefel").potential
    key = torch.Generator().manual_seed(0)
    starts = 420.9687 + 20 * torch.randn(400, 2, dtype=torch.float64, generator=key)
    points = relax(potential, starts)
    assert bool(points.converged.all())
    assert int(points.n_evaluations.max()) < 60
    torch.testing.assert_close(points.x, torch.full_like(points.x, 420.968746), rtol=0, atol=1e-5)


# --- clusters -----------------------------------------------------------------------------------------------


def test_lj6():
    found = explored("lj6", BasinHopping(walkers=16, hops=1, temperature=0.8), ClimbFromMinima(searches=8))
    close(found["energies"], LJ6)
    assert found["n_transition_states"] == 3
    assert found["connections"] == [[0, 1]]


@pytest.mark.slow  # the command line explores it below
@pytest.mark.parametrize("seed", range(3))
def test_lj7(seed):
    """Four minima, and five pairs of them joined; half of the saddles join images of one minimum."""
    strategies = [BasinHopping(walkers=32, hops=3, temperature=0.8, move=Uniform()), ClimbFromMinima(searches=60)]
    found = explored("lj7", *strategies, seed=seed)
    close(found["energies"], LJ7)
    close(found["ts_energies"], LJ7_SADDLES)
    pairs = {tuple(sorted(pair)) for pair in found["connections"]}
    assert pairs == set(itertools.combinations(range(4), 2)) - {(2, 3)}
    assert found["n_connected_pairs"] == 5
    assert found["n_degenerate_rearrangements"] == 6
    assert found["coverage"]["transition_states"]["n_known"] == 12


def test_trimer():
    found = explored("trimer", BasinHopping(walkers=8, hops=2, temperature=0.5), ConnectMinima())
    close(found["energies"], TRIMER)
    close(found["ts_energies"], TRIMER_SADDLE)
    assert found["connections"] == [[0, 1]]
    network = found["network"]

    def sides(x):
        atoms = x.reshape(3, 3)
        return torch.pdist(atoms).sort().values.tolist()

    chain, triangle = (sides(x) for x in network.coords)
    np.testing.assert_allclose(triangle, [1.1687523184] * 3, atol=1e-6)
    np.testing.assert_allclose(chain, [1.1087628937, 1.1087628937, 2 * 1.1087628937], atol=1e-6)
    bent = sides(network.ts_coords[0])
    np.testing.assert_allclose(bent[:2], [1.130962] * 2, atol=1e-5)
    angle = 2 * np.degrees(np.arcsin(bent[2] / (bent[0] + bent[1])))
    assert angle == pytest.approx(86.7264, abs=1e-3)


# --- the command line ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["lj7", *(pytest.param(name, marks=pytest.mark.slow) for name in ("six-hump-camel", "schwefel"))],
)
def test_what_a_problem_suggests_finds_its_landscape(name, tmp_path, capsys):
    """``torchscape explore NAME`` without any options."""
    db = str(tmp_path / "a.db")
    assert main(["explore", name, "--db", db]) == 0
    told = capsys.readouterr().out
    assert main(["info", db, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert f"{found['n_minima']}\n" in told
    assert found["complete"] is True
    assert found["n_components"] == 1
    assert found["lowest_energy"] == found["energies"][0]
    if name == "lj7":
        close(found["energies"], LJ7)
        close(found["ts_energies"], LJ7_SADDLES)
        assert found["n_connected_pairs"] == 5
    elif name == "schwefel":
        check_schwefel(found)
    else:
        close(found["energies"], CAMEL)


def test_the_same_command_twice_and_another_potential(tmp_path, capsys):
    db = str(tmp_path / "a.db")
    words = ["trimer", "--db", db, "--walkers", "8", "--hops", "2", "--quiet"]
    found = []
    for _ in range(2):
        assert main(["explore", *words]) == 0
        capsys.readouterr()
        assert main(["info", db, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out) | {"runs": None})
    close(found[0]["energies"], TRIMER)
    close(found[0]["ts_energies"], TRIMER_SADDLE)
    assert found[1] == found[0]
    assert main(["explore", "lj6", "--db", db]) == 2
    assert "Explore into another file" in capsys.readouterr().err
