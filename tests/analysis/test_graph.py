"""The network as a graph, against NetworkX, SciPy's laws and enumeration."""

from __future__ import annotations

import itertools
import math
import warnings

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from landscapes import networks, random_network, relabel
from scipy import stats

from torchscape import Network, analysis
from torchscape.analysis.graph import betweenness
from torchscape.analysis.graph.degree_laws import fit_degree_law
from torchscape.analysis.graph.random_graphs import rewired
from torchscape.errors import TorchscapeError


def as_networkx(network: Network) -> nx.Graph:
    graph: nx.Graph = nx.Graph()
    graph.add_nodes_from(range(network.n_minima))
    graph.add_edges_from(network.edges.T.tolist())
    return graph


def from_networkx(graph: nx.Graph) -> Network:
    n = graph.number_of_nodes()
    return Network.of(range(n), list(graph.edges), [float(n)] * graph.number_of_edges())


@settings(deadline=None, max_examples=40)
@given(networks())
def test_local_numbers_are_those_of_networkx(network):
    graph = as_networkx(network)
    n = network.n_minima
    assert analysis.degrees(network).tolist() == [graph.degree(k) for k in range(n)]
    assert analysis.clustering(network).tolist() == pytest.approx([nx.clustering(graph, k) for k in range(n)])
    assert sorted(map(tuple, analysis.neighbour_pairs(network).T.tolist())) == sorted(
        tuple(sorted(pair)) for pair in graph.edges
    )
    pairs, found = analysis.edge_betweenness(network)
    expected = nx.edge_betweenness_centrality(graph, normalized=False)
    expected = {tuple(sorted(pair)): value for pair, value in expected.items()}
    assert found.tolist() == pytest.approx([expected[tuple(pair)] for pair in pairs.T.tolist()])


@pytest.mark.parametrize("seed", range(3))
def test_global_numbers_are_those_of_networkx(seed):
    network = random_network(60, 100, seed)
    graph = as_networkx(network)
    graph = graph.subgraph(max(nx.connected_components(graph), key=len))
    found = analysis.graph_statistics(network, n_random=0)
    assert (found.n_nodes, found.n_connected_pairs) == (graph.number_of_nodes(), graph.number_of_edges())
    assert found.path_length.value == pytest.approx(nx.average_shortest_path_length(graph))
    assert found.diameter.value == nx.diameter(graph)
    assert found.clustering.value == pytest.approx(nx.average_clustering(graph))
    assert found.transitivity.value == pytest.approx(nx.transitivity(graph))
    assert found.assortativity.value == pytest.approx(nx.degree_assortativity_coefficient(graph))
    assert not found.is_sampled


def test_relabelling_changes_no_graph_number():
    network = random_network(40, 80, 1)
    other = relabel(network, np.random.default_rng(2).permutation(40))
    here, there = (analysis.graph_statistics(each, n_random=0) for each in (network, other))
    for name in ("path_length", "diameter", "clustering", "transitivity", "assortativity"):
        assert getattr(here, name).value == pytest.approx(getattr(there, name).value, rel=1e-12)
    assert torch.equal(analysis.hubs(network).degree, analysis.hubs(other).degree)
    assert torch.equal(analysis.hubs(network).energy, analysis.hubs(other).energy)


def test_a_watts_strogatz_graph_is_a_small_world_and_a_random_one_is_not():
    """Sigma is 1 by definition for graphs that their degrees explain."""
    small = from_networkx(nx.connected_watts_strogatz_graph(200, 8, 0.1, seed=0))
    plain = from_networkx(nx.gnm_random_graph(200, 800, seed=0))
    sigma, error = analysis.graph_statistics(small, n_random=5).small_world
    assert sigma - 3 * error > 5.0
    sigma, error = analysis.graph_statistics(plain, n_random=10).small_world
    assert abs(sigma - 1.0) < 3 * error


def test_sampled_path_lengths_agree_within_their_error():
    network = from_networkx(nx.connected_watts_strogatz_graph(300, 6, 0.2, seed=1))
    exact = analysis.graph_statistics(network, n_random=0).path_length
    sampled = analysis.graph_statistics(network, n_random=0, n_sources=40)
    assert sampled.is_sampled
    assert 0 < abs(sampled.path_length.value - exact.value) < 4 * sampled.path_length.error
    assert sampled.path_length.error < 0.05 * exact.value


def test_sampled_betweenness_is_unbiased():
    network = from_networkx(nx.connected_watts_strogatz_graph(60, 4, 0.2, seed=1))
    exact = analysis.edge_betweenness(network)[1]
    mean = sum(analysis.edge_betweenness(network, n_sources=20, seed=s)[1] for s in range(60)) / 60
    assert float((mean - exact).norm() / exact.norm()) < 0.1
    assert float(mean.sum() / exact.sum()) == pytest.approx(1.0, abs=0.02)


def test_betweenness_of_a_long_chain(monkeypatch):
    """The k-th link parts k + 1 minima from the others. Of 2000 minima, a table for each step took 64 GB."""
    monkeypatch.setattr(betweenness, "_ARCS", 100_000)
    n = 1000
    network = Network.of([0.0] * n, [(k, k + 1) for k in range(n - 1)], [1.0] * (n - 1))
    k = torch.arange(1, n, dtype=torch.float64)
    assert torch.equal(analysis.edge_betweenness(network)[1], k * (n - k))


@settings(deadline=None, max_examples=30)
@given(networks())
def test_rewiring_keeps_every_degree_and_the_graph_simple(network):
    pairs, n = analysis.neighbour_pairs(network), network.n_minima
    other = rewired(pairs, n, seed=3)
    assert torch.equal(other.reshape(-1).bincount(minlength=n), pairs.reshape(-1).bincount(minlength=n))
    assert bool((other[0] < other[1]).all())
    assert other.unique(dim=1).shape == other.shape


def test_rewiring_reaches_all_graphs_of_equal_degrees_equally_often():
    """Against enumeration: six chains, and one triangle beside an edge, by a chi-squared test."""
    degrees = [2, 2, 2, 1, 1]
    every = list(itertools.combinations(itertools.combinations(range(5), 2), 4))
    right = [edges for edges in every if np.bincount(np.ravel(edges), minlength=5).tolist() == degrees]
    start = torch.tensor(right[0]).T
    count = dict.fromkeys(map(frozenset, right), 0)
    for seed in range(350):
        found = rewired(start, 5, seed=seed, n_sweeps=10)
        count[frozenset(map(tuple, found.T.tolist()))] += 1
    assert len(count) == len(right) == 7
    assert stats.chisquare(list(count.values())).pvalue > 1e-3


def test_the_fitted_exponent_and_rate_maximise_the_likelihood():
    """Against SciPy's zipf and geometric laws on a fine grid (they start at 1)."""
    degree = stats.zipf.rvs(2.3, size=400, random_state=0)
    law = fit_degree_law(torch.as_tensor(degree), k_min=1, n_bootstrap=5)
    grid = np.linspace(law.exponent - 0.05, law.exponent + 0.05, 201)
    likelihood = [stats.zipf.logpmf(degree, alpha).sum() for alpha in grid]
    assert grid[int(np.argmax(likelihood))] == pytest.approx(law.exponent, abs=1e-3)
    p = -math.expm1(-law.rate)
    assert p == pytest.approx(1.0 / degree.mean())
    expected = max(likelihood) - stats.geom.logpmf(degree, p).sum()
    assert law.log_likelihood_ratio == pytest.approx(expected, abs=1e-4)


def test_each_law_is_recognised_in_its_own_samples():
    power = fit_degree_law(
        torch.as_tensor(stats.zipf.rvs(2.5, size=1000, random_state=1)), k_min=1, n_bootstrap=60
    )
    assert power.favours == "power law"
    assert abs(power.exponent - 2.5) < 3 * power.exponent_sd < 0.5
    assert power.power_law_wins == 1.0
    assert power.power_law_fit > 0.1
    assert power.exponential_fit < 0.1
    decay = -math.expm1(-0.4)
    degree = torch.as_tensor(stats.geom.rvs(decay, size=1000, random_state=1))
    exponential = fit_degree_law(degree, k_min=1, n_bootstrap=60)
    assert exponential.favours == "exponential"
    assert abs(exponential.rate - 0.4) < 3 * exponential.rate_sd < 0.1
    assert exponential.power_law_wins == 0.0
    assert exponential.exponential_fit > 0.1
    assert exponential.power_law_fit < 0.1


def test_little_data_decide_nothing():
    law = fit_degree_law(torch.tensor([1, 1, 1, 2, 2, 3, 5]), k_min=1, n_bootstrap=40)
    assert law.favours == "undecided"


def test_equal_degrees_fit_any_law():
    ring = from_networkx(nx.cycle_graph(12))
    with pytest.raises(TorchscapeError, match="all equal"):
        analysis.degree_law(ring)


def test_hubs_of_a_star():
    star = Network.of([3.0, 0.0, 1.0, 2.0], [(0, 1), (0, 2), (0, 3), (1, 2)], [4.0] * 4)
    found = analysis.hubs(star, 3)
    assert found.minima.tolist() == [0, 1, 2]
    assert found.energy_rank.tolist() == [3, 0, 1]
    expected = stats.spearmanr([3, 2, 2, 1], [3.0, 0.0, 1.0, 2.0]).statistic
    assert found.correlation == pytest.approx(expected)


def test_a_graph_without_edges_is_refused_by_name():
    with pytest.raises(TorchscapeError, match="no two minima are connected"):
        analysis.graph_statistics(Network.of([0.0, 1.0], torch.zeros(2, 0, dtype=torch.int64), []))


@pytest.mark.parametrize("method", ["louvain", "leiden"])
def test_communities_of_the_karate_club(method):
    """The best division known has modularity 0.419790 (Brandes et al. 2008, doi 10.1109/TKDE.2007.190689)."""
    if method == "leiden":
        pytest.importorskip("leidenalg")
    graph = nx.karate_club_graph()
    network = from_networkx(graph)
    found = analysis.communities(network, method=method)
    groups = [{a for a, label in enumerate(found.label.tolist()) if label == k} for k in range(len(found))]
    assert found.modularity == pytest.approx(nx.community.modularity(graph, groups, weight=None))
    assert 0.415 < found.modularity < 0.41980
    assert found.size.tolist() == [len(group) for group in groups]
    assert found.lowest.tolist() == [min(group) for group in groups]
    assert found.lowest.tolist() == sorted(found.lowest.tolist())


def test_rates_divide_where_the_count_of_edges_does_not():
    """A ring of six alike: only the two high transition states say where to cut."""
    ring = [(k, (k + 1) % 6) for k in range(6)]
    network = Network.of([0.0] * 6, ring, [1.0, 1.0, 5.0, 1.0, 1.0, 5.0])
    found = analysis.communities(network, temperature=0.5)
    assert found.label.tolist() == [0, 0, 0, 1, 1, 1]
    weights = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    assert analysis.communities(network, weight=weights).label.tolist() == [0, 0, 0, 1, 1, 1]


def test_communities_refuse_what_they_cannot_use():
    network = random_network(5, 8)
    with pytest.raises(TorchscapeError, match="not both"):
        analysis.communities(network, temperature=1.0, weight=torch.ones(8, dtype=torch.float64))
    with pytest.raises(TorchscapeError, match="non-negative"):
        analysis.communities(network, weight=-torch.ones(8, dtype=torch.float64))


def test_two_equal_landscapes_do_not_differ():
    network = random_network(40, 80)
    found = analysis.compare(network, network)
    assert found.first == found.second
    for part in (found.energy, found.uphill, found.downhill, found.persistence):
        assert (part.distance, part.ks) == (0.0, 0.0)


def test_a_scaled_landscape_differs_by_its_scale_only():
    network = random_network(40, 80)
    double = Network.of(2.0 * network.energy, network.edges, 2.0 * network.ts_energy)
    plain, scaled = analysis.compare(network, double), analysis.compare(network, double, scaled=True)
    mean = float(analysis.barriers(network).uphill.mean())
    assert plain.uphill.distance == pytest.approx(mean)
    assert scaled.uphill.distance == pytest.approx(0.0, abs=1e-12)
    assert plain.first["n_minima"] == 40


def test_graph_numbers_on_the_device_are_those_on_the_cpu(device):
    network = random_network(80, 160, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        here = analysis.graph_statistics(network, n_random=2)
        there = analysis.graph_statistics(network.to(device), n_random=2)
    assert there.path_length.value == pytest.approx(here.path_length.value, rel=1e-12)
    assert there.clustering.random == pytest.approx(here.clustering.random, rel=1e-12)
    flow = analysis.edge_betweenness(network.to(device))[1]
    assert flow.device.type == device.type
    assert flow.cpu().numpy() == pytest.approx(analysis.edge_betweenness(network)[1].numpy())
