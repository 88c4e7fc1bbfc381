"""What pairs of steps and changes of the gradient tell of the curvature, under any shift of it."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.potentials.preconditioner import Preconditioner
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["Secants"]


@dataclasses.dataclass(frozen=True)
class Secants:
    """The latest M pairs (s, y) of each row, for (H + shift)^-1 whatever the shift.

    A pair of H is one of H + shift, with y + shift s in place of y. So one memory serves the steps of an implicit
    integrator, whose shift is the inverse of its time step, and Newton's step. Pairs along which H + shift curves
    downwards are left out. What follows is the compact inverse form of Byrd, Nocedal & Schnabel (1994), theorem
    2.2, doi 10.1007/BF01582063, as in :class:`~torchscape.optimise.LBFGS`; of the pairs it needs the products
    with each other only, from which those of the shifted pairs follow.

    Pairs are divided by the length of their step and kept in single precision; tables of products are in the
    order of age, the newest last.

    Attributes:
        pairs: s and y side by side; slot M takes what is not to be kept.
        count: pairs seen.
        ss, sy, sps, spy, ypy: s_i . s_j, s_i . y_j, and with the preconditioner P between.
    """

    pairs: Float[Tensor, "B N 2 D"]
    count: Int[Tensor, "B"]
    ss: Float[Tensor, "B M M"]
    sy: Float[Tensor, "B M M"]
    sps: Float[Tensor, "B M M"]
    spy: Float[Tensor, "B M M"]
    ypy: Float[Tensor, "B M M"]

    @classmethod
    def none(cls, x: Float[Tensor, "B D"], memory: int) -> Secants:
        """Of rows that have not moved yet."""
        b, d = x.shape
        tables = [x.new_zeros(b, memory, memory) for _ in range(5)]
        pairs = torch.zeros(b, memory + 1, 2, d, dtype=torch.float32, device=x.device)
        return cls(pairs, torch.zeros(b, dtype=torch.int64, device=x.device), *tables)

    @property
    def curvatures(self) -> Float[Tensor, "B M"]:
        """s.y / s.s of every pair; 0 where there is none."""
        return self.sy.diagonal(dim1=1, dim2=2)

    def across(self, step: Float[Tensor, "B D"], change: Float[Tensor, "B D"]) -> Float[Tensor, "B M"]:
        """Curvatures along the pairs without their part along a step that changed the gradient so much; 0 for
        pairs that lie along it.

        With c = s.v of the unit vector v and k its curvature, (s.y - 2 c v.y + c^2 k) / (1 - c^2).
        """
        tiny = torch.finfo(step.dtype).tiny
        length = step.norm(dim=1, keepdim=True).clamp(min=tiny**0.5)
        v = step / length
        along = (v * change).sum(1, keepdim=True) / length
        products = _by_age(self._products(v[:, :, None]), self.count)[:, :, :, 0]
        c, vy = products.unbind(2)
        rest = self.ss.diagonal(dim1=1, dim2=2) - c.square()
        aside = self.curvatures - 2 * c * vy + c.square() * along
        return torch.where(rest > 0.25, aside / rest.clamp(min=0.25), 0.0)

    def with_pair(
        self,
        s: Float[Tensor, "B D"],
        y: Float[Tensor, "B D"],
        keep: Bool[Tensor, "B"],
        preconditioner: Preconditioner | None,
    ) -> Secants:
        """After another pair of the rows in ``keep``. The buffer of pairs is written into: the old memory is given
        away, but may be used to do the same again."""
        b, m = len(s), self.sy.shape[1]
        length = s.norm(dim=1, keepdim=True).clamp(min=torch.finfo(s.dtype).tiny)
        s, y = s / length, y / length
        rows, slot = torch.arange(b, device=s.device), torch.where(keep, self.count % m, m)
        self.pairs[rows, slot] = torch.stack([s, y], 1).to(self.pairs)
        ps, py = _preconditioned(preconditioner, s, y)
        count = self.count + keep
        products = _by_age(self._products(torch.stack([s, y, ps, py], 1).mT), count)  # in rows: twice as fast
        (ss, sy, sps, spy), (ys, _, yps, ypy) = (products[:, :, k].unbind(2) for k in range(2))

        def grown(old: Tensor, column: Tensor, row: Tensor) -> Tensor:
            new = torch.zeros_like(old)
            new[:, :-1, :-1] = old[:, 1:, 1:]
            new[:, :, -1], new[:, -1] = column, row
            return torch.where(keep[:, None, None], new, old)

        return Secants(
            pairs=self.pairs,
            count=count,
            ss=grown(self.ss, ss, ss),
            sy=grown(self.sy, sy, ys),
            sps=grown(self.sps, sps, sps),
            spy=grown(self.spy, spy, yps),
            ypy=grown(self.ypy, ypy, ypy),
        )

    def newton(
        self,
        residuals: Float[Tensor, "B C D"],
        shifts: Float[Tensor, "B C"],
        preconditioner: Preconditioner | None,
    ) -> Float[Tensor, "B C D"]:
        """Steps -(H + shift)^-1 r for C pairs of a residual and a shift, from two passes over the memory."""
        unit: Tensor = residuals.norm(dim=2, keepdim=True).clamp(min=torch.finfo(residuals.dtype).tiny)
        r = residuals / unit
        n = r.shape[1]
        pr = torch.stack(_preconditioned(preconditioner, *r.unbind(1)), 1)
        products = _by_age(self._products(torch.cat([r, pr], 1).mT), self.count)
        weights, left, factors = [], [], []
        for c in range(n):
            shift = shifts[:, c, None]
            w, u, gamma = self._weights(products[:, :, :, [c, n + c]], shift)
            weights += [torch.stack([w, torch.zeros_like(w)], 2), torch.stack([shift * u, u], 2)]
            factors.append(gamma)
        along = _by_slot(torch.stack(weights, 1), self.count).flatten(2).to(self.pairs)
        sums = torch.bmm(along, self.pairs[:, :-1].flatten(1, 2)).to(r).unflatten(1, (n, 2))
        left = _preconditioned(preconditioner, *(r - sums[:, :, 1]).unbind(1))
        steps: Tensor = torch.stack(factors, 1) * torch.stack(left, 1) + sums[:, :, 0]
        return -unit * steps

    def _products(self, vectors: Float[Tensor, "B D C"]) -> Float[Tensor, "B M 2 C"]:
        """Of every s and y with the vectors, slot by slot."""
        product = torch.bmm(self.pairs[:, :-1].flatten(1, 2), vectors.to(self.pairs))
        by_pair: Tensor = product.to(vectors).unflatten(1, (-1, 2))
        return by_pair

    def _weights(
        self, products: Float[Tensor, "B M 2 2"], shift: Float[Tensor, "B 1"]
    ) -> tuple[Float[Tensor, "B M"], Float[Tensor, "B M"], Float[Tensor, "B 1"]]:
        """w, u and gamma of (H + shift)^-1 r = gamma P (r - Y u) + S w, from the products with r and P r."""
        wide = shift[:, :, None]
        sy = self.sy + wide * self.ss
        ypy = self.ypy + wide * (self.spy + self.spy.mT) + wide.square() * self.sps
        diagonal = sy.diagonal(dim1=1, dim2=2)
        top = self.curvatures.abs().amax(1, keepdim=True)
        usable = diagonal > 1e-3 * shift + torch.finfo(sy.dtype).eps ** 0.5 * top
        usable &= torch.arange(sy.shape[1], device=sy.device) >= sy.shape[1] - self.count[:, None]
        both = usable[:, :, None] & usable[:, None]
        diagonal = torch.where(usable, diagonal, 1.0)
        r = torch.where(both, sy, 0.0).triu(1) + torch.diag_embed(diagonal)
        spread = ypy.diagonal(dim1=1, dim2=2)
        newest = torch.where(usable, torch.arange(1, sy.shape[1] + 1, device=sy.device), 0).argmax(1, keepdim=True)
        gamma = (diagonal / spread.clamp(min=torch.finfo(sy.dtype).tiny)).gather(1, newest)
        gamma = torch.where(usable.any(1, keepdim=True), gamma, 1.0)
        with_s = torch.where(usable, products[:, :, 0, 0], 0.0)
        with_y = torch.where(usable, products[:, :, 1, 1] + shift * products[:, :, 0, 1], 0.0)
        u = torch.linalg.solve_triangular(r, with_s[:, :, None], upper=True)
        inner = diagonal[:, :, None] * u + gamma[:, :, None] * (
            torch.bmm(torch.where(both, ypy, 0.0), u) - with_y[:, :, None]
        )
        w = torch.linalg.solve_triangular(r.mT, inner, upper=False)
        return torch.where(usable, w[:, :, 0], 0.0), torch.where(usable, u[:, :, 0], 0.0), gamma


def _preconditioned(preconditioner: Preconditioner | None, *vectors: Float[Tensor, "B D"]) -> list[Tensor]:
    """P times each of the vectors, all at once."""
    if preconditioner is None:
        return list(vectors)
    return list(preconditioner(torch.cat(vectors)).chunk(len(vectors)))


def _by_age(table: Float[Tensor, "B M *S"], count: Int[Tensor, "B"]) -> Float[Tensor, "B M *S"]:
    """What is given slot by slot, the oldest first."""
    ages = torch.arange(table.shape[1], device=table.device)
    slots = (count[:, None] + ages) % table.shape[1]
    return table.gather(1, slots[(..., *(None,) * (table.ndim - 2))].expand_as(table))


def _by_slot(table: Float[Tensor, "B C M K"], count: Int[Tensor, "B"]) -> Float[Tensor, "B C M K"]:
    """What is given by age, slot by slot."""
    slots = torch.arange(table.shape[2], device=table.device)
    ages = (slots - count[:, None]) % table.shape[2]
    return table.gather(2, ages[:, None, :, None].expand_as(table))
