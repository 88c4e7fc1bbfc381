"""The energy along one direction with all others relaxed, and its derivatives: Lyapunov-Schmidt reduction."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.potentials.base import Potential
from torchscape.types import Float, Tensor

__all__ = ["Reduced", "settled"]

_STEP = 0.05  # between the points along v, in length scales: differences of sixth order
_WEIGHTS = {  # of a derivative of so many orders, at -3 .. 3 steps
    1: (-1 / 60, 9 / 60, -45 / 60, 0.0, 45 / 60, -9 / 60, 1 / 60),
    2: (2 / 180, -27 / 180, 270 / 180, -490 / 180, 270 / 180, -27 / 180, 2 / 180),
    3: (1 / 8, -8 / 8, 13 / 8, 0.0, -13 / 8, 8 / 8, -1 / 8),
}
_MOST_STEPS, _MOST_TURNS = 50, 10


@dataclasses.dataclass(frozen=True)
class Reduced:
    """g(s) = U(x(s)), where c . x = s and the gradient has no component across c: five derivatives at one s.

    With the tangent v of x(s), H v + tau c = 0 and c . v = 1, and its change w, H w + mu c = -U_vv and c . w = 0:

        g_1 = c . grad U,    g_2 = v . H v = -tau,    g_3 = U_vvv,    g_4 = U_vvvv + 3 U_vv . w,
        g_5 = U_vvvvv + 10 U_vvv . w + 15 U_v . w w.

    Attributes:
        x: the relaxed point.
        v: the tangent.
        g: g_1 to g_5, float64 on the host.
        size: an energy over a length squared that curvatures have here, known zero modes aside.
        energy, grad_rms: there.
    """

    x: Float[Tensor, "D"]
    v: Float[Tensor, "D"]
    g: Float[Tensor, "5"]
    size: float
    energy: float
    grad_rms: float

    @classmethod
    def at(cls, u: Potential, x: Float[Tensor, "D"], c: Float[Tensor, "D"]) -> Reduced | None:
        """The reduction at s = c . x, other coordinates relaxed from ``x`` by Newton's method; None where that
        does not converge.

        Example:
            >>> class Bent(Potential):
            ...     ndim = 2
            ...     def energy(self, x):
            ...         return x[:, 0] ** 4 + (x[:, 1] - x[:, 0] ** 2) ** 2
            >>> found = Reduced.at(Bent(), torch.tensor([0.5, 0.0]).double(), torch.tensor([1.0, 0.0]).double())
            >>> found.x.tolist(), found.g[:4].round(decimals=6).tolist()
            ([0.5, 0.25], [0.5, 3.0, 12.0, 24.0])
        """
        length, least = u.length_scale, torch.finfo(x.dtype).eps ** 0.75
        for _ in range(_MOST_STEPS):
            energy, grad = u.energy_and_grad(x[None])
            grad = u.symmetry.project_out(x[None], grad)[0]
            h = _lifted(u, x)
            if not bool(torch.isfinite(h).all() & torch.isfinite(grad).all()):
                return None
            step = _bordered(h, c, -grad)[:-1]
            size = float(step.norm())
            if size <= least * length:
                return cls._of(u, x, c, h, grad, float(energy[0]))
            x = x + step * min(1.0, 0.5 * length / size)
        return None

    @classmethod
    def _of(
        cls,
        u: Potential,
        x: Float[Tensor, "D"],
        c: Float[Tensor, "D"],
        h: Float[Tensor, "D D"],
        grad: Float[Tensor, "D"],
        energy: float,
    ) -> Reduced:
        solved = _bordered(h, c, torch.zeros_like(x), 1.0)
        v, tau = solved[:-1], solved[-1]
        eta = _STEP * u.length_scale
        steps = eta * torch.arange(-3, 4, dtype=x.dtype, device=x.device)
        line = x + steps[:, None] * v
        b, bend, third = _derivatives(u.hvp(line, v.expand(7, -1)), eta)
        w = _bordered(h, c, -b)[:-1]
        across = _derivatives(u.hvp(line, w.expand(7, -1)), eta)[0]
        fifth = third @ v + 10 * (bend @ w) + 15 * (across @ w)
        g = torch.stack([c @ grad, -tau, b @ v, bend @ v + 3 * (b @ w), fifth]).double().cpu()
        length = u.length_scale
        sizes = (h.abs().max(), length * b.norm(), length**2 * bend.norm(), length**3 * fifth.abs())
        rms = float(grad.square().mean().sqrt())
        return cls(x, v, g, max(float(one) for one in sizes), energy, rms)


def settled(u: Potential, x: Float[Tensor, "D"], c: Float[Tensor, "D"]) -> Float[Tensor, "D"]:
    """The direction c near by that is the tangent of its own relaxed curve: along a bent valley, the valley."""
    for _ in range(_MOST_TURNS):
        found = Reduced.at(u, x, c)
        if found is None:
            break
        x, before = found.x, c
        c = found.v / found.v.norm()
        if float(c @ before) > 1 - 1e-4:
            break
    return c


def _lifted(u: Potential, x: Float[Tensor, "D"]) -> Float[Tensor, "D D"]:
    """The Hessian, with the curvature of something else along known zero modes."""
    h: Float[Tensor, "D D"] = u.hessian(x[None])[0]
    z: Float[Tensor, "Z D"] = u.symmetry.zero_modes(x[None])[0]
    if not len(z):
        return h
    p = torch.eye(len(x), dtype=x.dtype, device=x.device) - z.T @ z
    some = torch.maximum(h.abs().max(), h.new_tensor(u.energy_scale / u.length_scale**2))
    lifted: Float[Tensor, "D D"] = p @ h @ p + some * (z.T @ z)
    return lifted


def _derivatives(products: Float[Tensor, "7 D"], eta: float) -> list[Float[Tensor, "D"]]:
    """First to third derivatives of what is given at seven points of a line."""
    return [products.new_tensor(_WEIGHTS[order]) @ products / eta**order for order in (1, 2, 3)]


def _bordered(
    h: Float[Tensor, "D D"], c: Float[Tensor, "D"], right: Float[Tensor, "D"], last: float = 0.0
) -> Float[Tensor, "N"]:
    """The solution of [[H, c], [c, 0]] y = (right, last)."""
    d = len(c)
    matrix = h.new_zeros(d + 1, d + 1)
    matrix[:d, :d], matrix[:d, d], matrix[d, :d] = h, c, c
    solved: Float[Tensor, "N"] = torch.linalg.solve(matrix, torch.cat([right, right.new_tensor([last])]))
    return solved
