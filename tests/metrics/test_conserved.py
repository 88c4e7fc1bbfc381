"""Conserved parameters: valid under the null, powerful where something was planted, honest about many tests."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from torchscape import metrics
from torchscape.errors import TorchscapeError


def minima(n=40, d=2000, seed=0, **options) -> torch.Tensor:
    """Correlated heavy-tailed parameters: nothing that the test assumes."""
    random = np.random.default_rng(seed)
    return torch.as_tensor(random.standard_t(3, (n, d)) + random.normal(size=(n, 1)) ** 3, **options)


@pytest.mark.parametrize("k", [2, 12, 39])
def test_p_values_are_uniform_when_the_set_is_random(k):
    """Independent parameters, so that the D p-values of one set are an independent sample of one distribution."""
    x = torch.as_tensor(np.random.default_rng(k).standard_t(3, (40, 3000)))
    found = metrics.conserved_parameters(x, torch.arange(k), n_permutations=999)
    steps = 40 if k == 39 else 999  # leaving one out of forty has forty outcomes, many times over
    if k == 39:
        assert found.p_value.mean().item() == pytest.approx(0.5 * (1 + 1 / steps), abs=0.02)
    else:
        assert stats.kstest(found.p_value.numpy(), "uniform").pvalue > 1e-3


def test_the_p_value_is_that_of_all_sets():
    """Of seven minima there are 35 sets of three: the random sample of them against enumeration."""
    x = minima(7, 6)
    found = metrics.conserved_parameters(x, torch.tensor([1, 4, 5]), n_permutations=20_000)
    within = np.array([np.var(x.numpy()[list(s)], axis=0) for s in itertools.combinations(range(7), 3)])
    own = np.var(x.numpy()[[1, 4, 5]], axis=0)
    exact = (within <= own + 1e-12).mean(0)
    assert found.p_value.numpy() == pytest.approx(exact, abs=0.02)
    ratio = np.var(x.numpy()[[1, 4, 5]], axis=0, ddof=1) / np.var(x.numpy(), axis=0, ddof=1)
    assert found.variance_ratio.numpy() == pytest.approx(ratio)
    assert torch.allclose(found.mean, x[[1, 4, 5]].mean(0))


def test_planted_parameters_are_found_and_false_ones_are_few(device):
    """100 of 1000 parameters vary ten times less within the set; the level holds on average over data sets."""
    false_share, power = [], []
    for seed in range(10):
        x = torch.as_tensor(np.random.default_rng(seed).normal(size=(60, 1000)), device=device)
        x[:15, :100] = 1.0 + 0.1 * x[:15, :100]
        found = metrics.conserved_parameters(x, torch.arange(15, device=device), level=0.1, n_permutations=1999)
        false_share.append((found.is_conserved[100:].sum() / found.is_conserved.sum().clamp(min=1)).item())
        power.append(found.is_conserved[:100].double().mean().item())
    assert np.mean(power) > 0.99
    # The level of Benjamini and Hochberg is 0.1 * 900 / 1000; two standard errors of ten data sets beside it.
    assert np.mean(false_share) < 0.09 + 2 * np.std(false_share) / np.sqrt(10)
    assert np.mean(false_share) > 0.03  # neither is it needlessly strict


def test_a_mask_and_positions_are_the_same_and_seeds_differ():
    x, mask = minima(20, 30), torch.arange(20) < 6
    found = metrics.conserved_parameters(x, mask, n_permutations=99)
    again = metrics.conserved_parameters(x, torch.arange(6), n_permutations=99)
    other = metrics.conserved_parameters(x, mask, n_permutations=99, seed=1)
    assert torch.equal(found.p_value, again.p_value)
    assert not torch.equal(found.p_value, other.p_value)


def test_blocks_of_random_sets_change_nothing(monkeypatch):
    x = minima(20, 30)
    whole = metrics.conserved_parameters(x, torch.arange(6), n_permutations=99).p_value
    monkeypatch.setattr("torchscape.metrics.conserved.ONE_LARGE", 90)
    assert torch.equal(metrics.conserved_parameters(x, torch.arange(6), n_permutations=99).p_value, whole)


def test_shift_scale_and_order_change_nothing():
    x = minima(30, 50)
    order = torch.as_tensor(np.random.default_rng(0).permutation(50))
    plain = metrics.conserved_parameters(x, torch.arange(8), n_permutations=199)
    moved = metrics.conserved_parameters((7 - 3 * x)[:, order], torch.arange(8), n_permutations=199)
    assert torch.equal(moved.p_value, plain.p_value[order])


def test_a_parameter_that_never_varies_is_not_conserved():
    x = minima(20, 3)
    x[:, 1] = 0.3
    x[:, 2] = 0.3 * (1 + 1e-16 * torch.arange(20))
    found = metrics.conserved_parameters(x, torch.arange(5), n_permutations=199)
    assert found.p_value[1:].tolist() == [1.0, 1.0]
    assert bool(found.variance_ratio[1:].isnan().all())


@pytest.mark.parametrize("members", [[], [3], list(range(10))])
def test_sets_without_a_comparison_are_refused(members):
    with pytest.raises(TorchscapeError, match="of 10 minima"):
        metrics.conserved_parameters(minima(10, 4), torch.tensor(members, dtype=torch.int64))


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30), st.sampled_from(["bh", "by"]))
@settings(max_examples=60, deadline=None)
def test_adjusted_p_values_are_scipys(values, control):
    expected = stats.false_discovery_control(values, method=control)
    found = metrics.false_discovery(torch.tensor(values, dtype=torch.float64), control)
    assert found.numpy() == pytest.approx(expected, abs=1e-12)
