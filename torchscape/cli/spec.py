"""From SPEC, the words that say what to explore, to a potential."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from torchscape import devices, problems
from torchscape.errors import TorchscapeError, UnknownName
from torchscape.potentials import Potential

__all__ = ["Chosen", "choose", "named_in_file"]


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A potential, and how its author suggests to explore it."""

    potential: Potential
    suggested: Mapping[str, Any]


def choose(spec: str, *, device: str | None = None, dtype: str | None = None) -> Chosen:
    """The potential that ``spec`` names: ``FILE.py:NAME``, or a problem such as ``schwefel:ndim=3``.

    Args:
        spec: what to explore.
        device, dtype: what it must be on and in; None leaves that to the potential.

    Raises:
        UnknownName: for a name that neither the problems nor the file know.
        TorchscapeError: when the file cannot be run, gives something else than a potential, or does not
            give one of the device or dtype asked for.
    """
    wanted: dict[str, Any] = {}
    if device is not None:
        wanted["device"] = devices.find(device)
    if dtype is not None:
        wanted["dtype"] = getattr(torch, dtype)
    path, _, name = spec.rpartition(":") if ".py:" in spec else (spec, "", "")
    if path.endswith(".py"):
        return Chosen(_from_file(Path(path), name, wanted), {})
    try:
        problem = problems.parse(spec, **wanted)
    except (TypeError, ValueError) as error:
        if isinstance(error, TorchscapeError):
            raise
        raise TorchscapeError(
            f"{spec} cannot be built: {error}; 'torchscape problems' lists the options"
        ) from error
    return Chosen(problem.potential, problem.suggested)


def _from_file(path: Path, name: str, wanted: dict[str, Any]) -> Potential:
    where = f"{path}:{name}" if name else str(path)
    module = _run_file(path)
    public = [
        key for key, value in vars(module).items() if not key.startswith("_") and _may_be_potential(value, module)
    ]
    if not name:
        raise TorchscapeError(
            f"say which potential of {path}: {path}:NAME; it defines {', '.join(public) or 'none that would do'}"
        )
    if not hasattr(module, name):
        raise UnknownName.of(f"name in {path}:", name, public)
    found = getattr(module, name)
    if callable(found) and not isinstance(found, Potential):
        found = _build(found, path, where, wanted)
    if not isinstance(found, Potential):
        raise TorchscapeError(
            f"{where} is a {type(found).__name__}, not a Potential or a function that returns one: "
            "wrap the model, as in torchscape.ModulePotential(model, data, loss)"
        )
    for key, value in wanted.items():
        has = getattr(found, key)
        if has != value and not (key == "device" and (has.type, value.index) == (value.type, None)):
            raise TorchscapeError(
                f"{where} was built with {key}={has}, not {value}: let {name} be a function that takes {key}="
            )
    return found


def named_in_file(spec: str) -> object:
    """What a Python file calls by a name: ``FILE.py:NAME``.

    Raises:
        UnknownName: for a name that it does not define.
        TorchscapeError: where there is no such file, or it cannot be run.
    """
    path, _, name = spec.rpartition(":")
    module = _run_file(Path(path))
    if not hasattr(module, name):
        raise UnknownName.of(f"name in {path}:", name, [key for key in vars(module) if not key.startswith("_")])
    return getattr(module, name)


def _run_file(path: Path) -> ModuleType:
    """The file as a module; the folder it lies in can be imported from, as when Python runs it."""
    if not path.is_file():
        raise TorchscapeError(f"there is no file {path}: check the path")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise TorchscapeError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except TorchscapeError:
        raise
    except (Exception, SystemExit) as error:
        raise TorchscapeError(f"{path} cannot be run: {_story(error, path)}") from error
    return module


def _build(function, path: Path, where: str, wanted: dict[str, Any]) -> object:
    """Call a function of the user's, with what was asked for as far as it takes it."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a callable that does not say what it takes
        parameters = []
    names = {p.name for p in parameters}
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
    required = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name not in wanted
    ]
    if required:
        raise TorchscapeError(
            f"{where} needs {', '.join(required)}: give every parameter a default "
            "(device and dtype are passed when the command line names them)"
        )
    passed = {key: value for key, value in wanted.items() if anything or key in names}
    try:
        return function(**passed)
    except TorchscapeError:
        raise
    except Exception as error:
        raise TorchscapeError(f"{where} failed: {_story(error, path)}") from error


def _story(error: BaseException, path: Path) -> str:
    """What went wrong, and the last line of the user's file on the way there."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
    return f"{type(error).__name__}: {error}" + (f" (line {own[-1]})" if own else "")


def _may_be_potential(value: object, module: ModuleType) -> bool:
    if isinstance(value, Potential):
        return True
    return inspect.isfunction(value) and value.__module__ == module.__name__
