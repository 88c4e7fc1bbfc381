"""What the graph says of each minimum and transition state, attached to the network as named properties."""

from __future__ import annotations

import dataclasses

from torchscape.analysis.graph.betweenness import edge_betweenness
from torchscape.analysis.graph.community_detection import communities
from torchscape.analysis.graph.neighbours import clustering, degrees, paired
from torchscape.analysis.kinetics.rate_theory import log_conductances
from torchscape.analysis.thermodynamics.superposition import occupation
from torchscape.analysis.topology.basins import funnels
from torchscape.analysis.topology.heights import barriers
from torchscape.network import Network
from torchscape.types import Float, Tensor

__all__ = ["annotated", "edge_features", "graph_features"]


def graph_features(network: Network, *, temperature: float | None = None, seed: int = 0) -> dict[str, Tensor]:
    """Degree, clustering, component, community and funnel of each minimum, as plain tensors [N].

    Args:
        network: N minima, E transition states.
        temperature: weigh communities by the rates at it, and add the occupation probabilities.
        seed: of the search for communities.

    O(E^1.5) for the clustering, the rest O(E log E).

    Example:
        >>> net = Network.of(energy=[0.0, 0.5, 0.7], edges=[(0, 1), (1, 2)], ts_energy=[1.0, 1.2])
        >>> {name: values.tolist() for name, values in graph_features(net).items() if name != "community"}
        {'degree': [1, 2, 1], 'clustering': [0.0, 0.0, 0.0], 'component': [0, 0, 0], 'funnel': [0, 1, 2]}
    """
    features = {
        "degree": degrees(network),
        "clustering": clustering(network),
        "component": network.components(),
        "community": communities(network, temperature=temperature, seed=seed).label,
        "funnel": funnels(network).label,
    }
    if temperature is not None:
        features["occupation"] = occupation(network, temperature)
    return features


def edge_features(
    network: Network, *, temperature: float | None = None, n_sources: int | None = None, seed: int = 0
) -> dict[str, Float[Tensor, "E"]]:
    """Barriers from both sides and the betweenness of each transition state, as plain tensors [E].

    Args:
        network: N minima, E transition states.
        temperature: add the logarithm of the equilibrium flux over each transition state at it.
        n_sources, seed: as for :func:`~torchscape.analysis.edge_betweenness`; parallel transition states share
            theirs.

    O(n_sources E log N).

    Example:
        >>> net = Network.of(energy=[0.0, 0.5, 0.75], edges=[(0, 1), (1, 2)], ts_energy=[1.0, 1.25])
        >>> {name: values.tolist() for name, values in edge_features(net).items()}
        {'uphill': [1.0, 0.75], 'downhill': [0.5, 0.5], 'betweenness': [2.0, 2.0]}
    """
    both = barriers(network)
    flow = edge_betweenness(network, n_sources=n_sources, seed=seed)[1]
    features = {"uphill": both.uphill, "downhill": both.downhill, "betweenness": flow[paired(network)[1]]}
    if temperature is not None:
        features["log_flux"] = log_conductances(network, temperature)
    return {name: values.to(network.ts_energy) for name, values in features.items()}


def annotated(
    network: Network, *, temperature: float | None = None, edges: bool = False, seed: int = 0
) -> Network:
    """The network with :func:`graph_features` among its properties.

    Plots then take them by name, and every export carries them: ``export.to_pyg(annotated(network))`` is
    PyTorch Geometric data with these columns among the node features.

    Args:
        network: N minima, E transition states.
        temperature: as for :func:`graph_features`.
        edges: also add :func:`edge_features`, as properties of the transition states; beyond a few thousand minima
            their betweenness takes longest.
        seed: of the search for communities, and of the choice of sources.

    O(E^1.5), and with ``edges`` another O(n E log N) for the n = min(N, 2000) sources of the betweenness.

    Example:
        >>> net = Network.of(energy=[0.0, 0.5, 0.7], edges=[(0, 1), (1, 2)], ts_energy=[1.0, 1.2])
        >>> marked = annotated(net, temperature=1.0, edges=True)
        >>> sorted(marked.properties)
        ['clustering', 'community', 'component', 'degree', 'funnel', 'occupation']
        >>> sorted(marked.ts_properties)
        ['betweenness', 'downhill', 'log_flux', 'uphill']
    """
    features: dict[str, Float[Tensor, "N"]] = {
        name: values.to(network.energy)
        for name, values in graph_features(network, temperature=temperature, seed=seed).items()
    }
    ts_features = edge_features(network, temperature=temperature, seed=seed) if edges else {}
    return dataclasses.replace(
        network,
        properties={**network.properties, **features},
        ts_properties={**network.ts_properties, **ts_features},
    )
