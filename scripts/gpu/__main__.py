"""Runs the parts one after the other, each in a process of its own, within the time there is."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from gpu.parts import LEFT_OUT, PARTS, Part
from gpu.table import write_table

ROOT = Path(__file__).parents[2]
_LEAST = 15  # seconds: with less, a part is not begun


@dataclasses.dataclass(frozen=True)
class Ran:
    """What became of a part."""

    part: str
    verdict: str  # "passed", "failed", "out of time", "left out"
    seconds: float
    detail: str = ""


def run(part: Part, device: str, folder: Path, seconds: float, *, rehearsal: bool) -> Ran:
    """One part, stopped after ``seconds``. What it prints goes into a log beside the screen."""
    argv = part.argv(device, str(target := folder / f"{part.name}_cuda.json"), rehearsal=rehearsal)
    if argv is None:
        return Ran(part.name, "left out", 0.0, "a benchmark that runs on a CPU without a rehearsal")
    log = folder / f"{part.name}.log"
    target.unlink(missing_ok=True)
    began = time.monotonic()
    with log.open("w") as out:
        try:
            ended = subprocess.run(
                argv,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
                cwd=ROOT,
            ).returncode
            verdict = {0: "passed", LEFT_OUT: "left out"}.get(ended, "failed")
        except subprocess.TimeoutExpired:
            verdict = "out of time"
    last = log.read_text(errors="replace").strip().splitlines()[-1:]
    said = last[0] if last else "it printed nothing"
    detail = {"passed": "", "left out": said}.get(verdict, f"{said} (see {log})")
    if verdict in ("passed", "left out"):
        log.unlink()
    return Ran(part.name, verdict, round(time.monotonic() - began, 1), detail)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/gpu_check", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=[part.name for part in PARTS], help="this part (repeatable)"
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="in all (default 8)")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks", help="folder for the results")
    parser.add_argument("--rehearse", type=Path, metavar="DIR", help="in small, on the CPU, into DIR")
    parser.add_argument("--list", action="store_true", help="name the parts and end")
    args = parser.parse_args()
    if args.list:
        for part in PARTS:
            print(f"{part.name:16}{part.seconds:>4} s  {part.shows}")
        return 0
    device, folder = ("cpu", args.rehearse) if args.rehearse else ("cuda", args.out)
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["PYTHONUNBUFFERED"] = "1"
    parts = [part for part in PARTS if args.only is None or part.name in args.only]
    patience = 10 if args.rehearse else 1  # nothing is learnt from how long a rehearsal takes
    end = time.monotonic() + 60 * args.minutes * patience
    results = []
    for part in parts:
        left = end - time.monotonic()
        if left < _LEAST:
            ran = Ran(part.name, "left out", 0.0, f"{left:.0f} s were left; run it alone: --only {part.name}")
        else:
            print(f"{part.name}: {part.shows} ...", flush=True)
            ran = run(
                part, device, folder, min(patience * part.seconds, left), rehearsal=args.rehearse is not None
            )
        print(f"  {ran.verdict} after {ran.seconds:.0f} s {ran.detail}", flush=True)
        results.append(ran)
    summary = {"device": device, "parts": [dataclasses.asdict(ran) for ran in results]}
    (folder / "gpu_check_cuda.json").write_text(json.dumps(summary, indent=1) + "\n")
    table = folder / "gpu_check.md"
    write_table(folder, table)
    print(f"\n{table.read_text()}\nwrote {table}")
    return int(any(ran.verdict in ("failed", "out of time") for ran in results))


if __name__ == "__main__":
    sys.exit(main())
