"""Machine-learning measures that evaluate a model at many minima: what they predict, how flat they are."""

from torchscape.learning.distances import align_all, parameter_distances
from torchscape.learning.held_out import HeldOut, held_out

__all__ = ["HeldOut", "align_all", "held_out", "parameter_distances"]
