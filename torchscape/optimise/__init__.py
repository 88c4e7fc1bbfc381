"""To a minimum: batched quasi-Newton descents in an in-flight pool."""

from torchscape.deprecation import old_names
from torchscape.optimise.bfgs import BFGS
from torchscape.optimise.krylov import NewtonKrylov
from torchscape.optimise.lbfgs import LBFGS
from torchscape.optimise.newton import Newton, polish
from torchscape.optimise.pool import Pool, Queue, run_pool
from torchscape.optimise.quasi_newton import QuasiNewton
from torchscape.optimise.relaxation import choose_optimiser, relax
from torchscape.optimise.search import Armijo
from torchscape.optimise.short_memory import ShortLBFGS
from torchscape.optimise.termination import default_tol, standing, termination_test

__all__ = [
    "BFGS",
    "LBFGS",
    "Armijo",
    "Newton",
    "NewtonKrylov",
    "Pool",
    "QuasiNewton",
    "Queue",
    "ShortLBFGS",
    "choose_optimiser",
    "default_tol",
    "polish",
    "relax",
    "run_pool",
    "standing",
    "termination_test",
]

__getattr__ = old_names(__name__, {"verdict": "torchscape.optimise.termination.termination_test"}, until="0.2")
