"""Shape-typed aliases: one alphabet of sizes for the whole package.

B walkers (rows of a batch), D coordinates, M memory, I images, N minima, E transition states,
T temperatures, P pairs, Z zero modes. ``Float[Tensor, "B D"]`` documents a shape; the tests check it
at run time by installing jaxtyping's import hook with beartype.
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Bool", "Float", "Int", "Tensor"]
