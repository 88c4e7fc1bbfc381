"""The AUC loss: against scikit-learn's AUC, pairs one by one, and as the loss of a potential."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from torchscape import random
from torchscape.errors import PotentialError
from torchscape.potentials import AUCLoss, ModulePotential
from torchscape.potentials.contract import check_contract

SURROGATES = ["logistic", "squared-hinge"]


def scored(n: int = 60, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    outputs = random.normal(random.fold(1, torch.arange(n)), classes)
    return outputs, (torch.arange(n) * 7) % classes


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_bounds_one_minus_auc_and_vanishes_with_it(surrogate, classes):
    metrics = pytest.importorskip("sklearn.metrics")
    outputs, targets = scored(classes=classes)
    p = outputs.softmax(1).numpy()
    auc = np.mean([metrics.roc_auc_score(targets.numpy() == c, p[:, c]) for c in range(classes)])
    loss = AUCLoss(surrogate)(outputs, targets).item()
    assert loss >= 1 - auc
    ordered = 20.0 * torch.nn.functional.one_hot(targets, classes).double() + 0.1 * outputs
    assert AUCLoss(surrogate)(ordered, targets).item() < 1e-6


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_pairs_one_by_one(surrogate):
    outputs, targets = scored(20)
    p = outputs.softmax(1)
    odds = torch.log(p / (1 - p)).tolist()
    means = []
    for c in range(3):
        terms = []
        for i in range(20):
            for j in range(20):
                if targets[i] == c != targets[j]:
                    t = (odds[i][c] - odds[j][c]) / 0.7
                    terms.append(math.log2(1 + math.exp(-t)) if surrogate == "logistic" else max(0, 1 - t) ** 2)
        means.append(np.mean(terms))
    assert AUCLoss(surrogate, scale=0.7)(outputs, targets).item() == pytest.approx(np.mean(means), rel=1e-12)


def test_one_output_is_the_score_of_class_one():
    outputs, targets = scored(classes=2)
    difference = outputs[:, 1] - outputs[:, 0]
    both = AUCLoss()(outputs, targets)
    assert torch.allclose(AUCLoss()(difference, targets), both)
    assert torch.allclose(AUCLoss()(difference[:, None], targets), both)
    assert AUCLoss()(outputs, torch.zeros_like(targets)).item() == 0  # no pairs


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_as_the_loss_of_a_potential(surrogate, device):
    targets = scored(30)[1]
    inputs = random.normal(random.fold(2, torch.arange(30)), 4)
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 3))
    u = ModulePotential(net, (inputs, targets), AUCLoss(surrogate), l2=1e-3, device=device)
    assert u.settings()["reduction"] == "whole"
    check_contract(u, smooth=surrogate == "logistic")
    x = u.sample(2)
    value = AUCLoss(surrogate)(u.predict(x, inputs)[1].cpu(), targets) + 1e-3 * x[1].cpu().square().sum()
    assert u.energy(x)[1].item() == pytest.approx(value.item(), rel=1e-12)
    other = ModulePotential(net, (inputs, targets), AUCLoss(surrogate, scale=2.0), l2=1e-3)
    assert other.fingerprint() != u.fingerprint()


def test_memory_is_planned_for_all_pairs():
    """Regression: memory per sample was measured on seven samples, and pairs grow with the square."""
    targets = torch.arange(400) % 2
    net = torch.nn.Linear(1, 1)
    inputs = random.normal(random.fold(2, torch.arange(400)), 1)
    u = ModulePotential(net, (inputs, targets), AUCLoss())
    assert u._evaluator.plan.bytes_per_pair * 400 >= 8 * 200 * 200


def test_what_does_not_fit_is_refused():
    with pytest.raises(PotentialError, match="logistic or squared-hinge"):
        AUCLoss("hinge")
    with pytest.raises(PotentialError, match="class indices"):
        AUCLoss()(torch.zeros(3, 2), torch.zeros(3))
