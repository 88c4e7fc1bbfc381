"""A ``torch_geometric.data.Data`` that knows about parallel edges. Importing this imports torch-geometric."""

from __future__ import annotations

import warnings

import torch

with warnings.catch_warnings():  # on import it calls what torch has deprecated
    for kind in (DeprecationWarning, FutureWarning):
        warnings.simplefilter("ignore", kind)
    from torch_geometric.data import Data

__all__ = ["MultigraphData"]


class MultigraphData(Data):
    """``Data`` whose :meth:`is_undirected` tells parallel edges apart by ``edge_ts``.

    PyTorch Geometric compares ``edge_attr`` of the two directions after a sort by source and target that is not
    stable, so that it calls a graph with parallel edges directed, at random; and one whose features are
    NaN always.
    """

    def is_undirected(self) -> bool:
        source, target = self.edge_index
        there, back = (self._order(*ends) for ends in ((source, target), (target, source)))
        if not torch.equal(self.edge_index[:, there], self.edge_index.flip(0)[:, back]):
            return False
        return self.edge_attr is None or torch.allclose(
            self.edge_attr[there], self.edge_attr[back], rtol=0.0, atol=0.0, equal_nan=True
        )

    def _order(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Edges sorted by first end, second end and transition state."""
        order = self.edge_ts.argsort(stable=True)
        order = order[second[order].argsort(stable=True)]
        return order[first[order].argsort(stable=True)]
