"""Messages between an exploration and its workers: whole objects over a socket, and what can be sent."""

from __future__ import annotations

import contextlib
import io
import pickle
import sys
import sysconfig
from contextvars import ContextVar
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import torch

from torchscape.devices import HOST, is_host
from torchscape.errors import TorchscapeError
from torchscape.transfer import as_bytes
from torchscape.types import Tensor

__all__ = [
    "Channel",
    "Closed",
    "check_versions",
    "packed",
    "receive",
    "register_scripts",
    "send",
    "unpacked",
    "versions",
]


@runtime_checkable
class Channel(Protocol):
    """A connection of :mod:`multiprocessing`, or what stands for one."""

    def send_bytes(self, buf: bytes, /) -> None: ...

    def recv_bytes(self) -> bytes: ...


class Closed(Exception):
    """The other side is gone."""


def packed(message: object, what: str, *, compact: bool = False) -> bytes:
    """An object as bytes for another process: by ``cloudpickle`` where it is installed, else by ``pickle``.

    Tensors of a device travel as those of the host, and say where they were.

    Args:
        message: anything.
        what: it is, for the error.
        compact: of tensors, send the numbers that they show and no others of their memory; equal messages are
            equal bytes then.

    Raises:
        TorchscapeError: if it cannot be sent.
    """
    try:
        from cloudpickle import CloudPickler as Pickler

        remedy = "define it in a module"
    except ImportError:
        from pickle import Pickler

        remedy = "install cloudpickle"

    class Packer(Pickler):  # type: ignore[misc]  # one of a library without types
        def reducer_override(self, one: Any) -> Any:
            if isinstance(one, torch.device):
                return _device, (str(one),)
            if type(one) in (Tensor, torch.nn.Parameter) and not is_host(one.device) and one.grad_fn is None:
                there = (str(one.device), type(one) is torch.nn.Parameter, one.requires_grad)
                return _tensor, (one.detach().to(HOST), *there)
            if compact and type(one) is Tensor and is_host(one.device) and not _is_special(one):
                data = as_bytes(one).numpy().tobytes()
                return _numbers, (data, one.dtype, tuple(one.shape))
            override = getattr(super(), "reducer_override", None)
            return NotImplemented if override is None else override(one)

    data = io.BytesIO()
    try:
        Packer(data).dump(message)
    except Exception as error:
        raise TorchscapeError(f"{what} cannot be sent to another process ({error}): {remedy}") from error
    return data.getvalue()


def unpacked(data: bytes, device: str | None = None) -> Any:
    """What was packed; what lay on a device lies on ``device`` then, if one is given."""
    token = _here.set(device)
    try:
        return pickle.loads(data)
    finally:
        _here.reset(token)


_here: ContextVar[str | None] = ContextVar("here", default=None)


def _device(name: str) -> torch.device:
    here = _here.get()
    return torch.device(name if here is None or is_host(name) else here)


def _is_special(one: Tensor) -> bool:
    """Whether its numbers are not all that there is to it."""
    return one.requires_grad or one.layout is not torch.strided or one.is_conj() or one.is_neg() or not one.numel()


def _numbers(data: bytes, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).view(dtype).reshape(shape)


def _tensor(values: Tensor, name: str, is_parameter: bool, requires_grad: bool) -> Tensor:
    values = values.to(_device(name))
    if is_parameter:
        return torch.nn.Parameter(values, requires_grad)
    return values.requires_grad_(requires_grad)


def versions() -> dict[str, str]:
    """Of what decides whether two machines understand each other, and find the same."""
    return {"torchscape": _version(), "torch": torch.__version__.partition("+")[0]}


def check_versions(its: dict[str, str]) -> None:
    """A worker on another machine may have other packages.

    Raises:
        TorchscapeError: if so.
    """
    mine = versions()
    if other := [name for name, version in mine.items() if its.get(name) != version]:
        told = ", ".join(f"{name} {its.get(name)} there, {mine[name]} here" for name in other)
        raise TorchscapeError(f"a worker runs other versions ({told}): install the same on all machines")


def _version() -> str:
    with contextlib.suppress(PackageNotFoundError):  # run from its source
        return version("torchscape")
    return "(not installed)"


def register_scripts() -> None:
    """What was defined in a script, or another file that its name does not lead to, travels with its code."""
    with contextlib.suppress(ImportError):
        import cloudpickle

        for module in _unknown_elsewhere():
            cloudpickle.register_pickle_by_value(module)


def _unknown_elsewhere() -> list[ModuleType]:
    """Modules that were loaded from a file which their name does not lead to, as a user's script is."""
    installed = [
        Path(folder).resolve() for folder in (*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix)
    ]
    unknown = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is None or "." in name or name.startswith("_"):
            continue
        path = Path(file).resolve()
        if any(path.is_relative_to(folder) for folder in installed):
            continue
        if not any(_leads_to(finder, name, path) for finder in sys.meta_path):
            unknown.append(module)
    return unknown


def _leads_to(finder: Any, name: str, path: Path) -> bool:
    """Whether this importer finds that file under the name."""
    try:
        found = finder.find_spec(name, None)
    except (AttributeError, ImportError, ValueError):
        return False
    return found is not None and found.origin is not None and Path(found.origin).resolve() == path


def send(connection: Channel, data: bytes) -> None:
    """Bytes of an object, as :func:`packed` makes them.

    Raises:
        Closed: if the other end does not listen.
    """
    try:
        connection.send_bytes(data)
    except (BrokenPipeError, ConnectionResetError, OSError) as error:
        raise Closed from error


def receive(connection: Channel) -> Any:
    """The next object.

    Raises:
        Closed: if the other end will send none.
    """
    try:
        data = connection.recv_bytes()
    except (EOFError, ConnectionResetError, OSError) as error:
        raise Closed from error
    return pickle.loads(data)
