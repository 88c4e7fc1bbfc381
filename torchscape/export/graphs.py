"""The network of minima as a graph for NetworkX."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchscape.export.columns import minimum_columns, require_coords, transition_state_columns
from torchscape.network import Network

if TYPE_CHECKING:
    import networkx

__all__ = ["to_networkx"]


def to_networkx(network: Network, *, coords: bool = False) -> networkx.MultiGraph:
    """The network as a ``networkx.MultiGraph`` whose attributes are plain Python numbers.

    Nodes are the positions 0..N-1 with ``id, energy, log_det, log_degeneracy, n_modes, hits`` and the
    properties; the key of an edge is the position of its transition state, with the same attributes; with
    ``coords`` both have ``coords``, a list of floats.

    Raises:
        TorchscapeError: if ``coords`` is asked for and the network has none.

    Example:
        >>> net = Network.of(energy=[0.0, 0.5], edges=[(0, 1), (0, 1)], ts_energy=[1.0, 1.2])
        >>> graph = to_networkx(net)
        >>> graph.number_of_nodes(), graph.number_of_edges(), graph.edges[0, 1, 1]["energy"]
        (2, 2, 1.2)
    """
    import networkx

    nodes = {"id": network.ids, **minimum_columns(network)}
    edges = {"id": network.ts_ids, **transition_state_columns(network)}
    if coords:
        nodes["coords"], edges["coords"] = require_coords(network)
    graph = networkx.MultiGraph(n_degenerate_rearrangements=network.n_degenerate_rearrangements)
    node_rows = zip(*(column.tolist() for column in nodes.values()), strict=True)
    graph.add_nodes_from((i, dict(zip(nodes, row, strict=True))) for i, row in enumerate(node_rows))
    edge_rows = zip(*(column.tolist() for column in edges.values()), strict=True)
    ends = network.edges.T.tolist()
    graph.add_edges_from(
        (i, j, e, dict(zip(edges, row, strict=True)))
        for e, ((i, j), row) in enumerate(zip(ends, edge_rows, strict=True))
    )
    return graph
