"""A ``Network`` in other programs' formats: PyTorch Geometric, NetworkX, GraphML, CSV, PATHSAMPLE (both ways).

Those of pele and topsearch are read."""

from torchscape.export.atoms import from_ase, to_ase
from torchscape.export.foreign import is_foreign, read_network
from torchscape.export.graphml import write_graphml
from torchscape.export.graphs import to_networkx
from torchscape.export.pathsample import read_pathsample, read_pathsample_sets
from torchscape.export.pathsample_writing import write_pathsample
from torchscape.export.pele import read_pele
from torchscape.export.pyg import to_pyg
from torchscape.export.tables import to_csv
from torchscape.export.topsearch import read_topsearch

__all__ = [
    "from_ase",
    "is_foreign",
    "read_network",
    "read_pathsample",
    "read_pathsample_sets",
    "read_pele",
    "read_topsearch",
    "to_ase",
    "to_csv",
    "to_networkx",
    "to_pyg",
    "write_graphml",
    "write_pathsample",
]
