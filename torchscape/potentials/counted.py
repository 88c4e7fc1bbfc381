"""A potential that counts what is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torchscape.memory import limits_of
from torchscape.potentials.base import Potential
from torchscape.types import Float, Int, Tensor

__all__ = ["Metered"]

_SAME = (
    "ndim", "dtype", "device", "bounds", "symmetry", "length_scale", "max_rows", "preconditioner", "precision",
    "compile", "even_curvature",
)  # fmt: skip


class Metered(Potential):
    """The same potential, with counters of rows evaluated: gradients, Hessians, Hessian-vector products.

    Example:
        >>> import torch
        >>> class Bowl(Potential):
        ...     ndim = 2
        ...     def energy(self, x):
        ...         return (x**2).sum(1)
        >>> counted = Metered(Bowl())
        >>> _ = counted.energy_and_grad(torch.ones(3, 2))
        >>> counted.n_gradients
        3
    """

    def __init__(self, potential: Potential):
        self.potential = potential
        self.n_gradients = self.n_hessians = self.n_hvps = 0
        for name in _SAME:
            setattr(self, name, getattr(potential, name))
        self._limits = limits_of(potential)

    def __getattr__(self, name: str) -> Any:
        if name == "potential":
            raise AttributeError(name)
        return getattr(self.potential, name)

    @property
    def energy_scale(self) -> float:
        """That of the potential, which finds it out once and not in every search."""
        return self.potential.energy_scale

    @energy_scale.setter
    def energy_scale(self, value: float) -> None:
        self.potential.energy_scale = value

    @property
    def compiled(self) -> str:
        """What is said of the potential."""
        return self.potential.compiled

    def tell_of_steps(self, line: str) -> None:
        self.potential.tell_of_steps(line)

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        return self.potential.energy(x)

    def energy_and_grad(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        self.n_gradients += len(x)
        return self.potential.energy_and_grad(x)

    def hvp(self, x: Float[Tensor, "B D"], v: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        self.n_hvps += len(x)
        return self.potential.hvp(x, v)

    def products_at(self, x: Float[Tensor, "B D"]) -> Callable[[Tensor], Tensor]:
        products = self.potential.products_at(x)

        def counted(v: Float[Tensor, "B K D"]) -> Float[Tensor, "B K D"]:
            self.n_hvps += len(v) * v.shape[1]
            return products(v)

        return counted

    def hessian(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D D"]:
        self.n_hessians += len(x)
        return self.potential.hessian(x)

    def single(self) -> Potential | None:
        """That of the potential, which counts nothing: whoever asks it charges."""
        return self.potential.single()

    def charge(self, n_gradients: int, n_hessians: int = 0, n_hvps: int = 0) -> None:
        """Count what was evaluated by others on its behalf."""
        self.n_gradients += n_gradients
        self.n_hessians += n_hessians
        self.n_hvps += n_hvps

    def settings(self) -> Mapping[str, object]:
        return self.potential.settings()

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n D"]:
        return self.potential.sample(n, seed)

    def sample_by_seed(self, seeds: Int[Tensor, "n"]) -> Float[Tensor, "n D"]:
        return self.potential.sample_by_seed(seeds)

    def fingerprint(self) -> str:
        return self.potential.fingerprint()
