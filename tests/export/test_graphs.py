"""The graphs that other libraries receive are the network, parallel edges and isolated minima included."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchscape import Network, export
from torchscape.errors import TorchscapeError

RANGE = st.integers(0, 2**31 - 1)


def random_network(seed: int, n: int = 7, m: int = 11, ndim: int = 3) -> Network:
    """N minima, M transition states, among them parallel ones; the last minimum is isolated."""
    rng = torch.Generator().manual_seed(seed)
    energy = torch.rand(n, generator=rng, dtype=torch.float64)
    first = torch.randint(0, n - 1, (m,), generator=rng)
    second = (first + 1 + torch.randint(0, n - 2, (m,), generator=rng)) % (n - 1)
    edges = torch.stack([torch.cat([first, first[:1]]), torch.cat([second, second[:1]])])
    barrier = torch.rand(m + 1, generator=rng, dtype=torch.float64)
    return Network.of(
        energy=energy,
        edges=edges,
        ts_energy=energy[edges].amax(0) + barrier,
        log_det=torch.randn(n, generator=rng, dtype=torch.float64),
        ts_log_det=torch.randn(m + 1, generator=rng, dtype=torch.float64),
        n_modes=ndim,
        coords=torch.randn(n, ndim, generator=rng, dtype=torch.float64),
        ts_coords=torch.randn(m + 1, ndim, generator=rng, dtype=torch.float64),
        ids=torch.arange(10, 10 + n),
        properties={"accuracy": torch.rand(n, generator=rng, dtype=torch.float64)},
    )


@given(RANGE)
@settings(max_examples=20, deadline=None)
def test_pyg_data_is_valid_undirected_and_complete(seed):
    network = random_network(seed)
    data = export.to_pyg(network, coords=True)
    assert data.validate(raise_on_error=True)
    assert data.is_undirected()
    assert not data.has_self_loops()
    assert data.num_nodes == network.n_minima
    assert data.num_edges == 2 * network.n_edges
    assert data.has_isolated_nodes()
    # Each transition state is there twice, once in each direction, between its own minima.
    for e in range(network.n_edges):
        there = data.edge_index[:, data.edge_ts == e].T.tolist()
        i, j = network.edges[:, e].tolist()
        assert sorted(there) == sorted([[i, j], [j, i]])
    source = data.edge_index[0]
    assert torch.equal(data.edge_energy, network.ts_energy[data.edge_ts])
    torch.testing.assert_close(data.edge_barrier, (data.edge_energy - data.energy[source]).float())
    assert torch.equal(data.pos, network.coords)
    assert torch.equal(data.edge_pos, network.ts_coords[data.edge_ts])
    column = data.feature_names["x"].index("accuracy")
    torch.testing.assert_close(data.x[:, column].double(), network.properties["accuracy"], rtol=1e-6, atol=1e-7)


def test_a_direction_that_is_missing_is_noticed():
    """PyG's own check calls a large multigraph directed; ours must not call everything undirected."""
    data = export.to_pyg(random_network(8, n=5, m=60))
    assert data.is_undirected()
    one_way = data.clone()
    one_way.edge_attr[0, 0] += 1.0
    assert not one_way.is_undirected()
    keep = torch.arange(data.num_edges) > 0
    assert not data.edge_subgraph(keep).is_undirected()
    unknown = data.clone()
    unknown.edge_attr[:, 1] = math.nan
    assert unknown.is_undirected()


def test_data_survives_pickling(tmp_path):
    data = export.to_pyg(random_network(9))
    torch.save(data, tmp_path / "data.pt")
    again = torch.load(tmp_path / "data.pt", weights_only=False)
    assert again.is_undirected()
    assert torch.equal(again.edge_attr, data.edge_attr)


def test_graph_convolution_is_the_dense_formula():
    """GCNConv with unit weight is D^-1/2 (A + I) D^-1/2 X, A counting parallel transition states (Kipf 2017)."""
    network = random_network(3)
    data = export.to_pyg(network)
    from torch_geometric.nn import GCNConv

    layer = GCNConv(data.num_node_features, data.num_node_features, bias=False)
    with torch.no_grad():
        layer.lin.weight.copy_(torch.eye(data.num_node_features))
    adjacency = torch.eye(network.n_minima)
    for i, j in network.edges.T.tolist():
        adjacency[i, j] += 1
        adjacency[j, i] += 1
    scale = adjacency.sum(1).rsqrt()
    torch.testing.assert_close(layer(data.x, data.edge_index), scale[:, None] * adjacency * scale @ data.x)


def test_edge_features_drive_an_edge_conditioned_layer():
    """With W(edge) = barrier, NNConv without a root term sums barrier * feature over incoming edges."""
    network = random_network(4)
    data = export.to_pyg(network)
    from torch_geometric.nn import NNConv

    layer = NNConv(1, 1, torch.nn.Identity(), aggr="add", root_weight=False, bias=False)
    energy = data.x[:, :1]
    out = layer(energy, data.edge_index, data.edge_barrier[:, None])
    expected = torch.zeros_like(energy)
    for e, (i, j) in enumerate(network.edges.T.tolist()):
        expected[j, 0] += (network.ts_energy[e] - network.energy[i]) * network.energy[i]
        expected[i, 0] += (network.ts_energy[e] - network.energy[j]) * network.energy[j]
    torch.testing.assert_close(out, expected)


def test_two_landscapes_make_one_batch():
    parts = [export.to_pyg(random_network(seed)) for seed in (0, 1)]
    from torch_geometric.data import Batch

    batch = Batch.from_data_list(parts)
    assert batch.validate(raise_on_error=True)
    assert batch.num_nodes == sum(part.num_nodes for part in parts)
    assert torch.equal(batch[1].edge_index, parts[1].edge_index)


def test_minima_without_transition_states_are_a_graph_too():
    network = Network.of(energy=[0.0, 1.0], edges=[], ts_energy=[])
    data = export.to_pyg(network)
    assert data.validate(raise_on_error=True)
    assert (data.num_nodes, data.num_edges, tuple(data.edge_attr.shape)) == (2, 0, (0, 5))
    assert export.to_networkx(network).number_of_edges() == 0


def test_features_follow_the_default_dtype_and_the_device(device):
    network = random_network(5).to(device)
    torch.set_default_dtype(torch.float64)
    try:
        data = export.to_pyg(network)
    finally:
        torch.set_default_dtype(torch.float32)
    assert data.x.dtype == data.edge_attr.dtype == torch.float64
    assert data.x.device.type == data.edge_index.device.type == device.type
    assert torch.equal(data.x[:, 0], network.energy)


@given(RANGE)
@settings(max_examples=20, deadline=None)
def test_networkx_components_and_degrees_are_the_networks(seed):
    import networkx

    network = random_network(seed)
    graph = export.to_networkx(network, coords=True)
    labels = network.components().tolist()
    for component in networkx.connected_components(graph):
        assert len({labels[i] for i in component}) == 1
    assert networkx.number_connected_components(graph) == len(set(labels))
    degree = torch.bincount(network.edges.flatten(), minlength=network.n_minima)
    assert [graph.degree(i) for i in range(network.n_minima)] == degree.tolist()
    for i, j, e, attributes in graph.edges(keys=True, data=True):
        assert {i, j} == set(network.edges[:, e].tolist())
        assert attributes["energy"] == network.ts_energy[e].item()
        assert attributes["coords"] == network.ts_coords[e].tolist()
    assert [graph.nodes[i]["id"] for i in range(network.n_minima)] == network.ids.tolist()


def test_graphml_reads_back_number_for_number(tmp_path):
    import networkx

    network = random_network(6)
    network.log_det[0] = math.nan
    path = export.write_graphml(network, tmp_path / "new" / "network.graphml")
    graph = networkx.read_graphml(path, node_type=int, force_multigraph=True)
    assert [graph.nodes[i]["energy"] for i in range(network.n_minima)] == network.energy.tolist()
    assert [graph.nodes[i]["accuracy"] for i in range(network.n_minima)] == network.properties["accuracy"].tolist()
    assert math.isnan(graph.nodes[0]["log_det"])
    barriers = sorted((min(i, j), max(i, j), ts["energy"]) for i, j, ts in graph.edges(data=True))
    low, high = network.edges.sort(0).values.tolist()
    assert barriers == sorted(zip(low, high, network.ts_energy.tolist(), strict=True))


def test_the_graphml_file_is_the_graph_that_networkx_would_write(tmp_path):
    """Attributes of graph, nodes and edges, with their types; names and numbers as XML and Java have them."""
    import networkx

    network = random_network(7)
    network.ts_log_det[0] = math.inf
    odd = {'a "quoted" & <b>': torch.ones(7, dtype=torch.float64), "marked": torch.arange(7) % 2 == 0}
    network = dataclasses.replace(network, properties=odd, n_degenerate_rearrangements=3)
    text = export.write_graphml(network, tmp_path / "ours.graphml").read_text()
    graph = networkx.parse_graphml(text, node_type=int, force_multigraph=True)
    expected = export.to_networkx(network)
    assert dict(graph.nodes(data=True)) == dict(expected.nodes(data=True))
    assert graph.graph["n_degenerate_rearrangements"] == 3
    ours, theirs = (
        sorted((min(i, j), max(i, j), int(k)) for i, j, k in g.edges(keys=True)) for g in (graph, expected)
    )
    assert ours == theirs
    assert {type(value) for _, data in graph.nodes(data=True) for value in data.values()} == {int, float, bool}
    assert ">Infinity<" in text
    assert ">inf<" not in text


@pytest.mark.parametrize("write", [export.to_pyg, export.to_networkx])
def test_absent_coordinates_are_an_error_with_the_remedy(write):
    with pytest.raises(TorchscapeError, match="leave coords=False"):
        write(Network.of(energy=[0.0], edges=[], ts_energy=[]), coords=True)


def test_a_property_cannot_hide_a_column():
    network = Network.of(energy=[0.0], edges=[], ts_energy=[], properties={"energy": torch.zeros(1)})
    with pytest.raises(TorchscapeError, match="rename the property"):
        export.to_pyg(network)
