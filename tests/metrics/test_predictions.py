"""Misclassification, its distances, densities and correlations, against scikit-learn, SciPy and counting."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score

from torchscape import metrics
from torchscape.errors import TorchscapeError


def errors(n_minima: int = 7, n: int = 30, seed: int = 0) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(seed).random((n_minima, n)) < 0.3)


def outputs(n_minima: int = 5, n: int = 40, n_classes: int = 4, seed: int = 0, **options) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(seed).normal(size=(n_minima, n, n_classes)), **options)


def test_classes_and_accuracy_are_those_of_scikit_learn(device, dtype):
    logits = outputs(dtype=dtype, device=device)
    labels = (torch.arange(40) % 4).to(device)
    wrong = metrics.misclassified(logits, labels)
    expected = [accuracy_score(labels.cpu(), row.argmax(1).cpu()) for row in logits]
    assert metrics.accuracy(wrong).tolist() == pytest.approx(expected, abs=1e-12)


def test_one_logit_is_two_classes_and_nan_is_wrong():
    logit = torch.tensor([[2.0, -1.0, torch.nan, -1.0]])
    labels = torch.tensor([1, 1, 0, 0])
    expected = [[False, True, True, False]]
    assert metrics.misclassified(logit, labels).tolist() == expected
    assert metrics.misclassified(logit[:, :, None], labels).tolist() == expected
    many = torch.tensor([[[0.0, torch.nan], [1.0, 0.0]]])
    assert metrics.misclassified(many, torch.tensor([1, 0])).tolist() == [[True, False]]
    with pytest.raises(TorchscapeError, match="minima, items"):
        metrics.predicted_classes(torch.zeros(3))


@given(st.integers(1, 6), st.integers(1, 12), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_distances_count_the_items_that_one_but_not_both_get_wrong(n_minima, n, seed):
    wrong = errors(n_minima, n, seed)
    found = metrics.misclassification_distances(wrong)
    sets = [set(row.nonzero()[:, 0].tolist()) for row in wrong]
    for i, j in itertools.product(range(n_minima), repeat=2):
        assert found.value[i, j] * n == pytest.approx(len(sets[i] ^ sets[j]), abs=1e-9)
        assert found.maximum[i, j] * n == pytest.approx(len(sets[i]) + len(sets[j]), abs=1e-9)
    # The index is the row of the reference, the distance a metric below its maximum.
    assert torch.allclose(metrics.misclassification_index(wrong, 0), found.value[0], atol=1e-15)
    assert bool((found.value <= found.maximum + 1e-12).all())
    through = (found.value[:, :, None] + found.value[None]).amin(1)
    assert bool((found.value <= through + 1e-12).all())


def test_independent_errors_are_as_far_apart_as_said():
    found = metrics.misclassification_distances(errors(2, 200_000))
    assert found.value[0, 1].item() == pytest.approx(found.independent[0, 1].item(), abs=5e-3)
    assert found.relative.diagonal().tolist() == [0.0, 0.0]
    faultless = metrics.misclassification_distances(torch.zeros(2, 5, dtype=torch.bool))
    assert faultless.relative.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_large_tables_are_counted_in_blocks(monkeypatch):
    wrong = errors(6, 100)
    whole = metrics.misclassification_distances(wrong).value
    monkeypatch.setattr("torchscape.metrics.predictions.ONE_LARGE", 40)
    assert torch.equal(metrics.misclassification_distances(wrong).value, whole)


def test_clustering_puts_those_that_err_alike_side_by_side():
    groups = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2])
    prototype = errors(3, 200)
    wrong = prototype[groups] ^ (torch.as_tensor(np.random.default_rng(1).random((9, 200))) < 0.02)
    order = metrics.cluster_order(metrics.misclassification_distances(wrong).value)
    assert sorted(order.tolist()) == list(range(9))
    assert int((groups[order].diff() != 0).sum()) == 2  # three groups in a row


def test_clustering_of_one_minimum_and_of_missing_predictions():
    assert metrics.cluster_order(torch.zeros(1, 1)).tolist() == [0]
    with pytest.raises(TorchscapeError, match="finite"):
        metrics.cluster_order(torch.full((3, 3), torch.nan))


def test_joint_density_is_numpys_histogram():
    points = torch.as_tensor(np.random.default_rng(0).normal(size=(30, 2)))
    x = torch.cdist(points, points)
    y = torch.cdist(points[:, :1], points[:, :1])
    found = metrics.joint_density(x, y, bins=7)
    upper = np.triu_indices(30, 1)
    density, *_ = np.histogram2d(
        x.numpy()[upper], y.numpy()[upper], bins=[found.x_edges.numpy(), found.y_edges.numpy()], density=True
    )
    assert torch.allclose(found.density, torch.as_tensor(density))
    area = found.x_edges.diff()[:, None] * found.y_edges.diff()
    assert (found.density * area).sum().item() == pytest.approx(1.0)


# --- rank correlations ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["spearman", "kendall"])
def test_correlations_with_ties_are_scipys(kind, device):
    random = np.random.default_rng(3)
    a, b = random.integers(0, 6, (4, 25)).astype(float), random.integers(0, 6, 25).astype(float)
    oracle = stats.spearmanr if kind == "spearman" else stats.kendalltau
    expected = [oracle(row, b).statistic for row in a]
    measures, target = torch.as_tensor(a, device=device), torch.as_tensor(b, device=device)
    found = getattr(metrics, kind)(measures, target.expand(4, -1))
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
    assert metrics.ranks(measures).tolist() == [stats.rankdata(row).tolist() for row in a]


@pytest.mark.parametrize("kind", ["spearman", "kendall"])
def test_the_p_value_is_that_of_all_permutations(kind):
    """Six minima have 720 orders: the random sample of them must agree with SciPy's exhaustive enumeration."""
    a, b = np.array([0.1, 0.7, 0.3, 0.9, 0.5, 0.2]), np.array([1.0, 2.0, 4.0, 5.0, 3.0, 0.0])
    oracle = {
        "spearman": lambda x: stats.spearmanr(x, b).statistic,
        "kendall": lambda x: stats.kendalltau(x, b).statistic,
    }[kind]
    exact = np.mean(
        [abs(oracle(np.array(order))) >= abs(oracle(a)) - 1e-12 for order in itertools.permutations(a)]
    )
    found = metrics.rank_correlation(
        torch.as_tensor(a)[None], torch.as_tensor(b), kind=kind, n_permutations=20_000, n_bootstrap=10
    )
    assert found.p_value.item() == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000))


def test_without_a_relation_p_values_are_uniform_and_intervals_cover():
    random = np.random.default_rng(0)
    measures, target = torch.as_tensor(random.normal(size=(400, 12))), torch.as_tensor(random.normal(size=12))
    found = metrics.rank_correlation(measures, target, n_permutations=499, n_bootstrap=20)
    assert stats.kstest(found.p_value.numpy(), "uniform").pvalue > 1e-3
    # With a relation of known strength: rho of a binormal pair with r = 0.6 is (6 / pi) arcsin(0.3) = 0.582.
    inside = []
    for seed in range(60):
        pair = np.random.default_rng(seed).multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 60).T
        one = metrics.rank_correlation(
            torch.as_tensor(pair[:1].copy()), torch.as_tensor(pair[1].copy()), n_permutations=1, n_bootstrap=400
        )
        inside.append(bool(one.lower < 0.582 < one.upper))
    assert 0.85 <= np.mean(inside) <= 1.0


def test_what_does_not_vary_has_no_correlation():
    found = metrics.rank_correlation(torch.ones(1, 6), torch.arange(6.0), n_permutations=9, n_bootstrap=9)
    assert bool(found.value.isnan())
    assert bool(found.p_value.isnan())
    with pytest.raises(TorchscapeError, match="three minima"):
        metrics.rank_correlation(torch.ones(1, 2), torch.arange(2.0))


def test_mantel_correlates_pairs_but_permutes_minima():
    random = np.random.default_rng(0)
    points, noise = torch.as_tensor(random.normal(size=(2, 15, 2)))
    d, other = torch.cdist(points, points), torch.cdist(noise, noise)
    upper = np.triu_indices(15, 1)
    found = metrics.mantel(d, other)
    assert found.value == pytest.approx(stats.spearmanr(d.numpy()[upper], other.numpy()[upper]).statistic)
    assert metrics.mantel(d, d**2).p_value == 1e-3
    # Distances with a share of each end: one outlier moves a whole row, and pairs are anything but independent.
    p_values = []
    for seed in range(150):
        one, two = torch.as_tensor(np.random.default_rng(seed).exponential(size=(2, 9, 1)))
        p_values.append(metrics.mantel(one + one.T, two + two.T, n_permutations=99).p_value)
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3


def test_mantel_refuses_what_it_cannot_compare():
    with pytest.raises(TorchscapeError, match="three minima"):
        metrics.mantel(torch.zeros(2, 2), torch.zeros(2, 2))


def test_cells_of_a_count_hold_equally_many_of_its_values():
    """Cells that hold now two counts, now three of them show stripes where there are none."""
    n = 64
    x = torch.arange(n, dtype=torch.float64)
    count = (x[:, None] - x).abs() / 50  # so many of fifty items
    for bins in (7, 20, 40):
        edges = metrics.joint_density(torch.ones_like(count), count, bins=bins).y_edges
        inside = torch.histogram(x / 50, edges).hist
        assert len(set(inside[:-1].tolist())) == 1
        assert int(inside.sum()) == n
        assert len(edges) <= bins + 1
        assert torch.allclose((50 * edges + 0.5) % 1.0, torch.zeros(1).double(), atol=1e-9)
    free = torch.rand(n, n, dtype=torch.float64)
    even = metrics.joint_density(free, free, bins=9).x_edges
    assert torch.allclose(even, torch.linspace(0, float(even[-1]), 10, dtype=torch.float64))
