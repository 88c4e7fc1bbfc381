"""Do limits hold, and is what has ended kept? Seconds asked and seconds taken, and what the file holds then.

Each case is explored into a file of its own: once with a time limit, once with Ctrl-C after as many seconds, and
then killed again and again, with what each life has added. For instance:

    python scripts/bench/limits.py
    python scripts/bench/limits.py digits --lives 3 --every 20
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from torchscape import Landscape

MODELS = '''
import torch
import torchscape as tsc

def _images(n, features, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (n,), generator=generator)
    centres = torch.randn(10, features, generator=generator)
    x = centres[labels] + 2 * torch.randn(n, features, generator=generator)
    return x.double(), labels

def wide(n=1000, features=784, hidden=10):
    """A network of 784-10-10, 7960 coordinates, on points around ten centres."""
    model = torch.nn.Sequential(torch.nn.Linear(features, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, 10))
    x, y = _images(n, features)
    return tsc.ModulePotential(model.double(), (x, y), torch.nn.CrossEntropyLoss(), l2=1e-3)

def large():
    """A network of 97 000 coordinates."""
    return wide(n=200, features=784, hidden=122)

class Recurrent(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.out = torch.nn.GRU(4, 8, batch_first=True), torch.nn.Linear(8, 2)

    def forward(self, x):
        return self.out(self.cell(x)[0][:, -1])

def gru(n=200, steps=20):
    """A recurrent network: does the mean of the first feature exceed that of the second?"""
    x = torch.randn(n, steps, 4, generator=torch.Generator().manual_seed(1)).double()
    y = (x[..., 0].mean(1) > x[..., 1].mean(1)).long()
    return tsc.ModulePotential(Recurrent().double(), (x, y), torch.nn.CrossEntropyLoss(), l2=1e-3)
'''

DRIVER = """
import json, sys
from torchscape.cli.spec import choose
import torchscape as tsc

spec, db, seconds, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4])
potential = choose(spec, device=None, dtype=None).potential
with tsc.Landscape.open(db, potential) as landscape:
    print("begun", flush=True)
    strategies = [tsc.BasinHopping(**options), tsc.ConnectMinima()]
    budget = tsc.Budget(seconds=seconds)
    tsc.explore(landscape, potential, strategies=strategies, budget=budget, progress=False, check=False)
print("ended", flush=True)
"""

CASES = {
    "digits": ("digits:hidden=30,n_train=1700", 5.0, {}),
    "wide": ("{models}:wide", 20.0, {}),
    "gru": ("{models}:gru", 30.0, {}),
    "curvatures": ("{models}:large", 20.0, {"walkers": 1, "hops": 0, "tol": 1e-2}),
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a process has left."""

    seconds: float
    code: int
    status: str
    minima: int
    transition_states: int
    tasks: int
    unfinished: dict[str, int]
    evaluations: int  # of the rows that still ran
    megabytes: float

    def __str__(self) -> str:
        kept = ", ".join(f"{n} {what}" for what, n in self.unfinished.items()) or "nothing"
        return (
            f"{self.seconds:6.1f} s, exit {self.code}, {self.status}: {self.tasks} tasks, {self.minima} minima, "
            f"{self.transition_states} transition states; kept of an unfinished round: {kept} "
            f"({self.evaluations} evaluations so far); "
            f"{self.megabytes:.0f} MB"
        )


def run(
    case: tuple[str, dict[str, float]], db: Path, *, limit: float | None = None, kill: int | None = None, after=0.0
) -> Outcome:
    """Explore, with a time limit or a signal; the clock runs while ``explore`` does."""
    spec, options = case
    words = [sys.executable, "-c", DRIVER, spec, str(db), json.dumps(limit), json.dumps(options)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        program.stdout.readline()
        began = time.monotonic()
        if kill is not None:
            time.sleep(after)
            program.send_signal(kill)
        program.stdout.readline()
        seconds = time.monotonic() - began
        said = program.communicate()[1]
    if "Traceback" in said:
        print(said)
    with Landscape.open(db) as landscape:
        told = landscape.summary()
        return Outcome(
            seconds,
            program.returncode,
            landscape.runs()[-1]["status"],
            told["n_minima"],
            told["n_transition_states"],
            told["n_tasks"],
            told["unfinished"],
            sum(_spent(landscape.load_state(key)) for key in landscape.state_keys("kept:") if "running" in key),
            db.stat().st_size / 2**20,
        )


def _spent(state: dict[str, object] | None) -> int:
    spent = (state or {}).get("column:n_evaluations", (state or {}).get("column:n_steps"))
    return int(spent.sum()) if spent is not None else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cases", nargs="*", default=list(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--signals", action="store_true", help="also stop by Ctrl-C")
    parser.add_argument("--lives", type=int, default=0, help="kill so many processes")
    parser.add_argument("--every", type=float, default=20.0, help="seconds of each life")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models.py"
        models.write_text(MODELS)
        for name in arguments.cases:
            spec, seconds, options = CASES[name]
            case = (spec.format(models=models), options)
            db = [Path(folder, f"{name}{n}.db") for n in range(3)]
            done = {"asked": seconds, "limit": run(case, db[0], limit=seconds)}
            print(f"{name}: limit of {seconds:g} s  {done['limit']}", flush=True)
            if arguments.signals:
                done["ctrl-c"] = run(case, db[1], kill=signal.SIGINT, after=seconds)
                print(f"{name}: Ctrl-C after {seconds:g} s  {done['ctrl-c']}", flush=True)
            for life in range(1, arguments.lives + 1):
                lived = done[f"life {life}"] = run(case, db[2], kill=signal.SIGKILL, after=arguments.every)
                print(f"{name}: killed after {arguments.every:g} s, life {life}  {lived}", flush=True)
            figures[name] = {k: dataclasses.asdict(v) if isinstance(v, Outcome) else v for k, v in done.items()}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
