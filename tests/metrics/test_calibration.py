"""Scores and reliability against scikit-learn, plain loops, and predictors that are right by construction."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from torchscape.errors import TorchscapeError
from torchscape.metrics import calibration, compare_calibration


def predictions(n: int = 400, classes: int = 3, seed: int = 0, sharpen: float = 1.0):
    """Probabilities, and labels drawn from them; sharpened, they are too sure of themselves."""
    generator = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return (sharpen * logits).softmax(1), labels


@pytest.mark.parametrize("classes", [2, 4])
def test_scores_against_scikit_learn(classes):
    metrics = pytest.importorskip("sklearn.metrics")
    p, labels = predictions(classes=classes)
    found = calibration(p, labels)
    assert found.nll == pytest.approx(metrics.log_loss(labels.numpy(), p.numpy()), rel=1e-10)
    reference = metrics.brier_score_loss(
        labels.numpy(), p.numpy() if classes > 2 else p[:, 1].numpy(), scale_by_half=False
    )
    assert found.brier == pytest.approx(reference, rel=1e-10)
    assert found.accuracy == metrics.accuracy_score(labels.numpy(), p.argmax(1).numpy())


@pytest.mark.parametrize(("equal_counts", "strategy"), [(False, "uniform"), (True, "quantile")])
def test_reliability_against_scikit_learn(equal_counts, strategy):
    module = pytest.importorskip("sklearn.calibration")
    p, labels = predictions(401, classes=2, sharpen=2.0)  # so many that no quantile falls on an item
    found = calibration(p, labels, bins=9, equal_counts=equal_counts, of_class=1)
    frequency, confidence = module.calibration_curve(labels.numpy(), p[:, 1].numpy(), n_bins=9, strategy=strategy)
    some = found.count > 0
    np.testing.assert_allclose(found.frequency[some].numpy(), frequency, rtol=1e-12)
    np.testing.assert_allclose(found.confidence[some].numpy(), confidence, rtol=1e-12)


def test_calibration_error_by_a_plain_loop():
    p, labels = predictions(sharpen=2.0)
    found, total, largest = calibration(p, labels, bins=7), 0.0, 0.0
    rows = [
        (max(row), row.index(max(row)) == label) for row, label in zip(p.tolist(), labels.tolist(), strict=True)
    ]
    for k in range(7):
        inside = [row for row in rows if k / 7 < row[0] <= (k + 1) / 7]
        if inside:
            gap = abs(sum(c for c, _ in inside) - sum(right for _, right in inside)) / len(inside)
            total += len(inside) / len(rows) * gap
            largest = max(largest, gap)
    assert found.ece == pytest.approx(total, rel=1e-12)
    assert found.mce == pytest.approx(largest, rel=1e-12)
    assert int(found.count.sum()) == len(rows)


def test_true_probabilities_are_calibrated_and_score_best(device):
    """With labels drawn from the probabilities, ECE is no more than the scatter of K bins, about
    sqrt(K / (2 pi n)); sharpening or blunting them makes it large, and both proper scores worse."""
    n, bins = 200_000, 10
    p, labels = (one.to(device) for one in predictions(n))
    right = calibration(p, labels, bins=bins)
    assert right.ece < 3 * math.sqrt(bins / (2 * math.pi * n))
    for power in (0.5, 2.0):
        wrong = calibration(p.pow(power) / p.pow(power).sum(1, keepdim=True), labels, bins=bins)
        assert wrong.ece > 20 * right.ece
        assert wrong.nll > right.nll + 10 * right.nll_error
        assert wrong.brier > right.brier + 3 * right.brier_error
    entropy = -(p * p.log()).sum(1).mean()
    assert right.nll == pytest.approx(float(entropy), abs=5 * right.nll_error)


def test_extremes():
    sure = torch.eye(3)[[0, 1, 2]]
    perfect, wrong = calibration(sure, torch.arange(3)), calibration(sure, torch.tensor([1, 2, 0]))
    assert (perfect.nll, perfect.brier, perfect.ece, perfect.accuracy) == (0.0, 0.0, 0.0, 1.0)
    assert (wrong.nll, wrong.brier, wrong.ece, wrong.accuracy) == (math.inf, 2.0, 1.0, 0.0)
    one = calibration(torch.tensor([[0.2, 0.8]]), torch.tensor([1]))
    assert math.isnan(one.nll_error)


@pytest.mark.parametrize(
    ("p", "labels", "message"),
    [
        (torch.ones(2, 2), torch.zeros(2, dtype=torch.int64), "softmax"),
        (torch.tensor([[1.5, -0.5]]), torch.tensor([0]), "softmax"),
        (torch.full((0, 2), 0.5), torch.zeros(0, dtype=torch.int64), "one row for each"),
    ],
)
def test_refusals_name_the_remedy(p, labels, message):
    with pytest.raises(TorchscapeError, match=message):
        calibration(p, labels)


def test_a_comparison_needs_predictors():
    with pytest.raises(TorchscapeError, match="at least one"):
        compare_calibration({}, torch.tensor([0]))
