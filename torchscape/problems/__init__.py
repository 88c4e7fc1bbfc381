"""Ready-made potentials with known answers or published figures, by name."""

from torchscape.problems.problem import Known, Problem
from torchscape.problems.published_figures import Published
from torchscape.problems.registry import describe, get, names, parse, published

__all__ = ["Known", "Problem", "Published", "describe", "get", "names", "parse", "published"]
