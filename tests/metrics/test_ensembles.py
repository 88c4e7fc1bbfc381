"""Selection, combination and comparison of minima, against exhaustive search, SciPy and scikit-learn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from sklearn.metrics import accuracy_score, log_loss

from torchscape import metrics
from torchscape.errors import TorchscapeError, UnknownName


def predictions(k=6, n=80, c=3, seed=0, skill=1.5, **options) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, c, n)
    logits = random.normal(size=(k, n, c)) + skill * random.random((k, 1, 1)) * np.eye(c)[labels]
    return torch.as_tensor(logits, **options).softmax(2), torch.as_tensor(labels, device=options.get("device"))


# --- selection ----------------------------------------------------------------------------------------------


def test_random_sets_are_equally_likely():
    draws = metrics.select_at_random(4, 2, n_draws=6000)
    pairs, counts = draws.sort(1).values.unique(dim=0, return_counts=True)
    assert len(pairs) == 6
    assert counts.double().std().item() < 3 * np.sqrt(1000)


@given(st.integers(1, 12), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_groups_take_turns(n, seed):
    random = np.random.default_rng(seed)
    energy, label = torch.as_tensor(random.permutation(n) / 10), torch.as_tensor(random.integers(-1, 4, n))
    found = metrics.select_by_group(energy, label, n).tolist()
    queues = {g: sorted((label == g).nonzero()[:, 0].tolist(), key=lambda i: energy[i]) for g in range(4)}
    expected = []
    while any(queues.values()):
        expected += sorted((queue.pop(0) for queue in queues.values() if queue), key=lambda i: energy[i])
    assert found == expected


@pytest.mark.parametrize("repeat", [False, True])
def test_greedy_is_the_best_next_step_every_time(repeat, device):
    p, labels = predictions(k=8, device=device)
    found = metrics.select_greedily(p, labels, 5, repeat=repeat).tolist()
    chosen: list[int] = []
    for _ in range(5):
        options = range(8) if repeat else [k for k in range(8) if k not in chosen]
        losses = {k: log_loss(labels.cpu(), p[[*chosen, k]].mean(0).cpu(), labels=[0, 1, 2]) for k in options}
        chosen.append(min(losses, key=losses.get))
    assert found == chosen


def test_farthest_first_is_at_least_half_as_spread_as_the_best():
    points = torch.as_tensor(np.random.default_rng(2).normal(size=(10, 2)))
    d = torch.cdist(points, points)
    found = metrics.select_diverse(d, 4, first=3)
    assert found[0] == 3
    assert len(set(found.tolist())) == 4

    def spread(members) -> float:
        return min(d[i, j].item() for i, j in itertools.combinations(members, 2))

    best = max(spread(s) for s in itertools.combinations(range(10), 4) if 3 in s)
    assert best / 2 <= spread(found.tolist()) <= best + 1e-12
    among = torch.arange(10) < 5
    assert set(metrics.select_diverse(d, 9, first=3, among=among).tolist()) == set(range(5))


# --- combination --------------------------------------------------------------------------------------------


@given(st.integers(1, 7), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_votes_are_counted_and_ties_go_to_the_more_probable(k, seed):
    p, _ = predictions(k=k, n=15, seed=seed)
    found = metrics.vote(p)
    for i in range(15):
        counts = np.bincount(p[:, i].argmax(1), minlength=3)
        mean = p[:, i].mean(0).numpy()
        winner = max(range(3), key=lambda c: (counts[c], mean[c]))
        assert found[i].argmax().item() == winner
        assert found[i].numpy() == pytest.approx((counts + mean) / (k + 1))
    assert torch.allclose(found.sum(1), torch.ones(15).double())


def test_the_mean_is_weighted_and_never_worse_than_its_members_on_average():
    p, labels = predictions()
    w = torch.tensor([3.0, 0.0, 1.0, 0.0, 0.0, 0.0]).double()
    assert torch.allclose(metrics.mean_probability(p, w), 0.75 * p[0] + 0.25 * p[2])
    together = log_loss(labels, metrics.mean_probability(p))
    assert together <= np.mean([log_loss(labels, one) for one in p])
    sets = torch.stack([p[:3], p[3:]])
    assert torch.allclose(metrics.mean_probability(sets)[1], p[3:].mean(0))


@pytest.mark.parametrize("k", [1, 2, 6])
def test_stacking_is_the_optimum_that_scipy_finds(k, device):
    p, labels = predictions(k=k, seed=1, device=device)
    found = metrics.stacking_weights(p, labels)
    given_ = p[:, torch.arange(80), labels].cpu().numpy()
    best = optimize.minimize(
        lambda w: -np.mean(np.log(w @ given_)),
        np.full(k, 1 / k),
        jac=lambda w: -(given_ / (w @ given_)).mean(1),
        bounds=[(0, 1)] * k,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-13},
    )
    loss = -np.mean(np.log(found.weights.cpu().numpy() @ given_))
    assert best.success
    assert loss - best.fun <= found.gap + 1e-9 <= 1.1e-6
    assert found.weights.cpu().numpy() == pytest.approx(best.x, abs=5e-3)
    assert found.weights.sum().item() == pytest.approx(1.0)


def test_stacking_that_is_stopped_early_says_how_far_it_is():
    p, labels = predictions()
    early = metrics.stacking_weights(p, labels, max_steps=3)
    late = metrics.stacking_weights(p, labels, tol=1e-9)
    losses = [log_loss(labels, metrics.mean_probability(p, s.weights)) for s in (early, late)]
    assert 0 < losses[0] - losses[1] <= early.gap
    with pytest.raises(TorchscapeError, match="validation data"):
        metrics.stacking_weights(p[:, :0], labels[:0])


# --- comparison ---------------------------------------------------------------------------------------------


def test_numbers_are_scikit_learns_and_errors_those_of_a_mean(device):
    p, labels = predictions(k=2, n=400, device=device)
    found = metrics.compare_ensembles({"one": p[0], "two": p[1]}, labels, baseline="two")
    one, two, truth = p[0].cpu(), p[1].cpu(), labels.cpu()
    assert found.loss.tolist() == pytest.approx([log_loss(truth, one), log_loss(truth, two)])
    accuracies = [accuracy_score(truth, q.argmax(1)) for q in (one, two)]
    assert found.accuracy.tolist() == pytest.approx(accuracies)
    items = [-q[torch.arange(400), truth].log().numpy() for q in (one, two)]
    errors = [np.std(loss) / 20 for loss in items]
    assert found.loss_error.tolist() == pytest.approx(errors, rel=0.1)
    assert found.loss_gain[0].item() == pytest.approx(np.mean(items[1] - items[0]))
    assert found.loss_gain_error[0].item() == pytest.approx(np.std(items[1] - items[0]) / 20, rel=0.1)
    assert found.loss_gain_error[1].item() == found.accuracy_gain_error[1].item() == 0.0
    assert found.accuracy_gain[0].item() == pytest.approx(accuracies[0] - accuracies[1])


def test_paired_errors_are_smaller_where_predictors_resemble_each_other():
    p, labels = predictions(k=1, n=400)
    near = (p[0].log() * 1.05).softmax(1)
    found = metrics.compare_ensembles({"one": p[0], "near": near}, labels)
    assert found.loss_gain_error[1] < 0.2 * found.loss_error[1]


def test_realisations_are_averaged_and_their_spread_is_told():
    p, labels = predictions(k=5)
    found = metrics.compare_ensembles({"five": p, "first": p[0]}, labels)
    losses = [log_loss(labels, one) for one in p]
    assert found.loss[0].item() == pytest.approx(np.mean(losses))
    assert found.spread[0].item() == pytest.approx(np.std(losses, ddof=1))
    assert bool(found.spread[1].isnan())


def test_the_table_can_be_read():
    p, labels = predictions(k=2)
    found = metrics.compare_ensembles({"lowest": p[0], "an ensemble": p[1]}, labels)
    lines = str(found).splitlines()
    assert len(lines) == 5
    assert "baseline" in lines[2]
    assert lines[3].startswith("an ensemble  ")
    assert f"{found.loss[1]:.4f} ± {found.loss_error[1]:.4f}" in lines[3]
    assert len({len(line) for line in lines[:4]}) == 1


def test_what_cannot_be_compared_is_refused():
    p, labels = predictions(k=2)
    with pytest.raises(UnknownName, match="did you mean 'lowest'"):
        metrics.compare_ensembles({"lowest": p[0]}, labels, baseline="lowst")
    with pytest.raises(TorchscapeError, match="has shape"):
        metrics.compare_ensembles({"lowest": p[0, :5]}, labels)
    with pytest.raises(TorchscapeError, match="at least one predictor"):
        metrics.compare_ensembles({}, labels)
