"""pele 0.1.2 on one problem: run by compare.py with the Python of the peers' environment.

Minima: quenches from random starts with pele's C++ L-BFGS, each minimum offered to pele's database. (Its
basin-hopping was tried, with several steps and temperatures, and finds fewer per second: walks leave the box.)
Transition states: pele's LocalConnect (doubly-nudged elastic band, hybrid eigenvector-following, both downhill
paths) for one pair of minima after the other.
pele is given: energy and analytic gradient (NumPy), no zero modes, the Euclidean distance, the tolerance.
"""

from __future__ import annotations

import contextlib
import logging

import numpy as np
from counted import Counted
from functions import load
from pele.landscape import LocalConnect
from pele.optimize.optimization_exceptions import LineSearchError
from pele.potentials import BasePotential
from pele.systems import BaseSystem
from tracing import Trace, arguments

logging.disable(logging.CRITICAL)


class Function(BasePotential):
    def __init__(self, function: Counted) -> None:
        self.function = function

    def getEnergy(self, coords):
        return self.function(coords)[0]

    def getEnergyGradient(self, coords):
        return self.function(coords)


class System(BaseSystem):
    def __init__(self, function: Counted, tol: float, quench: dict, neb: dict, search: dict) -> None:
        super().__init__()
        self.function, self.pot = function.function, Function(function)
        self.params.structural_quench_params.update(tol=tol, nsteps=20_000, **quench)
        self.params.database.accuracy = 1e-6
        local = self.params.double_ended_connect.local_connect_params
        local.NEBparams.update(neb)
        local.tsSearchParams.update(tol=tol, orthogZeroEigs=None, verbosity=0, **search)
        local.pushoff_params.update(quench=self.get_minimizer())

    def get_potential(self):
        return self.pot

    def get_random_configuration(self):
        return self.function.start(np.random)

    def get_compare_exact(self):
        return lambda a, b: np.linalg.norm(a - b) < 0.1 * self.function.length

    def get_mindist(self):
        return lambda a, b: (np.linalg.norm(a - b), a, b)

    def inside(self, x):
        f = self.function
        return not f.box or bool(((x > f.lower) & (x < f.upper)).all())


def minima(system: System, trace: Trace, seconds: float) -> int:
    """Quenches until the time is over; their number."""
    database, quench = system.create_database(), system.get_minimizer()
    n, known = 0, 0
    while trace.seconds < seconds:
        found = quench(system.get_random_configuration())
        n += 1
        if found.success and system.inside(found.coords):
            minimum = database.addMinimum(found.energy, found.coords)
            if minimum.id() > known:
                known = minimum.id()
                trace.note(found.coords)
    return n


def saddles(system: System, trace: Trace, seconds: float, a: np.ndarray, b: np.ndarray) -> int:
    """Pairs until the time or the list is over; their number."""
    database = system.create_database()
    local = system.params.double_ended_connect.local_connect_params
    ends = [[database.addMinimum(system.pot.getEnergy(x), x) for x in side] for side in (a, b)]
    known: set[int] = set()
    n = 0
    for one, other in zip(*ends, strict=True):
        if trace.seconds > seconds:
            break
        n += 1
        search = LocalConnect(system.pot, system.get_mindist(), verbosity=0, **local)
        with contextlib.suppress(LineSearchError):  # it gives this pair up; what it had found until then counts
            search.connect(one, other)
        for ts, plus, minus in search.res.new_transition_states:
            if ts.success and system.inside(ts.coords):
                sides = [database.addMinimum(end.energy, end.coords) for end in (plus, minus)]
                stored = database.addTransitionState(ts.energy, ts.coords, *sides)
                if stored.id() not in known:
                    known.add(stored.id())
                    trace.note(ts.coords)
    return n


def main() -> None:
    asked = arguments()
    np.random.seed(asked.seed)  # noqa: NPY002 (pele draws from it)
    function = Counted(load(asked.problem), asked.gradients)
    settings = {"quench": {}, "neb": {}, "search": {}} | asked.settings
    system = System(function, asked.tol, **settings)
    trace = Trace(function.function.ndim)
    if asked.phase == "minima":
        n = minima(system, trace, asked.seconds)
    else:
        with np.load(asked.given) as given:
            n = saddles(system, trace, asked.seconds, given["a"], given["b"])
    trace.save(asked.out, tries=n, gradients=function.n)


if __name__ == "__main__":
    main()
