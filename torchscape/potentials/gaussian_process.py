"""``GaussianProcessPotential``: the negative log marginal likelihood of a Gaussian process."""

from __future__ import annotations

import dataclasses
import math

import torch

from torchscape.errors import PotentialError
from torchscape.memory import SOME_LARGE, in_chunks, rows_that_fit
from torchscape.potentials.bounds import Bounds
from torchscape.potentials.checks import available_device, available_dtype
from torchscape.potentials.closed_form import ClosedForm, by_parts
from torchscape.potentials.kernels import Kernel, Matern
from torchscape.types import Bool, Float, Tensor

__all__ = ["GaussianProcessPotential", "factorised"]

_LENGTH, _SIGNAL, _NOISE = (0.01, 10.0), (0.01, 1000.0), (1e-6, 10.0)


class GaussianProcessPotential(ClosedForm):
    """U(theta) = 1/2 y^T K^-1 y + 1/2 ln|K| + (n/2) ln 2 pi, theta = (ln l_1, ..., ln l_d, ln s^2, ln t^2), where

        K_ij = s^2 c(sum_k (x_ik - x_jk)^2 / l_k^2) + t^2 [i = j].

    Every input dimension k has its own length scale l_k; s^2 is the variance of the signal, t^2 that of the noise.
    Gradients and Hessians are in closed form. All is computed in float64, whatever the dtype of the points: with
    little noise, K is near-singular in float32. Where K is not positive definite even so, the energy of that row
    is infinite and its derivatives are NaN, and no other row notices.

    Args:
        inputs: x, [n d] (or [n] for d = 1), best scaled to [0, 1].
        targets: y, [n], best standardised: the mean of the process is zero.
        kernel: c; Matern with nu = 5/2 by default.
        bounds: (low, high) of the d + 2 coordinates. By default 0.01 to 10 for length scales, 0.01 to 1000 for
            the signal, 1e-6 to 10 for the noise (all as logarithms); infinite ones are allowed.
        dtype, device: of the points.

    Raises:
        PotentialError: unless inputs and targets are finite and as many.

    References: C. E. Rasmussen and C. K. I. Williams, *Gaussian Processes for Machine Learning* (MIT Press, 2006),
    eq. 2.30, doi 10.7551/mitpress/3206.001.0001; M. P. Niroomand et al., Digital Discovery 3, 637 (2024),
    doi 10.1039/d3dd00204g.

    Example:
        >>> u = GaussianProcessPotential([[0.0], [1.0]], [1.0, 0.0])
        >>> theta = torch.tensor([[-20.0, 0.0, 0.0]], dtype=torch.float64)  # uncorrelated: K = 2 times identity
        >>> bool((u.energy(theta) - (0.25 + math.log(2) + math.log(2 * math.pi))).abs() < 1e-14)
        True
    """

    def __init__(
        self,
        inputs,
        targets,
        kernel: Kernel | None = None,
        *,
        bounds=None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        self.dtype, self.device = available_dtype(dtype), available_device(device)
        x, y = (torch.as_tensor(t, dtype=torch.float64).to(device) for t in (inputs, targets))
        x = x[:, None] if x.ndim == 1 else x
        if x.ndim != 2 or y.shape != x.shape[:1] or len(y) < 1 or x.shape[1] < 1:
            raise PotentialError(f"inputs must be [n d] and targets [n], not {list(x.shape)} and {list(y.shape)}")
        if not bool(torch.isfinite(x).all() and torch.isfinite(y).all()):
            raise PotentialError("inputs and targets must be finite: remove or impute what is missing")
        self.inputs, self.targets = x, y
        self.kernel = Matern() if kernel is None else kernel
        self.ndim = x.shape[1] + 2
        box = [_LENGTH] * x.shape[1] + [_SIGNAL, _NOISE]
        logarithms = [(math.log(low), math.log(high)) for low, high in box]
        self.bounds = self._box = Bounds.of(
            logarithms if bounds is None else bounds, dtype=dtype, device=self.device
        )
        if len(self._box.lower) != self.ndim:
            raise PotentialError(f"{len(self._box.lower)} bounds for {self.ndim} coordinates: one pair for each")
        self._i, self._j = torch.triu_indices(len(x), len(x), 1, device=self.device)
        self._square = (x[self._i] - x[self._j]).square().T  # [d P], P = n (n - 1) / 2 pairs
        self._place = _pair_numbers(len(x), self._i, self._j)
        self.max_rows = rows_that_fit((3 * self.ndim + 8) * len(x) ** 2, self.device, on_host=SOME_LARGE)

    def settings(self):
        return {
            "ndim": self.ndim,
            "inputs": self.inputs,
            "targets": self.targets,
            "kernel": self.kernel.settings(),
            "bounds": [self._box.lower.tolist(), self._box.upper.tolist()],
        }

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        def energy(part: Tensor) -> tuple[Tensor]:
            theta = part.double()
            s, _ = self._distances(theta)
            return (self._factor(theta, self.kernel(s)).energy.to(part.dtype),)

        return by_parts(energy, x, self.max_rows)[0]

    @torch.no_grad()
    def predict(
        self, x: Float[Tensor, "B D"], points: Float[Tensor, "m d"], *, noisy: bool = False
    ) -> tuple[Float[Tensor, "B m"], Float[Tensor, "B m"]]:
        """Mean and variance of the process at test points, for every row of hyperparameters.

        Args:
            x: hyperparameters.
            points: where to predict, scaled as the inputs.
            noisy: the variance of a noisy observation, instead of that of the function.

        Example:
            >>> u = GaussianProcessPotential([0.0, 1.0], [1.0, -1.0])
            >>> theta = torch.tensor([[0.0, 0.0, -30.0]], dtype=torch.float64)
            >>> mean, variance = u.predict(theta, torch.tensor([[0.0], [0.5]], dtype=torch.float64))
            >>> mean.round(decimals=6).tolist(), bool(variance[0, 0] < 1e-12)
            ([[1.0, 0.0]], True)
        """
        points = torch.as_tensor(points, dtype=torch.float64, device=self.device)
        d = self.inputs.shape[1]
        if points.ndim != 2 or points.shape[1] != d:
            raise PotentialError(f"test points must be [m, {d}], as the inputs, not {list(points.shape)}")
        pieces = in_chunks(points, 4 * len(self.inputs), on_host=SOME_LARGE)

        def predict(part: Tensor) -> tuple[Tensor, Tensor]:
            theta = part.double()
            fit = self._factor(theta, self.kernel(self._distances(theta)[0]))
            parts = [self._predict(fit, theta, piece) for piece in pieces]
            mean, variance = (torch.cat(column, 1) for column in zip(*parts, strict=True))
            variance = variance + fit.noise[:, None] if noisy else variance
            return mean.to(part.dtype), variance.to(part.dtype)

        numbers = len(self.inputs) * (4 * min(len(points), len(pieces[0])) + len(self.inputs))
        rows = rows_that_fit(numbers, x.device, on_host=SOME_LARGE)
        mean, variance = by_parts(predict, x, min(rows, self.max_rows))
        return mean, variance

    # --- one group of rows at a time --------------------------------------------------------------------

    def _distances(self, theta: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B P"], Float[Tensor, "B d"]]:
        """Squared scaled distances of all pairs; and 1/l^2."""
        weights = torch.exp(-2 * theta[:, :-2])
        return weights @ self._square, weights

    def _factor(self, theta: Float[Tensor, "B D"], c: Float[Tensor, "B P"]) -> _Factored:
        signal, noise = theta[:, -2].exp(), theta[:, -1].exp()
        eye = torch.eye(len(self.targets), dtype=theta.dtype, device=theta.device)
        correlation = torch.cat([c, c.new_ones(len(c), 1)], 1)
        k = signal[:, None, None] * correlation[:, self._place] + noise[:, None, None] * eye
        return _Factored(*factorised(k, self.targets.expand(len(theta), -1)), signal, noise)

    def _energy_and_grad(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        """dU/dtheta = 1/2 tr(G dK/dtheta) with G = K^-1 - (K^-1 y)(K^-1 y)^T."""
        theta = x.double()
        s, weights = self._distances(theta)
        c, first, _ = self._terms(s)
        fit = self._factor(theta, c)
        g = fit.inverse() - fit.alpha @ fit.alpha.mT
        pairs = fit.signal[:, None] * g[:, self._i, self._j] * first / torch.where(s > 0, s, 1.0)
        lengths = -2 * weights * (pairs @ self._square.T)
        diagonal = fit.noise * g.diagonal(dim1=1, dim2=2).sum(1)
        explained = len(self.targets) - (self.targets * fit.alpha[:, :, 0]).sum(1)  # tr(G K)
        grad = torch.cat([lengths, 0.5 * (explained - diagonal)[:, None], 0.5 * diagonal[:, None]], 1)
        return fit.energy.to(x.dtype), torch.where(fit.fine[:, None], grad, torch.nan).to(x.dtype)

    def _hessian(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D D"]:
        """1/2 tr(G d_ij K) - 1/2 tr(K^-1 d_i K K^-1 d_j K) + a^T d_i K K^-1 d_j K a, with a = K^-1 y."""
        theta = x.double()
        s, weights = self._distances(theta)
        c, first, second = self._terms(s)
        fit = self._factor(theta, c)
        d, n = weights.shape[1], len(self.targets)
        safe = torch.where(s > 0, s, 1.0)
        share = weights[:, :, None] * self._square / safe[:, None]  # [B d P]: what each dimension adds to s
        slopes = -2 * fit.signal[:, None, None] * first[:, None] * share
        eye = torch.eye(n, dtype=theta.dtype, device=theta.device)
        zero = slopes.new_zeros(len(theta), d, 1)
        lengths = torch.cat([slopes, zero], 2)[:, :, self._place]
        noise = (fit.noise[:, None, None] * eye)[:, None]
        matrix = fit.factor @ fit.factor.mT
        changes = torch.cat([lengths, matrix[:, None] - noise, noise], 1)  # [B D n n]: dK/dtheta
        inverse = fit.inverse()
        turned = inverse[:, None] @ changes
        along = (changes @ fit.alpha[:, None])[..., 0]  # [B D n]: dK a
        product = torch.einsum("bimn,bjnm->bij", turned, turned)
        hessian = along @ inverse @ along.mT - 0.5 * product
        # second derivatives of K itself: of the lengths among themselves, of the rest with the signal or the noise
        g = inverse - fit.alpha @ fit.alpha.mT
        pairs = fit.signal[:, None] * g[:, self._i, self._j]
        among = (share * (4 * pairs * second)[:, None]) @ share.mT
        own = 4 * ((pairs * first)[:, None] * share).sum(2)
        linear = 0.5 * torch.einsum("bmn,bimn->bi", g, changes)
        curved = torch.diag_embed(torch.cat([own, linear[:, d:]], 1))
        curved[:, :d, :d] += among
        curved[:, :d, d] += linear[:, :d]
        curved[:, d, :d] += linear[:, :d]
        hessian = hessian + curved
        return torch.where(fit.fine[:, None, None], 0.5 * (hessian + hessian.mT), torch.nan).to(x.dtype)

    def _terms(self, s: Float[Tensor, "B P"]) -> tuple[Float[Tensor, "B P"], ...]:
        """The kernel's terms, exact where two inputs coincide."""
        apart = s > 0
        c, first, second = self.kernel.terms(torch.where(apart, s, 1.0))
        return torch.where(apart, c, 1.0), torch.where(apart, first, 0.0), torch.where(apart, second, 0.0)

    def _predict(self, fit: _Factored, theta: Float[Tensor, "B D"], points: Float[Tensor, "m d"]):
        square = (points[:, None] - self.inputs).square()  # [m n d]
        s = torch.einsum("mnd,bd->bmn", square, torch.exp(-2 * theta[:, :-2]))
        cross = fit.signal[:, None, None] * self.kernel(s)
        mean = (cross @ fit.alpha)[:, :, 0]
        known = torch.linalg.solve_triangular(fit.factor, cross.mT, upper=False).square().sum(1)
        variance = (fit.signal[:, None] - known).clamp_min(0.0)
        sick = ~fit.fine[:, None]
        return mean.masked_fill(sick, torch.nan), variance.masked_fill(sick, torch.nan)


def factorised(
    k: Float[Tensor, "*B n n"], y: Float[Tensor, "*B n"]
) -> tuple[Float[Tensor, "*B"], Bool[Tensor, "*B"], Float[Tensor, "*B n n"], Float[Tensor, "*B n 1"]]:
    """The negative log density of y under a normal distribution with covariance K; whether K is positive
    definite; its Cholesky factor; and K^-1 y. The energy is infinite where K is not, and NaN where K is NaN."""
    n = y.shape[-1]
    eye = torch.eye(n, dtype=k.dtype, device=k.device)
    finite = torch.isfinite(k).flatten(-2).all(-1)
    factor, info = torch.linalg.cholesky_ex(torch.where(finite[..., None, None], k, eye))
    fine = finite & (info == 0) & (factor.diagonal(dim1=-2, dim2=-1) > 0).all(-1)
    factor = torch.where(fine[..., None, None], factor, eye)
    alpha = torch.cholesky_solve(y[..., None], factor)
    log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    energy = 0.5 * (y * alpha[..., 0]).sum(-1) + log_det + 0.5 * n * math.log(2 * math.pi)
    sick = torch.where(torch.isnan(k).flatten(-2).any(-1), torch.nan, torch.inf).to(k)
    return torch.where(fine, energy, sick), fine, factor, alpha


@dataclasses.dataclass(frozen=True)
class _Factored:
    """What :func:`factorised` gives, and the two variances."""

    energy: Float[Tensor, "B"]
    fine: Bool[Tensor, "B"]
    factor: Float[Tensor, "B n n"]
    alpha: Float[Tensor, "B n 1"]
    signal: Float[Tensor, "B"]
    noise: Float[Tensor, "B"]

    def inverse(self) -> Float[Tensor, "B n n"]:
        return torch.cholesky_inverse(self.factor)


def _pair_numbers(n: int, i: Tensor, j: Tensor) -> Tensor:
    """Where an entry [n n] of a symmetric matrix is found in its list of pairs; the diagonal comes last."""
    place = torch.full((n, n), len(i), dtype=torch.int64, device=i.device)
    place[i, j] = place[j, i] = torch.arange(len(i), device=i.device)
    return place
