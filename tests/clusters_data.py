"""Cluster geometries from their constructions, and published ones where the data are at hand."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import torch

DATA = Path(__file__).parents[2] / "shared" / "data"


def lj7() -> dict:
    """The complete list of LJ_7 stationary points, counted independently; skips where the file is absent."""
    path = DATA / "lj7.json"
    if not path.exists():
        pytest.skip(f"reference data {path.name} are not beside this checkout")
    return json.loads(path.read_text())


def icosahedron() -> np.ndarray:
    """A centred icosahedron: 13 atoms."""
    golden = (1 + 5**0.5) / 2
    corners = [
        p for s, t in itertools.product((1, -1), (golden, -golden)) for p in ((0, s, t), (s, t, 0), (t, 0, s))
    ]
    return np.array([(0, 0, 0), *corners]) * 0.56


def truncated_octahedron() -> np.ndarray:
    """38 atoms of a face-centred cubic crystal: |x| + |y| + |z| <= 3 with odd sum, without the six tips."""
    sites = [
        p for p in itertools.product(range(-3, 4), repeat=3) if sum(map(abs, p)) in (1, 3) and max(map(abs, p)) < 3
    ]
    return np.array(sites) * (1.12 / 2**0.5)


def bipyramid() -> np.ndarray:
    """A pentagonal bipyramid: 7 atoms."""
    ring = [(0.95 * np.cos(2 * np.pi * k / 5), 0.95 * np.sin(2 * np.pi * k / 5), 0) for k in range(5)]
    return np.array([*ring, (0, 0, 0.57), (0, 0, -0.57)])


def octahedron() -> np.ndarray:
    return np.array([*np.eye(3), *-np.eye(3)]) * 0.79


def minimised(potential, geometry: np.ndarray) -> torch.Tensor:
    """The local minimum below a geometry, by SciPy: L-BFGS-B, then Newton with a pseudo-inverse Hessian."""

    def f(x):
        energy, grad = potential.energy_and_grad(torch.as_tensor(x)[None])
        return energy.item(), grad[0].numpy()

    x = scipy.optimize.minimize(f, geometry.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 2000}).x
    for _ in range(4):
        hessian = potential.hessian(torch.as_tensor(x)[None])[0].numpy()
        x = x - np.linalg.pinv(hessian, rcond=1e-8) @ f(x)[1]
    return torch.as_tensor(x)[None]
