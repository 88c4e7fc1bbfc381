"""Principal moments of inertia, by which PATHSAMPLE tells structures apart."""

from __future__ import annotations

import torch

from torchscape.errors import TorchscapeError
from torchscape.types import Bool, Float, Tensor

__all__ = ["MOMENTS", "are_linear", "moments_of", "moments_of_inertia"]

MOMENTS = ("inertia_a", "inertia_b", "inertia_c")
"""Names of the properties of a network that hold them, the smallest first."""

_NO_AXIS = 1e-5  # of the largest moment: a smaller one is none, and the atoms lie on a line


def moments_of_inertia(x: Float[Tensor, "K D"]) -> Float[Tensor, "K 3"]:
    """Of atoms of unit mass about their centre, ascending.

    Raises:
        TorchscapeError: unless there are three coordinates for each atom.

    Example:
        >>> line = torch.tensor([[-1.5, 0.0, 0.0, 0.0, 0.0, 0.0, 1.5, 0.0, 0.0]], dtype=torch.float64)
        >>> moments_of_inertia(line).tolist()
        [[0.0, 4.5, 4.5]]
    """
    if x.shape[1] % 3:
        raise TorchscapeError(
            f"moments of inertia need coordinates of 3 per atom, not {x.shape[1]} in all: leave out cluster=True, "
            "or give a network of a cluster"
        )
    atoms = x.detach().cpu().double().reshape(len(x), -1, 3)
    atoms = atoms - atoms.mean(1, keepdim=True)
    second = torch.einsum("nai,naj->nij", atoms, atoms)
    trace = second.diagonal(dim1=1, dim2=2).sum(1)
    tensor = trace[:, None, None] * torch.eye(3, dtype=torch.float64) - second
    return torch.linalg.eigvalsh(tensor).clamp(min=0.0)


def moments_of(x: Float[Tensor, "K D"] | None, moments: Float[Tensor, "K 3"]) -> bool:
    """Whether these are the moments of these coordinates, which are those of atoms in space, then.

    To a thousandth: programs differ in what they still converge after they have written them.
    """
    if x is None or len(x) == 0 or x.shape[1] % 3 or x.shape[1] < 6:
        return False
    ours, theirs = moments_of_inertia(x), moments.double().cpu().sort(1).values
    return bool(((ours - theirs).abs() <= 1e-3 * ours[:, 2:]).all())


def are_linear(moments: Float[Tensor, "K 3"]) -> Bool[Tensor, "K"]:
    """Whether all atoms lie on one line."""
    moments = moments.sort(1).values
    return moments[:, 0] <= _NO_AXIS * moments[:, 2]
