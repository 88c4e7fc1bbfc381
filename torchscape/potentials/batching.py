"""How one module is evaluated for many rows of parameters at once: the contexts, and how much fits in memory."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from torchscape.devices import is_host
from torchscape.memory import available_memory
from torchscape.potentials.compiled import is_recording
from torchscape.potentials.recurrent import can_be_unrolled, unrolled
from torchscape.types import Tensor

__all__ = [
    "FeatureMajor",
    "Plan",
    "RowsOfStates",
    "WrittenOut",
    "by_rows",
    "decomposed",
    "differentiable_twice",
    "fresh_bytes",
    "pulled_back",
    "second_derivative",
]

# On a CPU, temporaries of this many bytes still live in the last-level cache: measured on a 64-10-10 network,
# chunks of 20 to 40 MiB are a third faster than chunks of 5 or of 200.
_CPU_BYTES = 32 * 2**20
# A small recurrent network is twice as fast where an operation makes a mebibyte as where it makes a fifth of
# that: only a few of its many intermediate results are in use at the same time.
_OPERATION_BYTES = 2**20
_STREAMED = 256  # samples, at the least, in a chunk that comes from the host
_BACKWARD = 2  # bytes of a forward and backward pass, over those of the forward pass


class WrittenOut(TorchFunctionMode):
    """Writes out what torch differentiates wrongly, or cannot batch.

    Weight normalisation, w = g v / |v|, whose fused kernel has a wrong second derivative (torch 2.13: 0.79 where
    the largest entry of a Hessian is 6.7); and recurrent layers, whose fused cells have no batching rules.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch._weight_norm:
            return _weight_norm(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if not kwargs and can_be_unrolled(name, args):
            return unrolled(name, *args)
        return func(*args, **(kwargs or {}))


class FeatureMajor(WrittenOut):
    """Keeps hidden features in rows and samples in columns while a module is mapped over walkers.

    ``linear(x, W, b)`` becomes ``(W x^T + b)^T``. Mapped over B weights W [h, k] that share one input x [n, k],
    torch then folds the product into a single [B h, k] x [k, n] matrix multiplication, and activations and
    log-softmax run over long contiguous rows of samples instead of short rows of features: twice as fast
    on a CPU, with the same numbers up to rounding.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is functional.linear:
            return _linear(*args, **kwargs)
        if func is functional.cross_entropy:
            return _cross_entropy(*args, **kwargs)
        return super().__torch_function__(func, types, args, kwargs)


class RowsOfStates(TorchFunctionMode):
    """Gives recurrent layers that share their weights among mapped inputs an initial state for each of these.

    torch adds what comes from the inputs to what comes from the state in place, which fails inside ``vmap`` where
    only the former is mapped (torch 2.13).
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in _RECURRENT and len(args) > 2:
            where = 2 if isinstance(args[2], Tensor | tuple) and isinstance(args[3], tuple | list) else 1
            nothing = torch.zeros_like(args[0]).sum()
            states = pytree.tree_map(lambda state: state + nothing, args[where])
            args = (*args[:where], states, *args[where + 1 :])
        return func(*args, **(kwargs or {}))


_RECURRENT = frozenset(["lstm", "gru", "rnn_tanh", "rnn_relu"])


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """g v / |v|, with one norm for each index of ``dim``, or one in all for -1."""
    others = [k for k in range(v.ndim) if k != dim] if dim != -1 else list(range(v.ndim))
    norm = v.square().sum(others, keepdim=dim != -1).sqrt() if others else v.abs()
    return v * (g / norm)


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if input.ndim != 2 or weight.ndim != 2:
        return functional.linear(input, weight, bias)
    product = weight @ input.mT
    return (product if bias is None else product + bias[:, None]).mT


def _cross_entropy(input: Tensor, target: Tensor, *args, **kwargs) -> Tensor:
    """Logits [n, C] are scored along the fast dimension: as they are, or as one image [1, C, n]."""
    reduction = kwargs.get("reduction", "mean")
    if input.ndim != 2 or args or reduction not in ("mean", "sum"):
        return functional.cross_entropy(input, target, *args, **kwargs)
    if target.ndim == 1 and kwargs.get("weight") is None and not kwargs.get("label_smoothing"):
        kept = target != kwargs.get("ignore_index", -100)
        scores, place = input.mT.log_softmax(0), torch.where(kept, target, 0)[None]
        if is_recording():
            hit = torch.arange(len(scores), device=place.device)[:, None] == place
            picked = torch.where(hit, scores, 0.0).sum(0)
        else:
            picked = scores.gather(0, place)[0]
        total = -torch.where(kept, picked, 0.0).sum()
        return total / kept.sum() if reduction == "mean" else total
    return functional.cross_entropy(
        input.mT[None], target.mT[None] if target.ndim == 2 else target[None], **kwargs
    )


@contextlib.contextmanager
def differentiable_twice() -> Iterator[None]:
    """Only kernels with batching rules and second derivatives: no fused attention, no fused encoder layers."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@contextlib.contextmanager
def decomposed(device: torch.device) -> Iterator[None]:
    """No fused recurrent kernels: neither cuDNN's nor, on a CPU, oneDNN's have batching rules."""
    fused = is_host(device) and torch._C._get_mkldnn_enabled()
    if fused:
        torch._C._set_mkldnn_enabled(False)
    try:
        with torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        if fused:
            torch._C._set_mkldnn_enabled(True)


def by_rows(
    f: Callable[..., Tensor], params: dict[str, Tensor], shared: Any, *, vmapped: bool, nested: bool = False
) -> Tensor:
    """``f(row of params, shared)`` for every row: in one vmap, or (for operations without one) in a loop.

    ``nested`` calls f inside a ``vjp`` inside the vmap, whose backward is never run: below a level of
    differentiation torch takes recurrent layers apart, and their parts have batching rules.
    """
    if not vmapped:
        n_rows = len(next(iter(params.values())))
        # The loss may call torch.autograd.grad itself, and then needs a graph even where we do not.
        with differentiable_twice(), WrittenOut(), torch.backends.cudnn.flags(enabled=False), torch.enable_grad():
            values = [f({name: p[b] for name, p in params.items()}, shared) for b in range(n_rows)]
        return torch.stack(values if torch.is_grad_enabled() else [value.detach() for value in values])
    # Rows of a matrix product fold into one large product only if the rows are contiguous.
    params = {name: p.contiguous() for name, p in params.items()}
    with differentiable_twice(), FeatureMajor():
        if not nested:
            return torch.func.vmap(f, in_dims=(0, None))(params, shared)

        def inside(row: dict[str, Tensor], shared: Any) -> Tensor:
            return torch.func.vjp(lambda row: f(row, shared), row)[0]

        with decomposed(next(iter(params.values())).device):
            return torch.func.vmap(inside, in_dims=(0, None))(params, shared)


def pulled_back(output: Tensor, leaf: Tensor, v: Tensor, *, retain_graph: bool = False) -> Tensor:
    """v times the Jacobian of ``output``, which has a graph back to ``leaf``; nought where that does not reach.

    ``torch.autograd.grad`` with a v imports sympy the first time (torch 2.13), which takes longer in every process
    than all of this package, to look at shapes that are no symbols here; so its engine is asked itself.
    """
    ask = torch.autograd.graph._engine_run_backward
    (product,) = ask((output,), (v,), retain_graph, False, (leaf,), True, accumulate_grad=False)
    return torch.zeros_like(v) if product is None else product


def second_derivative(f: Callable[[Tensor], Tensor], x: Tensor, v: Tensor, way: str) -> Tensor:
    """H v of every row, for ``f`` that gives one number per row.

    "reverse": the gradient of (grad f . v), two backward passes. "forward": the directional derivative of grad f,
    one forward-mode pass through the backward pass, for operations whose backward has no derivative of its own.
    """
    with torch.enable_grad():
        if way == "forward":
            with forward_ad.dual_level():
                dual = forward_ad.make_dual(x.detach().requires_grad_(True), v.detach())
                (grad,) = torch.autograd.grad(f(dual).sum(), dual, create_graph=True)
                tangent = forward_ad.unpack_dual(grad).tangent
                return torch.zeros_like(v) if tangent is None else tangent.detach()
        leaf = x.detach().requires_grad_(True)
        (grad,) = torch.autograd.grad(f(leaf).sum(), leaf, create_graph=True)
        if not grad.requires_grad:  # f is linear
            return torch.zeros_like(v)
        return pulled_back(grad, leaf, v.detach())


@dataclasses.dataclass(frozen=True)
class Plan:
    """How many rows and samples go through the module at once.

    Attributes:
        n_samples: samples in the data set.
        chunk_size, max_rows: samples and rows at once, if the user said so.
        bytes_per_pair: intermediate results of one sample of one row.
        bytes_per_row: memory of one row of parameters and its gradients.
        n_operations: of an evaluation; where they are many (recurrent layers), each should have enough to do.

    Example:
        >>> plan = Plan(n_samples=1000, bytes_per_pair=10**4)
        >>> plan.sizes(8, torch.device("cpu"))  # about 1600 pairs of 2 x 10 kB fit in 32 MiB
        (1, 1000)
    """

    n_samples: int
    chunk_size: int | None = None
    max_rows: int | None = None
    bytes_per_pair: int = 0
    bytes_per_row: int = 0
    n_operations: int = 0

    def sizes(
        self, n_rows: int, device: torch.device, *, cost: int = 1, streamed: bool = False
    ) -> tuple[int, int]:
        """(rows at once, samples at once) for work that needs ``cost`` times the memory of a gradient.

        All samples of few rows rather than few samples of all rows, so that the parameters and gradients of a row
        pass through memory once. Samples that are ``streamed`` from the host pass once for every part of the rows:
        there, few samples of all rows, as long as a chunk keeps the device busy.
        """
        memory = available_memory(device)
        busy = max(_CPU_BYTES, self.n_operations * _OPERATION_BYTES)
        working = min(memory, busy) if is_host(device) else memory
        pairs = max(1, working // (_BACKWARD * cost * max(1, self.bytes_per_pair)))
        most = max(_STREAMED, pairs // max(1, n_rows)) if streamed else pairs
        samples = self.chunk_size or _even(self.n_samples, min(self.n_samples, pairs, most))
        rows = min(
            n_rows, self.max_rows or n_rows, pairs // samples, memory // (cost * max(1, self.bytes_per_row))
        )
        return _even(n_rows, max(1, rows)), samples

    def keeps_graphs(self, n_rows: int, device: torch.device) -> bool:
        """Whether the graphs of the gradients of all rows on all samples fit in memory together."""
        return n_rows * self.n_samples * 3 * _BACKWARD * self.bytes_per_pair <= available_memory(device) // 4


def _even(total: int, size: int) -> int:
    """The chunk size with the same number of chunks, but chunks of nearly equal length."""
    n_chunks = -(-total // max(1, size))
    return -(-total // max(1, n_chunks))


def fresh_bytes(f: Callable[[], Tensor]) -> tuple[int, int]:
    """Bytes of all tensors that evaluating ``f`` makes, views aside, and how many tensors that are."""
    counter = _Counter()
    with counter:
        f()
    return counter.n_bytes, counter.n_tensors


class _Counter(TorchDispatchMode):
    """Adds up the outputs of every operation that do not share storage with its inputs."""

    n_bytes = n_tensors = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: to skip it, torch imports its whole compiler at the first operation, 800 modules."""
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = {id_of(leaf) for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in pytree.tree_leaves(out):
            if isinstance(leaf, Tensor) and id_of(leaf) not in given:
                self.n_bytes += leaf.numel() * leaf.element_size()
                self.n_tensors += 1
        return out


def id_of(tensor: Tensor) -> int:
    """Which memory a tensor looks at."""
    return tensor.untyped_storage().data_ptr()
