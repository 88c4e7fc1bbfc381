"""The symmetry of a module, as far as its loss has it."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from torchscape.layout import ParameterLayout
from torchscape.potentials.module.objective import Objective
from torchscape.symmetry.base import Symmetry
from torchscape.types import Float, Tensor

__all__ = ["recognised"]


def recognised(
    objective: Objective,
    layout: ParameterLayout,
    energy: Callable[[Float[Tensor, "B D"]], Float[Tensor, "B"]],
    x: Float[Tensor, "B D"],
    *,
    regularised: bool,
) -> Symmetry:
    """What a traced pass of the module shows and ``energy`` confirms; what is lost on the way is a warning.

    Args:
        objective: the module with its loss and data.
        layout: where its parameters are in a row of coordinates.
        energy: of rows, on a part of the data.
        x: points in general position, at which every part of the symmetry is tried.
        regularised: whether rescalings are broken as they should be.
    """
    from torchscape.symmetry.neural import detect

    example = objective.example()
    if example is None:  # the loss uses parts of the module: it is followed itself
        batch, _ = next(iter(objective.chunks(2)))
        proposed = detect(objective, layout, (batch,), shift=True, prefix="module.")
    else:
        proposed = detect(objective.module, layout, example, shift=True)
    found = proposed.verified(energy, x)
    # That regularisation breaks rescalings is as it should be; anything else is news to the user.
    lost = [note for note in found.notes[len(proposed.notes) :] if not (regularised and "l2" in note)]
    if lost:
        warnings.warn(
            f"not every symmetry of the module is one of its loss: {'; '.join(lost)}. Pass symmetry=... to say "
            f"which hold, or symmetry=None for none",
            stacklevel=5,
        )
    return found
