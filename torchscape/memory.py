"""What happens when a device has no more memory: fewer rows at a time, a note, and on."""

from __future__ import annotations

import functools
import gc
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

from torchscape import stopwatch
from torchscape.devices import empty_cache, is_host, total_memory
from torchscape.errors import MemoryWarning, OutOfMemory
from torchscape.types import Tensor

__all__ = [
    "HESSIANS",
    "IN_CACHE",
    "MANY_LARGE",
    "ONE_LARGE",
    "PRODUCTS",
    "SOME_LARGE",
    "Limits",
    "attempt",
    "available_memory",
    "halving",
    "in_chunks",
    "in_parts",
    "limits_of",
    "note",
    "ran_out",
    "rows_that_fit",
]

# How an allocation that failed announces itself where it is no torch.OutOfMemoryError: PyTorch on a CPU (Linux and
# macOS; Windows), the libraries behind torch.linalg and convolutions, the CUDA runtime, MPS, and C++ itself.
_SIGNS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "failed to allocate",
    "alloc_failed",
    "std::bad_alloc",
)
# Numbers that a temporary tensor holds at most on the host. More would cost memory and gain nothing: pieces of a
# mebibyte keep a core as busy as those of a gibibyte. Last digits depend on them, so that they are fixed numbers.

PRODUCTS = 1 << 17
"""1 MiB of coordinates of rows whose Hessian-vector products are taken together: a model keeps its graph for them,
which is some hundred times as large."""

IN_CACHE = 1 << 20
"""8 MiB, worked on again and again: stays in the last cache."""

MANY_LARGE = 1 << 22
"""32 MiB, where a dozen of that size live at once, or where coordinates come from a file."""

SOME_LARGE = 1 << 23
"""64 MiB, where several of that size live at once."""

ONE_LARGE = 1 << 24
"""128 MiB, where there is one of that size, or two."""

HESSIANS = 1 << 25
"""256 MiB of dense Hessians, which take as much again when a step is solved for."""

_TEMPORARIES = 16  # of this size fit into what may be planned with
_ITEMSIZE = 8  # bytes, of the longest numbers there are; shorter ones take less


@functools.lru_cache
def available_memory(device: torch.device) -> int:
    """Bytes that may be planned with on the device: a quarter of all it has.

    Of all, not of what is free at the moment: batch sizes follow from this, and with them the last digits of
    every result, which must be the same each time.
    """
    return total_memory(device) // 4


def rows_that_fit(numbers: int, device: torch.device, *, on_host: int) -> int:
    """How many rows to work on at once, where every temporary tensor holds so many ``numbers`` a row; 1 at least.

    On the host a temporary has ``on_host`` numbers at most: small pieces stay in the caches. On a device, which
    large pieces keep busy, it takes a 64th of all the memory, so that a dozen of them fit beside all else.

    Example:
        >>> rows_that_fit(1000, torch.device("cpu"), on_host=SOME_LARGE)
        8388
    """
    most = on_host if is_host(device) else available_memory(device) // (_TEMPORARIES * _ITEMSIZE)
    return max(1, most // max(1, numbers))


def in_chunks(rows: Tensor, numbers: int, *, on_host: int) -> tuple[Tensor, ...]:
    """Consecutive parts of ``rows``, each as long as :func:`rows_that_fit` says.

    Example:
        >>> [len(part) for part in in_chunks(torch.arange(20000), 1000, on_host=SOME_LARGE)]
        [8388, 8388, 3224]
    """
    return torch.split(rows, rows_that_fit(numbers, rows.device, on_host=on_host))


def ran_out(error: BaseException) -> bool:
    """Whether the error says that an allocation failed (and not that we gave up, :class:`OutOfMemory`).

    Example:
        >>> ran_out(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
        True
        >>> ran_out(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
        False
    """
    if isinstance(error, OutOfMemory):
        return False
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def attempt(f: Callable[..., Any], *args: Any, given_up: bool = False) -> tuple[bool, Any]:
    """(True, ``f(*args)``), or (False, the error's first line) where memory ran out; what ``f`` held is free then.

    Args:
        f: what is tried; it may be repeated, so it must not change its arguments in a way that repeating would
            not repeat.
        args: its arguments.
        given_up: also take :class:`OutOfMemory`, with which an inner attempt gave up, for memory that ran out.
    """
    try:
        return True, f(*args)
    except (RuntimeError, MemoryError) as error:
        if not (ran_out(error) or (given_up and isinstance(error, OutOfMemory))):
            raise
        said = str(error).partition("\n")[0] or type(error).__name__
    # Outside of the handler: the error's traceback holds the frames, and they hold the tensors.
    _recover()
    return False, said


class Limits(dict[Any, int]):
    """Rows, by what is done with them, beyond which memory has run out before: not tried again."""

    def most(self, key: Any, n: int) -> int:
        """How many of ``n`` rows to try at once."""
        return min(n, self.get(key, n))

    def halve(self, key: Any, n: int, what: str) -> int:
        """Memory ran out with ``n`` rows: half of them from now on, said in one warning."""
        self[key] = half = (n + 1) // 2
        note(f"memory ran out with {n} {what}: goes on with {half} at a time")
        return half


def note(message: str) -> None:
    """Tell the user what was done about memory that ran out."""
    warnings.warn(f"{message}. Nothing is lost; results agree to rounding.", MemoryWarning, stacklevel=2)


def limits_of(owner: Any) -> Limits:
    """What ``owner``, a potential, remembers of the sizes that did not fit; its wrappers share that."""
    limits = getattr(owner, "_limits", None)
    if limits is None:
        limits = owner._limits = Limits()
    return limits


def in_parts(
    f: Callable[..., Any],
    rows: Sequence[Tensor],
    *,
    limits: Limits | None = None,
    key: Any = None,
    size: int | None = None,
    what: str = "rows",
) -> list[Any]:
    """``f`` of consecutive parts of the ``rows`` tensors, at most ``size`` rows at a time, in order.

    Where memory runs out, the part that failed is tried again with half of its rows, and no later part is larger.

    Args:
        f: takes a part of every tensor.
        rows: tensors of the same length.
        limits, key: where that is remembered from call to call, and under which name.
        size: most rows at once; None for all of them.
        what: is evaluated, for the note.

    Raises:
        OutOfMemory: if one row alone does not fit.

    Example:
        >>> def cramped(x):
        ...     if len(x) > 3:
        ...         raise torch.OutOfMemoryError("no room")
        ...     return x.tolist()
        >>> with warnings.catch_warnings(record=True) as notes:
        ...     warnings.simplefilter("always")
        ...     parts = in_parts(cramped, (torch.arange(8),))
        >>> parts
        [[0, 1], [2, 3], [4, 5], [6, 7]]
        >>> print(notes[1].message)
        memory ran out with 4 rows: goes on with 2 at a time. Nothing is lost; results agree to rounding.
    """
    limits = Limits() if limits is None else limits
    n, start, results = len(rows[0]), 0, []
    size = limits.most(key, n if size is None else size)
    while start < n:
        part = [tensor[start : start + size] for tensor in rows] if size < n else rows
        fits, result = attempt(f, *part)
        if fits:
            results.append(result)
            start += size
            if start < n:
                stopwatch.check()
        elif len(part[0]) == 1:
            raise OutOfMemory(
                f"not even one of the {what} fits into the memory of {rows[0].device}: use a smaller problem, "
                f"float32, or a device with more memory ({result})"
            )
        else:
            size = limits.halve(key, len(part[0]), what)
    return results


def halving(n_rows: int, what: str, *, graph: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorates a method of a potential whose first ``n_rows`` arguments have one row per point: where memory runs
    out, it is called with half of the rows at a time, and its results are joined. Rows never notice each other.

    Args:
        n_rows: how many arguments are rows.
        what: the method evaluates, for the note.
        graph: whether its result may be differentiated. Then nothing is halved under autograd, because the graphs
            of all parts would stay: whoever differentiates halves.
    """

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        if getattr(method, "__halving__", False):
            return method
        name = method.__name__

        @functools.wraps(method)
        def careful(self: Any, *args: Any, **options: Any) -> Any:
            known = self._limits
            if not known or (name, _place(args)) not in known:
                try:
                    return method(self, *args, **options)
                except (RuntimeError, MemoryError) as error:
                    if not (ran_out(error) and _divisible(args[:n_rows], n_rows, graph)):
                        raise
                _recover()
                limits_of(self).halve((name, _place(args)), len(args[0]), what)
            elif not _divisible(args[:n_rows], n_rows, graph):
                return method(self, *args, **options)

            def part(*tensors: Tensor) -> Any:
                return method(self, *tensors, *args[n_rows:], **options)

            key = (name, _place(args))
            return _join(in_parts(part, args[:n_rows], limits=limits_of(self), key=key, what=what))

        careful.__halving__ = True  # type: ignore[attr-defined]
        return careful

    return decorate


def _place(args: Sequence[Any]) -> tuple[torch.device, torch.dtype] | None:
    """What a limit depends on besides the method: where the rows are, and how long their numbers."""
    return (args[0].device, args[0].dtype) if args and isinstance(args[0], Tensor) else None


def _divisible(rows: Sequence[Any], n_rows: int, graph: bool) -> bool:
    """Whether the call can be made in parts: rows were given by position, more than one, and none with a graph."""
    if len(rows) < n_rows or not all(isinstance(x, Tensor) and x.ndim >= 1 for x in rows):
        return False
    if len(rows[0]) < 2 or any(len(x) != len(rows[0]) for x in rows):
        return False
    return not (graph and torch.is_grad_enabled() and any(x.requires_grad for x in rows))


def _join(parts: list[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], tuple):
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))
    return torch.cat(parts)


def _recover() -> None:
    """Free what the failed attempt held, and give what torch has cached in pieces back to the device."""
    gc.collect(1)  # what the attempt made is young; a look at everything takes a fraction of a second
    empty_cache()
