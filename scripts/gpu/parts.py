"""The parts of the check: what each runs, and how long it may take."""

from __future__ import annotations

import dataclasses
import sys

__all__ = ["LEFT_OUT", "PARTS", "Part"]

PYTHON = sys.executable
LEFT_OUT = 77  # a part ends with this status where something that it needs is missing


@dataclasses.dataclass(frozen=True)
class Part:
    """A command with a time box; it writes what it found as JSON and may be cut short.

    Attributes:
        name: also of its file, ``{name}_cuda.json``.
        shows: what it is for.
        seconds: it is stopped after this long.
        command: with ``{device}`` and ``{json}`` to be filled in.
        rehearsal: the same in small; None for a benchmark that runs on a CPU as it is.
    """

    name: str
    shows: str
    seconds: int
    command: list[str]
    rehearsal: list[str] | None = None

    def argv(self, device: str, json: str, *, rehearsal: bool) -> list[str] | None:
        command = self.rehearsal if rehearsal else self.command
        return command and [word.format(device=device, json=json) for word in command]


def _own(name: str, shows: str, seconds: int) -> Part:
    command = [PYTHON, "-m", f"gpu.{name}", "--device", "{device}", "--json", "{json}"]
    return Part(name, shows, seconds, command, [*command, "--small"])


def _bench(name: str, shows: str, seconds: int, *arguments: str, rehearsal: tuple[str, ...] | None = None) -> Part:
    command = [
        PYTHON,
        f"scripts/bench/{name.removesuffix('_quick')}.py",
        "--device",
        "{device}",
        "--json",
        "{json}",
    ]
    return Part(
        name, shows, seconds, [*command, *arguments], None if rehearsal is None else [*command, *rehearsal]
    )


# In the order of their worth: when time runs out, the last are left out.
PARTS = [
    _own("smoke", "one gradient, one quench, one eigenvalue: whether anything works at all", 60),
    _own("tests", "every test that is parametrised over devices", 150),
    _own("explorations", "digits and a convolutional network, beside the CPU: minima, questions, time", 130),
    _own(
        "steps",
        "what a step costs over its gradient, as ever and replayed, kernels, float32 against float64",
        90,
    ),
    _own("memory", "peak memory, and out-of-memory errors of the device: rows halved, nothing lost", 40),
    _bench("minimise_quick", "evaluations and time per quench, the optimiser's share", 90, "--quick"),
    _bench(
        "saddles",
        "time per verified transition state",
        60,
        *("--quick", "--only", "digits"),
        rehearsal=("--quick", "--only", "himmelblau"),
    ),
    _bench("sampling", "samplers over their gradients, steps per second against chains", 60, "--quick"),
    _bench("matching", "looking minima up among many", 45),
]
