"""Ready-made potentials with known answers or published figures, by name."""

from torchscape.problems.problem import Known, Problem
from torchscape.problems.registry import describe, get, names, parse

__all__ = ["Known", "Problem", "describe", "get", "names", "parse"]
