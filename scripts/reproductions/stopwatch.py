"""Time spent on an experiment, over all calls that resumed each other."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType

from torchscape.outputs import whole_file

__all__ = ["Stopwatch"]


class Stopwatch:
    """Adds the CPU and wall time of a ``with`` block to what earlier ones have spent, in a file.

    Args:
        path: the file.
        name: of the experiment.

    Attributes:
        cpu, wall: seconds in all.
        calls: how many times it ran.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        before = self._read().get(name, {})
        self.cpu, self.wall = float(before.get("cpu", 0.0)), float(before.get("wall", 0.0))
        self.calls = int(before.get("calls", 0))

    def __enter__(self) -> Stopwatch:
        self.calls += 1
        self._began = time.process_time(), time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cpu += time.process_time() - self._began[0]
        self.wall += time.monotonic() - self._began[1]
        kept = {**self._read(), self.name: {"cpu": self.cpu, "wall": self.wall, "calls": self.calls}}
        with whole_file(self.path) as beside:
            beside.write_text(json.dumps(kept, indent=1) + "\n")

    def _read(self) -> dict:
        return json.loads(self.path.read_text()) if self.path.is_file() else {}
