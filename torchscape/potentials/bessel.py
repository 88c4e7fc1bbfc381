"""The modified Bessel function of the second kind, of any real order, with derivatives in argument and order."""

from __future__ import annotations

import torch

from torchscape.memory import MANY_LARGE, rows_that_fit
from torchscape.types import Float, Tensor

__all__ = ["kv", "log_kv", "log_power_kv", "log_scaled_kv"]

_NODES = 192
_NEGLIGIBLE = 44.0  # exp(-44) = 8e-20


def log_kv(order: Float[Tensor, "*#S"] | float, x: Float[Tensor, "*#S"]) -> Float[Tensor, "*S"]:
    r"""ln K_v(x) for real v and x > 0, differentiable any number of times in both.

    K_v(x) = 1/2 \int exp(-x cosh t + v t) dt over the real line, by the trapezoidal rule about the maximum of the
    integrand at t = asinh(v/x). The integrand is analytic and falls doubly exponentially, so that the rule
    converges exponentially. The logarithm neither overflows nor underflows.

    For 1e-8 <= x <= 1e3 and |v| <= 30 the values are good to a few units in the last place of the largest of
    v asinh(v/x), x and 1, and so are derivatives while |v| > x or both exceed 0.05. Computed in float64, whatever
    the dtype; order and x broadcast.

    Args:
        order: v; a number or a tensor.
        x: where; NaN for x <= 0.

    References:
        NIST Digital Library of Mathematical Functions, 10.32.9, https://dlmf.nist.gov/10.32.E9; L. N. Trefethen
        and J. A. C. Weideman, SIAM Review 56, 385 (2014), doi 10.1137/130932132.

    Example:
        >>> x = torch.tensor([2.0], dtype=torch.float64)
        >>> half = torch.log(torch.pi / (2 * x)) / 2 - x  # K_1/2(x) = sqrt(pi / 2x) exp(-x)
        >>> bool((log_kv(0.5, x) - half).abs() < 1e-14)
        True
    """
    return log_scaled_kv(order, x) - x


def kv(order: Float[Tensor, "*#S"] | float, x: Float[Tensor, "*#S"]) -> Float[Tensor, "*S"]:
    """K_v(x) itself, the exponential of :func:`log_kv`; 0 or infinity where float64 ends."""
    return log_kv(order, x).exp()


def log_scaled_kv(order: Float[Tensor, "*#S"] | float, x: Float[Tensor, "*#S"]) -> Float[Tensor, "*S"]:
    """ln [exp(x) K_v(x)]: as :func:`log_kv`, without the rounding of a large x."""
    v, a = _half_axes(order, x)
    return (v * torch.asinh(v / x) + _log_rest(v, a, x.double())).to(x.dtype)


def log_power_kv(order: Float[Tensor, "*#S"] | float, x: Float[Tensor, "*#S"]) -> Float[Tensor, "*S"]:
    """ln [x^|v| exp(x) K_v(x)]: as :func:`log_kv`, without the rounding of a small x (v = 0 is no exception)."""
    v, a = _half_axes(order, x)
    return (v * torch.log(v + a) + _log_rest(v, a, x.double())).to(x.dtype)


def _half_axes(order, x: Float[Tensor, "*#S"]) -> tuple[Float[Tensor, "*#S"], Float[Tensor, "*S"]]:
    """|v| and a = sqrt(x^2 + v^2)."""
    v = torch.as_tensor(order, dtype=torch.float64, device=x.device)
    v = torch.where(v < 0, -v, v)  # K is even in its order; abs() would lose the second derivative at 0
    return v, torch.hypot(torch.where(x > 0, x.double(), torch.nan), v)


def _log_rest(v: Float[Tensor, "*#S"], a: Float[Tensor, "*S"], x: Float[Tensor, "*#S"]) -> Float[Tensor, "*S"]:
    """What comes to v asinh(v/x): the maximum of the exponent is v asinh(v/x) - a. No difference cancels."""
    return _log_sum(x.square() / (a + v), v.expand_as(a)) - v.square() / (a + x)


def _log_sum(rest: Float[Tensor, "*S"], v: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    r"""ln of 1/2 \int exp(-rest (cosh s - 1) - v (exp(s) - 1 - s)) ds: s is counted from the maximum."""
    size = rows_that_fit(_NODES, rest.device, on_host=MANY_LARGE)
    if torch.is_grad_enabled() or rest.numel() <= size:
        return _trapezoid(rest, v)
    pieces = zip(rest.flatten().split(size), v.flatten().split(size), strict=True)
    return torch.cat([_trapezoid(*piece) for piece in pieces]).reshape(rest.shape)


def _trapezoid(rest: Float[Tensor, "*S"], v: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    left, right = _window(rest.detach(), v.detach())  # where the nodes lie changes nothing
    width = right + left
    s = torch.linspace(0, 1, _NODES, dtype=v.dtype, device=v.device) * width[..., None] - left[..., None]
    bend, slide = 2 * torch.sinh(s / 2).square(), torch.expm1(s) - s
    log_step = torch.log(width / (2 * (_NODES - 1)))
    return log_step + torch.logsumexp(-rest[..., None] * bend - v[..., None] * slide, -1)


def _window(rest: Float[Tensor, "*S"], v: Float[Tensor, "*S"]) -> tuple[Float[Tensor, "*S"], Float[Tensor, "*S"]]:
    """Distances to the left and the right of the maximum beyond which the integrand is negligible.

    To the right both terms of the exponent grow at least as cosh s - 1; to the left the first does, and the
    second at least as v s^2 / (2 + s): the first to reach the limit decides.
    """
    c = _NEGLIGIBLE / v
    left = torch.minimum(torch.acosh(1 + _NEGLIGIBLE / rest), (c + (c.square() + 8 * c).sqrt()) / 2)
    return left, torch.acosh(1 + _NEGLIGIBLE / (rest + v))
