"""The picture of completeness shows what the estimates say."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
import pytest
import torch

from torchscape import Landscape, Network, analysis, plots
from torchscape.cli import main
from torchscape.errors import TorchscapeError


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def network(hits, ts_hits=()) -> Network:
    """A path of minima, with its first transition states hit as often as given."""
    m = len(ts_hits)
    return Network.of(
        [0.0] * len(hits), [(i, i + 1) for i in range(m)], [1.0] * m, hits=list(hits), ts_hits=list(ts_hits)
    )


BOTH = network([40, 20, 9, 5, 2, 2, 1, 1, 1, 0], [7, 4, 2, 1, 1, 1])


def test_curves_and_estimates_are_those_of_the_analysis():
    picture = plots.coverage(BOTH, level=0.9)
    assert list(picture.curves) == ["minima", "transition states"]
    expected = analysis.coverage(BOTH, level=0.9)
    assert picture.estimates == {"minima": expected.minima, "transition states": expected.transition_states}
    solid = picture.axes.get_lines()[0].get_xydata()
    curve = analysis.rarefaction_curve(BOTH.hits, level=0.9)
    assert solid[-1].tolist() == [81.0, 9.0]
    assert torch.equal(torch.as_tensor(solid[:, 1].copy()), curve.found[curve.searches <= 81])
    texts = [text.get_text() for text in picture.axes.get_legend().get_texts()]
    for text, kind, name in zip(texts, (expected.minima, expected.transition_states), picture.curves, strict=True):
        assert text.replace("\n", " ") == " ".join(kind.said(name))
    assert texts[0].startswith(f"{expected.minima.coverage:.1%} of searches end in minima already known")
    assert "at least 10 minima in all, 1 of them without a hit" in texts[0].replace("\n", " ")


def test_no_line_is_drawn_below_what_is_known():
    """24 minima that searches ended in, and 27 more known as ends of downhill paths: the line stood at 24."""
    known = network([50] * 20 + [2, 2, 2, 1] + [0] * 27)
    picture = plots.coverage(known)
    estimate = picture.estimates["minima"]
    assert estimate.richness < 25
    assert estimate.at_least == 51
    level = [line for line in picture.axes.get_lines() if line.get_linestyle() == ":"]
    assert [float(line.get_ydata()[0]) for line in level] == [51.0]
    assert picture.axes.get_ylim()[1] > 51
    assert "at least 51 minima in all, 27 of them without a hit" in estimate.said("minima")


def test_it_draws_on_the_axes_given_and_nothing_sticks_out():
    figure, (left, right) = plt.subplots(1, 2, layout="constrained", figsize=(10, 4))
    picture = plots.coverage(BOTH, ax=left)
    plots.coverage(network([3, 1, 1]), ax=right)
    assert picture.axes is left
    assert picture.figure is figure
    figure.savefig(io.BytesIO())  # warnings are errors
    width, height = figure.canvas.get_width_height()
    for axes in (left, right):
        box = axes.get_tightbbox()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height


def test_very_different_numbers_of_searches_share_a_logarithmic_axis():
    assert plots.coverage(BOTH).axes.get_xscale() == "linear"
    assert plots.coverage(network([900, 800, 2], [3, 1])).axes.get_xscale() == "log"


@pytest.mark.parametrize("hits", [[1], [1, 1], [5], [0, 2]])
def test_the_smallest_samples_are_drawn(hits):
    picture = plots.coverage(network(hits))
    picture.figure.savefig(io.BytesIO())
    assert list(picture.curves) == ["minima"]


def test_nothing_hit_is_an_error():
    with pytest.raises(TorchscapeError, match="explore"):
        plots.coverage(network([0, 0]))


def test_a_landscape_and_the_command_line_will_do(tmp_path):
    from torchscape import BasinHopping, explore, problems

    problem = problems.get("himmelblau")
    with Landscape.open(tmp_path / "a.db", problem.potential) as landscape:
        hopping = BasinHopping(walkers=4, hops=2)
        explore(landscape, problem.potential, strategies=[hopping], progress=False)
        assert plots.coverage(landscape).estimates["minima"].n_hits > 0
    output = tmp_path / "coverage.png"
    assert main(["plot", str(tmp_path / "a.db"), "coverage", "-o", str(output)]) == 0
    assert output.stat().st_size > 1000
