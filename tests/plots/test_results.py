"""A plot draws a result: the same picture as of its network, and nothing is drawn by lot on the way."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from test_plots import landscape

from torchscape import Network, analysis, metrics, plots, random
from torchscape.errors import TorchscapeError

T = torch.linspace(0.05, 2.0, 40, dtype=torch.float64)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def network() -> Network:
    net = landscape(n=12, m=60)
    assert net.n_components == 1
    return Network.of(
        net.energy, net.edges, net.ts_energy, log_det=net.log_det, n_modes=6,
        hits=torch.arange(12) % 5, ts_hits=torch.arange(60) % 3,
    )  # fmt: skip


PAIRS = {
    "heat capacity": (
        lambda net: plots.heat_capacity(net, T),
        lambda net: plots.heat_capacity(analysis.heat_capacity(net, T), peaks=analysis.heat_capacity_peaks(net)),
    ),
    "frustration": (
        lambda net: plots.frustration(net, T),
        lambda net: plots.frustration(analysis.frustration(net, T)),
    ),
    "barriers": (
        lambda net: plots.barriers(net, gaps=True),
        lambda net: plots.barriers(analysis.barriers(net), gaps=True),
    ),
    "degrees": (
        lambda net: plots.degree_distribution(net, n_bootstrap=5),
        lambda net: plots.degree_distribution(analysis.degree_law(net, n_bootstrap=5)),
    ),
    "coverage": (lambda net: plots.coverage(net), lambda net: plots.coverage(analysis.coverage(net))),
}


def drawn(picture) -> list[np.ndarray]:
    axes = picture.axes
    patches = [patch.get_path().vertices for patch in axes.patches]
    return [*(line.get_xydata() for line in axes.get_lines()), *patches]


@pytest.mark.parametrize("name", PAIRS)
def test_a_result_makes_the_picture_of_its_network(name, network):
    of_network, of_result = (draw(network) for draw in PAIRS[name])
    assert len(drawn(of_network)) > 1
    for one, other in zip(drawn(of_network), drawn(of_result), strict=True):
        assert np.allclose(one, other, rtol=1e-12, atol=1e-12, equal_nan=True)  # sums in another order
    texts = [
        [text.get_text() for text in p.axes.texts] + [p.axes.get_title(loc="right")]
        for p in (of_network, of_result)
    ]
    assert texts[0] == texts[1]


def test_occupation_and_entropy_come_with_their_temperatures(network):
    found = plots.occupation(analysis.occupation(network, T), T, most=3)
    assert sum(name.startswith("minimum") for name in found.curves) == 3
    whole = plots.occupation(network, T, most=3)
    for name, (x, y) in whole.curves.items():  # the ids of this network are its positions
        assert np.array_equal(found.curves[name][0], x)
        exact = name.startswith("minimum")  # the others are summed in another order
        np.testing.assert_allclose(found.curves[name][1], y, rtol=0 if exact else 1e-12)
    (curve,) = plots.entropy(analysis.shannon_entropy(network, T), T.tolist()).curves.values()
    assert np.array_equal(curve[1], plots.entropy(network, T).curves["Shannon entropy"][1])
    with pytest.raises(TorchscapeError, match="at which temperatures"):
        plots.entropy(analysis.shannon_entropy(network, T))
    with pytest.raises(TorchscapeError, match="one temperature for each of 40 rows"):
        plots.occupation(analysis.occupation(network, T), T[:3].tolist())


def test_what_a_result_cannot_answer_is_refused_with_the_way_out(network):
    result = analysis.heat_capacity(network, T)
    assert len(plots.heat_capacity(result).axes.get_lines()) == 3  # no peaks are marked
    with pytest.raises(TorchscapeError, match="to which temperatures can change nothing: give it to"):
        plots.heat_capacity(result, T)
    with pytest.raises(TorchscapeError, match="lowest, peaks can change nothing: give them to"):
        plots.heat_capacity(result, lowest=[2], peaks=True)
    with pytest.raises(TorchscapeError, match="give a row of them"):
        plots.heat_capacity(analysis.heat_capacity(network, 0.3))
    with pytest.raises(TorchscapeError, match="n_bootstrap"):
        plots.degree_distribution(analysis.degree_law(network, n_bootstrap=5), n_bootstrap=9)
    with pytest.raises(TorchscapeError, match="level"):
        plots.coverage(analysis.coverage(network), level=0.9)


def test_results_are_drawn_without_drawing_lots(network, monkeypatch):
    d = torch.cdist(network.energy[:, None], network.energy[:, None])
    law = analysis.degree_law(network, n_bootstrap=5)
    correlation = metrics.rank_correlation(
        {"lpphe": network.log_det}, network.energy, n_permutations=9, n_bootstrap=9
    )
    distances = metrics.compare_distances(d, {"twice": 2 * d}, n_permutations=9)

    def refuse(*_, **__):
        raise AssertionError("a plot asks for random numbers")

    for name in ("uniform", "normal", "permutation", "bits"):
        if hasattr(random, name):
            monkeypatch.setattr(random, name, refuse)
    monkeypatch.setattr("torchscape.analysis.graph.degree_laws.uniform", refuse)
    assert plots.degree_distribution(law).law is law
    assert plots.correlations(correlation).correlation is correlation
    assert plots.distance_densities(distances).tests is distances.tests


def test_no_peak_where_nothing_moves(network):
    equal = Network.of([0.0, 0.0], [(0, 1)], [1.0])
    with pytest.raises(TorchscapeError, match="no population moves between the minima"):
        plots.heat_capacity_trees(equal, 0.5)
