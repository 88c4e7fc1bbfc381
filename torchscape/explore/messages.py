"""Messages between an exploration and its workers: whole objects over a socket, and what can be sent."""

from __future__ import annotations

import contextlib
import pickle
import sys
import sysconfig
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

from torchscape.errors import TorchscapeError

__all__ = ["Closed", "packed", "receive", "register_scripts", "send"]


class Closed(Exception):
    """The other side is gone."""


def packed(message: object, what: str) -> bytes:
    """An object as bytes for another process: by ``cloudpickle`` where it is installed, else by ``pickle``.

    Args:
        message: anything.
        what: it is, for the error.

    Raises:
        TorchscapeError: if it cannot be sent.
    """
    try:
        import cloudpickle
    except ImportError:
        cloudpickle = None
    try:
        if cloudpickle is None:
            return pickle.dumps(message)
        sent: bytes = cloudpickle.dumps(message)
    except Exception as error:
        remedy = "install cloudpickle" if cloudpickle is None else "define it in a module"
        raise TorchscapeError(f"{what} cannot be sent to another process ({error}): {remedy}") from error
    return sent


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


def send(connection: Connection, data: bytes) -> None:
    """Bytes of an object, as :func:`packed` makes them.

    Raises:
        Closed: if the other end does not listen.
    """
    try:
        connection.send_bytes(data)
    except (BrokenPipeError, ConnectionResetError, OSError) as error:
        raise Closed from error


def receive(connection: Connection) -> Any:
    """The next object.

    Raises:
        Closed: if the other end will send none.
    """
    try:
        data = connection.recv_bytes()
    except (EOFError, ConnectionResetError, OSError) as error:
        raise Closed from error
    return pickle.loads(data)
