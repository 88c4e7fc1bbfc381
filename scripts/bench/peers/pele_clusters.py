"""pele 0.1.2 on a Lennard-Jones cluster: run by clusters.py with the Python of the peers' environment.

hit    its basin-hopping as shipped (``LJCluster.get_basinhopping``), until its database holds the global minimum;
rate   its L-BFGS as shipped (C++), from random starts: seconds and evaluations of all quenches together.

Prints one line of JSON. Seconds are CPU seconds of the process; imports, and one quench before, are not in them.
"""

from __future__ import annotations

import argparse
import json
import logging
import time

import numpy as np
from pele.systems import LJCluster

logging.disable(logging.CRITICAL)


def hit(system: LJCluster, energy: float, most: float) -> dict:
    database = system.create_database()
    began = time.process_time()
    hopping = system.get_basinhopping(database=database, outstream=None)
    hops = 0
    lowest = np.inf
    while lowest > energy and time.process_time() - began < most:
        hopping.run(1)
        hops += 1
        lowest = database.minima()[0].energy
    return {"seconds": time.process_time() - began, "quenches": hops, "hit": bool(lowest <= energy)}


def rate(system: LJCluster, quenches: int) -> dict:
    quench = system.get_minimizer()
    starts = [system.get_random_configuration() for _ in range(quenches)]
    began = time.process_time()
    evaluations = sum(quench(start).nfev for start in starts)
    return {"seconds": time.process_time() - began, "evaluations": int(evaluations)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("hit", "rate"))
    parser.add_argument("atoms", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--energy", type=float, default=0.0, help="as low as this is a hit")
    parser.add_argument("--most", type=float, default=120.0, help="seconds after which to give up")
    parser.add_argument("--quenches", type=int, default=640)
    asked = parser.parse_args()
    np.random.seed(asked.seed)  # noqa: NPY002 (pele draws from it)
    system = LJCluster(asked.atoms)
    system.get_minimizer()(system.get_random_configuration())
    if asked.what == "hit":
        print(json.dumps(hit(system, asked.energy, asked.most)))
    else:
        print(json.dumps(rate(system, asked.quenches)))


if __name__ == "__main__":
    main()
