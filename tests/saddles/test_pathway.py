"""Integrated paths against an implicit Runge-Kutta integration, closed forms, and paths that symmetry splits."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.integrate
import torch
from scipy.interpolate import PchipInterpolator

import torchscape as tsc
from torchscape import Potential, StationaryPoints
from torchscape.errors import TorchscapeError
from torchscape.optimise import relax
from torchscape.saddles import characterise, climb
from torchscape.saddles.pathway import pathways


def known(x: list[list[float]], potential: Potential) -> StationaryPoints:
    points = torch.tensor(x, dtype=torch.float64)
    energy, grad = potential.energy_and_grad(points)
    rms = grad.square().mean(1).sqrt()
    return StationaryPoints.of(points, energy, grad_rms=rms, status=torch.ones(len(points), dtype=torch.int64))


def mueller_brown_gradient(x: float, y: float) -> np.ndarray:
    """Of sum_k A_k exp(a_k (x - X_k)^2 + b_k (x - X_k) (y - Y_k) + c_k (y - Y_k)^2), in NumPy."""
    height = np.array([-200.0, -100.0, -170.0, 15.0])
    a, b, c = np.array([-1, -1, -6.5, 0.7]), np.array([0, 0, 11, 0.6]), np.array([-10, -10, -6.5, 0.7])
    dx, dy = x - np.array([1, 0, -0.5, -1]), y - np.array([0, 0.5, 1.5, 1])
    term = height * np.exp(a * dx**2 + b * dx * dy + c * dy**2)
    return np.array([term @ (2 * a * dx + b * dy), term @ (b * dx + 2 * c * dy)])


def radau(potential: Potential, start: torch.Tensor, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Arc length and energy along dx/dt = -grad U, by SciPy's implicit Runge-Kutta method."""

    def flow(_, y):
        grad = mueller_brown_gradient(*y[:-1])
        return np.append(-grad, np.linalg.norm(grad))

    found = scipy.integrate.solve_ivp(
        flow, (0, seconds), np.append(start.numpy(), 0.0), method="Radau", rtol=1e-6, atol=1e-8
    )
    return found.y[-1], potential.energy(torch.as_tensor(found.y[:-1].T.copy())).numpy()


def test_the_energy_along_a_bent_valley_is_that_of_an_implicit_integrator():
    """Both sides of the Mueller-Brown surface's lower saddle, to a thousandth of the barrier at every point."""
    potential = tsc.problems.get("mueller-brown").potential
    minima = relax(potential, potential.sample(20, seed=0))
    ts = climb(potential, minima.x, seed=1).ts
    ts = ts[ts.energy.argsort()][:1]
    assert ts.energy.item() == pytest.approx(-72.24894011, abs=1e-7)
    found = pathways(potential, ts, n_points=41)
    mode = torch.linalg.eigh(potential.hessian(ts.x))[1][0, :, 0]
    middle = float(found.arc[0, 20])
    for side in (-1, 1):
        arc, energy = radau(potential, ts.x[0] + side * 1e-5 * mode, 0.3)
        along, height = abs(found.arc[0].numpy() - middle), found.energy[0].numpy()
        half = slice(20, None) if (found.plus.x[0] - ts.x[0]) @ mode * side > 0 else slice(20, None, -1)
        along, height = along[half], height[half]
        fresh = np.append(np.diff(arc) > 1e-9, True)
        expected = PchipInterpolator(arc[fresh], energy[fresh])
        inside = along < arc[-1]
        barrier = height[0] - height[-1]
        assert inside.sum() >= 19
        np.testing.assert_allclose(height[inside][1:], expected(along[inside][1:]), atol=1e-3 * barrier)
        assert along[-1] == pytest.approx(arc[-1], rel=2e-3)


def test_lengths_of_straight_paths():
    """Two independent wells: the path over x = 0 is the straight line from -1 to 1, whatever y does."""

    class Wells(Potential):
        ndim = 2

        def energy(self, x):
            return (x[:, 0] ** 2 - 1) ** 2 + 50.0 * x[:, 1] ** 2

    found = pathways(Wells(), known([[0.0, 0.0]], Wells()), n_points=21)
    torch.testing.assert_close(found.arc[0], torch.linspace(0, 2, 21, dtype=torch.float64), atol=1e-6, rtol=0)
    exact = ((found.arc - 1) ** 2 - 1) ** 2
    torch.testing.assert_close(found.energy, exact, atol=1e-5, rtol=0)
    assert sorted([found.minus.x[0, 0].item(), found.plus.x[0, 0].item()]) == pytest.approx([-1.0, 1.0])


def test_a_path_that_symmetry_leads_to_a_saddle_goes_on_from_there():
    """Along y = 0 the descent from x = 0 ends in saddles at x = +-1, from which the minima lie at y = +-1."""

    class Splits(Potential):
        ndim = 2

        def energy(self, x):
            a, y = x[:, 0] ** 2, x[:, 1]
            return 4 * (a - 1) ** 2 + (1 - 2 * a) * y**2 + 0.5 * y**4

    u = Splits()
    middle = known([[1.0, 0.0]], u)
    assert characterise(u, middle).index.item() == 1
    found = pathways(u, known([[0.0, 0.0]], u), n_points=33)
    for end in (found.minus, found.plus):
        assert bool(end.converged.all())
        assert characterise(u, end).index.item() == 0
        assert abs(end.x[0, 1].item()) > 0.5
    assert bool((found.energy[0, :17].diff() > 0).all())
    assert bool((found.energy[0, 16:].diff() < 0).all())


def test_paths_of_seven_atoms_end_in_the_minima_of_the_search():
    """Every path falls from its transition state on both sides, and its ends have the energies of the search's."""
    potential = tsc.problems.get("lj7").potential
    minima = relax(potential, potential.sample(30, seed=1))
    lowest = minima[minima.energy.argsort()[:2]]
    search = climb(potential, lowest.x.repeat(6, 1), seed=2)
    found = pathways(potential, search.ts, n_points=33)
    assert len(found) >= 3
    assert bool((found.energy[:, :17].diff(dim=1) > 0).all())
    assert bool((found.energy[:, 16:].diff(dim=1) < 0).all())
    torch.testing.assert_close(found.energy[:, 16], search.ts.energy)
    ours = torch.stack([found.energy[:, 0], found.energy[:, -1]], 1).sort(1).values
    theirs = torch.stack([search.minus.energy, search.plus.energy], 1).sort(1).values
    torch.testing.assert_close(ours, theirs, atol=1e-8, rtol=0)


def test_an_even_number_of_points_has_no_middle():
    potential = tsc.problems.get("mueller-brown").potential
    with pytest.raises(TorchscapeError, match="odd"):
        pathways(potential, known([[0.0, 0.0]], potential), n_points=4)


def test_no_transition_states_no_paths():
    potential = tsc.problems.get("mueller-brown").potential
    found = pathways(potential, StationaryPoints.empty(2))
    assert found.arc.shape == (0, 65)
    assert len(found) == 0
