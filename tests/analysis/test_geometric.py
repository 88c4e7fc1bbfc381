"""What the graph says, as plain tensors and as PyTorch Geometric data, and by its tools."""

from __future__ import annotations

import csv

import pytest
import torch
from hypothesis import given, settings
from landscapes import networks, random_network

from torchscape import Network, analysis, export
from torchscape.analysis.graph.geometric import geometric
from torchscape.errors import TorchscapeError


def connected(n: int, m: int, seed: int) -> Network:
    network = random_network(n, m, seed)
    return network.subset((network.components() == 0).nonzero().reshape(-1))


def test_features_travel_as_plain_tensors_and_as_pyg_data():
    network = random_network(30, 60, 1)
    marked = analysis.annotated(network, temperature=0.5, edges=True)
    data = export.to_pyg(marked)
    nodes, edges = data.feature_names["x"], data.feature_names["edge_attr"]
    for name, values in analysis.graph_features(network, temperature=0.5).items():
        assert torch.equal(data.x[:, nodes.index(name)], values.to(data.x.dtype))
    for name, values in analysis.edge_features(network, temperature=0.5).items():
        assert torch.equal(data.edge_attr[:, edges.index(name)], values[data.edge_ts].to(data.x.dtype))
    assert data.is_undirected()


def test_features_of_edges_are_those_of_their_pair(tmp_path):
    """Parallel transition states share the betweenness of their pair; each has its own barriers and flux."""
    network = random_network(12, 40, 4)
    found = analysis.edge_features(network, temperature=0.7)
    pairs, flow = analysis.edge_betweenness(network)
    for e, pair in enumerate(network.edges.sort(0).values.T.tolist()):
        assert found["betweenness"][e] == flow[pairs.T.tolist().index(pair)]
    torch.testing.assert_close(found["uphill"] - found["downhill"], analysis.barriers(network).gap)
    chain = analysis.rates(network, 0.7)
    for pair, log_c in zip(chain.edges.T.tolist(), chain.log_conductance.tolist(), strict=True):
        parallel = [sorted(edge) == pair for edge in network.edges.T.tolist()]
        assert float(found["log_flux"][parallel].logsumexp(0)) == pytest.approx(log_c, abs=1e-12)
    export.to_csv(analysis.annotated(network, edges=True), tmp_path)
    with (tmp_path / "transition_states.csv").open() as file:
        written = [float(row["betweenness"]) for row in csv.DictReader(file)]
    assert written == found["betweenness"].tolist()
    graph = export.to_networkx(analysis.annotated(network, edges=True))
    assert [edge["uphill"] for *_, edge in sorted(graph.edges(keys=True, data=True), key=lambda e: e[2])] == (
        found["uphill"].tolist()
    )


def test_properties_follow_their_transition_states():
    network = analysis.annotated(random_network(12, 40, 4), edges=True)
    keep = torch.tensor([3, 1, 7])
    assert torch.equal(network.only_edges(keep).ts_properties["uphill"], network.ts_properties["uphill"][keep])
    half = network.subset(torch.arange(6))
    assert torch.equal(half.ts_properties["uphill"], analysis.barriers(half).uphill)
    with pytest.raises(TorchscapeError, match="rename"):
        export.to_pyg(Network.of([0.0, 1.0], [(0, 1)], [2.0], ts_properties={"energy": torch.zeros(1).double()}))


@settings(deadline=None, max_examples=40)
@given(networks())
def test_pairs_and_degrees_are_counted_by_hand(network):
    """PyTorch Geometric's ``coalesce`` and ``degree`` against sets of Python, with parallel edges and no edges."""
    pairs = sorted({tuple(sorted(pair)) for pair in network.edges.T.tolist()})
    assert analysis.neighbour_pairs(network).T.tolist() == [list(pair) for pair in pairs]
    count = [sum(k in pair for pair in pairs) for k in range(network.n_minima)]
    assert analysis.degrees(network).tolist() == count
    assert analysis.degrees(network).dtype == torch.int64


def test_assortativity_is_that_of_pytorch_geometric():
    network = connected(40, 80, 3)
    pairs = analysis.neighbour_pairs(network)
    theirs = geometric().assortativity(torch.cat([pairs, pairs.flip(0)], 1))
    ours = analysis.graph_statistics(network, n_random=0).assortativity.value
    assert ours == pytest.approx(theirs, abs=1e-5)  # single precision there


def test_the_largest_component_is_that_of_pytorch_geometric():
    from torch_geometric.transforms import LargestConnectedComponents

    network = random_network(40, 40, 2)
    theirs = LargestConnectedComponents()(export.to_pyg(network))
    assert theirs.num_nodes == int((network.components() == 0).sum()) == analysis.graph_statistics(network).n_nodes
    assert theirs.energy.tolist() == network.energy[network.components() == 0].tolist()
