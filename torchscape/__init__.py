"""torchscape: explore the energy landscapes of PyTorch models."""

import torchscape._process  # noqa: F401
from torchscape import errors, learning, optimise, problems, random, saddles, sampling
from torchscape.explore import (
    BasinHopping,
    Budget,
    ClimbFromMinima,
    ConnectMinima,
    StationarySearch,
    TemperedBasinHopping,
    explore,
    explore_family,
)
from torchscape.landscape import Landscape
from torchscape.network import Network
from torchscape.optimise import relax
from torchscape.points import StationaryPoints, Status
from torchscape.potentials import Bounds, ClusterPotential, FunctionPotential, ModulePotential, Potential
from torchscape.symmetry import Symmetry

__version__ = "0.1.0"

__all__ = [
    "BasinHopping",
    "Bounds",
    "Budget",
    "ClimbFromMinima",
    "ClusterPotential",
    "ConnectMinima",
    "FunctionPotential",
    "Landscape",
    "ModulePotential",
    "Network",
    "Potential",
    "StationaryPoints",
    "StationarySearch",
    "Status",
    "Symmetry",
    "TemperedBasinHopping",
    "errors",
    "explore",
    "explore_family",
    "learning",
    "optimise",
    "problems",
    "random",
    "relax",
    "saddles",
    "sampling",
]
