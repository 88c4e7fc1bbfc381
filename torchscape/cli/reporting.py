"""The command that writes a landscape as one page to click through."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from torchscape import report as room
from torchscape.cli import others
from torchscape.cli.spec import choose, named_in_file
from torchscape.errors import TorchscapeError
from torchscape.landscape import Landscape
from torchscape.types import Tensor

__all__ = ["report"]


def report(arguments: argparse.Namespace) -> int:
    """Write a landscape, or what another program has left, as one page to click through."""
    potential = None if arguments.potential is None else choose(arguments.potential).potential
    said = {name: getattr(arguments, name) for name in ("lowest", "title", "unit")}
    options: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    options |= {"held_out": _held_out(arguments.held_out), "temperatures": arguments.temperature}
    if others.is_foreign(arguments.db):
        options = {"title": Path(arguments.db).resolve().name, **options}
        network = others.read(arguments, by_energy=False)
        print(room.write(network, arguments.output, potential, **options))
        return 0
    if arguments.modes is not None:
        raise TorchscapeError(f"--modes: {arguments.db} is a landscape, which knows its modes: leave it out")
    with Landscape.open(arguments.db, create=False) as landscape:
        print(room.write(landscape, arguments.output, potential, **options))
    return 0


def _held_out(spec: str | None) -> Sequence[Tensor] | None:
    """What a file names; whether it is (inputs, targets) is asked where it is used."""
    if spec is None:
        return None
    if ".py:" not in spec:
        raise TorchscapeError(f"--held-out {spec}: write FILE.py:NAME, where NAME is (inputs, targets)")
    return cast("Sequence[Tensor]", named_in_file(spec))
