"""The database of one potential: matching, storage, bookkeeping."""

from torchscape.landscape.journal import TriedPairs
from torchscape.landscape.landscape import Landscape
from torchscape.landscape.matching import Matching

__all__ = ["Landscape", "Matching", "TriedPairs"]
