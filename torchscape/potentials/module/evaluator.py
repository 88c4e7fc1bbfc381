"""``Evaluator``: energy, gradient and curvature of an objective, chunk by chunk of rows and samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.func import functional_call

from torchscape.errors import OutOfMemory, PotentialError
from torchscape.layout import ParameterLayout
from torchscape.memory import Limits, attempt, in_parts
from torchscape.potentials.batching import Plan, by_rows, pulled_back, second_derivative
from torchscape.potentials.compiled import Setting
from torchscape.potentials.module.data import Samples
from torchscape.potentials.module.objective import Objective
from torchscape.potentials.module.written import Written
from torchscape.types import Float, Tensor

__all__ = ["Evaluator"]

_BASIS = 16  # columns of a Hessian that share one pass over the data
_MANY = 1 << 20  # rows, of which as many go together as ever may
_GRAPH = 3  # memory of the graph of a gradient that is kept, over that of a gradient


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """U(x) = sum_k w_k L(chunk k) + sum_i decay_i x_i^2, for rows x.

    Attributes:
        objective: module, loss and data.
        layout: which coordinate belongs to which parameter.
        decay: the regularisation of every coordinate.
        plan: how much goes through the module at once.
        vmapped: in one vmap over rows, or in a loop.
        nested: whether that vmap holds a level of differentiation (recurrent layers).
        second: how second derivatives are taken: "reverse", "forward" or "none".
        mixes: whether outputs of one sample depend on the others (a graph), so that they are never split.
        limits: rows and samples at once that did not fit into memory before, by what was evaluated.
        written: the gradient written out, where the objective is of a kind for which it is.
    """

    objective: Objective
    layout: ParameterLayout
    decay: Float[Tensor, "D"]
    plan: Plan
    vmapped: bool = True
    nested: bool = False
    second: str = "reverse"
    mixes: bool = False
    limits: Limits = dataclasses.field(default_factory=Limits, compare=False, repr=False)
    written: Written = dataclasses.field(default_factory=Written, compare=False, repr=False)

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        if torch.is_grad_enabled() and x.requires_grad:  # whoever differentiates keeps all graphs, and halves
            return _cat([self._energy(part, size) for part, size in self._parts(x)], x)
        return _cat(self._in_parts(self._energy, x, what="energies"), x)

    def energy_and_grad(
        self, x: Float[Tensor, "B D"], compile: Setting = False
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        if len(x) and (found := self.written.energy_and_grad(self, x, compile)) is not None:
            return found
        return self._by_code(x, compile) if compile and len(x) else self.by_autograd(x)

    def _by_code(self, x: Float[Tensor, "B D"], compile: Setting) -> tuple[Tensor, Tensor]:
        """By compiled code of what differentiates the module, where all samples of a row are evaluated at once."""
        rows, size = self._sizes(_MANY, x.device, 1)
        if size < self.plan.n_samples or not self.vmapped or self.objective.samples.streamed:
            self.written.code(rows).refuse(compile, "rows or samples are evaluated in parts")
            return self.by_autograd(x)

        def function(x: Tensor, decay: Tensor) -> tuple[Tensor, Tensor]:
            return dataclasses.replace(self, decay=decay)._energy_and_grad(x, size)

        energy, grad = self.written.code(rows)(compile, x, self.by_autograd, function, (self.decay,))
        return energy, grad

    def by_autograd(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        """Energy and gradient by differentiating the module, whatever it is."""
        results = self._in_parts(self._energy_and_grad, x, what="gradients")
        energies, grads = ([result[k] for result in results] for k in (0, 1))
        return _cat(energies, x), _cat(grads, x, x.shape[1])

    def hvp(self, x: Float[Tensor, "B D"], v: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        if self.second == "none":
            raise PotentialError(
                "an operation of this module has no second derivative in torch, so there are no Hessian-vector "
                "products; minimisation works, but transition states need another implementation of it"
            )
        if len(x) and (found := self.written.hvp(self, x, v)) is not None:
            return found
        return self.product_by_autograd(x, v)

    def product_by_autograd(self, x: Float[Tensor, "B D"], v: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """H(x_b) v_b by differentiating the module, whatever it is."""
        products = self._in_parts(self._product, x, v, what="Hessian-vector products", cost=_GRAPH)
        return _cat(products, x, x.shape[1])

    def products_at(self, x: Float[Tensor, "B D"]) -> Callable[[Tensor], Tensor] | None:
        """H(x_b) V_b for V [B K D], by differentiating kept graphs of the gradients: half the time of as many
        calls of :meth:`hvp`. None where the graphs do not fit (with data that do not, they never do), or second
        derivatives are not taken in reverse."""
        if (
            self.objective.samples.streamed
            or self.second != "reverse"
            or not self.vmapped
            or not self.plan.keeps_graphs(len(x), x.device)
        ):
            return None
        if len(x) and (made := self.written.products_at(self, x)) is not None:
            return made
        parts = [(part, list(self._gradients(part, size))) for part, size in self._parts(x, cost=_GRAPH)]

        def products(v: Float[Tensor, "B K D"]) -> Float[Tensor, "B K D"]:
            total = 2 * self.decay * v.detach()
            along = total.split([len(part) for part, _ in parts]), v.split([len(part) for part, _ in parts])
            for out, block, (_, gradients) in zip(*along, parts, strict=True):
                for leaf, grad in gradients:
                    for k in range(v.shape[1]):
                        out[:, k] += pulled_back(grad, leaf, block[:, k], retain_graph=True)
            return total

        return products

    def hessian(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D D"]:
        if len(x) and (found := self.written.hessian(self, x)) is not None:
            return found
        parts = self._in_parts(self._dense, x, what="Hessians", cost=_GRAPH + min(x.shape[1], _BASIS))
        return _cat(parts, x, x.shape[1], x.shape[1])

    @torch.no_grad()
    def outputs(self, x: Float[Tensor, "B D"], inputs: Samples) -> Tensor:
        """The module's outputs [B, n, ...] at every row, for all inputs."""
        module = self.objective.module
        at_once = len(inputs) if self.mixes else self.plan.chunk_size
        plan = dataclasses.replace(self.plan, n_samples=len(inputs), chunk_size=at_once)
        rows, size = plan.sizes(max(1, len(x)), x.device, streamed=inputs.streamed)

        def call(row: dict[str, Tensor], batch: tuple[Tensor, ...]) -> Tensor:
            return functional_call(module, row, batch)

        def at(part: Tensor, size: int = size) -> Tensor:
            params = self.layout.unflatten(part)
            return torch.cat(
                [by_rows(call, params, b, vmapped=self.vmapped, nested=self.nested) for b in inputs.chunks(size)],
                1,
            )

        if len(x) == 0:  # the shape of an output is known only from an output
            return at(x.new_zeros(1, x.shape[1]))[:0]
        return torch.cat(self._within(at, (x,), rows, size, "outputs", inputs))

    def on(self, samples: Samples) -> Evaluator:
        """The same evaluation of other samples."""
        plan = dataclasses.replace(self.plan, n_samples=len(samples))
        fresh: dict[str, Any] = {"limits": Limits(), "written": Written()}
        return dataclasses.replace(self, objective=self.objective.on(samples), plan=plan, **fresh)

    def to(self, *, dtype: torch.dtype, device: torch.device) -> Evaluator:
        """A copy for another dtype or device."""
        objective = self.objective.moved(dtype=dtype, device=device)
        fresh: dict[str, Any] = {"limits": Limits(), "written": Written()}
        return dataclasses.replace(self, objective=objective, decay=self.decay.to(device, dtype), **fresh)

    def losses(self, x: Float[Tensor, "B D"], batch: Any, *, vmapped: bool) -> Tensor:
        """The loss of one batch at every row, as the loss reduces it."""
        params = {f"module.{name}": value for name, value in self.layout.unflatten(x).items()}
        return by_rows(self._call, params, batch, vmapped=vmapped, nested=self.nested)

    # --- one group of rows at a time -------------------------------------------------------------------

    def _call(self, params: dict[str, Tensor], batch: Any) -> Tensor:
        return functional_call(self.objective, params, (batch,))

    def _parts(self, x: Tensor, *, cost: int = 1) -> list[tuple[Tensor, int]]:
        """Rows that go together, with the number of samples that go with them."""
        if len(x) == 0:
            return []
        rows, size = self._sizes(len(x), x.device, cost)
        return [(part, size) for part in x.split(rows)]

    def _sizes(self, n_rows: int, device: torch.device, cost: int) -> tuple[int, int]:
        return self.plan.sizes(n_rows, device, cost=cost, streamed=self.objective.samples.streamed)

    def _in_parts(self, f: Callable[..., Any], *rows: Tensor, what: str, cost: int = 1) -> list[Any]:
        """``f(rows, samples at once)`` of as many rows and samples at a time as memory holds."""
        if len(rows[0]) == 0:
            return []
        n, size = self._sizes(len(rows[0]), rows[0].device, cost)
        return self._within(f, rows, n, size, what, self.objective.samples)

    def _within(
        self, f: Callable[..., Any], rows: tuple[Tensor, ...], n: int, size: int, what: str, samples: Samples
    ) -> list[Any]:
        """At most ``n`` rows and ``size`` samples at a time; where memory runs out half of the rows, and where one
        row is left half of the samples."""
        own = samples is self.objective.samples
        divisible = samples.separable and not self.mixes and not (own and self._whole)

        def part(*tensors: Tensor) -> Any:
            if len(tensors[0]) > 1:
                return f(*tensors, size)
            at_once = self.limits.most((what, "samples"), min(size, len(samples)))
            while True:
                fits, result = attempt(f, *tensors, at_once)
                if fits:
                    return result
                if at_once == 1 or not divisible:
                    raise OutOfMemory(_no_room(what, tensors[0].device, divisible, result))
                at_once = self.limits.halve((what, "samples"), at_once, f"samples of one row ({what})")

        return in_parts(part, rows, limits=self.limits, key=what, size=n, what=what)

    @property
    def _whole(self) -> bool:
        return self.objective.reduction == "whole"

    def _terms(self, size: int) -> Iterator[Callable[[Tensor], Tensor]]:
        """The weighted loss of every chunk, as a function of the rows."""
        for batch, weight in self.objective.chunks(size):

            def term(x: Tensor, batch: Any = batch, weight: float = weight) -> Tensor:
                return weight * self.losses(x, batch, vmapped=self.vmapped)

            yield term

    def _energy(self, x: Tensor, size: int) -> Tensor:
        total = (self.decay * x**2).sum(1)
        for term in self._terms(size):
            total = total + term(x)
        return total

    def _energy_and_grad(self, x: Tensor, size: int) -> tuple[Tensor, Tensor]:
        x = x.detach()
        total, slope = (self.decay * x**2).sum(1), 2 * self.decay * x
        leaf = x.clone().requires_grad_(True)
        for term in self._terms(size):
            with torch.enable_grad():
                energy = term(leaf)
                (grad,) = torch.autograd.grad(energy.sum(), leaf)
            total, slope = total + energy.detach(), slope + grad
        return total, slope

    def _product(self, x: Tensor, v: Tensor, size: int) -> Tensor:
        product = 2 * self.decay * v.detach()
        for term in self._terms(size):
            product = product + second_derivative(term, x, v, self.second)
        return product

    def _gradients(self, x: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Of every chunk that is not linear in x: the rows as a leaf, and the gradient with its graph."""
        for term in self._terms(size):
            leaf = x.detach().clone().requires_grad_(True)
            with torch.enable_grad():
                (grad,) = torch.autograd.grad(term(leaf).sum(), leaf, create_graph=True)
            if grad.requires_grad:
                yield leaf, grad

    def _dense(self, x: Tensor, size: int) -> Tensor:
        """One graph of the gradient for all columns, differentiated once more for a few columns at a time."""
        columns = min(x.shape[1], _BASIS)
        eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        total = torch.diag_embed(2 * self.decay.expand_as(x)).clone()
        for leaf, grad in self._gradients(x, size):

            def product(v: Tensor, leaf: Tensor = leaf, grad: Tensor = grad) -> Tensor:
                return pulled_back(grad, leaf, v, retain_graph=True)

            for k, basis in enumerate(eye.split(columns)):
                # Not is_grads_batched: its vmap loops over the second derivatives of tanh, softmax, convolutions.
                rows = torch.func.vmap(product)(basis[:, None].expand(-1, len(x), -1))
                total[:, k * columns : k * columns + len(basis)] += rows.movedim(0, 1)
        return (total + total.mT).mul_(0.5)


def _no_room(what: str, device: torch.device, divisible: bool, said: str) -> str:
    if divisible:
        return (
            f"not even one row and one sample fit into the memory of {device} ({what}): use a smaller model, "
            f"dtype=torch.float32, or a device with more memory ({said})"
        )
    return (
        f"one row on all samples does not fit into the memory of {device} ({what}), and this loss takes all "
        f"samples at once: use fewer samples, a loss that is a mean or a sum, or a larger device ({said})"
    )


def _cat(parts: list[Tensor], x: Tensor, *columns: int) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    return torch.cat(parts) if parts else x.new_zeros(0, *columns)
