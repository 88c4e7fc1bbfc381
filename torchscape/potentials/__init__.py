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
from torchscape.potentials.kernels import Matern, SquaredExponential
from torchscape.potentials.lennard_jones import LennardJones
from torchscape.potentials.losses import AUCLoss
from torchscape.potentials.module.potential import ModulePotential
from torchscape.potentials.module.spreading import spread
from torchscape.potentials.posterior import Posterior
from torchscape.potentials.preconditioner import Preconditioner
from torchscape.potentials.separable import DoubleWell, Schwefel, SeparableSurface

__all__ = [
    "AUCLoss",
    "AnalyticSurface",
    "Bounds",
    "ClusterPotential",
    "DoubleWell",
    "FunctionPotential",
    "GaussianProcessPotential",
    "Himmelblau",
    "KnownPoint",
    "LennardJones",
    "Matern",
    "ModulePotential",
    "MuellerBrown",
    "Posterior",
    "Potential",
    "Preconditioner",
    "Quadratic",
    "Rosenbrock",
    "Schwefel",
    "SeparableSurface",
    "SixHumpCamel",
    "SquaredExponential",
    "Trimer",
    "check_contract",
    "from_gpytorch",
    "spread",
]
