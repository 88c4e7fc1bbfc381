"""How fast minima are reached: rate constants, passage times, fastest paths, relaxation, metastable states."""

from torchscape.analysis.kinetics.lumping import Lumping, kinetic_lumping, slow_memberships
from torchscape.analysis.kinetics.passage import (
    NetFlux,
    RateConstants,
    committors,
    log_committors,
    log_mean_first_passage_times,
    mean_first_passage_times,
    net_flux,
    rate_constants,
)
from torchscape.analysis.kinetics.paths import FastestPath, fastest_path, fastest_paths
from torchscape.analysis.kinetics.rate_theory import Rates, rates
from torchscape.analysis.kinetics.relaxation import RelaxationSpectrum, evolve, relaxation_spectrum
from torchscape.analysis.kinetics.transformation import graph_transformation

__all__ = [
    "FastestPath",
    "Lumping",
    "NetFlux",
    "RateConstants",
    "Rates",
    "RelaxationSpectrum",
    "committors",
    "evolve",
    "fastest_path",
    "fastest_paths",
    "graph_transformation",
    "kinetic_lumping",
    "log_committors",
    "log_mean_first_passage_times",
    "mean_first_passage_times",
    "net_flux",
    "rate_constants",
    "rates",
    "relaxation_spectrum",
    "slow_memberships",
]
