"""The function that a peer is given: by NumPy or by plain PyTorch, with the number of its evaluations."""

from __future__ import annotations

from typing import Any

import numpy as np
from functions import Network, Regression
from plain_torch import one_point

__all__ = ["Counted"]


class Counted:
    """The same function, with the number of its evaluations, by NumPy or by plain PyTorch."""

    def __init__(self, function: Regression | Network, gradients: str) -> None:
        self.function, self.n = function, 0
        self.call = one_point(function) if gradients == "torch" else function.__call__

    def __call__(self, q: np.ndarray) -> tuple[Any, np.ndarray]:
        self.n += 1
        return self.call(q)
