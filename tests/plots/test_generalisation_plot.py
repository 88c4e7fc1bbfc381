"""Pictures of lines, robustness and correlations show the numbers that they are given."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from torchscape import metrics, plots
from torchscape.errors import TorchscapeError


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def values(*shape) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(0).random(shape))


def test_lines_are_counted_and_drawn_on_the_axes_given():
    t = torch.linspace(0, 1, 5, dtype=torch.float64)
    loss = torch.stack([1 - t, 2 - t**2, (t - 0.2).abs()])
    figure, ax = plt.subplots()
    picture = plots.loss_lines(metrics.loss_lines(t, loss), ends=("here", "there"), ax=ax)
    assert picture.axes is ax
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["2 monotone", "1 with a bump (median height 0.75)"]
    drawn = [line.get_ydata() for line in ax.get_lines() if len(line.get_ydata())]
    assert np.array_equal(np.array(drawn), loss.numpy())
    figure.savefig(io.BytesIO())


def test_robustness_is_coloured_by_what_is_asked():
    picture = plots.robustness(torch.tensor([0.1, 1.0]), values(4, 2), colour=values(4), label="flatness")
    assert len({line.get_color() for line in picture.axes.get_lines()}) == 4
    assert picture.figure.axes[1].get_ylabel() == "flatness"
    picture.figure.savefig(io.BytesIO())


def test_robustness_has_its_error_bars():
    error = 0.1 * values(4, 2)
    picture = plots.robustness(torch.tensor([0.1, 1.0]), values(4, 2), error)
    for bars, row in zip(picture.axes.containers, error, strict=True):
        heights = [segment[1, 1] - segment[0, 1] for segment in bars.lines[2][0].get_segments()]
        assert heights == pytest.approx((2 * row).tolist())
    assert "standard error" in picture.axes.get_ylabel()


def test_correlations_stand_above_the_panels():
    measures = {"trace": values(20), "LPPHE": -values(20)}
    found = metrics.rank_correlation(measures, values(20) ** 2, n_permutations=99)
    picture = plots.correlations(found)
    assert picture.correlation is found
    assert picture.correlation.value.tolist() == pytest.approx([1.0, -1.0])
    assert picture.axes["LPPHE"].get_title().startswith("-1.00 [-1.00, -1.00], p = 0.01")
    picture.figure.savefig(io.BytesIO())
    with pytest.raises(TorchscapeError, match="at least one measure"):
        metrics.rank_correlation({}, values(20))
