"""Krylov spaces in float32, where precision is mixed: they suggest steps, and gradients say where these lead."""

from __future__ import annotations

from collections.abc import Callable

from torchscape.optimise.mixed import coarse_twin
from torchscape.potentials.base import Potential
from torchscape.potentials.counted import Metered
from torchscape.saddles.projector import Projector
from torchscape.types import Float, Tensor

__all__ = ["suggested"]

Model = tuple[Float[Tensor, "B K"], Float[Tensor, "B K D"]]


def suggested(
    space: Callable[[Potential, Tensor, Tensor, Tensor | None, Projector], Model],
    potential: Potential,
    x: Float[Tensor, "B D"],
    grad: Float[Tensor, "B D"],
    mode: Float[Tensor, "B D"] | None,
    projector: Projector,
) -> Model:
    """Curvatures and directions as ``space`` finds them at ``x``: of the potential in float32 where precision is
    mixed, else of the potential itself.

    A space has to hold Newton's step, and the lowest mode, to a tenth, for which float32 has digits to spare. The
    gradients of a search, and so where it ends, are those of float64 all the same.

    Args:
        space: computes them, from a potential, points, gradients, modes and a projector of one dtype.
        potential: U; it is charged the products.
        x, grad, mode, projector: what ``space`` is called with.
    """
    twin = coarse_twin(potential, x)
    if twin is None:
        return space(potential, x, grad, mode, projector)
    single, dtype = Metered(twin), twin.dtype
    zero = None if projector.zero is None else projector.zero.to(dtype)
    chosen = None if mode is None else mode.to(dtype)
    values, vectors = space(single, x.to(dtype), grad.to(dtype), chosen, Projector(zero, projector.held))
    if (charge := getattr(potential, "charge", None)) is not None:
        charge(0, 0, single.n_hvps)
    return values.to(x.dtype), vectors.to(x.dtype)
