"""Pictures of predictive distributions show the numbers that they were given."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from scipy import stats

from torchscape import metrics, plots, random
from torchscape.errors import TorchscapeError
from torchscape.metrics import NormalMixture


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def predictions() -> tuple[torch.Tensor, dict[str, NormalMixture]]:
    x = random.uniform(random.fold(1, torch.arange(60)), 1)[:, 0]
    means = torch.stack([(6 * x).sin(), (6 * x).cos()])
    variances = torch.stack([0.04 + 0 * x, 0.1 + 0.2 * x])
    return x, {
        "single": NormalMixture.of(means[:1], variances[:1]),
        "mixture": NormalMixture.of(means, variances),
        "wide": NormalMixture.of(means[:1], 9 * variances[:1]),
    }


def test_scores_are_those_of_the_comparison():
    x, given = predictions()
    found = metrics.compare_regression(given, (6 * x).sin() + 0.3, levels=(0.5, 0.9), baseline="mixture")
    picture = plots.regression_scores(found)
    picture.figure.canvas.draw()
    gain, rmse, coverage = picture.axes
    for axes, value in ((gain, found.gain), (rmse, found.rmse)):
        drawn = np.concatenate([bars.lines[0].get_xdata() for bars in axes.containers])
        np.testing.assert_allclose(drawn, value[[0, 2, 1]])  # the baseline comes last
    drawn = np.concatenate([bars.lines[0].get_xdata() for bars in coverage.containers])
    np.testing.assert_allclose(drawn, found.coverage[[0, 2, 1]].T.flatten())
    assert [label.get_text() for label in gain.get_yticklabels()] == list(given)
    assert gain.texts[0].get_text() == f"{found.log_density[0]:.3f}"
    assert "3 predictors" in repr(picture)


def test_bands_are_quantiles():
    x, given = predictions()
    _, ax = plt.subplots()
    picture = plots.predictive_bands(x, {"single": given["single"]}, data=(x[:5], x[:5]), level=0.8, ax=ax)
    assert picture.axes is ax
    order = x.argsort()
    expected = stats.norm(given["single"].means[0][order], 0.2)
    low, high, middle, points = ax.lines
    np.testing.assert_allclose(low.get_ydata(), expected.ppf(0.1), atol=1e-9)
    np.testing.assert_allclose(high.get_ydata(), expected.ppf(0.9), atol=1e-9)
    np.testing.assert_allclose(middle.get_ydata(), expected.mean())
    np.testing.assert_allclose(points.get_xdata(), x[:5])
    assert "single" in repr(picture)


def test_mistakes_are_named():
    x, given = predictions()
    with pytest.raises(TorchscapeError, match="at the 59 inputs"):
        plots.predictive_bands(x[1:], given)
    with pytest.raises(TorchscapeError, match="at the 60 inputs"):
        plots.predictive_bands(x, {})
    with pytest.raises(TorchscapeError, match=r"not at 1\.5"):
        plots.predictive_bands(x, given, level=1.5)
