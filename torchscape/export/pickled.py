"""Arrays of numbers out of pickles, and nothing else: what a pickle of a stranger asks for is not run."""

from __future__ import annotations

import io
import pickle
import re
from typing import Any

import numpy as np

from torchscape.errors import TorchscapeError

__all__ = ["array_of"]


def array_of(pickled: bytes) -> np.ndarray:
    """The array of real numbers that a pickle holds.

    The unpickler knows the five names with which NumPy pickles arrays, and for each of them has something of
    its own that can do nothing but note type, shape and bytes; any other name ends it before anything is
    called. Pickles of Python 2 and of NumPy before and after version 2 are read.

    Raises:
        TorchscapeError: if it is damaged, asks for anything else, or holds something else than an array of
        numbers.

    Example:
        >>> array_of(pickle.dumps(np.array([1.0, 2.0]))).tolist()
        [1.0, 2.0]
    """
    try:
        found = _Unpickler(io.BytesIO(pickled), encoding="latin1").load()
        if not isinstance(found, _Array):
            raise TorchscapeError(f"a pickle holds a {type(found).__name__}, where an array of numbers belongs")
        return found.numbers()
    except TorchscapeError:
        raise
    except Exception as error:  # whatever a damaged pickle may bring about
        raise TorchscapeError(
            f"the pickle of an array is damaged ({type(error).__name__}: {error}): copy the file again"
        ) from None


class _Kind:
    """A type of numbers: what ``numpy.dtype`` is told."""

    def __init__(self, text: Any, align: Any = False, copy: Any = False) -> None:
        self.text, self.order = str(text), "="

    def __setstate__(self, state: tuple) -> None:
        self.order = str(state[1])

    def dtype(self) -> np.dtype:
        name = self.text.lstrip("<>=|")
        if not re.fullmatch(r"[fiu][1248]", name) or self.order not in "<>=|":
            raise TorchscapeError(f"a pickle holds an array of {self.text}, where one of numbers belongs")
        return np.dtype((self.order if self.order in "<>" else "=") + name)


class _Array:
    """An array: bytes, with what they mean."""

    def __init__(self, shape: Any = (0,), kind: Any = None, fortran: Any = False, raw: Any = b"") -> None:
        self.shape, self.kind, self.fortran, self.raw = shape, kind, fortran, raw

    def __setstate__(self, state: tuple) -> None:
        _, self.shape, self.kind, self.fortran, self.raw = state

    def numbers(self) -> np.ndarray:
        if not isinstance(self.kind, _Kind):
            raise ValueError("an array without a type")
        dtype = self.kind.dtype()
        raw = self.raw.encode("latin1") if isinstance(self.raw, str) else bytes(self.raw)
        flat = np.frombuffer(raw, dtype=dtype)
        return flat.reshape(tuple(map(int, self.shape)), order="F" if self.fortran else "C").copy()


_NDARRAY = object()
"""In the place of ``numpy.ndarray``, which can be called."""


def _reconstruct(kind: Any, shape: Any, letter: Any) -> _Array:
    if kind is not _NDARRAY:
        raise ValueError("an array of another class")
    return _Array()


def _frombuffer(raw: Any, kind: Any, shape: Any, order: Any) -> _Array:
    return _Array(shape, kind, order == "F", raw)


def _encode(text: Any, codec: Any) -> bytes:
    if codec != "latin1":
        raise ValueError(f"bytes by way of {codec!r}")
    return str(text).encode("latin1")


_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _encode,  # bytes, in pickles of protocol 0 to 2
}


class _Unpickler(pickle.Unpickler):
    """Knows how arrays are put together; of everything else it says that it will not."""

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get((module.replace("numpy._core", "numpy.core"), name))
        if known is None:
            raise TorchscapeError(
                f"a pickle asks for {module}.{name}, where an array of numbers belongs: it is refused, as it "
                "could run anything"
            )
        return known
