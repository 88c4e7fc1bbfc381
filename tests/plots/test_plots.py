"""Every picture: drawn on given or own axes, without a warning, showing what the network says."""

from __future__ import annotations

import dataclasses
import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.legend import Legend

from torchscape import Network, analysis, plots
from torchscape.errors import TorchscapeError, UnknownName
from torchscape.plots.canvas import Picture
from torchscape.plots.colours import categories
from torchscape.plots.layout import default_levels, tree_layout
from torchscape.plots.springs import spring_layout


def landscape(n: int = 40, m: int = 70, seed: int = 0) -> Network:
    random = np.random.default_rng(seed)
    energy = random.normal(size=n)
    i = random.integers(0, n, m)
    j = (i + random.integers(1, n, m)) % n
    return Network.of(
        energy,
        torch.as_tensor(np.stack([i, j])),
        np.maximum(energy[i], energy[j]) + random.exponential(size=m),
        log_det=random.normal(10.0, 2.0, n),
        n_modes=6,
        ids=torch.arange(n) + 1,
        properties={"accuracy": torch.linspace(0.0, 1.0, n, dtype=torch.float64)},
    )


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


PICTURES = {
    "disconnectivity": lambda net, ax: plots.disconnectivity(net, colour="accuracy", labels=True, ax=ax),
    "by community": lambda net, ax: plots.disconnectivity(net, colour="community", ax=ax),
    "by funnel": lambda net, ax: plots.disconnectivity(net, colour="funnel", ax=ax),
    "network": lambda net, ax: plots.network(net, labels=True, ax=ax),
    "heat capacity": lambda net, ax: plots.heat_capacity(net, lowest=[2, 5], ax=ax),
    "occupation": lambda net, ax: plots.occupation(net, ax=ax),
    "entropy": lambda net, ax: plots.entropy(net, ax=ax),
    "frustration": lambda net, ax: plots.frustration(net, ax=ax),
    "degrees": lambda net, ax: plots.degree_distribution(net, n_bootstrap=5, ax=ax),
    "barriers": lambda net, ax: plots.barriers(net, gaps=True, ax=ax),
    "profile": lambda net, ax: plots.profile(net, *connected_pair(net), temperature=0.5, ax=ax),
}


def connected_pair(network: Network) -> tuple[int, int]:
    members = (network.components() == 0).nonzero().reshape(-1).tolist()
    return members[0], members[-1]


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_draws_on_its_own_and_on_given_axes(name, tmp_path):
    own = PICTURES[name](landscape(), None)
    own.figure.savefig(tmp_path / "own.png")
    figure, ax = plt.subplots()
    given = PICTURES[name](landscape(), ax)
    assert given.axes is ax
    assert given.figure is figure
    figure.savefig(tmp_path / "given.png")
    assert (tmp_path / "own.png").stat().st_size > 5000


def test_pictures_are_shown_in_a_line():
    """Their arrays would fill the screen of a notebook."""
    assert repr(plots.disconnectivity(landscape())) == "DisconnectivityPlot(40 minima, figure 7.5x5.5 in)"
    for name, draw in PICTURES.items():
        assert len(repr(draw(landscape(), None))) < 120, name
    kinds = [kind for name in plots.__all__ if isinstance(kind := getattr(plots, name), type)]
    assert len(kinds) > 8
    assert all(kind.__repr__ is Picture.__repr__ and "_content" in vars(kind) for kind in kinds)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 25), st.integers(0, 2**32 - 1))
def test_the_layout_shows_the_superbasins(n, seed):
    """Two minima hang from one node at a threshold exactly if they are in one superbasin there."""
    random = np.random.default_rng(seed)
    energy = np.sort(random.normal(size=n))
    network = Network.of(
        energy, [(k, k - 1 - k % 2) for k in range(2, n)], energy[2:] + random.random(max(n - 2, 0))
    )
    tree = analysis.merge_tree(network)
    leaves, gap = tree.leaves.numpy(), tree.gap.numpy()
    levels = default_levels(energy, gap)
    layout = tree_layout(energy[leaves], gap, levels)
    assert sorted(set(layout.x[:n])) == sorted(layout.x[:n])

    def ancestor(leaf: int, level: int) -> int:
        node = leaf
        while layout.parent[node] >= 0 and layout.level[layout.parent[node]] <= level:
            node = layout.parent[node]
        return node

    for level, threshold in enumerate(levels):
        basin = analysis.superbasins(network, torch.tensor([threshold], dtype=torch.float64))[0].numpy()[leaves]
        drawn = [ancestor(k, level) for k in range(n)]
        for a, b in itertools.combinations(range(n), 2):
            if basin[a] >= 0 and basin[b] >= 0:
                assert (basin[a] == basin[b]) == (drawn[a] == drawn[b])


def test_minima_that_nothing_connects_stand_in_their_colour_within_the_axes():
    """They were black, and those above the highest transition state were cut off."""
    energy = [0.0, 1.0, 0.5, 2.0, 0.25, 9.0]
    picture = plots.disconnectivity(Network.of(energy, [(0, 1), (1, 2)], [1.5, 1.25]), colour="energy")
    stems = picture.axes.collections[-1]
    begins = [segment[0, 1] for segment in stems.get_segments()]
    assert begins == [0.25, 2.0, 9.0]
    alone = [energy.index(e) for e in begins]
    assert stems.get_colors() == pytest.approx(picture.colouring.rgba[alone])
    assert all(low < picture.axes.get_ylim()[1] for low in begins)
    cut = plots.disconnectivity(Network.of(energy, [(0, 1), (1, 2)], [1.5, 1.25]), levels=[0.5, 1.0, 1.5])
    assert cut.axes.get_ylim()[1] < 3.0


def test_every_disc_is_seen():
    """A minimum without neighbours beside a hub was a dot of 3 % of its area."""
    star = Network.of(range(102), [(0, k) for k in range(1, 101)], [200.0] * 100)
    area = plots.network(star).radius ** 2
    assert area.min() == pytest.approx(0.1 * area.max())
    crowd = plots.network(Network.of(range(3000), [(0, k) for k in range(1, 2000)], [4000.0] * 1999))
    points = crowd.axes.transData.transform([(0, 0), (1, 0)])[:, 0]
    assert (2 * crowd.radius * np.ptp(points) / crowd.figure.dpi * 72).min() >= 2.0


@pytest.mark.parametrize("n", [2, 30, 400])
def test_discs_do_not_touch(n):
    for network in (landscape(n, 2 * n), Network.of(range(n), [(0, k) for k in range(1, n)], [n + 1.0] * (n - 1))):
        picture = plots.network(network, size="equal" if n == 30 else "degree")
        xy, radius = torch.as_tensor(picture.xy), torch.as_tensor(picture.radius)
        apart = torch.cdist(xy, xy) - radius - radius[:, None]
        assert float(apart.fill_diagonal_(torch.inf).min()) > 0.0
        drawn = picture.axes.transData.transform(picture.xy)
        box = picture.axes.bbox
        assert (drawn.min(0) >= box.min).all()
        assert (drawn.max(0) <= box.max).all()


def test_low_barriers_are_wide_and_dark():
    """Of parallel transition states the lowest counts; the lines know no more of the energies of minima."""
    energy, edges = [0.0, 1.0, 1.0, 3.0], [(0, 1), (1, 2), (0, 1), (2, 3)]
    picture = plots.network(Network.of(energy, edges, [9.0, 3.0, 2.0, 7.0]))
    named = {tuple(sorted(pair)): b for pair, b in zip(picture.pairs.tolist(), picture.barrier, strict=True)}
    assert named == {(0, 1): 1.0, (1, 2): 2.0, (2, 3): 4.0}
    lines = picture.axes.collections[0]
    widths, greys = lines.get_linewidths(), lines.get_colors()[:, 0]
    order = np.argsort(picture.barrier)
    assert (np.diff(np.asarray(widths)[order]) < 0).all()
    assert (np.diff(greys[order]) > 0).all()
    assert picture.axes.get_legend().get_title().get_text() == "barrier"
    both = plots.network(landscape(), colour="component", width="column")
    both.figure.draw_without_rendering()
    first, second = (legend.get_window_extent() for legend in both.axes.findobj(Legend))
    assert not first.overlaps(second)
    equal = plots.network(Network.of(energy, edges, [9.0, 3.0, 2.0, 7.0]), edges="equal")
    assert len(set(equal.axes.collections[0].get_linewidths())) == 1


def test_whole_numbers_have_whole_ticks():
    picture = plots.network(Network.of([0.0, 1.0, 2.0], [(0, 1), (1, 2)], [3.0, 3.0]), colour="degree")
    ticks = picture.figure.axes[1].get_yticks()
    assert (ticks == np.round(ticks)).all()


def test_labels_do_not_overlap():
    picture = plots.disconnectivity(landscape(150, 300), labels=True)
    picture.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in picture.axes.texts]
    assert len(boxes) == len(picture.labelled) > 5
    for a, b in itertools.combinations(boxes, 2):
        assert not a.overlaps(b)
    assert int(landscape(150, 300).energy.argmin()) in picture.labelled
    frame = picture.figure.bbox
    assert all(frame.x0 <= b.x0 and b.x1 <= frame.x1 and frame.y0 <= b.y0 for b in boxes)


def test_a_cut_tree_falls_apart_into_the_superbasins_there():
    network = landscape()
    cut = float(network.ts_energy.median())
    picture = plots.disconnectivity(network, levels=[cut - 1.0, cut - 0.5, cut])
    component = network.only_edges(network.ts_energy <= cut).components()
    assert picture.n_trees == len(component.unique())


def test_few_minima_shown_are_connected_as_before():
    network = landscape(150, 300)
    picture = plots.disconnectivity(network, lowest=12)
    assert set(picture.minima.tolist()) == set(network.energy.argsort()[:12].tolist())
    assert "12 of 150" in picture.axes.get_title(loc="right")
    deep = plots.disconnectivity(network, min_barrier=0.8)
    assert set(deep.minima.tolist()) == set((analysis.persistence(network) >= 0.8).nonzero().reshape(-1).tolist())


def test_thousands_of_minima_are_thinned_out_and_said_so():
    network = landscape(3000, 9000)
    picture = plots.disconnectivity(network)
    assert 200 < len(picture.minima) < 500
    assert "of 3000 minima" in picture.axes.get_title(loc="right")
    assert len(plots.disconnectivity(network, min_barrier=0.0).minima) == 3000


def test_colours_say_what_they_mean():
    network = landscape()
    scaled = plots.disconnectivity(network, colour="accuracy", colour_unit="%").colouring
    assert scaled.label == "accuracy (%)"
    assert scaled.mappable.get_clim() == (0.0, 1.0)
    signed = plots.disconnectivity(network, colour=network.energy).colouring
    low, high = signed.mappable.get_clim()
    assert low == -high == -float(network.energy.abs().max())
    grouped = plots.disconnectivity(network, colour="component").colouring
    assert len(grouped.names) == len(network.components().unique())
    mask = network.energy < 0
    names = [name for name, _ in plots.network(network, colour=mask).colouring.names]
    assert sorted(names) == [f"False ({int((~mask).sum())})", f"True ({int(mask.sum())})"]
    holes = torch.where(mask, network.energy, torch.nan)
    grey = plots.disconnectivity(network, colour=holes).colouring
    assert grey.unknown.sum() == int((~mask).sum())


def test_a_misspelt_colour_names_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'accuracy'"):
        plots.disconnectivity(landscape(), colour="acuracy")
    with pytest.raises(TorchscapeError, match="one value for each"):
        plots.network(landscape(), colour=torch.ones(3))


def test_degenerate_networks_draw():
    """One minimum; no transition states; all energies equal."""
    none = torch.zeros(2, 0, dtype=torch.int64)
    for network in (
        Network.of([1.0], none, []),
        Network.of([1.0, 2.0, 3.0], none, []),
        Network.of([0.0, 0.0], [(0, 1)], [0.0]),
    ):
        for picture in (plots.disconnectivity(network, labels=True), plots.network(network)):
            picture.figure.draw_without_rendering()
    with pytest.raises(TorchscapeError, match="explore first"):
        plots.disconnectivity(Network.of([], none, []))


def test_the_trees_of_a_peak_show_who_empties_and_who_fills():
    network = landscape()
    picture = plots.heat_capacity_trees(network)
    assert picture.temperature in [peak.temperature for peak in analysis.heat_capacity_peaks(network)]
    change = analysis.heat_capacity_contributions(network, picture.temperature).derivative.numpy()
    empties, fills = ~picture.emptying.colouring.unknown, ~picture.filling.colouring.unknown
    assert empties.any()
    assert fills.any()
    assert (change[empties] < 0).all()
    assert (change[fills] > 0).all()


def test_occupations_and_contributions_add_up():
    network = landscape()
    p = plots.occupation(network).curves
    assert sum(y for _, y in p.values()) == pytest.approx(1.0)
    c = plots.heat_capacity(network).curves
    both = c["emptying minima"][1] + c["filling minima"][1]
    assert c["total"][1] == pytest.approx(both)
    whole = plots.heat_capacity(network, excess=False).curves
    assert set(whole) == set(c)
    for name, (_, y) in c.items():  # all of them stand on what a single minimum of six modes has
        assert whole[name][1] == pytest.approx(3.0 + y)


def test_many_modes_do_not_flatten_the_peaks():
    """With hundreds of parameters the constant kappa / 2 left the peaks a ripple at the top of the picture."""
    network = dataclasses.replace(landscape(), n_modes=torch.full((40,), 600))
    picture = plots.heat_capacity(network, lowest=[2, 40])
    c = {name: y for name, (_, y) in picture.curves.items()}
    assert c["total"] == pytest.approx(c["emptying minima"] + c["filling minima"])
    assert c["lowest 40 minima"] == pytest.approx(c["total"], abs=1e-9)
    assert "above 300" in picture.axes.get_ylabel()
    whole = plots.heat_capacity(network, excess=False)
    assert whole.curves["total"][1] == pytest.approx(300.0 + c["total"])
    peaks = [line.get_xydata()[0] for line in picture.axes.get_lines() if line.get_marker() == "o"]
    found = analysis.heat_capacity_peaks(network)
    assert [y for _, y in peaks] == pytest.approx([peak.value - 300.0 for peak in found])


@pytest.mark.parametrize("draw", ["barriers", "heat_capacity", "coverage", "profile"])
def test_legends_below_cover_no_curve_and_no_label(draw):
    network = dataclasses.replace(landscape(), hits=torch.arange(1, 41))
    ends = connected_pair(network) if draw == "profile" else ()
    picture = getattr(plots, draw)(network, *ends)
    picture.figure.draw_without_rendering()
    legend = picture.axes.get_legend().get_window_extent()
    assert legend.y1 <= picture.axes.xaxis.label.get_window_extent().y0
    assert legend.y0 >= 0.0


def test_a_stored_leg_is_drawn_from_either_side():
    network = Network.of([0.0, 0.2, 0.1], [(0, 1), (2, 1)], [1.0, 0.5])
    along = torch.linspace(0.0, 3.0, 31, dtype=torch.float64)
    height = 0.1 + 0.4 * torch.exp(-((along - 1.0) ** 2))  # from minimum 2: the top after 1 of 3
    picture = plots.profile(network, 0, 2, legs={1: (along, height)})
    assert picture.transition_states.tolist() == [0, 1]
    assert picture.x[3] - picture.x[2] == pytest.approx(2.0)  # walked from 1 to 2: the top after 2 of 3
    assert picture.x[4] - picture.x[3] == pytest.approx(1.0)


def test_paths_that_the_network_carries_are_drawn():
    """Only the second of two transition states has a path: the first is drawn as a guide, dashed."""
    path = torch.full((2, 5, 2), torch.nan, dtype=torch.float64)
    path[1, :, 0] = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])
    path[1, :, 1] = torch.tensor([0.2, 0.4, 0.5, 0.3, 0.1])
    network = Network.of([0.0, 0.2, 0.1], [(0, 1), (1, 2)], [1.0, 0.5], ts_path=path)
    picture = plots.profile(network, 0, 2)
    guide, stored = picture.axes.lines[:2]
    assert guide.get_linestyle() == "--"
    assert stored.get_ydata().tolist() == path[1, :, 1].tolist()
    assert picture.x.tolist() == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert "arc length" in picture.axes.get_xlabel()


def test_labels_of_long_paths_do_not_overlap():
    n = 60
    energy = np.where(np.arange(n) % 2, 0.5, 0.0) + 0.01 * np.arange(n)
    chain = Network.of(energy, [(k, k + 1) for k in range(n - 1)], energy[1:] + 1.0, ids=torch.arange(n) + 12340)
    picture = plots.profile(chain, 0, n - 1)
    picture.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in picture.axes.texts]
    assert {"0", str(n - 1)} <= {text.get_text() for text in picture.axes.texts}
    ids = plots.profile(chain, 0, n - 1, labels="ids")
    assert {"12340", str(12340 + n - 1)} <= {text.get_text() for text in ids.axes.texts}
    assert len(boxes) > 10
    for a, b in itertools.combinations(boxes, 2):
        assert not a.overlaps(b)


@pytest.mark.parametrize("spread", [4.0, 30.0, 900.0, 1e5])
def test_labels_of_a_temperature_axis_do_not_overlap(spread):
    network = landscape()
    picture = plots.occupation(network, torch.logspace(0, np.log10(spread), 50, dtype=torch.float64) * 0.037)
    picture.figure.draw_without_rendering()
    axis = picture.axes.xaxis
    texts = [*axis.get_ticklabels(), *axis.get_ticklabels(minor=True)]
    low, high = picture.axes.bbox.x0 - 20, picture.axes.bbox.x1 + 20
    boxes = [box for text in texts if text.get_text() and low < (box := text.get_window_extent()).x0 < high]
    assert len(boxes) >= 2
    for a, b in itertools.combinations(boxes, 2):
        assert not a.overlaps(b)


def test_no_law_is_fitted_to_a_few_points():
    """Any law fits four points."""
    grid = [(k, k + d) for k in range(80) for d in (1, 2) if k + d < 80]  # of degrees 2, 3 and 4
    few = plots.degree_distribution(Network.of(range(80), grid, [99.0] * len(grid)))
    assert few.law is None
    assert len(few.axes.lines) == 1
    assert "too few for a law" in few.axes.get_title(loc="right")
    random = np.random.default_rng(0)
    many = [
        (k, int(j)) for k in range(1, 120) for j in {int(k * random.random() ** 2) for _ in range(3)} if j != k
    ]
    enough = plots.degree_distribution(Network.of(range(120), many, [200.0] * len(many)), n_bootstrap=5, k_min=2)
    assert enough.law is not None
    assert len(enough.axes.lines) == 3


def test_minima_are_categories():
    """Neighbouring curves were neighbouring shades of one scale."""
    picture = plots.occupation(landscape(), most=6)
    colours = [line.get_color() for line in picture.axes.lines[:6]]
    assert np.allclose(colours, categories(6))


def test_gaps_below_every_barrier_are_counted():
    network = Network.of([0.0, 0.0, 5.0], [(0, 1), (1, 2)], [3.0, 8.0])
    for gaps in (network, Network.of([0.0, 0.001, 5.0], [(0, 1), (1, 2)], [3.0, 5.0001])):
        picture = plots.barriers(gaps, gaps=True)
        assert {name: int(counts.sum()) for name, counts in picture.counts.items()} == {
            "uphill": 2,
            "downhill": 2,
            "energy gap": 2,
        }


def test_springs_bring_neighbours_together():
    """Two cliques joined by one edge end as two clusters."""
    pairs = [*itertools.combinations(range(8), 2), *itertools.combinations(range(8, 16), 2), (0, 8)]
    start = np.random.default_rng(0).normal(size=(16, 2))
    xy = torch.as_tensor(spring_layout(start, np.array(pairs)))
    inside = torch.cdist(xy[:8], xy[:8]).mean()
    between = torch.cdist(xy[:8], xy[8:]).mean()
    assert float(between / inside) > 2.0


def test_same_seed_same_picture():
    network = landscape(200, 400)
    assert np.array_equal(plots.network(network).xy, plots.network(network).xy)


@pytest.mark.parametrize("name", ["barriers", "coverage", "entropy", "frustration", "heat_capacity", "network"])
def test_a_network_without_minima_is_refused_with_advice(name):
    """An unexplored landscape is the first thing that everybody tries to draw."""
    with pytest.raises(TorchscapeError, match=r"explore|find at least|give the temp|search for"):
        getattr(plots, name)(Network.of([], [], []))


def test_frustration_needs_a_path_to_the_lowest_minimum():
    with pytest.raises(TorchscapeError, match="search for transition states"):
        plots.frustration(Network.of([0.0, 0.5, 1.0], [(1, 2)], [2.0], n_modes=3))
