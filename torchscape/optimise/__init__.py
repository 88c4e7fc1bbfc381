"""To a minimum: batched quasi-Newton descents in an in-flight pool."""

from torchscape.optimise.bfgs import BFGS
from torchscape.optimise.lbfgs import LBFGS
from torchscape.optimise.newton import Newton, polish
from torchscape.optimise.pool import Pool, Queue
from torchscape.optimise.quasi_newton import QuasiNewton
from torchscape.optimise.relaxation import choose_optimiser, relax
from torchscape.optimise.search import Armijo
from torchscape.optimise.termination import default_tol, standing, verdict

__all__ = [
    "BFGS",
    "LBFGS",
    "Armijo",
    "Newton",
    "Pool",
    "QuasiNewton",
    "Queue",
    "choose_optimiser",
    "default_tol",
    "polish",
    "relax",
    "standing",
    "verdict",
]
