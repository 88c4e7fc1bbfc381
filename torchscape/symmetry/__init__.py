"""Which points are the same: the symmetry groups of potentials."""

from torchscape.symmetry.base import Symmetry
from torchscape.symmetry.blocks import BlockPermutation
from torchscape.symmetry.cluster import ClusterSymmetry
from torchscape.symmetry.inversion import Inversion
from torchscape.symmetry.periodic_cluster import PeriodicAtoms
from torchscape.symmetry.sines import SineProductSymmetry
from torchscape.symmetry.translations import Translations

__all__ = [
    "BlockPermutation",
    "ClusterSymmetry",
    "Inversion",
    "PeriodicAtoms",
    "SineProductSymmetry",
    "Symmetry",
    "Translations",
]
