"""The minima that mixed precision finds are those of float64, of every problem."""

from __future__ import annotations

import pytest
import torch

from torchscape import problems
from torchscape.optimise import relax

SIZES = {
    "schwefel": {"ndim": 3},
    "digits": {"hidden": 3, "n_train": 100},
    "student-teacher": {"teacher": 3, "n": 50, "l2": 1e-3},
}
WITHOUT = {"mnist"}  # its images are downloaded


@pytest.mark.parametrize("name", [name for name in problems.names() if name not in WITHOUT])
def test_minima_are_those_of_float64(name):
    """What has converged has the energy that is said, a gradient below the tolerance, and nowhere lower to go.

    Not from every start a minimum is reached: at the cut-off of some pairs of atoms descents stall, in either
    precision.
    """
    u, plain = (problems.get(name, **SIZES.get(name, {})).potential for _ in range(2))
    u.precision = "mixed"
    found = relax(u, u.sample(8, seed=1))
    found = found[torch.nonzero(found.converged)[:, 0]]
    assert len(found) >= 4
    unit = plain.energy_scale
    energy, grad = plain.energy_and_grad(found.x)
    held = grad if plain.bounds is None else plain.bounds.project_grad(found.x, grad)
    torch.testing.assert_close(found.energy, energy, rtol=1e-12, atol=1e-12 * unit)
    assert float(held.square().mean(1).sqrt().max()) <= 1e-8 * unit
    again = relax(plain, found.x)
    assert bool(again.converged.all())
    torch.testing.assert_close(again.energy, found.energy, rtol=1e-8, atol=1e-8 * unit)
    assert float((again.x - found.x).abs().max()) <= 1e-3 * plain.length_scale
