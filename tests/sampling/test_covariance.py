"""CCAdL on targets whose gradient noise is known: what it estimates, and what it samples, against closed forms."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch

from torchscape.errors import TorchscapeError
from torchscape.potentials import ModulePotential, Posterior, Potential, Quadratic
from torchscape.sampling import AdaptiveLangevin, CCAdL, SplitBatch, sample

PARTS = 4


class Noisy(Potential):
    """U = |x|^2 / 2 from n data that add terms a_j . f(x) of mean zero.

    The gradient of a minibatch of four has noise of variance strength_d f'(x_d)^2, and normal x_d of variance 1
    and fourth moment 3 remain the answer.

    f = sqrt(1 + x^2) makes noise that grows with the distance from the centre; f = x makes it constant."""

    n_samples = 1000

    def __init__(self, strength, varying: bool, device="cpu", dtype=torch.float64) -> None:
        self.ndim, self.device, self.dtype = len(strength), torch.device(device), dtype
        a = torch.randn(self.n_samples, self.ndim, generator=torch.Generator().manual_seed(1)).to(device, dtype)
        width = (PARTS * torch.as_tensor(strength, dtype=dtype, device=device)).sqrt()
        self.all_pulls = width * (a - a.mean(0)) / a.std(0, correction=0)
        self.varying, self.pull = varying, self.all_pulls.mean(0)

    def energy(self, x):
        f = (1 + x.square()).sqrt() if self.varying else x
        return 0.5 * x.square().sum(1) + (self.pull * f).sum(1)

    def on(self, indices):
        part = copy.copy(self)
        part.pull = self.all_pulls[indices].mean(0)
        return part


def test_estimates_average_to_the_noise_of_minibatches_by_enumeration():
    """Over all 5^4 ways to draw four data of five, the estimate averages to the variance of the gradient."""
    u = Noisy([3.0, 0.5], varying=True)
    u.n_samples, u.all_pulls = 5, u.all_pulls[:5]
    x = torch.tensor([[0.3, -1.2], [2.0, 0.1]]).double()
    grads, estimates = [], []
    for drawn in itertools.product(range(5), repeat=4):
        _, grad, variance = SplitBatch(u, torch.tensor(drawn), 2).with_variance(x)
        torch.testing.assert_close(grad, u.on(torch.tensor(drawn)).energy_and_grad(x)[1])
        grads.append(grad)
        estimates.append(variance)
    torch.testing.assert_close(torch.stack(estimates).mean(0), torch.stack(grads).var(0, correction=0))


def moments(potential, sampler, chains: int = 50, steps: int = 100) -> tuple[torch.Tensor, torch.Tensor]:
    """Second and fourth moments of every coordinate."""
    starts = torch.zeros(chains, potential.ndim, dtype=potential.dtype, device=potential.device)
    x = sample(potential, starts, sampler=sampler, steps=steps, burn_in=150, thin=5, batch_size=PARTS).points
    return x.square().mean(0).double().cpu(), x.pow(4).mean(0).double().cpu()


@pytest.mark.slow_on_stand_in
def test_noise_that_varies_from_place_to_place_is_carried_away_where_it_comes_in(device):
    """Where noise grows outward, one friction for all places gets the variance right and the tails wrong: the
    fourth moment of a normal number is 3."""
    u = Noisy([10.0] * 200, varying=True, device=device)
    found = {s: moments(u, s) for s in (AdaptiveLangevin(0.1, 0.5), CCAdL(0.1, 0.5))}
    (_, plain), (second, fourth) = found.values()
    assert float(plain.mean()) > 3.25
    assert float(second.mean()) == pytest.approx(1, abs=0.03)
    assert float(fourth.mean()) == pytest.approx(3, abs=0.15)


@pytest.mark.slow_on_stand_in
def test_noise_of_some_coordinates_does_not_cool_the_others(device):
    """Half of the coordinates are noisy. One friction for all makes these too hot and the others too cold."""
    strength = [10.0] * 100 + [0.0] * 100
    u = Noisy(strength, varying=False, device=device)
    (plain, _), (second, _) = moments(u, AdaptiveLangevin(0.1, 0.5)), moments(u, CCAdL(0.1, 0.5))
    assert float(plain[:100].mean()) > 1.15
    assert float(plain[100:].mean()) < 0.85
    assert float(second[:100].mean()) == pytest.approx(1, abs=0.04)
    assert float(second[100:].mean()) == pytest.approx(1, abs=0.04)


def test_the_running_mean_of_the_paper_finds_constant_noise():
    strength = torch.tensor([4.0, 1.0, 0.0])
    sampler = CCAdL(0.1, window=float("inf"))
    u = Noisy(strength, varying=False)
    state = sample(u, u.sample(2), sampler=sampler, steps=400, batch_size=PARTS).state
    # Each estimate has 3 degrees of freedom: the mean of n has the relative error sqrt(2 / (3 n)).
    error = 4 * (2 / (3 * 400)) ** 0.5
    torch.testing.assert_close(state.memory.variance, strength.double().expand(2, 3), rtol=error, atol=1e-12)


@pytest.mark.slow
def test_logistic_regression_from_a_tenth_of_the_data_a_step():
    """Posterior variances from minibatches of 40 of 400 data against a fine grid. The inputs have unlike widths,
    so that one friction for all makes one weight too cold and the other too hot."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 2, generator=generator).double() * torch.tensor([1.0, 4.0]).double()
    p = torch.sigmoid(x @ torch.tensor([1.0, -0.3]).double())
    y = (torch.rand(400, generator=generator).double() < p).double()
    net = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False), torch.nn.Flatten(0))
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    u = Posterior(ModulePotential(net, (x, y), bce), prior=2.0)
    theta = torch.cartesian_prod(torch.linspace(0, 2, 200).double(), torch.linspace(-1, 0.2, 200).double())
    weight = (-u.energy(theta)).softmax(0)
    mean = weight @ theta
    variance = weight @ (theta - mean).square()
    ratio = {}
    for sampler in (AdaptiveLangevin(0.005, 5.0), CCAdL(0.005, 5.0)):
        starts = mean.expand(30, 2).clone()
        run = sample(u, starts, sampler=sampler, steps=2000, burn_in=200, batch_size=40)
        ratio[type(sampler).__name__] = run.points.var(0) / variance
        assert bool(((run.points.mean(0) - mean).abs() < 0.1 * variance.sqrt()).all())
    torch.testing.assert_close(ratio["CCAdL"], torch.ones(2).double(), atol=0.12, rtol=0)
    assert float(ratio["AdaptiveLangevin"][0]) < 0.8
    assert float(ratio["AdaptiveLangevin"][1]) > 1.8


def test_without_minibatches_it_is_adaptive_langevin():
    u = Quadratic([1.0, 4.0])
    one, other = (sample(u, u.sample(5), sampler=s(0.2), steps=30) for s in (CCAdL, AdaptiveLangevin))
    torch.testing.assert_close(one.x, other.x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda u: CCAdL(0.1, parts=1), "parts=1; give a whole number of at least 2"),
        (lambda u: CCAdL(0.1, window=0.5), "window=0.5; give a number of at least 1"),
        (lambda u: sample(u, u.sample(2), sampler=CCAdL(0.1), batch_size=6), "multiple of 4"),
    ],
)
def test_refusals_name_the_remedy(call, message):
    with pytest.raises(TorchscapeError, match=message):
        call(Noisy([1.0], varying=False))
