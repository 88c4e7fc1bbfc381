"""What SciPy, NetworkX, PyTorch Geometric and pymbar do on valid input that a good guess gets wrong.

The table that these tests hold up is docs/upstream.md, which says what this package does about each.
"""

from __future__ import annotations

import math
import sqlite3

import networkx as nx
import numpy as np
import pytest
import torch
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import minimum_spanning_tree

# What these packages warn of on their way is not the question here.
pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_minimum_spanning_tree_drops_edges_of_weight_zero():
    """Stored explicitly, 0 - 1 is the lightest edge of the three; the tree leaves node 0 alone with it."""
    graph = csr_array(([0.0, 1.0, 2.0], ([0, 1, 0], [1, 2, 2])), shape=(3, 3))
    assert graph.nnz == 3
    tree = minimum_spanning_tree(graph)
    assert sorted(zip(*tree.nonzero(), strict=True)) == [(1, 2)]


def test_conversion_from_coordinates_adds_parallel_edges():
    graph = coo_array(([1.0, 2.0], ([0, 0], [1, 1])), shape=(2, 2)).tocsr()
    assert graph.toarray().tolist() == [[0.0, 3.0], [0.0, 0.0]]


def two_pairs(weight: float) -> nx.Graph:
    graph = nx.Graph()
    graph.add_weighted_edges_from([(0, 1, weight), (2, 3, weight)])
    return graph


def test_modularity_depends_on_the_unit_of_the_weights():
    """1/2 in every unit; squares of small weights vanish, those of large ones are infinite."""
    groups = [{0, 1}, {2, 3}]
    assert nx.community.modularity(two_pairs(1.0), groups) == 0.5
    assert nx.community.modularity(two_pairs(1e-160), groups) == -math.inf
    with pytest.raises(ZeroDivisionError):
        nx.community.modularity(two_pairs(1e-200), groups)
    assert math.isnan(nx.community.modularity(two_pairs(1e308), groups))


def test_louvain_divides_by_zero_or_not_at_all_in_other_units():
    assert len(nx.community.louvain_communities(two_pairs(1.0), seed=0)) == 2
    with pytest.raises(ZeroDivisionError):
        nx.community.louvain_communities(two_pairs(1e-200), seed=0)
    assert len(nx.community.louvain_communities(two_pairs(math.inf), seed=0)) == 4


def test_louvain_depends_on_the_order_of_the_nodes():
    """One graph, one seed, six orders of its nodes."""
    edges = list(nx.barabasi_albert_graph(60, 2, seed=3).edges)
    found = set()
    for seed in range(6):
        graph = nx.Graph()
        graph.add_nodes_from(np.random.default_rng(seed).permutation(60).tolist())
        graph.add_edges_from(edges)
        found.add(frozenset(map(frozenset, nx.community.louvain_communities(graph, seed=0))))
    assert len(found) > 1


def test_to_undirected_adds_the_attributes_of_both_directions():
    from torch_geometric.utils import to_undirected

    both, attributes = torch.tensor([[0, 1], [1, 0]]), torch.tensor([1.0, 1.0])
    assert to_undirected(both, attributes)[1].tolist() == [2.0, 2.0]
    assert to_undirected(both[:, :1], attributes[:1])[1].tolist() == [1.0, 1.0]


def test_a_saved_data_object_does_not_load_by_default(tmp_path):
    from torch_geometric.data import Data

    torch.save(Data(x=torch.zeros(2, 1)), tmp_path / "a.pt")
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(tmp_path / "a.pt")
    assert torch.load(tmp_path / "a.pt", weights_only=False).x.shape == (2, 1)


def test_from_networkx_makes_single_precision_of_python_floats():
    from torch_geometric.utils import from_networkx

    graph = nx.path_graph(2)
    for kind, expected in ((float, torch.float32), (np.float64, torch.float64)):
        nx.set_node_attributes(graph, {0: kind(0.1), 1: kind(0.2)}, "energy")
        assert from_networkx(graph).energy.dtype == expected


def test_a_subgraph_takes_a_quantity_of_edges_for_one_of_nodes():
    """Where the counts agree and the name does not say "edge"."""
    from torch_geometric.data import Data

    ring = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
    values = torch.arange(4.0)
    part = Data(x=values, edge_index=ring, barrier=values, edge_barrier=values).subgraph(torch.tensor([0, 1]))
    assert part.edge_index.tolist() == [[0], [1]]
    assert part.edge_barrier.tolist() == [0.0]
    assert part.barrier.tolist() == [0.0, 1.0]


def test_errors_of_mbar_without_overlap_depend_on_the_method():
    """Two harmonic wells 60 standard deviations apart: nothing is known of their difference."""
    pymbar = pytest.importorskip("pymbar")
    g, n = np.random.default_rng(0), 200
    centre = np.array([0.0, 60.0])
    x = np.concatenate([g.normal(c, 1, n) for c in centre])
    mbar = pymbar.MBAR(0.5 * (x[None] - centre[:, None]) ** 2, np.array([n, n]))

    def error(method):
        return mbar.compute_free_energy_differences(uncertainty_method=method)["dDelta_f"][0, 1]

    with np.errstate(all="ignore"):
        assert error("svd-ew") > 1e5
        assert np.isnan(error("svd"))
        assert error("approximate") == pytest.approx(0.1)


def test_networkx_writes_unknown_numbers_as_python_has_them():
    import networkx

    graph = networkx.Graph()
    graph.add_node(0, a=float("nan"), b=float("inf"))
    text = "".join(networkx.generate_graphml(graph))
    assert ">nan<" in text
    assert ">inf<" in text


def test_sqlite_prefers_the_order_of_a_table_to_a_partial_index():
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, family INTEGER)")
    connection.execute("CREATE INDEX member ON t(family, id) WHERE family != id")
    connection.executemany("INSERT INTO t VALUES (?, ?)", [(n, n if n else 1) for n in range(1000)])

    def plan(order: str) -> list[str]:
        query = f"EXPLAIN QUERY PLAN SELECT id, family FROM t WHERE family != id ORDER BY {order}"
        return [row[3] for row in connection.execute(query)]

    assert plan("id") == ["SCAN t"]
    assert "COVERING INDEX member" in plan("+id")[0]
