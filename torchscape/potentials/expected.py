"""A potential where one is wanted: what else is given is refused, with how to make one of it."""

from __future__ import annotations

import torch

from torchscape.errors import PotentialError
from torchscape.potentials.base import Potential

__all__ = ["expect_potential"]


def expect_potential(where: str, value: object) -> None:
    """Refuse what is no potential.

    Raises:
        PotentialError: which says what was given instead, and what to do with it.

    Example:
        >>> expect_potential("relax", torch.nn.Linear(2, 1))
        Traceback (most recent call last):
            ...
        torchscape.errors.PotentialError: relax needs a Potential, not a Linear: wrap it as ModulePotential(...)
    """
    if isinstance(value, Potential):
        return
    if isinstance(value, torch.nn.Module):
        remedy = "wrap it as ModulePotential(...)"
    elif isinstance(getattr(value, "potential", None), Potential):
        remedy = "give its .potential, and arguments in their order"
    elif callable(value):
        remedy = "wrap it as FunctionPotential(...)"
    else:
        remedy = "see the order of the arguments"
    kind = value.__name__ if isinstance(value, type) else type(value).__name__
    raise PotentialError(f"{where} needs a Potential, not a {kind}: {remedy}")
