"""Lines, curvature, worst cases and robustness against closed forms, dense spectra, SciPy and grids."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from learning_models import blobs, classifier
from scipy import optimize, stats

from torchscape import ModulePotential, Potential, learning, metrics, problems, random, relax
from torchscape.errors import TorchscapeError


class Quadratic(Potential):
    """x^T A x / 2 + b^T x with a random symmetric A."""

    def __init__(self, ndim: int, device="cpu", shift: float = 0.0) -> None:
        self.ndim, self.device = ndim, torch.device(device)
        a = random.normal(torch.arange(ndim), ndim)
        self.a = (a + a.T).to(device)
        self.b = shift * random.normal(torch.arange(1), ndim)[0].to(device)

    def energy(self, x):
        return 0.5 * ((x @ self.a) * x).sum(1) + x @ self.b


def minima(n: int = 5, **options) -> tuple[ModulePotential, torch.Tensor]:
    u = classifier(**options)
    return u, relax(u, u.sample(n)).x


# --- straight lines -----------------------------------------------------------------------------------------


def test_the_loss_along_a_line_is_that_of_its_points(device):
    u = classifier(device=device)
    starts, ends = u.sample(4), u.sample(4, seed=1)
    found = learning.interpolate(u, starts, ends, n_points=7)
    for k, t in enumerate(found.t):
        assert torch.allclose(found.loss[:, k], u.energy(starts + t * (ends - starts)).detach(), atol=1e-12)
    assert not found.loss.requires_grad


def test_bump_and_barrier_of_known_curves():
    """Along (-1, 1) the double well (x^2 - 1)^2 rises by 1; a parabola falls; a NaN is no monotone line."""
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    x = 2 * t - 1
    curves = torch.stack(
        [(x**2 - 1) ** 2, (t - 1) ** 2, torch.where(t == 0.5, torch.nan, -t), 1 - t + 0.1 * (t > 0.8)]
    )
    found = metrics.loss_lines(t, curves)
    assert found.bump[:2].tolist() == pytest.approx([1.0, 0.0])
    assert found.barrier[:2].tolist() == pytest.approx([1.0, 0.0])
    assert found.is_monotone.tolist() == [False, True, False, False]
    brute = max(float(c2 - c1) for i, c1 in enumerate(curves[3]) for c2 in curves[3][i:])
    assert found.bump[3].item() == pytest.approx(brute)
    assert metrics.loss_lines(t, curves, tol=1.5).is_monotone[0]
    with pytest.raises(TorchscapeError, match="two places"):
        metrics.loss_lines(t[:1], curves[:, :1])


def test_alignment_lowers_lines_between_images_of_one_minimum():
    u, x = minima(4)
    image = u.symmetry.random_image(x, torch.arange(4))
    aligned = learning.interpolate(u, x, image, align=True)
    assert aligned.barrier.max().item() < 1e-9
    assert learning.interpolate(u, x, image).barrier.max().item() > 0.1


# --- curvature ------------------------------------------------------------------------------------------------


def test_dense_and_iterative_flatness_agree():
    u, x = minima()
    exact = learning.flatness(u, x, n_top=3)
    spectrum = torch.linalg.eigvalsh(u.hessian(x))
    assert torch.allclose(exact.top, spectrum.flip(1)[:, :3])
    assert torch.allclose(exact.trace, spectrum.sum(1))
    assert torch.allclose(exact.lpphe, spectrum.log().sum(1))
    assert exact.trace_error.tolist() == [0.0] * 5
    found = learning.flatness(u, x, n_top=3, dense_limit=1, n_probes=64)
    assert torch.allclose(found.top, exact.top, rtol=1e-5)
    assert bool(((found.trace - exact.trace).abs() < 4 * found.trace_error).all())
    assert torch.allclose(found.lpphe, exact.lpphe)  # factorised
    assert found.lpphe_error.tolist() == [0.0] * 5
    assert torch.equal(found.worst, exact.worst)
    assert list(exact.measures()) == ["top eigenvalue", "trace", "LPPHE", "worst-case rise"]


def test_the_error_bar_of_the_trace_is_what_theory_says(device):
    """The variance of one probe is 2 (|A|_F^2 - sum A_ii^2), and estimates scatter by their error."""
    u = Quadratic(12, device)
    x = torch.zeros(1, 12, dtype=torch.float64, device=device)
    error = learning.hessian_trace(u, x, n_probes=4000)[1]
    theory = (2 * (u.a.square().sum() - u.a.diagonal().square().sum()) / 4000).sqrt()
    assert error.item() == pytest.approx(theory.item(), rel=0.1)
    scores = [(learning.hessian_trace(u, x, n_probes=64, seed=s), u.a.trace()) for s in range(60)]
    z = [((v - exact) / e).item() for (v, e), exact in scores]
    assert 0.75 < np.std(z) < 1.3
    assert abs(np.mean(z)) < 0.5


def test_a_saddle_has_no_lpphe():
    u = Quadratic(6)
    x = torch.zeros(1, 6, dtype=torch.float64)
    for limit in (1, 100):
        assert bool(learning.flatness(u, x, dense_limit=limit, n_probes=4).lpphe.isnan().all())


# --- worst case -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_the_worst_case_of_a_quadratic_is_that_of_the_trust_region(shift, device):
    """max over |d| <= r of a quadratic: r^2 lambda_max / 2 at a stationary point, SciPy's roots elsewhere."""
    u = Quadratic(8, device, shift)
    found = learning.worst_case_loss(u, torch.zeros(1, 8, dtype=torch.float64, device=device), 0.7, n_steps=200)
    values, vectors = np.linalg.eigh(u.a.cpu().numpy())
    slope = vectors.T @ u.b.cpu().numpy()
    if shift == 0:
        expected = 0.5 * values[-1] * 0.7**2
    else:  # d = (m - A)^-1 b with m > lambda_max such that |d| = r
        mu = optimize.brentq(lambda m: np.sum((slope / (m - values)) ** 2) - 0.7**2, values[-1] + 1e-9, 1e3)
        d = slope / (mu - values)
        expected = 0.5 * np.sum(values * d**2) + slope @ d
    assert found.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["himmelblau", "six-hump-camel"])
@pytest.mark.parametrize("norm", ["l2", "adaptive"])
def test_the_worst_case_of_a_rough_surface_is_that_of_a_grid(name, norm):
    u = problems.get(name).potential
    x = torch.tensor([[0.0, -0.7], [1.2, 0.5]], dtype=torch.float64)  # the first ball holds a maximum
    found = learning.worst_case_loss(u, x, 0.8, norm=norm, n_starts=8)
    r, phi = torch.linspace(0, 0.8, 200), torch.linspace(0, 2 * torch.pi, 721)
    disc = torch.stack([r[:, None] * phi.cos(), r[:, None] * phi.sin()], -1).reshape(-1, 2).double()
    scale = x.abs() + 0.01 if norm == "adaptive" else torch.ones_like(x)
    for k in range(2):
        grid = u.energy(x[k] + scale[k] * disc).max().item()
        assert found[k].item() == pytest.approx(grid, rel=2e-4)
        assert found[k].item() >= grid - 1e-4 * abs(grid)


def test_a_row_of_the_worst_case_does_not_notice_its_neighbours():
    u, x = minima(2)
    together = learning.worst_case_loss(u, x, 0.3)
    alone = torch.cat([learning.worst_case_loss(u, row[None], 0.3) for row in x])
    assert torch.allclose(together, alone, atol=1e-12)
    wider = learning.worst_case_loss(u, x, 0.6)
    assert bool((u.energy(x) < together).all() & (together < wider).all())
    with pytest.raises(TorchscapeError, match="positive"):
        learning.worst_case_loss(u, x, 0.0)


def exhaustive(u, x: torch.Tensor, radius: float, n: int = 8) -> float:
    """The best of SciPy's constrained searches from n directions all around."""
    g = np.random.default_rng(0)

    def energy_and_grad(d):
        e, slope = u.energy_and_grad(x[None] + torch.as_tensor(d)[None])
        return -float(e), -slope[0].numpy()

    ball = {"type": "ineq", "fun": lambda d: radius**2 - d @ d, "jac": lambda d: -2 * d}
    best = -np.inf
    for _ in range(n):
        d = g.normal(size=len(x))
        start = 0.9 * radius * d / np.linalg.norm(d)
        run = optimize.minimize(energy_and_grad, start, jac=True, constraints=[ball], method="SLSQP")
        end = run.x * min(1.0, radius / np.linalg.norm(run.x))  # the constraint holds to SciPy's tolerance only
        best = max(best, -energy_and_grad(end)[0])
    return best


def test_the_worst_case_of_small_networks_is_that_of_an_exhaustive_search():
    """Four random starts found down to half of it."""
    u, x = minima(2)
    found = learning.worst_case(u, x, 2.0)
    here = u.energy(x)
    for k in range(len(x)):
        most = exhaustive(u, x[k], 2.0) - here[k].item()
        assert most > 0
        assert (found.loss[k] - here[k]).item() > 0.985 * most
        if found.agrees[k]:
            assert (found.from_random[k] - here[k]).item() > 0.97 * most


def test_a_maximum_that_the_leading_curvature_hides_is_found_in_a_further_round():
    """U grows like x^4 along the third softest axis: both signs of the two leading eigenvectors end elsewhere."""

    class Hidden(Potential):
        ndim = 6

        def energy(self, x):
            curvature = torch.tensor([1.0, 0.9, 0.3, 0.2, 0.1, 0.05], dtype=x.dtype)
            return 0.5 * (curvature * x.square()).sum(1) + 2 * x[:, 2] ** 4

    x = torch.zeros(1, 6, dtype=torch.float64)
    first = learning.worst_case(Hidden(), x, 1.0, max_rounds=1)
    assert first.from_curvature.item() == pytest.approx(0.5)
    assert not first.agrees.any()
    assert first.n_starts == 4 + 4
    found = learning.worst_case(Hidden(), x, 1.0)
    assert found.loss.item() == pytest.approx(2.15, rel=1e-3)
    assert found.agrees.all()


# --- robustness -----------------------------------------------------------------------------------------------


def test_agreement_of_a_linear_model_is_the_normal_distribution():
    """The logit w.x + b moves by size sqrt(|x|^2 + 1) z: each item keeps its class with a known probability."""
    inputs, labels = blobs(40)
    target = (labels == 0).double()[:, None]
    u = ModulePotential(
        torch.nn.Linear(2, 1), (inputs, target), torch.nn.functional.binary_cross_entropy_with_logits
    )
    x = u.sample(3)
    found = learning.robustness(u, x, inputs, (labels == 0).long(), sizes=[0.1, 0.5], n_draws=4000)
    logit = u.predict(x, inputs)[:, :, 0].numpy()
    spread = np.sqrt((inputs.numpy() ** 2).sum(1) + 1)
    for s, size in enumerate([0.1, 0.5]):
        keeps = stats.norm.cdf(np.abs(logit) / (size * spread))
        right = np.where((logit > 0) == (labels == 0).numpy(), keeps, 1 - keeps)
        for value, error, expected in (
            (found.agreement, found.agreement_error, keeps.mean(1)),
            (found.accuracy, found.accuracy_error, right.mean(1)),
        ):
            assert bool(((value[:, s].numpy() - expected) < 4 * error[:, s].numpy() + 1e-12).all())
            assert bool(((expected - value[:, s].numpy()) < 4 * error[:, s].numpy() + 1e-12).all())


def test_robustness_does_not_depend_on_blocks_and_needs_no_labels(monkeypatch):
    u, x = minima(4)
    inputs, labels = blobs(20)
    whole = learning.robustness(u, x, inputs, labels, n_draws=8, norm="adaptive")
    module = importlib.import_module("torchscape.learning.weight_noise")
    monkeypatch.setattr(module, "SOME_LARGE", 1)  # one minimum at a time
    found = learning.robustness(u, x, inputs, n_draws=8, norm="adaptive")
    assert torch.equal(found.agreement, whole.agreement)
    assert bool(found.accuracy.isnan().all())
    assert bool((whole.agreement[:, 0] >= whole.agreement[:, -1]).all())
    with pytest.raises(TorchscapeError, match="at least 2"):
        learning.robustness(u, x, inputs, n_draws=1)
