"""A network on a device: analysed, exported and drawn there as on the CPU."""

from __future__ import annotations

import filecmp

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from on_both import close, network

from torchscape import analysis, export, plots

T = 0.3
SEVERAL = [0.1, 0.3, 1.0]
MEASURES = {
    "log partition": lambda n: analysis.log_partition(n, SEVERAL),
    "occupation": lambda n: analysis.occupation(n, SEVERAL),
    "mean energy": lambda n: analysis.mean_energy(n, SEVERAL),
    "heat capacity": lambda n: analysis.heat_capacity(n, SEVERAL),
    "heat-capacity peaks": lambda n: analysis.heat_capacity_peaks(n),
    "lpphe": lambda n: analysis.lpphe(n),
    "shannon entropy": lambda n: analysis.shannon_entropy(n, SEVERAL),
    "frustration": lambda n: analysis.frustration(n, SEVERAL),
    "rates": lambda n: analysis.rates(n, T).log_rates,
    "rate matrix": lambda n: analysis.rates(n, T).matrix().to_dense(),
    "rate constants": lambda n: analysis.rate_constants(analysis.rates(n, T), [0], [4]),
    "mean first-passage times": lambda n: analysis.log_mean_first_passage_times(analysis.rates(n, T), [0]),
    "committors": lambda n: analysis.committors(analysis.rates(n, T), [0], [4]),
    "betweenness": lambda n: analysis.edge_betweenness(n),
    "components": lambda n: n.components(),
    "barriers": lambda n: analysis.barriers(n),
    "minimax": lambda n: analysis.minimax(n),
    "merge tree": lambda n: analysis.merge_tree(n),
    "funnels": lambda n: analysis.funnels(n),
    "communities": lambda n: analysis.communities(n),
    "fastest path": lambda n: analysis.fastest_path(n, T, 0, 4),
    "lowest path": lambda n: analysis.minimax_path(n, 0, 4),
    "graph statistics": lambda n: analysis.graph_statistics(n),
    "clustering": lambda n: analysis.clustering(n),
    "hubs": lambda n: analysis.hubs(n),
    "monotonic basins": lambda n: analysis.monotonic_basins(n),
    "free energy": lambda n: analysis.free_energy(n, SEVERAL),
    "completeness": lambda n: analysis.completeness(n.hits),
    "coverage": lambda n: analysis.coverage(n),
    "net flux": lambda n: analysis.net_flux(analysis.rates(n, T), [0], [4]),
    "lumping": lambda n: analysis.kinetic_lumping(n, T, n_states=3),
    "evolution": lambda n: analysis.evolve(analysis.rates(n, T), n.energy.softmax(0), [0.1, 1.0]),
    "transformation": lambda n: analysis.graph_transformation(analysis.rates(n, T), n.ids[[0, 4]]),
    "relaxation": lambda n: analysis.relaxation_spectrum(analysis.rates(n, T)),
}
PICTURES = {
    "disconnectivity": lambda n: plots.disconnectivity(n, colour="accuracy", labels=True),
    "by community": lambda n: plots.disconnectivity(n, colour="community"),
    "network": lambda n: plots.network(n, labels=True),
    "heat capacity": lambda n: plots.heat_capacity(n, lowest=[2, 5]),
    "heat-capacity trees": lambda n: plots.heat_capacity_trees(n),
    "occupation": lambda n: plots.occupation(n),
    "entropy": lambda n: plots.entropy(n),
    "frustration": lambda n: plots.frustration(n),
    "degrees": lambda n: plots.degree_distribution(n, n_bootstrap=5),
    "barriers": lambda n: plots.barriers(n, gaps=True),
    "profile": lambda n: plots.profile(n, 0, 4, temperature=0.5),
    "coverage": lambda n: plots.coverage(n),
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES.keys())
def test_measures(measure, device):
    close(measure(network(device)), measure(network("cpu")))


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES.keys())
def test_pictures(picture, device):
    close(drawn(picture(network(device))), drawn(picture(network("cpu"))))


def drawn(picture) -> list:
    """Every line and collection of a picture, as numbers."""
    numbers = []
    for axes in plt.gcf().axes:
        numbers += [torch.as_tensor(line.get_xydata().copy()).double() for line in axes.lines]
        numbers += [
            torch.as_tensor(np.array(np.ma.filled(c.get_offsets(), 0.0))).double() for c in axes.collections
        ]
    plt.close("all")
    return numbers


def test_files(device, tmp_path):
    for name, where in (("there", device), ("here", "cpu")):
        net = network(where)
        folder = tmp_path / name
        export.to_csv(net, folder / "csv", coords=True)
        export.write_graphml(net, folder / "network.graphml")
        export.write_pathsample(net, folder / "pathsample", a=[0], b=[4])
        graph = export.to_networkx(net, coords=True)
        assert graph.number_of_nodes() == net.n_minima
        data = export.to_pyg(net, coords=True)
        assert data.edge_index.device.type == torch.device(where).type
    files = [path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*") if path.is_file()]
    assert len(files) >= 5
    _, other, broken = filecmp.cmpfiles(tmp_path / "here", tmp_path / "there", files, shallow=False)
    assert (other, broken) == ([], [])
    close(export.read_pathsample(tmp_path / "there" / "pathsample").energy, network("cpu").energy)
