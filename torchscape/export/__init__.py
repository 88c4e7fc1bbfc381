"""A ``Network`` in other programs' formats: PyTorch Geometric, NetworkX, GraphML, CSV, PATHSAMPLE."""

from torchscape.export.graphs import to_networkx, write_graphml
from torchscape.export.pathsample import read_pathsample, read_pathsample_sets, write_pathsample
from torchscape.export.pyg import to_pyg
from torchscape.export.tables import to_csv

__all__ = [
    "read_pathsample",
    "read_pathsample_sets",
    "to_csv",
    "to_networkx",
    "to_pyg",
    "write_graphml",
    "write_pathsample",
]
