"""What the pictures of basin volumes show, against the numbers they were given."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from torchscape.errors import TorchscapeError
from torchscape.plots.basins import restraint_integrand, volume_distribution
from torchscape.sampling.basins import GeneralisedNormal


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def test_both_distributions_are_normalised_and_differ_by_the_volume():
    y = torch.linspace(-2, 2, 4001, dtype=torch.float64)
    picture = volume_distribution(y, n_bins=40, fit=GeneralisedNormal(0.0, 1.5, 4.0))
    width = np.diff(picture.edges)
    assert (picture.observed * width).sum() == pytest.approx(1)
    assert (picture.unbiased * width).sum() == pytest.approx(1)
    middle = 0.5 * (picture.edges[1:] + picture.edges[:-1])
    ratio = np.log(picture.observed / picture.unbiased) - middle
    assert np.ptp(ratio) < 0.05
    assert len(picture.axes.lines) == 2


def test_the_integrand_is_drawn_with_its_errors():
    k = torch.tensor([[0.0, 0.1, 1.0, 10.0]]).double()
    picture = restraint_integrand(k, 2 / (k + 1), 0.1 / (k + 1), ndim=2, names=["left"])
    assert picture.value[0].tolist() == (2 / (k + 1))[0].tolist()
    low, high = picture.axes.get_ylim()
    assert low < 2 / 11 < 2 < high
    with pytest.raises(TorchscapeError, match="one name"):
        restraint_integrand(k, k, k, ndim=2, names=["a", "b"])
