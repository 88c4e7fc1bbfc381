"""Kernels and the marginal likelihood: against mpmath, SciPy, dense algebra, scikit-learn and known minima."""

from __future__ import annotations

import math
import sys
import warnings

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats

from torchscape import random
from torchscape.errors import MissingExtra, PotentialError
from torchscape.potentials.contract import check_contract
from torchscape.potentials.gaussian_process import GaussianProcessPotential
from torchscape.potentials.gpytorch_adapter import from_gpytorch
from torchscape.potentials.kernels import Matern, SquaredExponential

KERNELS = [SquaredExponential(), Matern(2.5), Matern(0.7), Matern(2.2)]
NAMES = ["squared-exponential", "matern-2.5", "matern-0.7", "matern-2.2"]


def fitted(kernel=None, n=25, d=2, device="cpu", dtype=torch.float64) -> GaussianProcessPotential:
    x = random.uniform(random.fold(3, torch.arange(n)), d)
    y = torch.sin(7 * x[:, 0]) + x[:, -1] ** 2
    return GaussianProcessPotential(x, y - y.mean(), kernel, device=device, dtype=dtype)


THETA = torch.tensor(
    [[-1.0, -1.5, 0.3, -3.0], [0.5, -2.0, 1.0, -2.0], [-1.0, 0.0, 0.0, -4.0]], dtype=torch.float64
)


@pytest.mark.parametrize("nu", [0.05, 0.3, 0.5, 1.0, 1.60745, 2.5, 3.3, 7.5, 30.0])
def test_matern_terms_are_exact(nu):
    """c, s c' and s^2 c'' from x = 0 to where they underflow."""
    places = [1e-12, 1e-9, 1e-8, 3e-7, 1e-3, 0.05, 0.4, 1.0, 5.0, 30.0, 600.0]
    s = torch.tensor(places, dtype=torch.float64) ** 2 / (2 * nu)
    with mpmath.workdps(40):
        expected = []
        for value in s.tolist():
            x = mpmath.sqrt(2 * mpmath.mpf(nu) * mpmath.mpf(value))
            m = [x ** (nu - k) * mpmath.besselk(nu - k, x) for k in range(3)]
            norm = mpmath.mpf(2) ** (nu - 1) * mpmath.gamma(nu)
            expected.append([m[0] / norm, -(x**2) * m[1] / (2 * norm), x**4 * m[2] / (4 * norm)])
    for got, column in zip(Matern(nu).terms(s), zip(*expected, strict=True), strict=True):
        assert np.allclose(got, [float(value) for value in column], atol=4e-15 * (1 + nu**1.5), rtol=0)


@pytest.mark.parametrize("kernel", KERNELS, ids=NAMES)
def test_kernel_has_no_trouble_at_zero_distance(kernel):
    s = torch.tensor([0.0, 1e-20, 1.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(kernel(s).sum(), s, create_graph=True)
    (curved,) = torch.autograd.grad(slope.sum(), s)
    assert kernel(s)[0] == 1
    assert torch.isfinite(slope).all()
    assert torch.isfinite(curved[[0, 2]]).all()
    terms = kernel.terms(torch.zeros(1, dtype=torch.float64))
    assert torch.isfinite(torch.stack(terms)).all()


@pytest.mark.parametrize("nu", [0.05, 29.5, 30])
def test_nothing_is_left_at_any_distance(nu):
    """Regression: at 1e12 length scales the 29th power of x was infinite and its product with exp(-x) NaN."""
    for part in Matern(nu).terms(torch.tensor([1e8, 1e24, 1e40], dtype=torch.float64)):
        assert part.abs().max() == 0


@pytest.mark.parametrize("kernel", KERNELS, ids=NAMES)
def test_contract(kernel, device):
    check_contract(fitted(kernel, device=device), x=THETA)


def test_contract_where_inputs_coincide():
    x = torch.tensor([[0.1, 0.2], [0.1, 0.2], [0.7, 0.3], [0.9, 0.9], [0.2, 0.8]], dtype=torch.float64)
    for kernel in (Matern(0.4), Matern(2.5)):
        check_contract(GaussianProcessPotential(x, [0.5, 0.3, -1.0, 1.0, 0.2], kernel), x=THETA)
    check_contract(GaussianProcessPotential([0.5], [2.0]), x=THETA[:, 1:])  # a single point


def test_energy_is_the_normal_density(device):
    u = fitted(SquaredExponential(), device=device)
    x = u.inputs.cpu().numpy()
    for theta, energy in zip(THETA.numpy(), u.energy(THETA.to(device)).tolist(), strict=True):
        scaled = (x[:, None] - x) / np.exp(theta[:2])
        k = np.exp(theta[2] - 0.5 * (scaled**2).sum(2)) + np.exp(theta[3]) * np.eye(len(x))
        assert energy == pytest.approx(
            -stats.multivariate_normal(cov=k).logpdf(u.targets.cpu().numpy()), rel=1e-11
        )


@pytest.mark.parametrize("nu", [1.5, 2.5, 1.1])
def test_against_scikit_learn(nu):
    """Likelihood, its gradient, and predictions."""
    gp = pytest.importorskip("sklearn.gaussian_process")
    kernels = gp.kernels
    u = fitted(Matern(nu))
    theta = THETA[0].numpy()
    scales = kernels.ConstantKernel(math.exp(theta[2])) * kernels.Matern(np.exp(theta[:2]), nu=nu)
    model = gp.GaussianProcessRegressor(
        scales + kernels.WhiteKernel(math.exp(theta[3])), alpha=0.0, optimizer=None
    )
    model.fit(u.inputs.numpy(), u.targets.numpy())
    value, slope = model.log_marginal_likelihood(model.kernel_.theta, eval_gradient=True)
    energy, grad = u.energy_and_grad(THETA[:1])
    assert energy.item() == pytest.approx(-value, rel=1e-10)
    # their gradient for general nu is a finite difference
    theirs = -slope[[1, 2, 0, 3]]
    assert np.allclose(grad[0], theirs, rtol=1e-9 if nu in (1.5, 2.5) else 1e-3)
    points = random.uniform(random.fold(9, torch.arange(40)), 2)
    mean, spread = model.predict(points.numpy(), return_std=True)
    ours = u.predict(THETA, points, noisy=True)
    assert np.allclose(ours[0][0], mean, atol=1e-9)
    assert np.allclose(ours[1][0], spread**2, atol=1e-9)
    assert torch.allclose(u.predict(THETA, points)[1], ours[1] - THETA[:, 3:].exp(), atol=1e-12)


def test_a_singular_matrix_is_the_trouble_of_its_row_alone(device):
    """No noise, and two inputs that coincide: K has no inverse."""
    x = torch.tensor([[0.1], [0.1], [0.7]], dtype=torch.float64)
    u = GaussianProcessPotential(x, [0.5, 0.3, -1.0], bounds=[(-math.inf, math.inf)] * 3, device=device)
    theta = torch.tensor([[0.0, 0.0, -2.0], [0.0, 0.0, -90.0], [0.0, math.nan, 0.0]], device=device).double()
    energy, grad = u.energy_and_grad(theta)
    alone = u.energy_and_grad(theta[:1])
    assert torch.allclose(energy[:1], alone[0])
    assert torch.allclose(grad[:1], alone[1])
    assert energy[1] == math.inf
    assert torch.isnan(energy[2])
    assert torch.isnan(grad[1:]).all()
    assert torch.isnan(u.hessian(theta)[1:]).all()
    assert torch.isfinite(u.hessian(theta)[0]).all()
    assert torch.isnan(u.predict(theta, x)[0][1:]).all()


def test_chunks_and_dtype_change_nothing(dtype):
    u = fitted(dtype=dtype)
    theta = THETA.to(dtype)
    whole = u.energy_and_grad(theta), u.hessian(theta), u.predict(theta, u.inputs)
    assert whole[0][0].dtype == whole[2][0].dtype == dtype
    u.max_rows = 1
    for a, b in zip((*whole[0], whole[1], *whole[2]), (*u.energy_and_grad(theta), u.hessian(theta),
                    *u.predict(theta, u.inputs)), strict=True):  # fmt: skip
        assert torch.allclose(a, b)
    assert torch.isfinite(u.energy(u.sample(50))).double().mean() > 0.9


def test_bad_data_name_the_remedy():
    with pytest.raises(PotentialError, match=r"\[3, 2\] and \[2\]"):
        GaussianProcessPotential(torch.zeros(3, 2), torch.zeros(2))
    with pytest.raises(PotentialError, match="finite"):
        GaussianProcessPotential([0.0, math.nan], [0.0, 1.0])
    with pytest.raises(PotentialError, match="2 bounds for 3"):
        GaussianProcessPotential([0.0, 1.0], [0.0, 1.0], bounds=[(0, 1), (0, 1)])
    with pytest.raises(PotentialError, match=r"0\.05 to 30"):
        Matern(0)
    with pytest.raises(PotentialError, match=r"\[m, 1\]"):
        GaussianProcessPotential([0.0, 1.0], [0.0, 1.0]).predict(torch.zeros(1, 3).double(), torch.zeros(4, 2))


# --- GPyTorch ------------------------------------------------------------------------------------------------


def test_without_gpytorch(monkeypatch):
    monkeypatch.setitem(sys.modules, "gpytorch", None)
    with pytest.raises(MissingExtra, match=r"torchscape\[gpytorch\]"):
        from_gpytorch(object())


def test_gpytorch_marginal_likelihood():
    """Equal to GPyTorch's own objective times n, priors included, and to ours where there are none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its dependencies use deprecated parts of torch
        gpytorch = pytest.importorskip("gpytorch")
    ours = fitted(n=30)  # up to 25 points, its distances between NaN have no second derivative in torch
    x, y = ours.inputs, ours.targets

    def objective(prior):
        class Model(gpytorch.models.ExactGP):
            def __init__(self, likelihood):
                super().__init__(x, y, likelihood)
                self.mean_module = gpytorch.means.ZeroMean()
                matern = gpytorch.kernels.MaternKernel(nu=2.5, ard_num_dims=2, lengthscale_prior=prior)
                self.covar_module = gpytorch.kernels.ScaleKernel(matern)

            def forward(self, inputs):
                mean, covariance = self.mean_module(inputs), self.covar_module(inputs)
                return gpytorch.distributions.MultivariateNormal(mean, covariance)

        likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
        return gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, Model(likelihood).double())

    for prior in (None, gpytorch.priors.GammaPrior(3.0, 6.0)):
        mll = objective(prior)
        with pytest.warns(UserWarning, match="walker by walker"):
            u = from_gpytorch(mll)
        theirs = -mll(mll.model(x), y) * len(y)
        assert u.energy(u.initial).item() == pytest.approx(theirs.item(), rel=1e-9)
        check_contract(u)
    plain = objective(None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        u = from_gpytorch(plain)
    scales = plain.model.covar_module.base_kernel.lengthscale.log().flatten()
    rest = [plain.model.covar_module.outputscale.log(), plain.likelihood.noise.log().squeeze()]
    theta = torch.cat([scales, torch.stack(rest)])[None].detach()
    assert torch.allclose(u.energy(u.initial), ours.energy(theta), rtol=1e-9)
    with pytest.raises(PotentialError, match="ExactMarginalLogLikelihood"):
        from_gpytorch(plain.model)


@pytest.mark.parametrize("which", ["rbf", "matern"])
@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.filterwarnings("ignore")
def test_gpytorch_kernels_with_one_length_scale(which, d):
    """GPyTorch 1.15 takes their second derivatives wrongly outside ``trace_mode``: by differences, and by ours."""
    gpytorch = pytest.importorskip("gpytorch")
    x = random.uniform(random.fold(3, torch.arange(30)), d)
    y = torch.sin(7 * x[:, 0])
    kernel = gpytorch.kernels.RBFKernel() if which == "rbf" else gpytorch.kernels.MaternKernel(nu=2.5)

    class Model(gpytorch.models.ExactGP):
        def __init__(self, likelihood):
            super().__init__(x, y, likelihood)
            self.mean_module = gpytorch.means.ConstantMean()
            self.covar_module = gpytorch.kernels.ScaleKernel(kernel)

        def forward(self, inputs):
            return gpytorch.distributions.MultivariateNormal(self.mean_module(inputs), self.covar_module(inputs))

    likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
    u = from_gpytorch(gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, Model(likelihood).double()))
    names = dict(zip(u.layout.names, range(u.ndim), strict=True))
    assert u.ndim == 4
    theta = u.initial + torch.tensor([[-0.5, 0.3, 0.2, -0.4]], dtype=torch.float64)
    eye = 1e-5 * torch.eye(4, dtype=torch.float64)
    rows = [(u.energy_and_grad(theta + e)[1] - u.energy_and_grad(theta - e)[1]) / 2e-5 for e in eye]
    assert torch.allclose(u.hessian(theta), torch.stack(rows, 1), atol=1e-6, rtol=1e-6)

    mean = next(column for name, column in names.items() if "mean" in name)  # ours have a zero mean
    order = [next(c for n, c in names.items() if part in n) for part in ("lengthscale", "outputscale", "noise")]

    def ours(at):
        length, scale, noise = (torch.nn.functional.softplus(at[column]) for column in order)
        own = SquaredExponential() if which == "rbf" else Matern(2.5)
        model = GaussianProcessPotential(x, y - at[mean].item(), own)
        lengths = length.log().expand(d)
        return model.energy(torch.cat([lengths, torch.stack([scale.log(), (noise + 1e-4).log()])])[None])[0]

    assert u.energy(theta).item() == pytest.approx(ours(theta[0]).item(), rel=1e-9)
    free = [column for column in range(4) if column != mean]
    theirs = u.hessian(theta)[0][free][:, free]
    others = torch.autograd.functional.hessian(ours, theta[0])
    assert torch.allclose(theirs, others[free][:, free], rtol=1e-6, atol=1e-8)


@pytest.mark.filterwarnings("ignore")
def test_gpytorch_beyond_its_exact_factorisations():
    """GPyTorch's own objective is random above ``max_cholesky_size`` points (800); here above ten."""
    gpytorch = pytest.importorskip("gpytorch")
    x = random.uniform(random.fold(3, torch.arange(40)), 1)
    y = torch.sin(7 * x[:, 0])

    class Model(gpytorch.models.ExactGP):
        def __init__(self, likelihood):
            super().__init__(x, y, likelihood)
            self.mean_module = gpytorch.means.ConstantMean()
            self.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())

        def forward(self, inputs):
            return gpytorch.distributions.MultivariateNormal(self.mean_module(inputs), self.covar_module(inputs))

    likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
    mll = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, Model(likelihood).double())
    exact = -mll(mll.model(x), y).item() * len(y)
    with gpytorch.settings.max_cholesky_size(10):
        assert len({mll(mll.model(x), y).item() for _ in range(3)}) > 1  # theirs
        u = from_gpytorch(mll)
        energies = {u.energy(u.initial).item() for _ in range(3)}
    assert len(energies) == 1
    assert energies.pop() == pytest.approx(exact, rel=1e-9)
