"""How fast minima are reached: rate constants, passage times, fastest paths, relaxation, groups of minima."""

from torchscape.analysis.kinetics.communities import CommunityRates, community_rates
from torchscape.analysis.kinetics.free_energy import FreeEnergyGroups, free_energy_groups, regroup
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
from torchscape.analysis.kinetics.reduction import ReducedNetwork, reduced_network
from torchscape.analysis.kinetics.relaxation import RelaxationSpectrum, evolve, relaxation_spectrum
from torchscape.analysis.kinetics.transformation import graph_transformation

__all__ = [
    "CommunityRates",
    "FastestPath",
    "FreeEnergyGroups",
    "Lumping",
    "NetFlux",
    "RateConstants",
    "Rates",
    "ReducedNetwork",
    "RelaxationSpectrum",
    "committors",
    "community_rates",
    "evolve",
    "fastest_path",
    "fastest_paths",
    "free_energy_groups",
    "graph_transformation",
    "kinetic_lumping",
    "log_committors",
    "log_mean_first_passage_times",
    "mean_first_passage_times",
    "net_flux",
    "rate_constants",
    "rates",
    "reduced_network",
    "regroup",
    "relaxation_spectrum",
    "slow_memberships",
]
