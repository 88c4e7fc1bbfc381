"""From the words on the command line to an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence

from torchscape.cli.parser import build_parser
from torchscape.errors import TorchscapeError
from torchscape.interrupts import Interrupt, interruptible

__all__ = ["main"]

DONE, BAD_INPUT = 0, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. What it warns of (no minima, families, smaller batches) is a line on stderr, too.

    Returns:
        0 done; 2 bad usage or input, said in one line on stderr; 130 interrupted by Ctrl-C, 143 by SIGTERM, 129 by
        SIGHUP, everything found so far saved.

    Raises:
        SystemExit: from argparse, for ``--help``, ``--version`` (0) and bad usage (2).

    Example:
        >>> main(["info", "/nowhere/run.db"])
        2
    """
    arguments = build_parser().parse_args(argv)
    try:
        with interruptible(leave=False) as watch, _warnings_in_one_line():
            return arguments.run(arguments)
    except KeyboardInterrupt as interrupt:
        with contextlib.suppress(OSError):  # after SIGHUP the terminal may be gone
            print(": ".join(filter(None, ("interrupted", _said(interrupt)))), file=sys.stderr)
        return watch.exit_code
    except BrokenPipeError:  # the reader has seen enough, as in: torchscape info run.db | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (TorchscapeError, OSError) as error:
        if arguments.debug:
            traceback.print_exc()
        print(f"torchscape: {_one_line(error)}", file=sys.stderr)
        return BAD_INPUT
    except (MemoryError, RuntimeError) as error:
        from torchscape.memory import ran_out  # torch is there by now

        if arguments.debug or not ran_out(error):
            raise
        print(f"torchscape: out of memory ({_one_line(error)[:200]}): {_ASK_FOR_LESS}", file=sys.stderr)
        return BAD_INPUT


_ASK_FOR_LESS = "ask for less (a smaller problem, fewer --walkers), or use a machine with more"


@contextlib.contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Warnings without the place in the code, which says nothing to those who give commands."""
    usual = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"torchscape: warning: {' '.join(str(message).split())}\n"
    try:
        yield
    finally:
        warnings.formatwarning = usual


def _said(interrupt: KeyboardInterrupt) -> str:
    return "" if isinstance(interrupt, Interrupt) else str(interrupt)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror.lower()}; choose another path, or change its permissions"
    return "".join(character if character.isprintable() else " " for character in str(error))
