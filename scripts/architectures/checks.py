"""What was found, held against two other methods: SciPy's quenches from elsewhere, and Newton on every point."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from architectures.entry import Explored
from architectures.newton import Newton, newton
from architectures.quenches import quenches
from torchscape import StationaryPoints, Status

__all__ = ["Looks", "check_points", "check_quenches"]

_ENERGY, _SPECTRUM, _OUTPUT = 1e-7, 1e-5, 1e-4  # within which two minima look the same


@dataclasses.dataclass(frozen=True)
class Looks:
    """What symmetric images of a point share: its energy and its Hessian's spectrum, whatever the symmetry is of,
    and the outputs, where it is one of the module and not of the data.

    Attributes:
        energy: of N points [N].
        spectrum: ascending eigenvalues [N D].
        outputs: the module's, for all inputs [N K].
    """

    energy: np.ndarray
    spectrum: np.ndarray
    outputs: np.ndarray

    @classmethod
    def of(cls, points: Sequence[Newton], explored: Explored) -> Looks:
        """The looks of points."""
        n, loss = len(points), explored.loss
        spectra = np.array([point.spectrum for point in points]).reshape(n, loss.ndim)
        outputs = np.array([loss.outputs(point.x) for point in points]).reshape(n, len(loss.outputs(loss.theta)))
        return cls(np.array([point.energy for point in points]), spectra, outputs)

    def alike(self, other: Looks) -> tuple[np.ndarray, np.ndarray]:
        """Whether point i and point j of the other may be images by any symmetry, and by one of the module
        [N M] each."""
        energies = np.abs(self.energy[:, None] - other.energy) <= _ENERGY
        by_any, by_module = np.zeros_like(energies), np.zeros_like(energies)
        for i, j in zip(*np.nonzero(energies), strict=True):
            size = np.abs(self.spectrum[i]).max()
            by_any[i, j] = np.abs(self.spectrum[i] - other.spectrum[j]).max() <= _SPECTRUM * size
            by_module[i, j] = by_any[i, j] and np.abs(self.outputs[i] - other.outputs[j]).max() <= _OUTPUT
        return by_any, by_module


def check_points(explored: Explored) -> tuple[dict[str, Any], Looks]:
    """Newton's method from every minimum and transition state: residuals, indices, and which look the same."""
    stored = {"minima": explored.landscape.minima(), "transition_states": explored.landscape.transition_states()}
    ends = {name: [newton(explored.loss, x) for x in points.x.numpy()] for name, points in stored.items()}
    looks = Looks.of(ends["minima"], explored)
    by_any, by_module = (int(np.triu(alike, 1).sum()) for alike in looks.alike(looks))
    facts = {
        name: _told(ends[name], index, points, explored) for index, (name, points) in enumerate(stored.items())
    }
    return {**facts, "pairs_that_look_alike": by_any, "of_which_with_equal_outputs": by_module}, looks


def _told(ends: Sequence[Newton], index: int, stored: StationaryPoints, explored: Explored) -> dict[str, Any]:
    if not ends:
        return {"n": 0}
    energy = np.array([end.energy for end in ends])
    modes = explored.potential.symmetry.zero_modes(stored.x)  # rows of noughts where a point has fewer
    known = (modes.norm(dim=2) > 0.5).sum(1).tolist()
    return {
        "n": len(ends),
        "worst_residual": max(end.residual for end in ends),
        "furthest_moved": max(end.moved for end in ends),
        "largest_energy_difference": float(np.abs(energy - stored.energy.numpy()).max()),
        "of_another_index": sum(end.index != index for end in ends),
        "flat_directions": sorted({end.n_flat for end in ends}),
        "with_other_flat_directions_than_known": sum(end.n_flat != n for end, n in zip(ends, known, strict=True)),
    }


def check_quenches(explored: Explored, looks: Looks, n: int, seed: int = 1) -> dict[str, Any]:
    """Where SciPy's quenches end, by their looks and by the landscape's own matching."""
    ends = quenches(explored.loss, n, seed)
    at_minima = [end for end in ends if end.index == 0 and end.residual < 1e-9]
    theirs = Looks.of(at_minima, explored)
    known = theirs.alike(looks)[0]
    x = torch.as_tensor(np.array([end.x for end in at_minima]).reshape(-1, explored.loss.ndim))
    converged = torch.full((len(x),), int(Status.CONVERGED))
    points = StationaryPoints.of(x, torch.as_tensor(theirs.energy), status=converged)
    unseen = np.flatnonzero(~known.any(1))
    alike = theirs.alike(theirs)[0]
    first = [i for k, i in enumerate(unseen) if not alike[i, unseen[:k]].any()]
    return {
        "n": n,
        "ended_in_minima": len(at_minima),
        "ended_in_saddles": sum(end.index > 0 and end.residual < 1e-9 for end in ends),
        "not_converged": sum(not end.residual < 1e-9 for end in ends),
        "known": int(known.any(1).sum()),
        "known_by_matching": int((explored.landscape.find(points) >= 0).sum()),
        "minima_they_reached": int(known.any(0).sum()) + len(first),
        "not_in_the_landscape": sorted(round(float(theirs.energy[i]), 9) for i in first),
    }
