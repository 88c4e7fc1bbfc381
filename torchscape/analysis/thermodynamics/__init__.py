"""What temperature makes of a network: partition functions, heat capacities and their peaks, frustration."""

from torchscape.analysis.thermodynamics.capacity import (
    Contributions,
    HeatCapacity,
    heat_capacity,
    heat_capacity_contributions,
    partial_heat_capacities,
)
from torchscape.analysis.thermodynamics.frustration_index import Frustration, frustration
from torchscape.analysis.thermodynamics.members import boltzmann_weights, select_by_peaks, select_lowest
from torchscape.analysis.thermodynamics.peaks import Peak, crossing_temperatures, heat_capacity_peaks
from torchscape.analysis.thermodynamics.superposition import (
    free_energy,
    group_free_energy,
    log_occupation,
    log_partition,
    log_partition_by_minimum,
    lpphe,
    mean_energy,
    occupation,
    shannon_entropy,
)

__all__ = [
    "Contributions",
    "Frustration",
    "HeatCapacity",
    "Peak",
    "boltzmann_weights",
    "crossing_temperatures",
    "free_energy",
    "frustration",
    "group_free_energy",
    "heat_capacity",
    "heat_capacity_contributions",
    "heat_capacity_peaks",
    "log_occupation",
    "log_partition",
    "log_partition_by_minimum",
    "lpphe",
    "mean_energy",
    "occupation",
    "partial_heat_capacities",
    "select_by_peaks",
    "select_lowest",
    "shannon_entropy",
]
