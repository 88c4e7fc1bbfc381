"""Predictions on held-out data and distances without symmetry, one minimum at a time as the oracle."""

from __future__ import annotations

import itertools

import pytest
import torch
from learning_models import blobs, classifier
from torch.nn import functional as F

from torchscape import ModulePotential, learning, metrics, random
from torchscape.errors import TorchscapeError


def test_loss_and_accuracy_are_those_of_the_module_by_itself(device):
    u = classifier(device=device)
    x, (inputs, labels) = u.sample(6), (t.to(device) for t in blobs(40, seed=5))
    found = learning.held_out(u, x, inputs, labels)
    for k in range(6):
        net = u.load_into(u.module, x[k])
        logits = net(inputs)
        assert found.loss[k].item() == pytest.approx(F.cross_entropy(logits, labels).item(), abs=1e-12)
        assert found.accuracy[k].item() == pytest.approx((logits.argmax(1) == labels).double().mean().item())
        assert torch.allclose(found.probability[k], logits.softmax(1))
    assert not found.loss.requires_grad
    assert u.l2 == 1e-2  # the potential itself is as it was


def test_a_single_logit_gives_two_probabilities():
    net = torch.nn.Linear(2, 1)
    inputs, labels = blobs(20)
    target = (labels == 0).double()[:, None]
    u = ModulePotential(net, (inputs, target), F.binary_cross_entropy_with_logits)
    found = learning.held_out(u, u.sample(3), inputs, target, labels=(labels == 0).long())
    assert torch.allclose(found.probability.sum(2), torch.ones(3, 20).double())
    picked = found.probability[0, torch.arange(20), (labels == 0).long()]
    assert -picked.log().mean().item() == pytest.approx(found.loss[0].item(), abs=1e-12)
    assert torch.equal(found.probability.argmax(2) != (labels == 0).long(), found.wrong)


def test_regression_has_a_loss_but_no_accuracy():
    u = ModulePotential(torch.nn.Linear(2, 1), (torch.ones(4, 2), torch.ones(4, 1)), F.mse_loss)
    found = learning.held_out(u, u.sample(2), torch.zeros(3, 2), torch.zeros(3, 1))
    assert found.loss.shape == (2,)
    with pytest.raises(TorchscapeError, match="labels"):
        _ = found.accuracy


def test_distances_with_and_without_symmetry_by_brute_force():
    u = classifier()
    x = u.sample(4)
    plain = learning.parameter_distances(x)
    assert torch.allclose(plain, (x[:, None] - x[None]).norm(dim=2))
    found = learning.parameter_distances(x, u.symmetry)
    images = every_image(u, x)
    for i, j in itertools.product(range(4), repeat=2):
        assert found[i, j].item() == pytest.approx((images[j] - x[i]).norm(dim=1).min().item(), abs=1e-9)


def every_image(u: ModulePotential, x: torch.Tensor) -> torch.Tensor:
    """All 48 images of each point under permutations and signs of three tanh units, written out [B 48 D]."""
    images = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product([1.0, -1.0], repeat=3):
            sign = torch.tensor(signs, dtype=x.dtype)
            w1, b1, w2, b2 = x[:, :6].reshape(-1, 3, 2), x[:, 6:9], x[:, 9:18].reshape(-1, 3, 3), x[:, 18:]
            parts = (w1[:, order] * sign[:, None], b1[:, order] * sign, w2[:, :, order] * sign, b2)
            images.append(torch.cat([part.reshape(len(x), -1) for part in parts], 1))
    assert torch.allclose(u.energy(images[-1]), u.energy(x))
    return torch.stack(images, 1)


def test_alignment_finds_what_was_scrambled():
    """Noisy images of one solution: aligned, the scatter is the noise (up to how units are numbered)."""
    u = classifier()
    base = u.sample(1)
    noise = 0.01 * u.sample(20, seed=1)
    keys = torch.arange(20)
    scrambled = u.symmetry.random_image(base + noise, keys)
    aligned = learning.align_all(scrambled, u.symmetry)
    assert torch.allclose(u.energy(aligned), u.energy(base + noise))
    assert aligned.std(0).sort().values.tolist() == pytest.approx(noise.std(0).sort().values.tolist(), abs=1e-9)
    with pytest.raises(TorchscapeError, match="no points"):
        learning.align_all(scrambled[:0], u.symmetry)


def test_alignment_never_spreads_the_points():
    u = classifier(hidden=6)
    x = u.sample(30)
    once = u.symmetry.align(x[:1].expand_as(x), x)
    aligned = learning.align_all(x, u.symmetry)
    spread = [(y - y.mean(0)).square().sum().item() for y in (aligned, once, x)]
    assert spread[0] < spread[1] < spread[2]
    mean = aligned.mean(0, keepdim=True).expand_as(x)
    assert torch.allclose(u.symmetry.distance(mean, x), (aligned - mean).norm(dim=1))


def test_after_alignment_a_planted_funnel_is_conserved_and_random_sets_are_not():
    """Ten noisy images of one solution among forty others, all scrambled. Without alignment, little is seen."""
    u = classifier(hidden=4)
    x = 2 * u.sample(50)
    x[:10] = x[:1] + 0.05 * u.sample(10, seed=1)
    scrambled = u.symmetry.random_image(x, torch.arange(50))
    aligned = learning.align_all(scrambled, u.symmetry)
    funnel = torch.arange(10)
    options = {"n_permutations": 499, "control": "by"}
    assert metrics.conserved_parameters(aligned, funnel, **options).is_conserved.double().mean() > 0.9
    assert metrics.conserved_parameters(scrambled, funnel, **options).is_conserved.double().mean() < 0.5
    sets = random.permutation(torch.arange(40), 50)[:, :10]
    p_values = torch.stack([metrics.conserved_parameters(aligned, s, **options).p_value for s in sets])
    assert (p_values <= 0.1).double().mean().item() == pytest.approx(0.1, abs=0.04)
