"""The picture of a comparison shows gains, errors and values."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from torchscape import metrics, plots


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.mark.parametrize("quantity", ["loss", "accuracy"])
def test_every_predictor_has_a_dot_a_bar_and_its_number(quantity):
    random = np.random.default_rng(0)
    labels = torch.as_tensor(random.integers(0, 3, 50))
    p = {name: torch.as_tensor(random.random((50, 3))).softmax(1) for name in ("first", "second", "third")}
    found = metrics.compare_ensembles(p, labels, baseline="second")
    figure, ax = plt.subplots()
    picture = plots.ensembles(found, quantity=quantity, ax=ax)
    assert picture.axes is ax
    assert [text.get_text() for text in ax.get_yticklabels()] == ["first", "second", "third"]
    gain = getattr(found, f"{quantity}_gain")
    dots, _, (bars,) = ax.containers[0]
    assert dots.get_xdata().tolist() == gain.tolist()
    widths = [segment[1, 0] - segment[0, 0] for segment in bars.get_segments()]
    assert widths == pytest.approx((2 * getattr(found, f"{quantity}_gain_error")).tolist())
    shown = f"{found.loss[2]:.4f}" if quantity == "loss" else f"{found.accuracy[2]:.1%}"
    assert shown in [text.get_text() for text in ax.texts]
    figure.savefig(io.BytesIO())
