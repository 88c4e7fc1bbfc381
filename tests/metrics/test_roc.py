"""ROC curves and areas against scikit-learn and against counting pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from torchscape import metrics
from torchscape.errors import TorchscapeError
from torchscape.metrics import roc_curves


def scores(n_minima=4, n=60, n_classes=3, seed=0, levels=None) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities that know something about the labels; with few levels, many ties."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, n_classes, n)
    logits = random.normal(size=(n_minima, n, n_classes)) + 1.5 * np.eye(n_classes)[labels]
    if levels:
        logits = np.round(logits * levels) / levels
    return torch.as_tensor(logits).softmax(2), torch.as_tensor(labels)


@pytest.mark.parametrize("levels", [None, 1])
def test_areas_are_those_of_scikit_learn(device, levels):
    probability, labels = scores(levels=levels)
    found = metrics.auc(probability.to(device), labels.to(device))
    for k, p in enumerate(probability.numpy()):
        one_hot = np.eye(3)[labels]
        for average, mine in (("macro", found.macro), ("weighted", found.weighted), ("micro", found.micro)):
            expected = roc_auc_score(one_hot, p, average=average)
            assert mine[k].item() == pytest.approx(expected, abs=1e-12)
        expected = roc_auc_score(one_hot, p, average=None)
        assert found.per_class[k].tolist() == pytest.approx(expected.tolist(), abs=1e-12)


@pytest.mark.parametrize("levels", [None, 1])
def test_curves_are_those_of_scikit_learn(levels):
    probability, labels = scores(levels=levels)
    curves = metrics.class_roc(probability, labels)
    for k in range(4):
        for c in range(3):
            x, y, threshold = roc_curve(labels == c, probability[k, :, c], drop_intermediate=False)
            mine = torch.stack([curves.false_positive, curves.true_positive, curves.threshold], -1)[k, c]
            assert mine.unique_consecutive(dim=0).numpy() == pytest.approx(np.stack([x, y, threshold], 1))


@given(st.integers(1, 9), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_the_area_counts_the_pairs_in_the_right_order(n, seed):
    random = np.random.default_rng(seed)
    score, positive = random.integers(0, 4, n).astype(float), random.random(n) < 0.5
    found = metrics.roc(torch.as_tensor(score), torch.as_tensor(positive)).area.item()
    above = score[positive][:, None] - score[~positive]
    expected = ((above > 0) + 0.5 * (above == 0)).mean() if above.size else np.nan
    assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_a_monotone_change_of_scores_changes_nothing():
    probability, labels = scores()
    raw = metrics.roc(probability[:, :, 0], labels == 0)
    scaled = metrics.roc(probability[:, :, 0].log() * 3 + 7, labels == 0)
    assert torch.equal(raw.false_positive, scaled.false_positive)
    assert torch.equal(raw.true_positive, scaled.true_positive)
    assert torch.allclose(metrics.roc(-probability[:, :, 0], labels == 0).area, 1 - raw.area)


def test_the_macro_curve_is_the_mean_at_equal_false_positive_rate():
    probability, labels = scores(n=300)
    curves = metrics.class_roc(probability, labels)
    mean = metrics.macro_roc(curves, n_points=2001)
    grid = mean.false_positive[0].numpy()
    expected = np.mean(
        [np.interp(grid, curves.false_positive[0, c], curves.true_positive[0, c]) for c in range(3)], 0
    )
    # Where a curve rises steeply, numpy takes either end.
    inside = ~np.isin(grid, curves.false_positive[0].numpy())
    assert mean.true_positive[0].numpy()[inside] == pytest.approx(expected[inside], abs=1e-12)
    by_grid = np.trapezoid(mean.true_positive.numpy(), grid, axis=1)
    assert by_grid == pytest.approx(mean.area.numpy(), abs=1e-3)
    assert mean.area.tolist() == pytest.approx(metrics.auc(probability, labels).macro.tolist())


def test_absent_classes_are_left_out_of_the_averages():
    probability, labels = scores(n_classes=4)
    labels = labels.clamp(max=2)
    found = metrics.auc(probability, labels)
    assert bool(found.per_class[:, 3].isnan().all())
    assert torch.allclose(found.macro, found.per_class[:, :3].mean(1))
    assert bool(found.weighted.isfinite().all())
    assert bool(metrics.macro_roc(metrics.class_roc(probability, labels)).true_positive.isfinite().all())


def test_a_row_that_is_nan_leaves_the_others_alone():
    probability, labels = scores()
    spoilt = probability.clone()
    spoilt[1, 3] = torch.nan
    found, clean = metrics.auc(spoilt, labels), metrics.auc(probability, labels)
    rest = [0, 2, 3]
    assert bool(found.per_class[1].isnan().all() & found.micro[1].isnan())
    assert torch.equal(found.per_class[rest], clean.per_class[rest])


def test_blocks_of_minima_change_nothing(monkeypatch):
    probability, labels = scores(n_minima=7)
    whole = metrics.auc(probability, labels)
    monkeypatch.setattr(roc_curves, "ONE_LARGE", 3000)
    parts = metrics.auc(probability, labels)
    assert torch.equal(parts.micro, whole.micro)
    assert torch.equal(parts.per_class, whole.per_class)


def test_single_precision_keeps_its_dtype_and_counts_in_double():
    probability, labels = scores(n_minima=1, n=3000, n_classes=2)
    found = metrics.auc(probability.float(), labels)
    assert found.micro.dtype == torch.float32
    expected = roc_auc_score(labels, probability[0, :, 1].float())
    assert found.per_class[0, 1].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("labels", [[0, 1, 2], [0, -1, 1]])
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(TorchscapeError, match="labels"):
        metrics.auc(torch.rand(1, 3, 2), torch.tensor(labels))
