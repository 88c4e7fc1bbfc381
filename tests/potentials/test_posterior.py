"""A posterior over parameters: linear regression in closed form, and minibatches by enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
import torch

from torchscape.errors import PotentialError
from torchscape.optimise import relax
from torchscape.potentials import ModulePotential, Posterior
from torchscape.potentials.contract import check_contract
from torchscape.sampling import SGLD, sample

NOISE, PRIOR = 0.4, 1.5


def line(n: int = 12, reduction: str = "mean", device="cpu"):
    """Targets that are linear in two features but for noise; the module has no bias."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(n, 2, generator=generator).double()
    y = x @ torch.tensor([1.0, -0.5]).double() + NOISE * torch.randn(n, generator=generator).double()
    loss = torch.nn.MSELoss(reduction=reduction)
    u = ModulePotential(torch.nn.Linear(2, 1, bias=False), (x, y[:, None]), loss, device=device)
    scale = (n if reduction == "mean" else 1) / (2 * NOISE**2)
    return Posterior(u, scale=scale, prior=PRIOR), x, y


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_linear_regression_is_the_conjugate_posterior(reduction, device):
    u, x, y = line(reduction=reduction, device=device)
    precision = x.T @ x / NOISE**2 + torch.eye(2).double() / PRIOR**2
    mean = torch.linalg.solve(precision, x.T @ y) / NOISE**2
    minimum = relax(u, torch.zeros(1, 2, dtype=torch.float64, device=device))
    torch.testing.assert_close(minimum.x[0].cpu(), mean, atol=1e-8, rtol=0)
    torch.testing.assert_close(u.hessian(minimum.x)[0].cpu(), precision)
    theta = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)).double()
    log_joint = [
        scipy.stats.norm(0, NOISE).logpdf(y.numpy() - x.numpy() @ t).sum()
        + scipy.stats.norm(0, PRIOR).logpdf(t).sum()
        for t in theta.numpy()
    ]
    energy = u.energy(theta.to(device)).cpu().numpy()
    np.testing.assert_allclose(energy - energy[0], -(np.array(log_joint) - log_joint[0]), rtol=1e-10)
    assert u.prior == pytest.approx(PRIOR)


def test_cross_entropy_counts_every_sample_once():
    data = torch.randn(9, 2, generator=torch.Generator().manual_seed(1)), torch.arange(9) % 3
    net = torch.nn.Linear(2, 3)
    mean, summed = (
        ModulePotential(net, data, torch.nn.CrossEntropyLoss(reduction=kind)) for kind in ("mean", "sum")
    )
    theta = mean.sample(4)
    posteriors = [Posterior(one, prior=2.0) for one in (mean, summed)]
    one, other = (p.energy(theta) for p in posteriors)
    torch.testing.assert_close(one, other)
    prior = scipy.stats.norm(0, 2.0).logpdf(theta.numpy()).sum(1) - 9 * scipy.stats.norm(0, 2.0).logpdf(0)
    torch.testing.assert_close(one, summed.energy(theta) - torch.from_numpy(prior))
    assert len({p.fingerprint() for p in (*posteriors, Posterior(mean, prior=1.0))}) == 3


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_minibatches_are_unbiased_by_enumeration(reduction):
    """The mean over all pairs of four samples is U itself, the prior counted once."""
    u, _, _ = line(4, reduction)
    theta = torch.tensor([[0.3, 2.0], [-1.0, 0.5]]).double()
    parts = [u.on(list(pair)) for pair in itertools.product(range(4), repeat=2)]
    torch.testing.assert_close(torch.stack([p.energy(theta) for p in parts]).mean(0), u.energy(theta))
    grads = torch.stack([p.energy_and_grad(theta)[1] for p in parts])
    torch.testing.assert_close(grads.mean(0), u.energy_and_grad(theta)[1])
    samples = sample(u, theta, sampler=SGLD(1e-4), steps=3, batch_size=2)
    torch.testing.assert_close(samples.energy[-1], u.energy(samples.x[-1]))


def test_it_keeps_the_contract(device):
    check_contract(line(device=device)[0])


def test_without_regularisation_the_prior_is_flat():
    u, _, _ = line()
    assert Posterior(u.potential.with_(l2=0.0)).prior == float("inf")


@pytest.mark.parametrize("settings", [{"scale": 0.0}, {"prior": -1.0}])
def test_refusals_name_the_remedy(settings):
    with pytest.raises(PotentialError, match="positive"):
        Posterior(line()[0].potential, **settings)


def test_a_loss_of_the_whole_data_needs_a_scale():
    data = torch.ones(3, 2), torch.ones(3, 1)
    whole = ModulePotential(torch.nn.Linear(2, 1), data, torch.nn.functional.mse_loss, reduction="whole")
    with pytest.raises(PotentialError, match="scale"):
        Posterior(whole)
    with pytest.raises(PotentialError, match="minibatches"):
        Posterior(whole, scale=3.0).on([0])
