"""What is explored: potentials from modules, from functions, analytic ones."""

from torchscape.potentials.analytic import (
    AnalyticSurface,
    Himmelblau,
    KnownPoint,
    MuellerBrown,
    Quadratic,
    Rosenbrock,
    SixHumpCamel,
)
from torchscape.potentials.base import Potential
from torchscape.potentials.bounds import Bounds
from torchscape.potentials.clusters import ClusterPotential, Trimer
from torchscape.potentials.contract import check_contract
from torchscape.potentials.function import FunctionPotential
from torchscape.potentials.gaussian_process import GaussianProcessPotential
from torchscape.potentials.gpytorch_adapter import from_gpytorch
from torchscape.potentials.gupta import Gupta
from torchscape.potentials.kernels import Matern, SquaredExponential
from torchscape.potentials.lennard_jones import BinaryLennardJones, LennardJones
from torchscape.potentials.losses import AUCLoss
from torchscape.potentials.module.potential import ModulePotential
from torchscape.potentials.module.spreading import spread
from torchscape.potentials.pair_clusters import Dzugutov, Morse
from torchscape.potentials.pair_potential import PairPotential
from torchscape.potentials.posterior import Posterior
from torchscape.potentials.preconditioner import Preconditioner
from torchscape.potentials.separable import DoubleWell, Schwefel, SeparableSurface
from torchscape.potentials.thomson import Thomson

__all__ = [
    "AUCLoss",
    "AnalyticSurface",
    "BinaryLennardJones",
    "Bounds",
    "ClusterPotential",
    "DoubleWell",
    "Dzugutov",
    "FunctionPotential",
    "GaussianProcessPotential",
    "Gupta",
    "Himmelblau",
    "KnownPoint",
    "LennardJones",
    "Matern",
    "ModulePotential",
    "Morse",
    "MuellerBrown",
    "PairPotential",
    "Posterior",
    "Potential",
    "Preconditioner",
    "Quadratic",
    "Rosenbrock",
    "Schwefel",
    "SeparableSurface",
    "SixHumpCamel",
    "SquaredExponential",
    "Thomson",
    "Trimer",
    "check_contract",
    "from_gpytorch",
    "spread",
]
