"""The network of minima as a graph for PyTorch Geometric."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torchscape.export.columns import minimum_columns, require_coords, transition_state_columns
from torchscape.network import Network

if TYPE_CHECKING:
    from torch_geometric.data import Data

__all__ = ["to_pyg"]


def to_pyg(network: Network, *, coords: bool = False) -> Data:
    """The network as one undirected ``torch_geometric.data.Data``: minima are nodes, transition states edges.

    Every transition state e that joins i and j gives two directed edges, i -> j and j -> i. Parallel
    transition states stay parallel edges, and a minimum without any is an isolated node. Edges are sorted by
    source, then target, then transition state. ``data.is_undirected()`` is True.

    Args:
        network: N minima, E transition states.
        coords: also carry the coordinates.

    Returns:
        data with

        - ``x`` [N, 5 + P]: ``energy, log_det, log_degeneracy, n_modes, hits`` and the P properties of the
          network by name, in torch's default dtype (what layers expect); what is unknown stays NaN;
        - ``edge_index`` [2, 2E];
        - ``edge_attr`` [2E, 5 + Q]: ``energy, log_det, log_degeneracy, n_modes, hits`` and the Q properties of the
          transition state, equal in both directions;
        - ``edge_barrier`` [2E]: E_ts - E_source, the only feature that differs between the directions;
        - ``edge_ts`` [2E]: position of the transition state in the network;
        - ``energy`` [N], ``edge_energy`` [2E]: the energies in the network's own precision;
        - ``node_id`` [N]: the database's ids;
        - with ``coords``: ``pos`` [N, D] and ``edge_pos`` [2E, D];
        - ``feature_names``: the names of the columns of ``x`` and ``edge_attr``.

        What the graph says of minima and transition states (degree, clustering, community, betweenness ...) comes
        along from ``to_pyg(analysis.annotated(network, edges=True))``.

    Raises:
        TorchscapeError: if ``coords`` is asked for and the network has none.

    Reference:
        Fey & Lenssen, Fast Graph Representation Learning with PyTorch Geometric, arXiv:1903.02428.

    Example:
        >>> net = Network.of(energy=[0.0, 0.5, 0.7], edges=[(0, 1), (0, 1)], ts_energy=[1.0, 1.2])
        >>> data = to_pyg(net)
        >>> data.num_nodes, data.num_edges, data.is_undirected(), data.has_isolated_nodes()
        (3, 4, True, True)
        >>> data.edge_index.tolist()
        [[0, 0, 1, 1], [1, 1, 0, 0]]
        >>> [round(barrier, 3) for barrier in data.edge_barrier.tolist()]
        [1.0, 1.2, 0.5, 0.7]
    """
    from torchscape.export.multigraph import MultigraphData  # takes seconds: it imports torch-geometric

    nodes, edges = minimum_columns(network), transition_state_columns(network)
    both_ways = torch.stack([network.edges, network.edges.flip(0)], 2).reshape(2, -1)
    order = (both_ways[0] * network.n_minima + both_ways[1]).argsort(stable=True)
    edge_index = both_ways[:, order].contiguous()
    ts = order // 2
    dtype = torch.get_default_dtype()
    data = MultigraphData(
        x=torch.stack([column.to(dtype) for column in nodes.values()], 1),
        edge_index=edge_index,
        edge_attr=torch.stack([column.to(dtype) for column in edges.values()], 1)[ts],
        edge_barrier=(network.ts_levels[ts] - network.levels[edge_index[0]]).to(dtype),
        edge_ts=ts,
        energy=network.energy,
        edge_energy=network.ts_energy[ts],
        node_id=network.ids,
        num_nodes=network.n_minima,
        feature_names={"x": list(nodes), "edge_attr": list(edges)},
    )
    if coords:
        pos, ts_pos = require_coords(network)
        data.pos, data.edge_pos = pos, ts_pos[ts]
    return data
