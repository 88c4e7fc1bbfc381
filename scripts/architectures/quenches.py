"""Quenches from random starts by SciPy, which knows nothing of the landscape that was found."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from architectures.bare import BareLoss
from architectures.newton import Newton, newton

__all__ = ["quenches"]


def quenches(loss: BareLoss, n: int, seed: int) -> list[Newton]:
    """Where ``n`` runs of L-BFGS-B end, each finished by Newton's method.

    Starts are normal, each with a width of its own between 0.3 and 3 (log-uniform): small ones fall towards
    the origin, where symmetric saddles are, large ones into what random features have to offer.
    """
    generator = np.random.default_rng(seed)
    ends = []
    for _ in range(n):
        width = 0.3 * 10 ** generator.uniform()
        start = width * generator.standard_normal(loss.ndim)
        options = {"maxiter": 20_000, "maxfun": 20_000, "maxcor": 30, "ftol": 0.0, "gtol": 1e-8}
        found = minimize(loss.energy_and_grad, start, jac=True, method="L-BFGS-B", options=options)
        ends.append(newton(loss, found.x))
    return ends
