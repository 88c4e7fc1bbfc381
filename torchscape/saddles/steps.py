"""Steps on a local quadratic model: uphill along one mode and downhill in all others, or along the flow.

All of them work in the model's own eigenbasis: ``slope`` holds the gradient's components and ``curvature``
the eigenvalues, so that a step is [B K] numbers, however large D is.
"""

from __future__ import annotations

import torch

from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["flow_response", "flow_step", "gradient_step", "index_step", "predicted_change", "saddle_step"]


def saddle_step(
    curvature: Float[Tensor, "B K"],
    slope: Float[Tensor, "B K"],
    followed: Int[Tensor, "B"],
    radius: Float[Tensor, "B"],
    n_newton: int = 8,
) -> Float[Tensor, "B K"]:
    """The step towards an index-one saddle within a trust radius.

    c_k = +- g_k / (|mu_k| + nu), with + for the followed mode and - for every other, and the smallest
    nu >= 0 for which |c| <= radius. With nu = 0 this is Newton's step wherever the curvatures already have
    the signs of a saddle (Cerjan & Miller 1981, doi 10.1063/1.442352; Wales 1994, doi 10.1063/1.467559).
    nu solves the secular equation 1/|c(nu)| = 1/radius by Newton's method, which converges monotonically
    from nu = 0 (Moré & Sorensen 1983, doi 10.1137/0904038).

    Example:
        >>> one = torch.ones(1, dtype=torch.float64)
        >>> saddle_step(torch.tensor([[-1.0, 2.0]]).double(), torch.tensor([[0.5, 1.0]]).double(),
        ...             torch.tensor([0]), one).tolist()
        [[0.5, -0.5]]
    """
    tiny = torch.finfo(slope.dtype).tiny ** 0.5
    size, weight = curvature.abs(), slope.square()
    nu = torch.zeros_like(radius)[:, None]
    limit = radius[:, None]
    for _ in range(n_newton):
        shifted = (size + nu).clamp(min=tiny)
        parts = weight / shifted.square()
        square = parts.sum(1, keepdim=True)
        bend = (parts / shifted).sum(1, keepdim=True).clamp(min=tiny)
        length = square.sqrt()
        nu = nu + ((length / limit - 1.0) * square / bend).clamp(min=0.0)
    c = -slope / (size + nu).clamp(min=tiny)
    uphill = torch.arange(slope.shape[1], device=slope.device) == followed[:, None]
    c = torch.where(uphill, -c, c)
    length = c.norm(dim=1, keepdim=True)
    step: Tensor = c * (limit / length.clamp(min=tiny)).clamp(max=1.0)
    return step


def gradient_step(
    curvature: Float[Tensor, "B K"], slope: Float[Tensor, "B K"], radius: Float[Tensor, "B"]
) -> Float[Tensor, "B K"]:
    """The step that makes the gradient of the model shortest within a trust radius.

    c_k = -mu_k g_k / (mu_k^2 + nu), with the smallest nu >= 0 for which |c| <= radius: the step of Levenberg and
    Marquardt (More 1978, doi 10.1007/BFb0067700), and Newton's, uphill or downhill as the curvatures say, where
    nu = 0. A mode without curvature is left alone.

    Example:
        >>> far = torch.full((1,), 10.0, dtype=torch.float64)
        >>> gradient_step(torch.tensor([[-1.0, 2.0]]).double(), torch.tensor([[0.5, 1.0]]).double(), far).tolist()
        [[0.5, -0.5]]
    """
    none = torch.full_like(radius, -1, dtype=torch.int64)
    return saddle_step(curvature.square(), curvature * slope, none, radius)


def index_step(
    curvature: Float[Tensor, "B K"],
    slope: Float[Tensor, "B K"],
    index: Int[Tensor, "B"],
    radius: Float[Tensor, "B"],
) -> Float[Tensor, "B K"]:
    """The step towards a stationary point of the given index within a trust radius.

    As :func:`saddle_step`, but uphill along the ``index`` lowest modes (ascending curvature) and downhill along
    all others; the discrete form of the index-k saddle dynamics of Yin, Zhang & Zhang (2019),
    doi 10.1137/19M1253356.

    Example:
        >>> one = torch.ones(1, dtype=torch.float64)
        >>> index_step(torch.tensor([[-1.0, 2.0]]).double(), torch.tensor([[0.5, 1.0]]).double(),
        ...            torch.tensor([2]), one).tolist()
        [[0.5, 0.5]]
    """
    none = torch.full_like(index, -1)
    c = saddle_step(curvature, slope, none, radius)
    return torch.where(torch.arange(slope.shape[1], device=slope.device) < index[:, None], -c, c)


def predicted_change(
    curvature: Float[Tensor, "B K"], slope: Float[Tensor, "B K"], c: Float[Tensor, "B K"]
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
    """Energy change sum_k (g_k c_k + mu_k c_k^2 / 2) of a step, and the sum of its parts' magnitudes.

    Near a saddle the uphill and downhill parts cancel, so that only the magnitude can judge an error.
    """
    parts = slope * c + 0.5 * curvature * c.square()
    return parts.sum(1), parts.abs().sum(1)


def flow_response(curvature: Float[Tensor, "*#S K"], time: Float[Tensor, "*#S 1"]) -> Float[Tensor, "*T K"]:
    """phi(mu, t) = (1 - exp(-mu t)) / mu: how far a unit force moves a mode in time t (t itself for mu = 0)."""
    z = curvature * time
    small = z.abs() < 1e-8
    safe = torch.where(small, torch.ones_like(curvature), curvature)
    return torch.where(small, time * (1 - 0.5 * z), -torch.expm1(-z) / safe)


def flow_step(
    curvature: Float[Tensor, "B K"],
    slope: Float[Tensor, "B K"],
    radius: Float[Tensor, "B"],
    n_grid: int = 64,
) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B 1"], Bool[Tensor, "B"]]:
    """Follow dx/dt = -grad U exactly on the quadratic model until the displacement reaches ``radius``.

    c_k(t) = -g_k (1 - exp(-mu_k t)) / mu_k, the local quadratic approximation of Page & McIver (1988),
    doi 10.1063/1.454172. Where all curvatures are positive and the model's minimum lies within the radius,
    t is infinite: Newton's step. Otherwise t is the last point of a logarithmic grid (refined once) that
    stays within the radius.

    Returns:
        The step, its time t (infinite for Newton's step), and whether it is Newton's.
    """
    limit = radius[:, None]
    positive = (curvature > 0).all(1)
    newton = -slope / torch.where(curvature > 0, curvature, torch.ones_like(curvature))
    to_minimum = positive & (newton.norm(dim=1) <= radius)

    top = curvature.abs().amax(1, keepdim=True).clamp(min=torch.finfo(slope.dtype).tiny ** 0.5)
    low = 1e-3 * torch.minimum(1 / top, limit / slope.norm(dim=1, keepdim=True).clamp(min=1e-300))
    ratio = torch.full_like(low, 1e18)
    for _ in range(2):
        power = torch.linspace(0, 1, n_grid, dtype=slope.dtype, device=slope.device)
        times = low * ratio**power
        reach = (slope[:, None, :] * flow_response(curvature[:, None, :], times[:, :, None])).norm(dim=2)
        inside = (reach <= limit) & torch.isfinite(reach)
        last = (inside.long().cumprod(1).sum(1, keepdim=True) - 1).clamp(min=0)
        low = times.gather(1, last)
        ratio = ratio ** (1 / (n_grid - 1))
    time = low
    c = -slope * flow_response(curvature, time)
    c = torch.where(to_minimum[:, None], newton, c)
    return c, torch.where(to_minimum[:, None], torch.full_like(time, torch.inf), time), to_minimum
