"""The database of one potential: matching, storage, bookkeeping."""

from torchscape.landscape.glance import Glance
from torchscape.landscape.importing import Fate, Imported, import_network
from torchscape.landscape.journal import TriedPairs
from torchscape.landscape.landscape import Landscape
from torchscape.landscape.matching import Matching
from torchscape.landscape.merging import Merged, merge
from torchscape.landscape.scratch import on_scratch
from torchscape.landscape.watching import glances

__all__ = [
    "Fate",
    "Glance",
    "Imported",
    "Landscape",
    "Matching",
    "Merged",
    "TriedPairs",
    "glances",
    "import_network",
    "merge",
    "on_scratch",
]
