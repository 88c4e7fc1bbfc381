"""Disconnectivity graphs, measured: where lines, ends, labels and bars are."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text

from torchscape import Network, analysis, plots
from torchscape.errors import OptionError, TorchscapeError
from torchscape.plots.colours import categories
from torchscape.plots.layout import tree_layout
from torchscape.plots.tree_choice import choose_minima
from torchscape.plots.tree_lines import tree_lines


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def landscape(n: int = 60, m: int = 120, seed: int = 0) -> Network:
    random = np.random.default_rng(seed)
    energy = np.sort(random.normal(size=n))
    i = random.integers(0, n, m)
    j = (i + random.integers(1, n, m)) % n
    saddle = np.maximum(energy[i], energy[j]) + random.exponential(size=m)
    return Network.of(energy, torch.as_tensor(np.stack([i, j])), saddle)


def two_funnels(n: int = 40) -> Network:
    """Minima 0 to n/2 - 1 hang together by low saddles, the others too; one high saddle joins the two."""
    half = n // 2
    energy = np.concatenate([np.linspace(0.0, 3.0, half), np.linspace(0.1, 3.1, half)])
    chains = [(k, k + 1) for k in range(half - 1)] + [(half + k, half + k + 1) for k in range(half - 1)]
    saddle = [max(energy[a], energy[b]) + 0.3 for a, b in chains]
    return Network.of(energy, [*chains, (0, half)], [*saddle, 5.0])


def saddles_drawn(picture) -> np.ndarray:
    return np.sort(picture.layout.y[picture.layout.n_leaves :])


def test_mergers_are_drawn_at_their_own_energies():
    """Rounded up to even levels they stood up to a level too high. The oracle is the minimum spanning forest."""
    network = landscape()
    picture = plots.disconnectivity(network)
    assert picture.step is None
    forest = analysis.merge_tree(network).gap
    assert saddles_drawn(picture).tolist() == sorted(forest[forest.isfinite()].tolist())
    bars = picture.axes.collections[1].get_segments()
    assert sorted(bar[0, 1] for bar in bars) == pytest.approx(saddles_drawn(picture))
    assert all(bar[0, 1] == bar[1, 1] for bar in bars)


@pytest.mark.parametrize("style", ["orthogonal", "slanted"])
@pytest.mark.parametrize("levels", [None, 8])
def test_leaves_end_upright_at_their_energies(style, levels):
    network = landscape()
    picture = plots.disconnectivity(network, style=style, levels=levels)
    ends = {}
    for line, node in zip(picture.lines.branches, picture.lines.owner, strict=True):
        (_, y0), (x1, y1), (x2, y2) = line
        assert x1 == x2
        assert y0 >= y1 >= y2
        if node < picture.layout.n_leaves:
            ends[float(x2)] = float(y2)
    for x, minimum in zip(picture.x.tolist(), picture.minima.tolist(), strict=True):
        if x in ends:
            assert ends[x] == float(network.energy[minimum])
    upright = picture.lines.branches[picture.lines.owner < picture.layout.n_leaves]
    assert (upright[:, 1, 1] > upright[:, 2, 1]).all()


@pytest.mark.parametrize("options", [{}, {"levels": 12}, {"step": 0.4}, {"centre": "largest"}])
def test_parents_stand_midway_above_their_minima(options):
    layout = plots.disconnectivity(landscape(), **options).layout
    below: dict[int, list[float]] = {}
    for leaf in range(layout.n_leaves):
        node = leaf
        while (node := int(layout.parent[node])) >= 0:
            below.setdefault(node, []).append(float(layout.x[leaf]))
    assert len(below) == len(layout.x) - layout.n_leaves
    for node, places in below.items():
        assert layout.x[node] == pytest.approx(0.5 * (min(places) + max(places)))
    for node in below:
        kids = layout.x[layout.parent == node]
        assert kids.min() <= layout.x[node] <= kids.max()


@settings(deadline=None, max_examples=60)
@given(
    st.integers(2, 30),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 3, 9]),
    st.sampled_from(["orthogonal", "slanted"]),
    st.sampled_from(["lowest", "largest"]),
)
def test_no_two_lines_of_a_tree_cross(n, seed, n_levels, style, centre):
    """All pairs of line segments of random trees, by orientation tests in exact comparisons."""
    random = np.random.default_rng(seed)
    energy = random.normal(size=n)
    gap = np.maximum(energy[:-1], energy[1:]) + random.exponential(size=n - 1)
    gap[random.random(n - 1) < 0.1] = np.inf
    top = max([*gap[np.isfinite(gap)], energy.max()]) + 0.1
    levels = np.linspace(energy.min(), top, n_levels + 1)[1:] if n_levels else np.unique(gap[np.isfinite(gap)])
    if not len(levels):
        return
    layout = tree_layout(energy, gap, levels, centre)
    lines = tree_lines(layout, style, height=float(top - energy.min()), aspect=1.3)
    segments = [s for s in lines.segments if not np.array_equal(*s)]

    def side(p, q, r):
        return np.sign((q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0]))

    for (a, b), (c, d) in itertools.combinations(segments, 2):
        assert not (side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0)


def test_slants_are_steep_and_apart():
    """Four branches from one point: each leaves at an angle of its own, none nearly level."""
    star = Network.of([0.0, 0.1, 0.2, 0.3], [(0, 1), (0, 2), (0, 3)], [2.0, 2.0, 2.0])
    picture = plots.disconnectivity(star, style="slanted")
    slants = picture.lines.branches[:, :2]
    pixels = picture.axes.transData.transform(slants.reshape(-1, 2)).reshape(-1, 2, 2)
    dx, dy = (pixels[:, 1] - pixels[:, 0]).T
    angles = np.sort(np.degrees(np.arctan2(dy, dx)))
    assert np.diff(angles).min() > 2.0
    assert all(-175.0 < angle < -5.0 for angle in angles)


def test_a_shelf_of_minima_hangs_from_a_bar():
    """Thirty slants from one point ran into one wedge."""
    n = 30
    shelf = Network.of(np.linspace(0, 1, n), [(0, k) for k in range(1, n)], [2.0] * (n - 1))
    picture = plots.disconnectivity(shelf, style="slanted", levels=[1.0, 2.0])
    assert len(picture.lines.bars) == 1
    spacing = np.diff(np.sort(picture.x))
    width = picture.axes.collections[0].get_linewidth()[0]
    points = picture.axes.bbox.width / picture.figure.dpi * 72 / np.ptp(picture.axes.get_xlim())
    assert spacing.min() * points > 2 * width


@pytest.mark.parametrize("n", [600, 5000])
def test_branches_of_large_trees_can_be_told_apart(n):
    network = landscape(n, 3 * n)
    picture = plots.disconnectivity(network)
    picture.figure.draw_without_rendering()
    width = picture.axes.collections[0].get_linewidth()[0]
    points = picture.axes.bbox.width / picture.figure.dpi * 72 / np.ptp(picture.axes.get_xlim())
    assert np.diff(np.sort(picture.x)).min() * points > 1.8 * width
    assert width >= 0.25
    barrier = analysis.persistence(network)
    left_out = np.setdiff1d(np.arange(n), picture.minima)
    assert len(left_out) > 0
    hidden = barrier[torch.as_tensor(left_out)]  # those with no barrier at all are connected with nothing
    assert float(barrier[torch.as_tensor(picture.minima)].min()) >= float(hidden[hidden.isfinite()].max())
    assert f"{len(picture.minima)} of {n} minima" in picture.axes.get_title(loc="right")
    assert picture.count.sum() == n - int((~hidden.isfinite()).sum())
    everything = plots.disconnectivity(network, min_barrier=0.0)
    assert len(everything.minima) == n


def test_default_shows_both_funnels():
    picture = plots.disconnectivity(two_funnels())
    layout = picture.layout
    (top,) = layout.roots
    kids = np.flatnonzero(layout.parent == top)
    assert len(kids) == 2
    assert layout.y[top] == 5.0
    assert layout.y[kids].max() < 3.5
    left, right = sorted(kids, key=lambda k: layout.x[k])
    assert layout.last[left] + 1.0 < layout.first[right]  # set apart


def test_levels_are_drawn_with_their_step():
    network = landscape()
    picture = plots.disconnectivity(network, step=0.5, unit="eV")
    assert np.diff(picture.levels) == pytest.approx(0.5)
    assert picture.levels[-1] >= network.ts_energy[torch.isfinite(network.ts_energy)].min()
    assert set(saddles_drawn(picture)) <= set(picture.levels)
    bar = next(line for line in picture.axes.lines if line.get_gid() == "bar")
    assert np.ptp(bar.get_ydata()) == pytest.approx(0.5)
    (text,) = [text for text in picture.axes.texts if text.get_gid() == "bar"]
    assert text.get_text() == "step 0.5 eV"
    with pytest.raises(OptionError, match="give one of them"):
        plots.disconnectivity(network, step=0.5, levels=4)
    counted = plots.disconnectivity(network, levels=7)
    assert len(counted.levels) == 7
    assert counted.step == pytest.approx(np.diff(counted.levels).mean())


def test_bars_meet_no_branch():
    for options in ({"step": 0.5}, {"scale_bar": True}, {"step": 0.5, "scale_bar": 1.0}):
        picture = plots.disconnectivity(landscape(), **options)
        picture.figure.draw_without_rendering()
        boxes = [t.get_window_extent() for t in picture.axes.texts if t.get_gid() == "bar"]
        left = picture.axes.transData.transform((picture.layout.x.min(), 0.0))[0]
        assert boxes
        assert all(box.x1 < left for box in boxes)
        for a, b in itertools.combinations(boxes, 2):
            assert not a.overlaps(b)


def test_a_scale_bar_stands_for_the_axis():
    picture = plots.disconnectivity(landscape(), scale_bar=0.5, unit="eV")
    assert not picture.axes.spines["left"].get_visible()
    assert len(picture.axes.get_yticks()) == 0
    bar = next(line for line in picture.axes.lines if line.get_gid() == "bar")
    assert np.ptp(bar.get_ydata()) == pytest.approx(0.5)
    own = plots.disconnectivity(landscape(), scale_bar=True)
    length = np.ptp(next(line for line in own.axes.lines if line.get_gid() == "bar").get_ydata())
    assert 0.05 < length / np.ptp(own.axes.get_ylim()) < 0.25


def test_a_few_saddles_far_above_do_not_squeeze_the_tree():
    network = landscape()
    far = dataclasses.replace(network, ts_energy=network.ts_energy.clone())
    bridge = analysis.merge_tree(network).gap_edge
    highest = bridge[analysis.merge_tree(network).gap.nan_to_num(posinf=-9e9).argmax()]
    far.ts_energy[highest] = 500.0
    far = far.only_edges((far.ts_energy < 400) | (torch.arange(far.n_edges) == highest))
    joined = analysis.merge_tree(far).gap
    if not bool((joined[joined.isfinite()] > 400).any()):
        pytest.skip("another saddle took its place")
    picture = plots.disconnectivity(far)
    assert picture.axes.get_ylim()[1] < 20.0
    assert "1 merger above" in picture.axes.get_title(loc="right").replace("\n", " ")
    whole = plots.disconnectivity(far, window=(None, None))
    assert whole.axes.get_ylim()[1] > 400.0
    assert whole.n_trees == picture.n_trees - 1


def test_window_cuts_above_and_below():
    network = two_funnels()
    cut = plots.disconnectivity(network, window=(0.5, 4.0))
    low, high = cut.axes.get_ylim()
    assert low == 0.5
    assert high == pytest.approx(4.0, abs=0.2)
    assert cut.n_trees == 2
    assert "1 merger above" in cut.axes.get_title(loc="right")
    solid = cut.axes.collections[2].get_segments()
    assert len(solid) == 2  # cut apart, not unconnected
    fewer = plots.disconnectivity(network, window=(None, 2.0))
    assert network.energy[torch.as_tensor(fewer.minima)].max() <= 2.0
    assert "up to 2" in fewer.axes.get_title(loc="right")
    assert "3 minima end below 0.2" in plots.disconnectivity(network, window=(0.2, None)).axes.get_title(
        loc="right"
    )
    with pytest.raises(TorchscapeError, match="window"):
        plots.disconnectivity(network, window=(None, -3.0))


def test_energies_between_two_are_taken_out_of_the_axis():
    network = two_funnels()
    whole, broken = plots.disconnectivity(network), plots.disconnectivity(network, broken=(3.6, 4.8))
    place = [p.axes.transAxes.inverted().transform(p.axes.transData.transform([(0, y) for y in (3.5, 4.9)]))[:, 1]
             for p in (whole, broken)]  # fmt: skip
    assert place[1][1] - place[1][0] < 0.5 * (place[0][1] - place[0][0])
    assert (np.diff(broken.axes.transData.transform([(0, y) for y in np.linspace(0, 5, 40)])[:, 1]) > 0).all()
    ticks = np.asarray(broken.axes.get_yticks())
    assert not ((ticks > 3.6) & (ticks < 4.8)).any()
    assert (ticks <= 3.6).any()
    for line in broken.lines.branches[:, 1:]:  # what is upright stays so
        pixels = broken.axes.transData.transform(line)
        assert pixels[0, 0] == pixels[1, 0]
    broken.figure.draw_without_rendering()
    with pytest.raises(OptionError, match="ends of the axis"):
        plots.disconnectivity(network, broken=(4.0, 99.0))


def test_energies_above_the_lowest_minimum():
    network = landscape()
    picture = plots.disconnectivity(network, relative=True)
    assert picture.layout.y[: picture.layout.n_leaves].min() == 0.0
    assert "above the lowest" in picture.axes.get_ylabel()
    plain = plots.disconnectivity(network)
    assert picture.layout.y == pytest.approx(plain.layout.y - float(network.energy.min()))


def test_wedges_hold_all_minima_that_are_left_out():
    """By their own superbasins: a minimum is in the wedge of the branch that its superbasin joins first."""
    network = landscape(80, 200)
    picture = plots.disconnectivity(network, min_barrier=0.8, collapse=True)
    groups = analysis.merge_tree(network).groups(0.8).numpy()
    kinds, members = np.unique(groups, return_counts=True)
    assert dict(zip(picture.minima.tolist(), picture.count.tolist(), strict=True)) == dict(
        zip(kinds.tolist(), members.tolist(), strict=True)
    )
    written = sorted(int(text.get_text()) for text in picture.axes.texts)
    assert set(written) <= set(picture.count[picture.count > 1].tolist())
    wedges = [c for c in picture.axes.collections if c.get_gid() == "wedges"]
    assert len(wedges[0].get_paths()) == (picture.count > 1).sum()
    assert "wedges" in picture.axes.get_title(loc="right")


def test_trees_that_nothing_connects_are_dashed():
    network = Network.of([0.0, 1.0, 0.5, 0.7, 0.9], [(0, 1), (2, 3)], [2.0, 1.5])
    picture = plots.disconnectivity(network)
    dashes = [c.get_linestyle()[0][1] is not None for c in picture.axes.collections]
    drawn = [len(c.get_segments()) for c in picture.axes.collections]
    assert picture.n_trees == 3
    assert dashes == [False] * 3 + [True] * 3
    assert drawn == [2, 1, 1, 2, 1, 2]


def test_labels_of_chosen_minima_are_written_whatever_is_there():
    network = landscape(150, 400)
    high = network.energy.argsort()[-3:].tolist()
    picture = plots.disconnectivity(network, labels=[0, 1, 2, 3, *high], min_barrier=0.0)
    assert set(picture.labelled) == {0, 1, 2, 3, *high}
    picture.figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in picture.axes.texts]  # without the line to its minimum
    assert sorted(text.get_text() for text in picture.axes.texts) == sorted(map(str, [0, 1, 2, 3, *high]))
    for a, b in itertools.combinations(boxes, 2):
        assert not a.overlaps(b)
    with pytest.raises(TorchscapeError, match="no minimum 999"):
        plots.disconnectivity(network, labels=[999])


def test_labels_number_the_minima_from_the_lowest():
    network = dataclasses.replace(two_funnels(8), ids=torch.arange(8) + 70)
    texts = {text.get_text() for text in plots.disconnectivity(network, labels=True).axes.texts}
    assert texts <= {str(k) for k in range(8)}
    assert "0" in texts
    ids = {text.get_text() for text in plots.disconnectivity(network, labels="ids").axes.texts}
    assert ids <= {str(k) for k in range(70, 78)}


def test_chosen_sets_have_a_colour_and_the_rest_is_black():
    """A superbasin is coloured where all its minima are of one set, as TRMIN of disconnectionDPS does."""
    network = two_funnels(12)
    picture = plots.disconnectivity(network, highlight={"left": range(6), "one": [7]})
    layout, colours = picture.layout, picture.axes.collections[0].get_colors()
    palette = categories(2)
    left = set(range(6))
    for k, node in enumerate(picture.lines.owner.tolist()):
        leaves = {
            int(m) for i, m in enumerate(picture.leaves) if layout.first[node] <= layout.x[i] <= layout.last[node]
        }
        wanted = palette[0] if leaves <= left else palette[1] if leaves == {7} else picture.colouring.rgba[6]
        assert colours[k] == pytest.approx(wanted)
    assert [name for name, _ in picture.colouring.names] == ["left (6)", "one (1)"]
    with pytest.raises(TorchscapeError, match="two sets"):
        plots.disconnectivity(network, highlight={"a": [1], "b": [1]})
    with pytest.raises(OptionError, match="give one of them"):
        plots.disconnectivity(network, highlight={"a": [1]}, colour="energy")


def test_categories_differ_for_every_kind_of_colour_vision():
    """Linear RGB seen without one kind of cones (Vienot, Brettel & Mollon 1999), as distances in CIELAB."""
    blind = {
        "all three": np.eye(3),
        "protanope": np.array([[0.1124, 0.8876, 0.0], [0.1124, 0.8876, 0.0], [0.0040, -0.0040, 1.0]]),
        "deuteranope": np.array([[0.2928, 0.7072, 0.0], [0.2928, 0.7072, 0.0], [-0.0223, 0.0223, 1.0]]),
    }
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])

    def lab(rgb):
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        for name, matrix in blind.items():
            xyz = np.clip(linear @ matrix.T, 0, 1) @ to_xyz.T / [0.9505, 1.0, 1.089]
            f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
            yield name, np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)

    for n in (2, 6, 9):
        for name, seen in lab(categories(n)[:, :3]):
            apart = min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))
            assert apart > 15.0, (n, name, apart)  # 4.5 for the ten that matplotlib starts with


@pytest.mark.parametrize(("width", "inches"), [("column", 3.37), ("page", 7.0), (5.0, 5.0)])
def test_sizes_of_a_journal(width, inches):
    picture = plots.disconnectivity(landscape(), width=width, labels=True, step=0.5)
    assert picture.figure.get_size_inches()[0] == pytest.approx(inches)
    picture.figure.draw_without_rendering()
    frame = picture.figure.bbox
    for text in [*picture.axes.texts, picture.axes.yaxis.label, *picture.axes.get_yticklabels()]:
        box = text.get_window_extent()
        if text.get_text() and box.y0 >= picture.axes.bbox.y0 - 20 and box.y1 <= picture.axes.bbox.y1 + 20:
            assert frame.x0 <= box.x0
            assert box.x1 <= frame.x1
    with pytest.raises(OptionError, match="leave them out"):
        plots.disconnectivity(landscape(), width="page", ax=picture.axes)


def test_only_chosen_minima():
    network = landscape()
    picture = plots.disconnectivity(network, minima=[3, 5, 8])
    assert sorted(picture.minima.tolist()) == [3, 5, 8]
    minimax = analysis.merge_tree(network).minimax()
    inside = saddles_drawn(picture)
    expected = {float(minimax[a, b]) for a, b in itertools.combinations((3, 5, 8), 2)} - {float("inf")}
    assert set(inside.tolist()) <= expected
    with pytest.raises(TorchscapeError, match="no minimum 60"):
        plots.disconnectivity(network, minima=[60])


def test_the_page_of_pictures_runs():
    text = (Path(__file__).parents[2] / "docs" / "pictures.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, object] = {}
    exec(block, names)
    options = set(inspect.signature(plots.disconnectivity).parameters) - {
        "network",
        "ax",
        "linewidth",
        "unit",
        "cmap",
    }
    assert {name for name in options if name not in text} == {"colour_label", "colour_unit", "limits"}


def test_a_branch_has_its_colour_from_where_it_leaves():
    """A minimum just below its merger is a short upright: along the bar, too, its colour is seen."""
    star = Network.of([0.0, 0.9, 0.95, 0.99], [(0, 1), (0, 2), (0, 3)], [1.0, 1.0, 1.0])
    picture = plots.disconnectivity(star, colour="energy")
    reach = np.abs(picture.lines.branches[:, 1, 0] - picture.lines.branches[:, 0, 0])
    assert (np.diff(reach) <= 0).all()  # the nearer ones are drawn over the farther ones
    below, above = picture.axes.collections[1], picture.axes.collections[0]
    assert below.get_zorder() < above.get_zorder()
    shade = picture.colouring.rgba[picture.leaves][picture.lines.owner]
    assert np.allclose(above.get_colors(), shade)


def test_what_nothing_connects_leaves_room_for_what_is_connected():
    """Two connected minima above 5000 that are not: the picture shows how the two are connected."""
    energy = torch.cat([torch.tensor([-1.0, 8.0, 9.0]).double(), torch.linspace(0, 5, 5000).double()])
    network = Network.of(energy, [(0, 2), (2, 1)], [10.0, 11.0])
    shown = choose_minima(analysis.merge_tree(network), most=10)
    assert set(shown.minima.tolist()) == {0, 1, 2, *range(3, 10)}
    assert shown.note == "10 of 5003 minima, without 4993 that nothing connects"
    nothing = choose_minima(analysis.merge_tree(Network.of(energy, [], [])), most=10)
    assert sorted(nothing.minima.tolist()) == [0, *range(3, 12)]
