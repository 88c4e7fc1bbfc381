"""``Potential``: a deterministic function U: R^D -> R, evaluated on batches of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch

from torchscape import random
from torchscape.potentials.bounds import Bounds
from torchscape.potentials.preconditioner import Preconditioner
from torchscape.symmetry.base import Symmetry
from torchscape.types import Float, Tensor

__all__ = ["Potential", "hash_settings"]


class Potential:
    """What is explored. A subclass sets ``ndim`` (and what else differs) and writes :meth:`energy`.

    ``energy`` must be differentiable by autograd and treat every row on its own; gradients,
    Hessian-vector products and Hessians then follow, each batched over rows.

    Attributes:
        ndim: number of coordinates D.
        dtype, device: of the points it takes and the energies it gives.
        bounds: the box it is defined on, or None.
        symmetry: which points are the same (default: none).
        length_scale: a distance over which U changes appreciably; the unit of step caps, matching tolerances
            and trial moves (1 for network weights, about 0.4 for atoms in sigma).
        max_rows: most rows evaluated at once by :meth:`hvp` and :meth:`hessian` (memory).
        preconditioner: what minimisers may start from in place of the identity, or None.

    Example:
        >>> import torch
        >>> class Quadratic(Potential):
        ...     ndim = 2
        ...     def energy(self, x):
        ...         return 0.5 * (x**2).sum(1)
        >>> u = Quadratic()
        >>> u.energy_and_grad(torch.tensor([[1.0, 2.0]], dtype=torch.float64))[1].tolist()
        [[1.0, 2.0]]
        >>> u.hessian(torch.zeros(1, 2, dtype=torch.float64))[0].tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """

    ndim: int
    dtype: torch.dtype = torch.float64
    device: torch.device = torch.device("cpu")
    bounds: Bounds | None = None
    symmetry: Symmetry = Symmetry()
    length_scale: float = 1.0
    max_rows: int = 65536
    preconditioner: Preconditioner | None = None

    # --- what a subclass writes -------------------------------------------------------------------------

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """U of every row, differentiable (twice) in x."""
        raise NotImplementedError(f"{type(self).__name__} must define energy(x): [B D] -> [B]")

    def settings(self) -> Mapping[str, object]:
        """Everything that decides which landscape this is: numbers, strings, tensors (not code)."""
        return {"ndim": self.ndim}

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n D"]:
        """``n`` random starting points: uniform in a finite box, otherwise normal with ``length_scale``."""
        key = random.fold(seed, torch.arange(n, device=self.device))
        if self.bounds is not None and bool(torch.isfinite(self.bounds.upper - self.bounds.lower).all()):
            u = random.uniform(key, self.ndim, self.dtype)
            return self.bounds.lower + u * (self.bounds.upper - self.bounds.lower)
        return self.length_scale * random.normal(key, self.ndim, self.dtype)

    # --- what follows by autograd -----------------------------------------------------------------------

    def energy_and_grad(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        """U and its gradient, detached. The gradient of sum_b U(x_b) is every row's own gradient."""
        x = x.detach().requires_grad_(True)
        with torch.enable_grad():
            energy = self.energy(x)
            (grad,) = torch.autograd.grad(energy.sum(), x)
        return energy.detach(), grad

    def hvp(self, x: Float[Tensor, "B D"], v: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Hessian-vector product H(x_b) v_b of every row, reverse over reverse."""
        parts = [self._hvp(a, b) for a, b in zip(x.split(self.max_rows), v.split(self.max_rows), strict=True)]
        return torch.cat(parts) if len(parts) != 1 else parts[0]

    def _hvp(self, x: Float[Tensor, "B D"], v: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        x = x.detach().requires_grad_(True)
        with torch.enable_grad():
            (grad,) = torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)
            if not grad.requires_grad:  # an energy that is linear in x
                return torch.zeros_like(v)
            (product,) = torch.autograd.grad(grad, x, v.detach(), allow_unused=True)
        return torch.zeros_like(v) if product is None else product

    def products_at(self, x: Float[Tensor, "B D"]) -> Callable[[Tensor], Tensor]:
        """H(x_b) V_b for blocks of vectors V [B K D], as a function of V: for many products at the same points."""

        def products(v: Float[Tensor, "B K D"]) -> Float[Tensor, "B K D"]:
            return self.hvp(x.repeat_interleave(v.shape[1], 0), v.flatten(0, 1)).reshape(v.shape)

        return products

    def hessian(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D D"]:
        """The dense Hessian of every row, symmetrised: D products per row, in one batch per chunk."""
        d = self.ndim
        eye = torch.eye(d, dtype=x.dtype, device=x.device)
        rows = max(1, self.max_rows // d)
        blocks = [self.hvp(part.repeat_interleave(d, 0), eye.repeat(len(part), 1)) for part in x.split(rows)]
        h = torch.cat(blocks).reshape(len(x), d, d)
        return 0.5 * (h + h.mT)

    # --- identity ---------------------------------------------------------------------------------------

    def fingerprint(self) -> str:
        """A hash of :meth:`settings`: which landscape this is, independent of code, chunking and device."""
        return hash_settings({"kind": type(self).__name__, **self.settings()})

    def __repr__(self) -> str:
        return f"{type(self).__name__}(ndim={self.ndim}, dtype={self.dtype}, device={self.device})"


def hash_settings(value: object) -> str:
    """SHA-256 over numbers, strings, arrays and nested mappings or sequences of them, order of keys aside.

    Example:
        >>> hash_settings({"a": 1, "b": [2.0]}) == hash_settings({"b": [2.0], "a": 1})
        True
    """
    digest = hashlib.sha256()
    for token in _tokens(value):
        digest.update(len(token).to_bytes(8, "little"))
        digest.update(token)
    return digest.hexdigest()


def _tokens(value: object) -> Iterator[bytes]:
    if isinstance(value, Mapping):
        yield b"map"
        for name in sorted(value):
            yield str(name).encode()
            yield from _tokens(value[name])
    elif isinstance(value, Tensor):
        yield from _tokens(value.detach().cpu().numpy())
    elif isinstance(value, np.ndarray):
        yield f"array{value.dtype}{value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, (list, tuple)):
        yield b"list"
        for item in value:
            yield from _tokens(item)
    else:
        yield f"{type(value).__name__}:{value!r}".encode()
