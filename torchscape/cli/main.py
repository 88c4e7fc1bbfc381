"""From the words on the command line to an exit code."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torchscape.cli.parser import build_parser
from torchscape.errors import TorchscapeError

__all__ = ["main"]

DONE, BAD_INPUT, INTERRUPTED = 0, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. What it warns of (no minima, families, smaller batches) is a line on stderr, too.

    Returns:
        0 done; 2 bad usage or input, said in one line on stderr; 130 interrupted, everything found so far saved.

    Raises:
        SystemExit: from argparse, for ``--help``, ``--version`` (0) and bad usage (2).

    Example:
        >>> main(["info", "/nowhere/run.db"])
        2
    """
    arguments = build_parser().parse_args(argv)
    try:
        with _warnings_in_one_line():
            return arguments.run(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader has seen enough, as in: torchscape info run.db | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (TorchscapeError, OSError) as error:
        if arguments.debug:
            traceback.print_exc()
        print(f"torchscape: {_one_line(error)}", file=sys.stderr)
        return BAD_INPUT


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Warnings without the place in the code, which says nothing to those who give commands."""
    usual = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"torchscape: warning: {' '.join(str(message).split())}\n"
    try:
        yield
    finally:
        warnings.formatwarning = usual


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror.lower()}; choose another path, or change its permissions"
    return str(error)
