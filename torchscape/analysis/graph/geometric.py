"""PyTorch Geometric's graph tools, imported when a graph is first looked at: that takes a second."""

from __future__ import annotations

import warnings
from types import ModuleType

__all__ = ["geometric"]


def geometric() -> ModuleType:
    """``torch_geometric.utils``, without the warnings of its own import.

    Used here: ``degree``, ``coalesce`` and ``to_torch_csr_tensor``. Its ``assortativity`` is not, because it works
    in single precision, and cancels; shortest paths, clustering and modularity it does not have.

    Reference: Fey & Lenssen (2019), arXiv:1903.02428.
    """
    with warnings.catch_warnings():  # on import it calls what torch has deprecated
        for kind in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", kind)
        import torch_geometric.utils

    return torch_geometric.utils
