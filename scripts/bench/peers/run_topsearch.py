"""topsearch 0.0.3 on one problem: run by compare.py with the Python of the peers' environment.

Minima: topsearch's BasinHopping with its StandardPerturbation. Transition states: topsearch's NetworkSampling, one
connection attempt (nudged elastic band, hybrid eigenvector-following, both downhill paths) for one pair of minima
after the other.
topsearch is given: energy and analytic gradient (NumPy) instead of its finite differences, the box, the tolerance.
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings

import numpy as np
from counted import Counted
from functions import load
from topsearch.data.coordinates import StandardCoordinates
from topsearch.data.kinetic_transition_network import KineticTransitionNetwork
from topsearch.global_optimisation.basin_hopping import BasinHopping
from topsearch.global_optimisation.perturbations import StandardPerturbation
from topsearch.minimisation import lbfgs
from topsearch.potentials.potential import Potential
from topsearch.sampling.exploration import NetworkSampling
from topsearch.similarity.similarity import StandardSimilarity
from topsearch.transition_states.hybrid_eigenvector_following import HybridEigenvectorFollowing
from topsearch.transition_states.nudged_elastic_band import NudgedElasticBand
from tracing import Trace, arguments

logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")


class Function(Potential):
    def __init__(self, function: Counted) -> None:
        super().__init__()
        self.f = function

    def function(self, position):
        return self.f(position)[0]

    def gradient(self, position, displacement=None):
        return self.f(position)[1]

    def function_gradient(self, position):
        return self.f(position)


class Recorded(KineticTransitionNetwork):
    """topsearch's network, which says when a minimum is added."""

    trace: Trace | None = None

    def add_minimum(self, min_coords, energy):
        super().add_minimum(min_coords, energy)
        if self.trace is not None:
            self.trace.note(min_coords)


def minima(
    potential, coords, network, similarity, settings: dict, trace: Trace, seconds: float, tol: float
) -> int:
    """Basin-hopping until the time is over; the number of hops."""
    steps = StandardPerturbation(settings["step"], proportional_distance=settings["proportional"])
    hopping = BasinHopping(network, potential, similarity, steps)
    network.trace = trace
    n = 0
    while trace.seconds < seconds:
        hopping.run(coords, n_steps=settings["hops"], conv_crit=tol, temperature=settings["temperature"])
        if settings["restart"]:
            coords.position = potential.f.function.start(np.random)
        n += settings["hops"] + 1
    return n


def saddles(
    potential, coords, network, similarity, settings: dict, trace: Trace, seconds: float, tol: float, a, b
):
    """Pairs until the time or the list is over; their number."""
    follow = HybridEigenvectorFollowing(
        potential,
        tol,
        settings["ts_steps"],
        settings["pushoff"],
        steepest_descent_conv_crit=tol,
        **settings["follow"],
    )
    band = NudgedElasticBand(potential, **settings["band"])
    sampling = NetworkSampling(network, coords, None, follow, band, similarity)
    for x in (*a, *b):
        network.add_minimum(x, potential.function(x))
    n = 0
    for i in range(len(a)):
        if trace.seconds > seconds:
            break
        n += 1
        for ts, *rest in sampling.connection_attempt([i, len(a) + i]) or []:
            trace.note(ts)  # its network keeps only one per pair of minima
            coords.position = ts
            similarity.test_new_ts(network, coords, *rest[:5])
    return n


def main() -> None:
    asked = arguments()
    np.random.seed(asked.seed)  # noqa: NPY002 (topsearch draws from it)
    function = Counted(load(asked.problem), asked.gradients)
    f = function.function
    settings = dict(asked.settings)
    if "lbfgs" in settings:  # its memory and its limit of steps are defaults of a function that nothing passes on
        _, *rest = lbfgs.minimise.__defaults__
        lbfgs.minimise.__defaults__ = (
            asked.tol,
            settings["lbfgs"]["memory"],
            settings["lbfgs"]["steps"],
            *rest[2:],
        )
    os.chdir(tempfile.mkdtemp())  # it writes a log file
    potential, network = Function(function), Recorded()
    coords = StandardCoordinates(f.ndim, list(zip(f.lower.tolist(), f.upper.tolist(), strict=True)))
    coords.position = f.start(np.random)
    similarity = StandardSimilarity(0.1 * f.length, 1e-6)
    trace = Trace(f.ndim)
    if asked.phase == "minima":
        n = minima(potential, coords, network, similarity, settings, trace, asked.seconds, asked.tol)
    else:
        with np.load(asked.given) as given:
            a, b = given["a"], given["b"]
        n = saddles(potential, coords, network, similarity, settings, trace, asked.seconds, asked.tol, a, b)
    trace.save(asked.out, tries=n, gradients=function.n)


if __name__ == "__main__":
    main()
