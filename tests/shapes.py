"""Annotated shapes are checked while the tests run: the first calls of each function in a test, and some later.

Checking every call takes three times as long as all the rest of the tests, and what a function is given for the
thousandth time is what it was given before.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jaxtyping

__all__ = ["check_shapes", "next_test", "unchecked"]

FIRST = 2  # calls of a function in a test that are checked, and then
EVERY = 64  # one of so many

_test = 0
_checks = True


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Calls as users make them: what is of the wrong kind reaches the package itself."""
    global _checks
    _checks = False
    try:
        yield
    finally:
        _checks = True


def next_test() -> None:
    """The first calls are counted anew."""
    global _test
    _test += 1


def check_shapes(package: str) -> None:
    """Check the annotated shapes of a package that has not been imported yet."""
    every_call = jaxtyping.jaxtyped

    def some_calls(target: Any = None, **options: Any) -> Any:
        if target is None:
            return functools.partial(some_calls, **options)
        if inspect.isclass(target):
            plain = target.__init__
            checked = every_call(target, **options)
            if checked.__init__ is not plain:
                wrapped = checked.__init__
                checked.__init__ = _sampled(plain, lambda: wrapped, _Calls())
            return checked
        if not inspect.isfunction(target):
            return target
        # A function inside another is made, and decorated, whenever that one runs.
        # To decorate it takes far longer than to check a call: of those, one call in a test has to do at first.
        nested = "<locals>" in target.__qualname__
        calls = known.setdefault(target.__code__, _Calls(first=1 if nested else FIRST))
        return _sampled(target, lambda: every_call(target, **options), calls)

    known: dict[Any, _Calls] = {}
    jaxtyping.jaxtyped = some_calls
    jaxtyping.install_import_hook(package, "beartype.beartype")


@dataclasses.dataclass
class _Calls:
    """How often a function has been called in which test."""

    first: int = FIRST
    test: int = -1
    n: int = 0

    def counts(self) -> bool:
        """One call more; whether it is one of those that are checked."""
        if self.test != _test:
            self.test, self.n = _test, 0
        self.n += 1
        return _checks and (self.n <= self.first or self.n % EVERY == 0)


def _sampled(
    plain: Callable[..., Any], check: Callable[[], Callable[..., Any]], calls: _Calls
) -> Callable[..., Any]:
    """``plain``, and where the call counts what ``check`` makes of it."""
    checked = None

    @functools.wraps(plain)
    def either(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked
        if not calls.counts():
            return plain(*args, **kwargs)
        if checked is None:
            checked = check()
        return checked(*args, **kwargs)

    return either
