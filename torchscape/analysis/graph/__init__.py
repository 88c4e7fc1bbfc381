"""The network as a graph: degrees, clustering, path lengths, betweenness, communities, random graphs beside it."""

from torchscape.analysis.graph.annotate import annotated, edge_features, graph_features
from torchscape.analysis.graph.betweenness import edge_betweenness
from torchscape.analysis.graph.community_detection import Communities, communities, modularity, rate_weights
from torchscape.analysis.graph.degree_laws import DegreeLaw, degree_distribution, degree_law
from torchscape.analysis.graph.neighbours import clustering, degrees, neighbour_pairs
from torchscape.analysis.graph.random_graphs import rewired
from torchscape.analysis.graph.small_world import AgainstRandom, GraphStatistics, Hubs, graph_statistics, hubs

__all__ = [
    "AgainstRandom",
    "Communities",
    "DegreeLaw",
    "GraphStatistics",
    "Hubs",
    "annotated",
    "clustering",
    "communities",
    "degree_distribution",
    "degree_law",
    "degrees",
    "edge_betweenness",
    "edge_features",
    "graph_features",
    "graph_statistics",
    "hubs",
    "modularity",
    "neighbour_pairs",
    "rate_weights",
    "rewired",
]
