#!/usr/bin/env python3
"""Log-determinants at 7960 coordinates: what an error of 1 costs, beside the same by another hand.

    scripts/bench/determinants.py --mnist FILE     # 784-10-10, l2 = 0.01 and 0.001, some minutes of CPU
    scripts/bench/determinants.py --l2 0.01        # one of them
    scripts/bench/determinants.py --exact          # beside NumPy's, of the same Hessian
    scripts/bench/determinants.py --json FILE      # also write the figures, with machine, versions and date

At a minimum to which a random start is quenched, which is not counted: seconds of wall and CPU time of
``log_determinant(max_error=1)``, with memory for a factorisation and without, Hessian-vector products, the value
and the error that it says. With ``--exact`` the Hessian is formed and given to ``numpy.linalg.slogdet``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from _record import record

import torchscape as tsc
from torchscape import problems
from torchscape.potentials.counted import Metered
from torchscape.saddles import log_determinant


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", help="images; default: where problems.mnist looks")
    parser.add_argument("--l2", type=float, nargs="+", default=[0.01, 0.001])
    parser.add_argument("--max-error", type=float, default=1.0)
    parser.add_argument("--exact", action="store_true", help="beside numpy.linalg.slogdet")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for l2 in args.l2:
        u = Metered(problems.get("mnist", data=args.mnist, l2=l2).potential)
        x = tsc.relax(u, u.sample(1, seed=0)).x
        row: dict[str, Any] = {"l2": l2, "coordinates": u.ndim}
        for way, max_bytes in (("as memory allows", None), ("sampled", 0)):
            before = u.n_hvps
            found, wall, cpu = timed(
                lambda u=u, x=x, most=max_bytes: log_determinant(u, x, max_error=args.max_error, max_bytes=most)
            )
            value, error = float(found.value), float(found.error)
            row[way] = {"value": value, "error": error, "wall": wall, "cpu": cpu, "hvps": u.n_hvps - before}
            print(f"l2 {l2:g}, {way}: {value:.3f} +- {error:.2g}, wall {wall:.1f} s, CPU {cpu:.1f} s", flush=True)
        if args.exact:
            h = u.hessian(x)[0].numpy()
            (sign, value), wall, cpu = timed(lambda h=h: np.linalg.slogdet(h))
            row["numpy"] = {"sign": float(sign), "value": float(value), "wall": wall, "cpu": cpu}
            print(f"l2 {l2:g}, numpy: {value:.3f}, wall {wall:.1f} s, CPU {cpu:.1f} s without the Hessian")
        rows.append(row)
    if args.json:
        record(args.json, rows=rows, max_error=args.max_error)


if __name__ == "__main__":
    main()
