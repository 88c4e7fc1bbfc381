"""Potentials with periodic coordinates, or unchanged by motions of all particles: declared, tried, sampled."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from torchscape import random
from torchscape.errors import PotentialError
from torchscape.potentials.base import Potential
from torchscape.symmetry.base import Symmetry
from torchscape.symmetry.blocks import BlockPermutation
from torchscape.symmetry.cluster import ClusterSymmetry
from torchscape.symmetry.translations import Translations
from torchscape.types import Float, Tensor

__all__ = ["expect_translations", "invariant_under", "sample_periods", "with_periods"]

_MOTIONS = ("translation", "rotation", "permutation")
_PURPOSE = 0x7E51  # keeps the draws of periodic coordinates apart from those of others


def invariant_under(motions: str | Sequence[str], ndim: int, dim: int) -> Symmetry:
    """The symmetry of a function of particles in ``dim`` dimensions that these motions leave unchanged.

    Raises:
        PotentialError: for other words, numbers that do not fit, or motions that no symmetry here has together.

    Example:
        >>> invariant_under(("translation", "rotation"), 12, 3).describe()
        'rotation, reflection and translation in 3 dimensions, permutation of 1 + 1 + 1 + 1 like atoms'
    """
    chosen = {motions} if isinstance(motions, str) else set(motions)
    if not chosen or chosen - set(_MOTIONS):
        raise PotentialError(f"invariances={motions!r}; give one or several of {', '.join(map(repr, _MOTIONS))}")
    if ndim % dim:
        raise PotentialError(f"{ndim} coordinates are no particles in dim={dim} dimensions: give another dim")
    n = ndim // dim
    if "rotation" in chosen:
        if dim not in (2, 3):
            raise PotentialError(
                f"invariances='rotation' is about particles in a plane or in space, not in dim={dim}: give dim=2 "
                "or dim=3 (all angles turned together are a translation)"
            )
        species = None if "permutation" in chosen else range(n)
        return ClusterSymmetry(n, dim, species=species, translation="translation" in chosen)
    if chosen == {"permutation"}:
        return BlockPermutation(n, dim)
    if "permutation" in chosen:
        raise PotentialError(
            "translation and permutation without rotation: leave one of them out, or give a Symmetry of your own"
        )
    return Translations(ndim, directions=torch.eye(dim, dtype=torch.float64).repeat(1, n))


def with_periods(
    symmetry: Symmetry | None, ndim: int, periods: float | int | Sequence[float | int | None] | Tensor
) -> Translations:
    """The translations that have these periods, and the directions of ``symmetry`` if it has some.

    Raises:
        PotentialError: if ``symmetry`` is of another kind.
    """
    if symmetry is None:
        return Translations(ndim, periods=periods)
    if isinstance(symmetry, Translations) and not bool(symmetry.is_periodic.any()):
        return symmetry.with_periods(periods)
    raise PotentialError(
        f"periods= beside a symmetry of kind {type(symmetry).__name__}: give symmetry=Translations(ndim, "
        "periods=..., directions=...) or invariances='translation', or teach your symmetry the periods"
    )


def sample_periods(potential: Potential, x: Float[Tensor, "n D"], seed: int) -> Float[Tensor, "n D"]:
    """``x`` with periodic coordinates drawn uniformly from one period."""
    symmetry = potential.symmetry
    if not isinstance(symmetry, Translations) or not bool(symmetry.is_periodic.any()):
        return x
    key = random.fold(seed, torch.arange(len(x), device=x.device), _PURPOSE)
    u = random.uniform(key, x.shape[1], x.dtype)
    periodic = symmetry.is_periodic.to(x.device)
    return torch.where(periodic, u * torch.where(periodic, symmetry.periods.to(x), 0.0), x)


def expect_translations(potential: Potential, x: Float[Tensor, "B D"]) -> None:
    """Is U unchanged by the declared shifts, and are periodic coordinates free of walls?

    Raises:
        PotentialError: naming the first coordinate or direction that changes U.
    """
    symmetry = potential.symmetry
    if not isinstance(symmetry, Translations):
        return
    if symmetry.ndim != potential.ndim:
        raise PotentialError(f"Translations of {symmetry.ndim} coordinates for ndim={potential.ndim}")
    if potential.bounds is not None:
        walls = torch.isfinite(potential.bounds.lower) | torch.isfinite(potential.bounds.upper)
        moved = symmetry.is_periodic | (symmetry.directions.abs() > 1e-9).any(0)
        if bool((walls.cpu() & moved).any()):
            raise PotentialError(
                "a coordinate has a period, or is moved by a direction, and has walls: leave its bounds out"
            )
    which = symmetry.is_periodic.nonzero()[:, 0]
    turns = torch.zeros(len(which), potential.ndim, dtype=torch.float64)
    turns[torch.arange(len(which)), which] = symmetry.periods[which]
    lines = symmetry.directions * (0.77 * potential.length_scale)
    shifts = torch.cat([turns, lines]).to(x)
    if not len(shifts):
        return
    here = potential.energy(x).detach()
    there = potential.energy((x + shifts[:, None]).flatten(0, 1)).detach().reshape(len(shifts), len(x))
    finite = torch.isfinite(here)
    scale = here[finite].abs().max() + (here[finite].max() - here[finite].min())
    change = (there - here)[:, finite].abs().nan_to_num(nan=torch.inf).amax(1)
    wrong = torch.nonzero(change > torch.finfo(x.dtype).eps ** 0.6 * scale)[:, 0].tolist()
    if not wrong:
        return
    first, by = wrong[0], float(change[wrong[0]])
    if first < len(which):
        told = (
            f"coordinate {int(which[first])} is shifted by its period {float(symmetry.periods[which[first]]):.10g}"
        )
    else:
        told = f"all coordinates are shifted along direction {first - len(which)}"
    raise PotentialError(f"U changes by {by:.3g} when {told}: correct the period or direction, or leave it out")
