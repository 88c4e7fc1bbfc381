"""The errors that torchscape raises on purpose. Every message names the remedy."""

from __future__ import annotations

__all__ = [
    "CompileWarning",
    "DatabaseError",
    "FingerprintMismatch",
    "MemoryWarning",
    "MissingExtra",
    "NotDeterministic",
    "OptionError",
    "OutOfMemory",
    "PotentialError",
    "TorchscapeError",
    "UnknownName",
]


class TorchscapeError(Exception):
    """Base class: catch this to catch everything torchscape raises on purpose."""


class OptionError(TorchscapeError, ValueError):
    """An option is out of its range; the message says what it takes."""


class PotentialError(TorchscapeError, ValueError):
    """A potential cannot be built or evaluated as asked: wrong shapes, NaN everywhere, non-scalar loss."""


class NotDeterministic(PotentialError):
    """Two evaluations of one point differ, or a row depends on its neighbours: there is no landscape."""


class DatabaseError(TorchscapeError):
    """The landscape file is missing, truncated, foreign, of another schema, or cannot be written."""


class FingerprintMismatch(DatabaseError):
    """The landscape file belongs to another potential."""


class OutOfMemory(TorchscapeError, MemoryError):
    """Not even one row, with as few samples as the loss allows, fits into the memory of the device."""


class MemoryWarning(UserWarning):
    """Memory ran out, and fewer rows at a time went on: nothing is lost, but batches are smaller from here on."""


class CompileWarning(UserWarning):
    """Compiled code was asked for and cannot be had: evaluations go on without, and the message says why."""


class UnknownName(TorchscapeError, LookupError):
    """A problem, plot or property of that name does not exist; the message suggests the nearest one."""

    @classmethod
    def of(cls, kind: str, name: str, known: list[str]) -> UnknownName:
        """The error for ``name``, with the nearest of the ``known`` names."""
        import difflib

        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return cls(f"unknown {kind} {name!r}; {hint}known: {', '.join(sorted(known)) or 'none'}")


class MissingExtra(TorchscapeError, ImportError):
    """An optional dependency is absent; the message names the extra that installs it."""

    @classmethod
    def of(cls, package: str, extra: str) -> MissingExtra:
        """The error for ``package``, which ``pip install torchscape[extra]`` would bring."""
        return cls(f"{package} is needed here; install it with: pip install 'torchscape[{extra}]'")
