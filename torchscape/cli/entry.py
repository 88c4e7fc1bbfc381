"""From the words on the command line to an exit code."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence

from torchscape.cli.config import parse
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
    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
    except TorchscapeError as error:
        print(f"torchscape: {_one_line(error)}", file=sys.stderr)
        return BAD_INPUT
    try:
        with (
            interruptible(leave=False) as watch,
            _warnings_in_one_line(),
            _logged(arguments.verbose),
        ):
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


@contextlib.contextmanager
def _logged(verbose: int) -> Iterator[None]:
    """What torchscape logs is a line on stderr, above any progress bar: INFO with -v, DEBUG with -vv."""
    if not verbose:
        yield
        return
    logger, handler = logging.getLogger("torchscape"), _AboveBars()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s", "%H:%M:%S"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if verbose == 1 else logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _AboveBars(logging.Handler):
    """Writes lines to stderr without tearing a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        try:
            with tqdm.external_write_mode(sys.stderr):
                print(self.format(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


def _said(interrupt: KeyboardInterrupt) -> str:
    return "" if isinstance(interrupt, Interrupt) else str(interrupt)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror.lower()}; choose another path, or change its permissions"
    return "".join(character if character.isprintable() else " " for character in str(error))
