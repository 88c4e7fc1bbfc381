"""Annotated shapes are checked while the tests run: the first calls of each function in a test, and some later.

Checking every call takes three times as long as all the rest of the tests, and what a function is given for the
thousandth time is what it was given before. To count calls costs a tenth of the time of an exploration, too: in
every test a few functions have their turn, and the others are as they were after the first two calls.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import jaxtyping

__all__ = ["check_shapes", "next_test", "unchecked"]

FIRST = 2  # calls of a function in a test that are checked
TURNS = 8  # one function of so many is watched in a test
EVERY = 64  # one call of so many of those is checked

_test = 0
_checks = True
_left: list[tuple[Any, types.CodeType]] = []  # functions that are no longer checked in this test, and what does it


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Calls as users make them: what is of the wrong kind reaches the package itself."""
    global _checks
    _checks = False
    try:
        yield
    finally:
        _checks = True


def next_test(watched: Any = None) -> None:
    """The first calls of each function are checked again, and others have their turn, ``watched`` among them."""
    global _test
    _test += 1
    if watched is not None:
        _test += (_number[watched] - _test) % TURNS
    for function, checking in _left:
        function.__code__ = checking
    _left.clear()


def check_shapes(package: str) -> None:
    """Check the annotated shapes of a package that has not been imported yet."""
    every_call = jaxtyping.jaxtyped

    def some_calls(target: Any = None, **options: Any) -> Any:
        if target is None:
            return functools.partial(some_calls, **options)
        if inspect.isclass(target):
            plain = target.__init__
            # What stands in the class itself is decorated as a function; what a dataclass is given is not.
            if dataclasses.is_dataclass(target) and not hasattr(plain, "__wrapped__"):
                target.__init__ = _sampled(plain, lambda: every_call(plain, **options), _Calls(first=2))
            return target
        if not inspect.isfunction(target):
            return target
        if "<locals>" in target.__qualname__:
            if target.__code__ not in known:
                known[target.__code__] = _OfCode(target, functools.partial(every_call, **options)), _Calls()
            of_code, calls = known[target.__code__]
            return _sampled(target, lambda: of_code.checked(target), calls)
        # The code of a generator cannot be exchanged for that of another function (Python 3.13 warns).
        if target.__code__.co_freevars or target.__code__.co_flags & inspect.CO_GENERATOR:
            return _sampled(target, lambda: every_call(target, **options), _Calls())
        return _in_place(target, functools.partial(every_call, **options))

    known: dict[Any, tuple[_OfCode, _Calls]] = {}
    jaxtyping.jaxtyped = some_calls
    jaxtyping.install_import_hook(package, "beartype.beartype")


def _in_place(function: Any, decorate: Callable[..., Any]) -> Any:
    """The function itself, whose code is exchanged for one that checks, and given back after the first calls."""
    number = _number[function] = len(_number)
    plain = functools.update_wrapper(
        types.FunctionType(function.__code__, function.__globals__, argdefs=function.__defaults__), function
    )
    del plain.__wrapped__
    plain.__kwdefaults__ = function.__kwdefaults__
    code, checked, test, n = function.__code__, None, -1, 0

    def check(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked, test, n
        if not _checks:
            return plain(*args, **kwargs)
        if test != _test:
            test, n = _test, 0
        n += 1
        if n == FIRST and (number - test) % TURNS:
            function.__code__ = code
            _left.append((function, checking))
        if n > FIRST and n % EVERY:
            return plain(*args, **kwargs)
        if checked is None:
            checked = decorate(plain)
        return checked(*args, **kwargs)

    calling = _calls.__code__
    checking = calling.replace(co_consts=tuple(check if one == "it" else one for one in calling.co_consts))
    function.__code__, function.__wrapped__ = checking, plain  # the second for whoever asks for its signature
    return function


_number: dict[Any, int] = {}  # of functions


def _calls(*args: Any, **kwargs: Any) -> Any:
    it: Any = "it"  # a constant of the code, in whose place stands what is called
    return it(*args, **kwargs)


class _OfCode:
    """Checks the calls of all functions that one piece of code makes.

    A function inside another is made whenever that one runs, and to decorate it takes far longer than to check a
    call. So one function is decorated, the first; it calls whichever is to be checked.
    """

    def __init__(self, first: Callable[..., Any], decorate: Callable[..., Any]) -> None:
        self._first, self._decorate = first, decorate
        self._calls_it: Callable[..., Any] | None = None
        self._waiting = _Waiting()

    def checked(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if self._calls_it is None:
            self._calls_it = self._decorate(self._in_its_place())
        calls_it, waiting = self._calls_it, self._waiting

        def call(*args: Any, **kwargs: Any) -> Any:
            rows = waiting.functions
            n = len(rows)
            rows.append(function)
            try:
                return calls_it(*args, **kwargs)
            finally:
                del rows[n:]  # still there if the arguments were wrong

        return call

    def _in_its_place(self) -> Callable[..., Any]:
        """A function with the signature of the first, and its globals, in which annotations are looked up."""
        waiting = self._waiting

        def latest(*args: Any, **kwargs: Any) -> Any:
            return waiting.functions.pop()(*args, **kwargs)

        there = types.FunctionType(latest.__code__, self._first.__globals__, closure=latest.__closure__)
        return functools.update_wrapper(there, self._first)


class _Waiting(threading.local):
    """Functions whose arguments are being checked in this thread."""

    def __init__(self) -> None:
        self.functions: list[Callable[..., Any]] = []


class _Calls:
    """How often a function that is made anew again and again, or has a closure, has been called in which test."""

    __slots__ = ("first", "n", "test")

    def __init__(self, first: int = 1) -> None:
        self.first, self.test, self.n = first, -1, 0


def _sampled(
    plain: Callable[..., Any], check: Callable[[], Callable[..., Any]], calls: _Calls
) -> Callable[..., Any]:
    """``plain``, and where the call counts what ``check`` makes of it."""
    checked = None

    @functools.wraps(plain)
    def either(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked
        if calls.test != _test:
            calls.test, calls.n = _test, 0
        calls.n = n = calls.n + 1
        if not _checks or (n > calls.first and n % EVERY):
            return plain(*args, **kwargs)
        if checked is None:
            checked = check()
        return checked(*args, **kwargs)

    return either
