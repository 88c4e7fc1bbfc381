"""Compiled evaluations: when code is made for a function of rows, whether it is right, and what is said of it.

A function is recorded once, with the number of rows left open, and compiled by torch's Inductor for any number
of them: nothing is compiled twice. Inductor keeps what it has made on disk, so that a later process waits for a
second or two in place of ten or more. What cannot be recorded or compiled, or does not agree, is evaluated as
ever.
"""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import logging
import os
import pickle
import subprocess
import sys
import tempfile
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import torch

from torchscape.devices import is_host
from torchscape.errors import CompileWarning, PotentialError
from torchscape.memory import ran_out
from torchscape.types import Tensor

__all__ = [
    "Compilable",
    "Compiled",
    "Setting",
    "check_setting",
    "compiled_graph",
    "is_recording",
    "recorded",
    "set_to",
]

Setting = bool | Literal["auto"]
"""Whether evaluations are compiled: True at first use, "auto" where they have taken long, False never."""

Compilable = Callable[..., tuple[Tensor, ...]]
"""Of rows [B D] and constant tensors: results with one row for each. It asks for ``x.shape[0]``, and not for
``len(x)``, which would record how many rows there were."""

Plain = Callable[[Tensor], tuple[Tensor, ...]]
_RECORDING: contextvars.ContextVar[bool] = contextvars.ContextVar("recording", default=False)
_LOG = logging.getLogger(__name__)
_REPAYS = 60.0  # seconds of evaluations after which "auto" compiles: as much again is expected, three compilations
_TRIED = (1, 2, 7, 33)  # numbers of rows on which the code is compared with the function
_RECORDED = 5  # rows with which it is recorded
_CLOSE = {torch.float64: 1e-9, torch.float32: 1e-4}  # of the largest number of a row
_FASTER = 0.95  # of the time, at most, for "auto" to keep the code
_NICE = 10  # of the process that compiles in the background


def is_recording() -> bool:
    """Whether what is asked of torch is being recorded, for any number of rows: there are operations that can be
    mapped over a known number only (``gather``)."""
    return _RECORDING.get()


def check_setting(where: str, setting: object) -> None:
    """Refuse what is neither True, False nor "auto".

    Raises:
        PotentialError: which says what there is.

    Example:
        >>> check_setting("explore", "always")
        Traceback (most recent call last):
            ...
        torchscape.errors.PotentialError: explore: compile must be True, False or "auto", not 'always'
    """
    if setting not in (True, False, "auto"):
        raise PotentialError(f'{where}: compile must be True, False or "auto", not {setting!r}')


@contextlib.contextmanager
def set_to(setting: Setting | None, potential: Any, executor: Any = None) -> Iterator[None]:
    """Within the block ``potential.compile`` is the setting; None leaves it as it is. Workers of an executor have
    copies of the potential, and are ended.

    Raises:
        PotentialError: for another setting.
    """
    own = potential.compile
    if setting is not None:
        check_setting("explore", setting)
        if setting != own and hasattr(executor, "close"):
            executor.close()
        potential.compile = setting
    try:
        yield
    finally:
        potential.compile = own


class Compiled:
    """A function of rows in host memory, by compiled code where that is asked for, can be had and pays.

    With "auto" its evaluations are timed. Once they have taken a minute, which is several compilations, as much
    again may be expected: the code is made by another process, while this one goes on, and used if it is faster.

    Args:
        what: it computes, in the plural, for what is said.
        rows: most rows at once; None for all.

    Attributes:
        said: one line on what is used, and why; empty before the first evaluation.
        n_compiled: how many times code was made (in this process).

    Example:
        >>> squares = Compiled("squares")
        >>> energy, grad = squares("auto", torch.ones(3, 2), lambda x: (0.5 * (x**2).sum(1), x))
        >>> energy.tolist(), squares.said
        ([1.0, 1.0, 1.0], 'squares are not compiled: they have taken 0 s, and from 60 s on it pays')
    """

    def __init__(self, what: str, *, rows: int | None = None) -> None:
        self.what, self.rows = what, rows
        self.said, self.n_compiled = "", 0
        self._spent = 0.0
        self._code: Callable[..., tuple[Tensor, ...]] | None = None
        self._given_up = False
        self._background: _Background | None = None

    def __call__(
        self,
        setting: Setting,
        x: Tensor,
        plain: Plain,
        function: Compilable | None = None,
        constants: Sequence[Tensor] = (),
    ) -> tuple[Tensor, ...]:
        """What ``plain(x)`` is, to rounding.

        Args:
            setting: whether to compile.
            x: rows.
            plain: evaluates them without a compiler.
            function: what to compile, with the constants; None for ``plain``. It is the same at every call.
            constants: of that; at every call of the same shapes.
        """
        if not setting or self._given_up or x.shape[0] == 0:
            return plain(x)
        function = plain if function is None else function
        if self._code is None and self._is_due(setting, x, function, constants):
            self._make(setting, x, plain, function, constants)
        if self._code is not None:
            return self._run(x, constants)
        began = time.perf_counter()
        result = plain(x)
        self._spent += time.perf_counter() - began
        return result

    def _is_due(self, setting: Setting, x: Tensor, function: Compilable, constants: Sequence[Tensor]) -> bool:
        """Whether the code is to be made, or fetched, now."""
        if not is_host(x.device):
            self._give_up(setting, f"code is made for the CPU, and they are on {x.device}")
            return False
        if setting is True:
            return True
        check_setting(self.what, setting)
        if self._background is None:
            if self._spent < _REPAYS:
                self.said = (
                    f"{self.what} are not compiled: they have taken {self._spent:.0f} s, and from {_REPAYS:.0f} s "
                    "on it pays"
                )
                return False
            try:
                self._background = _Background(*recorded(function, x, constants))
            except Exception as error:  # whatever a function that somebody wrote may raise, it can be evaluated
                self._give_up(setting, _first_line(error))
                return False
            self._say(f"{self.what} are being compiled in the background")
        ended = self._background.ended()
        if ended:
            self._give_up(setting, ended)
        return ended == ""

    def _make(
        self,
        setting: Setting,
        x: Tensor,
        plain: Plain,
        function: Compilable,
        constants: Sequence[Tensor],
    ) -> None:
        """Code, if it can be made and does the same."""
        began, name = time.perf_counter(), str(x.dtype).removeprefix("torch.")
        try:
            self._code = _loaded(function, x, constants)
            self.n_compiled += 1
            trial = x.detach()[torch.arange(max(_TRIED)) % x.shape[0]]
            expected = plain(trial)
            close = [_agree(self._run(trial[:n], constants), expected, n) for n in _TRIED]
        except Exception as error:  # of whatever kind: the function itself can be evaluated
            self._code = None
            if ran_out(error):
                raise
            self._give_up(setting, _first_line(error))
            return
        seconds = time.perf_counter() - began
        if not all(close):
            self._give_up(setting, f"compiled in {name} they come out otherwise")
        elif setting == "auto" and (share := self._share(x, constants, plain)) > _FASTER:
            self._give_up(setting, f"compiled code takes {share:.2f} of their time")
        else:
            self._say(f"{self.what} are compiled ({name}, {seconds:.0f} s)")

    def _share(self, x: Tensor, constants: Sequence[Tensor], plain: Plain) -> float:
        """Time of the code over that of the function, at these rows."""
        least = [float("inf")] * 2
        for _ in range(3):
            for which, f in enumerate((lambda x: self._run(x, constants), plain)):
                began = time.perf_counter()
                f(x)
                least[which] = min(least[which], time.perf_counter() - began)
        return least[0] / least[1]

    def _run(self, x: Tensor, constants: Sequence[Tensor]) -> tuple[Tensor, ...]:
        code, x = self._code, x.detach()
        assert code is not None
        with torch.no_grad():
            if x.shape[0] == 1:  # torch takes one row for another kind of shape
                return tuple(part[:1] for part in code(x.repeat(2, 1), *constants))
            if self.rows is None or x.shape[0] <= self.rows:
                return tuple(code(x.contiguous(), *constants))
            parts = [self._run(part, constants) for part in x.split(self.rows)]
        return tuple(map(torch.cat, zip(*parts, strict=True)))

    def refuse(self, setting: Setting, why: str) -> None:
        """There can be no code; said once."""
        if not self._given_up:
            self._give_up(setting, why)

    def _give_up(self, setting: Setting, why: str) -> None:
        self._code, self._given_up, self._background = None, True, None
        self._say(f"{self.what} are not compiled: {why}")
        if setting is True:
            warnings.warn(self.said, CompileWarning, stacklevel=4)

    def _say(self, line: str) -> None:
        self.said = line
        _LOG.info(line)


def recorded(
    function: Compilable, x: Tensor, constants: Sequence[Tensor]
) -> tuple[torch.fx.GraphModule, tuple[Tensor, ...]]:
    """What the function asks of torch, as a graph for any number of rows, and tensors as it takes them.

    Raises:
        PotentialError: if that depends on the number of rows.
        Exception: whatever the function raises when numbers are asked for.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

    x = x.detach()[torch.arange(_RECORDED) % x.shape[0]]
    shapes = ShapeEnv()
    mode = FakeTensorMode(shape_env=shapes, allow_non_fake_inputs=True)

    def fake(tensor: Tensor, first: DimDynamic) -> Tensor:
        sizes = [DimDynamic.STATIC] * tensor.ndim
        sizes[:1] = [first] * min(1, tensor.ndim)
        context: Any = StatelessSymbolicContext(dynamic_sizes=sizes)
        return mode.from_tensor(tensor, symbolic_context=context)

    rows, fixed = fake(x, DimDynamic.DYNAMIC), [fake(one, DimDynamic.STATIC) for one in constants]
    token = _RECORDING.set(True)
    try:
        with mode, torch.no_grad(), _quiet():
            graph = make_fx(lambda *tensors: function(*tensors))(rows, *fixed)
    finally:
        _RECORDING.reset(token)
    number: Any = rows.shape[0]
    if isinstance(number, int) or number.node.maybe_as_int() is not None:
        raise PotentialError("what they ask of torch depends on how many rows there are")
    return graph, (x, *constants)


def compiled_graph(graph: torch.fx.GraphModule, tensors: Sequence[Tensor]) -> Callable[..., tuple[Tensor, ...]]:
    """Code of a graph from :func:`recorded`, made or fetched by one call with the given tensors."""
    import torch._dynamo  # before anything of Inductor, which does not import without it

    x, *constants = tensors
    x = x.clone()
    torch._dynamo.mark_dynamic(x, 0)
    options: Any = {"guard_filter_fn": _kept}
    code = torch.compile(graph, fullgraph=True, options=options)
    with torch.no_grad(), _quiet():
        code(x, *constants)
    return code


def _kept(guards: Any) -> list[bool]:
    """Whether a call looks at what is guarded: shapes and dtypes, and not the number of threads, nor the rest."""
    return [guard.guard_type in ("TENSOR_MATCH", "SHAPE_ENV") for guard in guards]


def _loaded(function: Compilable, x: Tensor, constants: Sequence[Tensor]) -> Callable[..., tuple[Tensor, ...]]:
    """Code of a function. Of several processes that want the same one makes it, and the others read it."""
    graph, tensors = recorded(function, x, constants)
    with _alone(graph, tensors):
        return compiled_graph(graph, tensors)


@contextlib.contextmanager
def _alone(graph: torch.fx.GraphModule, tensors: Sequence[Tensor]) -> Iterator[None]:
    """No other process makes this code meanwhile."""
    import torch._dynamo  # noqa: F401  (before anything of Inductor, which does not import without it)
    from torch._inductor.runtime.cache_dir_utils import cache_dir
    from torch.utils._filelock import FileLock

    shapes = [(tuple(one.shape[1:]), str(one.dtype)) for one in tensors]
    name = hashlib.sha256(f"{graph.code}{shapes}".encode()).hexdigest()[:16]
    folder = Path(cache_dir())
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"torchscape-{name}.lock"):
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch warns of while it records and compiles, of which none is for the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _Background:
    """A process that compiles a graph into the cache on disk, with less priority than this one."""

    def __init__(self, graph: torch.fx.GraphModule, tensors: Sequence[Tensor]) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  (closed when the process ends)
        path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "torchscape.potentials.compiling"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            process_group=0,
            env={**os.environ, "PYTHONPATH": path, "TORCHINDUCTOR_COMPILE_THREADS": "1"},
        )
        weakref.finalize(self, _end, self._process, self._said)
        assert self._process.stdin is not None
        with self._process.stdin as to:
            pickle.dump((graph, tuple(tensors), torch.get_num_threads(), _NICE), to)

    def ended(self) -> str | None:
        """None while it runs; then what went wrong, or nothing."""
        status = self._process.poll()
        if status is None or status == 0:
            return None if status is None else ""
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"the process that compiled has ended with status {status}"


def _end(process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
    said.close()
    process.kill()
    process.wait()


def _agree(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...], n: int) -> bool:
    """Whether the first n rows are the same to rounding, in units of the largest number of each."""
    a, b = (torch.cat([one[:n].reshape(n, -1) for one in some], 1) for some in (ours, theirs))
    scale = b.abs().nan_to_num(posinf=0.0).amax(1, keepdim=True)
    close = ((a - b).abs() <= _CLOSE[a.dtype] * scale) | (a == b) | (a.isnan() & b.isnan())
    return bool(close.all())


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
