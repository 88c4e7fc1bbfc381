"""Communities are of the landscape: of no order of its minima, and of no unit of the weights."""

from __future__ import annotations

import networkx as nx
import pytest
import torch

from torchscape import Network, analysis
from torchscape.analysis.graph.canonical import canonical_order
from torchscape.errors import TorchscapeError


def scale_free(n: int = 120, seed: int = 3, energies: bool = True) -> Network:
    pairs = torch.tensor(list(nx.barabasi_albert_graph(n, 2, seed=seed).edges)).T.contiguous()
    g = torch.Generator().manual_seed(seed)
    energy = torch.rand(n, generator=g, dtype=torch.float64) if energies else torch.zeros(n).double()
    return Network.of(energy, pairs, torch.rand(pairs.shape[1], generator=g, dtype=torch.float64) + 1)


def shuffled(network: Network, seed: int) -> tuple[Network, torch.Tensor]:
    """The same landscape with its minima, transition states and the ends of these in another order."""
    g = torch.Generator().manual_seed(seed)
    order, ts = torch.randperm(network.n_minima, generator=g), torch.randperm(network.n_edges, generator=g)
    turned = network.subset(order).only_edges(ts)
    flip = torch.rand(network.n_edges, generator=g) < 0.5
    edges = torch.where(flip, turned.edges.flip(0), turned.edges)
    return Network.of(turned.energy, edges, turned.ts_energy, ids=torch.arange(len(order))), order


def groups(label: torch.Tensor, order: torch.Tensor) -> set[frozenset[int]]:
    return {frozenset(order[label == k].tolist()) for k in label.unique()}


@pytest.mark.parametrize("temperature", [None, 0.2])
@pytest.mark.parametrize("energies", [True, False])
def test_six_orders_of_the_minima_give_one_division(energies, temperature):
    """Louvain visits nodes in an order: six orders of this landscape gave six divisions."""
    network = scale_free(energies=energies)
    found = set()
    for seed in range(6):
        turned, order = shuffled(network, seed)
        label = analysis.communities(turned, temperature=temperature).label
        found.add(frozenset(groups(label, order)))
    assert len(found) == 1


def test_the_order_of_minima_of_equal_energy_comes_from_the_graph():
    """A tree without symmetry, all energies equal: only the graph can tell its nodes apart, and it does."""
    edges = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (2, 6)]
    network = Network.of([0.0] * 7, edges, [1.0] * 6)
    orders = []
    for seed in range(5):
        turned, order = shuffled(network, seed)
        orders.append(order[canonical_order(turned, turned.edges, torch.ones(6).double())].tolist())
    assert all(order == orders[0] for order in orders)
    assert sorted(orders[0]) == list(range(7))


def test_weights_tell_nodes_apart():
    network = Network.of([0.0] * 3, [(0, 1), (1, 2)], [1.0, 1.0])
    weight = torch.tensor([2.0, 1.0]).double()
    assert canonical_order(network, network.edges, weight).tolist()[-1] == 1  # the node of two neighbours
    first = canonical_order(network, network.edges, weight).tolist()
    assert first != canonical_order(network, network.edges, weight.flip(0)).tolist()


@pytest.mark.parametrize("unit", [1e-300, 1e-200, 1e-30, 1e30, 1e307])
def test_the_unit_of_the_weights_changes_nothing(unit):
    """Sums of squares of 1e-200 vanish, those of 1e308 are infinite."""
    network = scale_free()
    weight = torch.rand(network.n_edges, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.1
    plain, scaled = (analysis.communities(network, weight=weight * s) for s in (1.0, unit))
    assert torch.equal(plain.label, scaled.label)
    assert plain.modularity == pytest.approx(scaled.modularity, rel=1e-12)
    pairs = network.edges
    assert analysis.modularity(plain.label, pairs, weight * unit) == pytest.approx(plain.modularity, rel=1e-12)


@pytest.mark.parametrize("bad", [float("inf"), float("nan"), -1.0])
def test_weights_that_weigh_nothing_or_anything_are_refused(bad):
    network = Network.of([0, 0.1, 0.2], [(0, 1), (1, 2)], [1.0, 1.0])
    with pytest.raises(TorchscapeError, match="finite"):
        analysis.communities(network, weight=torch.tensor([1.0, bad]).double())
    with pytest.raises(TorchscapeError, match="all community weights are zero"):
        analysis.communities(network, weight=torch.zeros(2).double())
    with pytest.raises(TorchscapeError, match="resolution"):
        analysis.communities(network, resolution=bad)
    with pytest.raises(TorchscapeError, match="2 transition states"):
        analysis.communities(network, weight=torch.ones(3).double())
