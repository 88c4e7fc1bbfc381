"""Basins of attraction: which point belongs to which, how large they are, and how many there must be."""

from torchscape.sampling.basins.counting import GeneralisedNormal, MinimaCount, count_minima, unbiased_weights
from torchscape.sampling.basins.flow import SteepestDescent
from torchscape.sampling.basins.mbar import mbar_volumes
from torchscape.sampling.basins.oracle import (
    Assignment,
    Noisy,
    Oracle,
    Quenched,
    Region,
    Sublevel,
    assign,
    basin_probability,
)
from torchscape.sampling.basins.radial import RadialVolume, harmonic_volume, log_ball, radial_volume
from torchscape.sampling.basins.volume import BasinVolumes, basin_volumes
from torchscape.sampling.basins.walks import Walks

__all__ = [
    "Assignment",
    "BasinVolumes",
    "GeneralisedNormal",
    "MinimaCount",
    "Noisy",
    "Oracle",
    "Quenched",
    "RadialVolume",
    "Region",
    "SteepestDescent",
    "Sublevel",
    "Walks",
    "assign",
    "basin_probability",
    "basin_volumes",
    "count_minima",
    "harmonic_volume",
    "log_ball",
    "mbar_volumes",
    "radial_volume",
    "unbiased_weights",
]
