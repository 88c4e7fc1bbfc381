"""Derivatives of an objective written out, where it is of a kind for which they are: found at first use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch

from torchscape import random
from torchscape.even import even_mv
from torchscape.layout import ParameterLayout
from torchscape.memory import attempt, available_memory
from torchscape.potentials.batching import Plan
from torchscape.potentials.compiled import Compiled, Setting
from torchscape.potentials.module.chain import chain_of
from torchscape.potentials.module.curved import CURVED, Curved
from torchscape.potentials.module.fused import Fused
from torchscape.potentials.module.objective import Objective
from torchscape.potentials.module.perceptron import Perceptron
from torchscape.types import Bool, Float, Tensor

__all__ = ["Written"]

_N_TRIED = 3  # points at which they must agree with the module
_CLOSE = {torch.float64: 1e-9, torch.float32: 1e-4}  # in units of the largest number


@runtime_checkable
class Evaluator(Protocol):
    """What is written out, and what it is compared with: an ``Evaluator``."""

    @property
    def objective(self) -> Objective: ...
    @property
    def layout(self) -> ParameterLayout: ...
    @property
    def decay(self) -> Float[Tensor, "D"]: ...
    @property
    def plan(self) -> Plan: ...
    @property
    def vmapped(self) -> bool: ...
    @property
    def second(self) -> str: ...

    def by_autograd(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        """U and its gradient."""
        ...

    def product_by_autograd(self, x: Float[Tensor, "B D"], v: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """H(x_b) v_b."""
        ...


Products = Callable[[Float[Tensor, "B K D"]], Float[Tensor, "B K D"]]


class Written:
    """The derivatives of one evaluator, if they are written out: today those of multilayer perceptrons.

    Whether they are right is tried at random points, on all samples, against the module itself.
    """

    def __init__(self) -> None:
        self._found: Perceptron | None = None
        self._fused: Fused | None = None
        self._code: Compiled | None = None
        self._sought = self._curved = False

    def __getstate__(self) -> dict[str, Any]:
        """A copy finds out by itself."""
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]

    @property
    def holds(self) -> bool:
        """Whether the gradient was found to be written out."""
        return self._found is not None

    @property
    def said(self) -> str:
        """What is said of compiled code."""
        return "" if self._code is None else self._code.said

    def code(self, rows: int) -> Compiled:
        """What compiles gradients, written out or not, of at most so many rows at once."""
        if self._code is None:
            self._code = Compiled("gradients", rows=rows)
        return self._code

    def energy_and_grad(
        self, evaluator: Evaluator, x: Float[Tensor, "B D"], compile: Setting = False
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]] | None:
        """U and its gradient; None where they are not written out, or do not fit into memory so."""
        perceptron = self._perceptron(evaluator)
        if perceptron is None:
            return None

        def plain(x: Tensor) -> tuple[Tensor, Tensor]:
            return _evaluated(perceptron, evaluator.decay, x)

        if not compile:
            fits, result = attempt(plain, x)
        else:
            fused = self._fused = self._fused or Fused(perceptron)
            code = self.code(perceptron.rows(x.device))
            fits, result = attempt(code, compile, x, plain, fused, fused.constants(evaluator.decay))
        if not fits:
            self._found = None
            return None
        found: tuple[Tensor, Tensor] = result
        return found

    def products_at(self, evaluator: Evaluator, x: Float[Tensor, "B D"]) -> Products | None:
        """H(x_b) V_b for V [B K D], as a function of V; None likewise. Whether there is room is for the caller."""
        perceptron = self._perceptron(evaluator)
        if perceptron is None or not self._curved:
            return None
        # Two vectors at a time, as searches for the lowest eigenpair ask for them.
        return _products(perceptron, evaluator.decay, x, max(1, perceptron.rows(x.device) // 2))

    def hvp(
        self, evaluator: Evaluator, x: Float[Tensor, "B D"], v: Float[Tensor, "B D"]
    ) -> Float[Tensor, "B D"] | None:
        """H(x_b) v_b; None likewise."""
        perceptron = self._perceptron(evaluator)
        if perceptron is None or not self._curved:
            return None
        n = perceptron.rows(x.device)
        pairs = zip(x.split(n), v.split(n), strict=True)
        fits, parts = attempt(
            lambda: [_products(perceptron, evaluator.decay, a, n)(b[:, None])[:, 0] for a, b in pairs]
        )
        return torch.cat(parts) if fits else None

    def hessian(self, evaluator: Evaluator, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D D"] | None:
        """The dense Hessians; None likewise."""
        perceptron = self._perceptron(evaluator)
        if perceptron is None or not self._curved:
            return None
        d = x.shape[1]
        eye = torch.eye(d, dtype=x.dtype, device=x.device)
        n = max(1, perceptron.rows(x.device) // d)
        fits, parts = attempt(
            lambda: [
                _products(perceptron, evaluator.decay, row, n)(eye.expand(len(row), d, d)) for row in x.split(n)
            ]
        )
        if not fits:
            return None
        whole = torch.cat(parts)
        return 0.5 * (whole + whole.mT)

    def _perceptron(self, evaluator: Evaluator) -> Perceptron | None:
        if not self._sought:
            self._sought = True
            fits, found = attempt(_right, evaluator)
            self._found, self._curved = found if fits else (None, False)
        return self._found


@torch.no_grad()
def _evaluated(
    perceptron: Perceptron, decay: Float[Tensor, "D"], x: Float[Tensor, "B D"]
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
    x = x.detach()
    energy, grad = perceptron(x)
    return energy.add_(even_mv(x.square(), decay)), grad.addcmul_(decay, x, value=2)


@torch.no_grad()
def _products(perceptron: Perceptron, decay: Float[Tensor, "D"], x: Float[Tensor, "B D"], rows: int) -> Products:
    """Products at the rows, so many of which are one group, with as many vectors at once as fit beside a cache.

    How many vectors that is must not depend on how many rows there are: last digits would."""
    groups = [Curved(perceptron, part) for part in x.detach().split(rows)]

    @torch.no_grad()
    def products(v: Float[Tensor, "B K D"]) -> Float[Tensor, "B K D"]:
        at_once = max(1, perceptron.rows(v.device) // rows)
        parts = [
            torch.cat([group(some) for some in mine.split(at_once, 1)], 1)
            for group, mine in zip(groups, v.detach().split(rows), strict=True)
        ]
        return torch.cat(parts).addcmul_(decay, v, value=2)

    return products


def _points(evaluator: Evaluator, n: int) -> Float[Tensor, "n D"]:
    like = evaluator.decay
    return 0.3 * random.normal(random.fold(2, torch.arange(n, device=like.device)), len(like), like.dtype)


def _right(evaluator: Evaluator) -> tuple[Perceptron | None, bool]:
    """The gradient written out, if it is and agrees; and whether products are and do."""
    plan, nothing = evaluator.plan, (None, False)
    room = available_memory(evaluator.decay.device) // 4
    if not evaluator.vmapped or plan.n_samples * plan.bytes_per_pair > room:
        return nothing
    if plan.chunk_size is not None and plan.chunk_size < plan.n_samples:  # all samples are more than was asked for
        return nothing
    x = _points(evaluator, _N_TRIED)
    try:
        chain = chain_of(evaluator.objective, evaluator.layout, x[0])
    except RuntimeError:  # a loss that maps or differentiates the model itself does not let itself be looked at
        return nothing
    if chain is None:
        return nothing
    perceptron = Perceptron(chain, plan.max_rows)
    agree = [*map(_agree, _evaluated(perceptron, evaluator.decay, x), evaluator.by_autograd(x))]
    curved = evaluator.second != "none" and all(link.activation in CURVED for link in perceptron.links)
    if curved:
        v = x.flip(0)
        ours = _products(perceptron, evaluator.decay, x, _N_TRIED)(v[:, None])[:, 0]
        agree.append(_agree(ours, evaluator.product_by_autograd(x, v)))
    right: list[bool] = torch.stack(agree).tolist()
    return (perceptron, curved and right[-1]) if all(right[:2]) else nothing


def _agree(ours: Tensor, theirs: Tensor) -> Bool[Tensor, ""]:
    """Whether all are close, for the host to ask once."""
    scale = theirs.abs().nan_to_num(posinf=0.0).max()
    return ((ours - theirs).abs() <= _CLOSE[ours.dtype] * scale).all()
