"""The database of one potential: matching, storage, bookkeeping."""

from torchscape.landscape.journal import TriedPairs
from torchscape.landscape.landscape import Landscape
from torchscape.landscape.matching import Matching
from torchscape.landscape.merging import Merged, merge
from torchscape.landscape.scratch import on_scratch

__all__ = ["Landscape", "Matching", "Merged", "TriedPairs", "merge", "on_scratch"]
