"""What the surface looks like from here: local quadratic models, dense or in a Krylov space.

Both say the same things to the searches built on them: eigenvalues, eigenvectors and the gradient's
components along them, all in one frozen :class:`QuadraticModel`.
"""

from __future__ import annotations

import dataclasses

import torch

from torchscape.devices import asking_is_free
from torchscape.even import even_bmv
from torchscape.numerics import DENSE_PATHS
from torchscape.optimise.rows import take_rows
from torchscape.potentials.base import Potential
from torchscape.saddles.coarse import suggested
from torchscape.saddles.decomposition import dense_spectrum, rows_within
from torchscape.saddles.eigen import Subspace
from torchscape.saddles.projector import Projector
from torchscape.saddles.steps import saddle_step
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT, POSITIVE, check_fields

__all__ = ["Curvature", "Dense", "Krylov", "QuadraticModel", "choose_curvature"]

_ROOM = 32  # vectors of a Krylov space on a device, until some row needs more


@dataclasses.dataclass(frozen=True)
class QuadraticModel:
    """U(x + V^T c) = U(x) + slope . c + (1/2) sum_k mu_k c_k^2, and how much of it is known.

    Attributes:
        values: eigenvalues mu, ascending (Ritz values in a Krylov space); what is projected out comes last.
        vectors: orthonormal eigenvectors, as rows; zeros pad.
        age: steps since the curvature was last measured rather than updated.
        stale: rows whose model belongs to another point, or has been found wrong.
        h: the dense Hessian behind it; None in a Krylov space.
        waits: rows whose Krylov space was not large enough at ``room`` vectors, and who stay where they are until
            there is more; None where the host sees to it that no row has to.
        room: vectors that a space may have for now, known to the host.
    """

    values: Float[Tensor, "B K"]
    vectors: Float[Tensor, "B K D"]
    age: Int[Tensor, "B"]
    stale: Bool[Tensor, "B"]
    h: Float[Tensor, "B D D"] | None
    waits: Bool[Tensor, "B"] | None = None
    room: int = 0

    def going(self, running: Bool[Tensor, "B"]) -> Bool[Tensor, "B"]:
        """Those of the running rows that do not wait."""
        return running if self.waits is None else running & ~self.waits

    def kept(self, old: Tensor, new: Tensor) -> Tensor:
        """``new``, but ``old`` in rows that wait."""
        return new if self.waits is None else torch.where(self.waits, old, new)

    def roomier(self) -> QuadraticModel:
        """With twice the room: what a look at the rows does for those that wait."""
        return dataclasses.replace(self, room=2 * self.room)

    def along(self, v: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Components of a vector in the eigenbasis."""
        return even_bmv(self.vectors, v)

    def back(self, c: Float[Tensor, "B K"]) -> Float[Tensor, "B D"]:
        """The vector with these components."""
        return torch.bmm(c[:, None, :], self.vectors)[:, 0]

    def times(self, s: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """The model Hessian times s."""
        return self.back(self.values * self.along(s))


class Curvature:
    """How a search learns the curvature: :class:`Dense` or :class:`Krylov`."""

    def init(self, x: Float[Tensor, "B D"]) -> QuadraticModel:
        """An empty model, stale everywhere."""
        raise NotImplementedError

    def update(
        self,
        model: QuadraticModel,
        s: Float[Tensor, "B D"],
        y: Float[Tensor, "B D"],
        moved: Bool[Tensor, "B"],
        inaccurate: Bool[Tensor, "B"],
    ) -> QuadraticModel:
        """After steps s that changed the gradient by y; ``inaccurate`` rows found their model wrong."""
        raise NotImplementedError

    def evaluate(
        self,
        potential: Potential,
        x: Float[Tensor, "B D"],
        grad: Float[Tensor, "B D"],
        mode: Float[Tensor, "B D"] | None,
        model: QuadraticModel,
        running: Bool[Tensor, "B"],
        projector: Projector,
    ) -> QuadraticModel:
        """The model at x, up to date for every running row; ``mode`` is a direction it must resolve."""
        raise NotImplementedError

    def bytes_per_row(self, ndim: int, dtype: torch.dtype) -> int:
        """Memory a row takes."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Dense(Curvature):
    """Dense Hessians, computed anew where the model was inaccurate and every ``refresh`` steps, else updated.

    Between, the secant pair (s, y) corrects the Hessian by Bofill's mixture of the symmetric-rank-one and
    the Powell-symmetric-Broyden update, which may become indefinite as a saddle requires
    (Bofill 1994, doi 10.1002/jcc.540150102):

        H <- H + f r r^T/(r.s) + (1 - f) [(r s^T + s r^T)/s.s - (r.s) s s^T/(s.s)^2],
        r = y - H s,  f = (r.s)^2 / (r.r s.s)

    Attributes:
        refresh: most steps between exact Hessians; 1 for an exact Hessian at every step.
    """

    refresh: int = 6

    def __post_init__(self) -> None:
        check_fields(self, refresh=COUNT)

    def init(self, x: Float[Tensor, "B D"]) -> QuadraticModel:
        b, d = x.shape
        age = torch.zeros(b, dtype=torch.int64, device=x.device)
        stale = torch.ones(b, dtype=torch.bool, device=x.device)
        eye = torch.eye(d, dtype=x.dtype, device=x.device).repeat(b, 1, 1)
        return QuadraticModel(x.new_ones(b, d), eye, age, stale, x.new_zeros(b, d, d))

    def bytes_per_row(self, ndim: int, dtype: torch.dtype) -> int:
        return 8 * ndim * ndim * dtype.itemsize

    def update(
        self,
        model: QuadraticModel,
        s: Float[Tensor, "B D"],
        y: Float[Tensor, "B D"],
        moved: Bool[Tensor, "B"],
        inaccurate: Bool[Tensor, "B"],
    ) -> QuadraticModel:
        if self.refresh <= 1:
            return dataclasses.replace(model, stale=model.stale | moved)
        assert model.h is not None
        h = bofill(model.h, s, y, moved)
        age = model.age + moved
        return dataclasses.replace(model, h=h, age=age, stale=model.stale | inaccurate | (age >= self.refresh))

    def evaluate(
        self,
        potential: Potential,
        x: Float[Tensor, "B D"],
        grad: Float[Tensor, "B D"],
        mode: Float[Tensor, "B D"] | None,
        model: QuadraticModel,
        running: Bool[Tensor, "B"],
        projector: Projector,
    ) -> QuadraticModel:
        assert model.h is not None
        stale = model.stale & running
        if asking_is_free(stale):
            h, age = self._measured(potential, x, model, torch.nonzero(stale)[:, 0])
        else:  # all of them, rather than ask which
            h, age = self._measured(potential, x, model, torch.arange(len(x), device=x.device))
            h, age = torch.where(stale[:, None, None], h, model.h), torch.where(stale, age, model.age)
        values, vectors, _ = dense_spectrum(h, projector)
        stale = torch.zeros_like(model.stale)
        return QuadraticModel(values, vectors, age, stale, h)

    def _measured(
        self, potential: Potential, x: Float[Tensor, "B D"], model: QuadraticModel, rows: Int[Tensor, "R"]
    ) -> tuple[Float[Tensor, "B D D"], Int[Tensor, "B"]]:
        """Hessians and ages of all rows, new in the given ones."""
        h, age = model.h, model.age
        assert h is not None
        if len(rows):
            h = h.clone()
            for some in rows.split(rows_within(x.shape[1], x.dtype, x.device)):
                h[some] = potential.hessian(x[some])
            age = age.index_fill(0, rows, 0)
        return h, age


def bofill(
    h: Float[Tensor, "B D D"], s: Float[Tensor, "B D"], y: Float[Tensor, "B D"], moved: Bool[Tensor, "B"]
) -> Float[Tensor, "B D D"]:
    """Bofill's update of each moved row; afterwards H s = y."""
    tiny = torch.finfo(s.dtype).tiny ** 0.5
    r = y - even_bmv(h, s)
    rs, rr, ss = (r * s).sum(1), (r * r).sum(1), (s * s).sum(1)
    usable = moved & (ss > tiny) & (rr > tiny) & torch.isfinite(rr)
    ss = torch.where(usable, ss, 1.0)
    f = torch.where(usable, rs.square() / (rr * ss).clamp(min=tiny), 0.0)
    # f r r^T / (r.s) = (r.s) r r^T / (r.r s.s), which has no small denominator
    a = rs / (rr * ss).clamp(min=tiny)
    b = (1 - f) / ss
    left = torch.stack([a[:, None] * r + b[:, None] * s, b[:, None] * r - (b * rs / ss)[:, None] * s], 1)
    update = torch.bmm(left.mT, torch.stack([r, s], 1))
    return h + torch.where(usable[:, None, None], update, 0.0)


@dataclasses.dataclass(frozen=True)
class Krylov(Curvature):
    """Only Hessian-vector products: the model in the space spanned by H^j g and H^j mode, j = 0, 1, ...

    The space contains the gradient, so that what it leaves out has no slope; it grows two vectors at a time
    until the step has settled, and the carried mode warm-starts the lowest eigenpair.

    Attributes:
        max_dim: most vectors per row.
        settled: the space is large enough when H times the step leaves it by at most this times |g| (the
            residual of Newton's equation), and |H v - mu v| <= this times |mu| for the lowest mode.
    """

    max_dim: int = 100
    settled: float = 0.1

    def __post_init__(self) -> None:
        check_fields(self, max_dim=COUNT, settled=POSITIVE)

    def init(self, x: Float[Tensor, "B D"]) -> QuadraticModel:
        b, d = x.shape
        age = torch.zeros(b, dtype=torch.int64, device=x.device)
        stale = torch.ones(b, dtype=torch.bool, device=x.device)
        k = min(self.max_dim, d)
        waits = None if asking_is_free(x) else torch.zeros_like(stale)
        return QuadraticModel(x.new_ones(b, k), x.new_zeros(b, k, d), age, stale, None, waits, _ROOM)

    def bytes_per_row(self, ndim: int, dtype: torch.dtype) -> int:
        return 5 * min(self.max_dim, ndim) * ndim * dtype.itemsize

    def update(
        self,
        model: QuadraticModel,
        s: Float[Tensor, "B D"],
        y: Float[Tensor, "B D"],
        moved: Bool[Tensor, "B"],
        inaccurate: Bool[Tensor, "B"],
    ) -> QuadraticModel:
        return dataclasses.replace(model, stale=model.stale | moved)

    def evaluate(
        self,
        potential: Potential,
        x: Float[Tensor, "B D"],
        grad: Float[Tensor, "B D"],
        mode: Float[Tensor, "B D"] | None,
        model: QuadraticModel,
        running: Bool[Tensor, "B"],
        projector: Projector,
    ) -> QuadraticModel:
        stale = model.stale & running
        if not asking_is_free(stale):
            values, vectors, settled = self._space_unasked(potential, x, grad, mode, projector, model.room)
            new = stale & settled
            values = torch.where(new[:, None], values, model.values)
            vectors = torch.where(new[:, None, None], vectors, model.vectors)
            waits = stale & ~settled
            return dataclasses.replace(model, values=values, vectors=vectors, stale=waits, waits=waits)
        needed = torch.nonzero(stale)[:, 0]
        if len(needed) == 0:
            return model
        chosen = None if mode is None else mode[needed]
        at = x[needed], grad[needed], chosen, projector.take(needed)
        values, vectors = suggested(self._space, potential, *at)
        return QuadraticModel(
            model.values.index_copy(0, needed, values),
            model.vectors.index_copy(0, needed, vectors),
            model.age,
            torch.zeros_like(model.stale),
            None,
        )

    def _space(
        self,
        potential: Potential,
        x: Float[Tensor, "B D"],
        grad: Float[Tensor, "B D"],
        mode: Float[Tensor, "B D"] | None,
        projector: Projector,
    ) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B K D"]]:
        """Curvatures and directions from a Krylov space for each row, as large as it needs."""
        cap = min(self.max_dim, x.shape[1])
        start = grad[:, None] if mode is None else torch.stack([grad, mode], 1)
        products = potential.products_at(x)
        space = Subspace.empty(x, cap + 2).expanded(start, products, projector)
        values, vectors = x.new_ones(len(x), cap), x.new_zeros(len(x), cap, x.shape[1])
        active = torch.arange(len(x), device=x.device)
        waits = torch.zeros_like(active, dtype=torch.bool)  # those that have settled, with others that have not
        while space.dim < cap:
            done, new = self._settled(potential, space, grad[active], mode is not None)
            # Taken as it is now: among more vectors, though empty ones, its model would have other last digits.
            if len(fresh := (done & ~waits).nonzero()[:, 0]):
                values[active[fresh]], vectors[active[fresh]] = _model(take_rows(space, fresh), cap)
            waits |= done
            n_done = int(waits.sum())
            if n_done == len(waits):
                return values, vectors
            if 4 * n_done >= len(waits):  # what has settled need not be multiplied any more
                rest = (~waits).nonzero()[:, 0]
                active, space, new, waits = active[rest], take_rows(space, rest), new[rest], waits[rest]
                products = potential.products_at(x[active])
            else:
                new = torch.where(waits[:, None, None], 0.0, new)
            grown = space.expanded(new, products, projector.take(active))
            if grown.dim == space.dim:
                break
            space = grown
        rest = (~waits).nonzero()[:, 0]
        values[active[rest]], vectors[active[rest]] = _model(take_rows(space, rest), cap)
        return values, vectors

    def _space_unasked(
        self,
        potential: Potential,
        x: Float[Tensor, "B D"],
        grad: Float[Tensor, "B D"],
        mode: Float[Tensor, "B D"] | None,
        projector: Projector,
        room: int,
    ) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B K D"], Bool[Tensor, "B"]]:
        """The same on a device, where no row can tell the host that it has settled: all go on to ``room`` vectors.

        Those that have settled before are given no more, so that their models are those of the host. The others
        wait; at ``max_dim`` vectors none does.
        """
        cap = min(self.max_dim, x.shape[1])
        start = grad[:, None] if mode is None else torch.stack([grad, mode], 1)
        products = potential.products_at(x)
        room = min(cap, room)
        space = Subspace.empty(x, room + 2).expanded(start, products, projector)
        while space.dim < room:
            done, new = self._settled(potential, space, grad, mode is not None)
            space = space.expanded(torch.where(done[:, None, None], 0.0, new), products, projector)
        if room == cap:
            done = torch.ones(len(x), dtype=torch.bool, device=x.device)
        else:
            done = self._settled(potential, space, grad, mode is not None)[0]
        return (*_model(space, cap), done)

    def _settled(
        self, potential: Potential, space: Subspace, grad: Float[Tensor, "B D"], follows: bool
    ) -> tuple[Bool[Tensor, "B"], Float[Tensor, "B K D"]]:
        """Which spaces are large enough, and the directions in which the others grow."""
        values, y = space.decomposed()
        q, hq, t = space.q[:, : space.dim], space.hq[:, : space.dim], space.t[:, : space.dim, : space.dim]
        slope = even_bmv(y, even_bmv(q, grad))
        lowest_mode = torch.zeros(len(grad), dtype=torch.int64, device=grad.device)
        radius = torch.full_like(grad[:, 0], potential.length_scale)
        sought = torch.bmm(saddle_step(values, slope, lowest_mode, radius)[:, None], y)
        if follows:
            sought = torch.cat([sought, y[:, :1]], 1)
        # What H times the step, and times the lowest mode, has outside the space.
        outside = torch.bmm(sought, hq) - torch.bmm(torch.bmm(sought, t), q)
        length = outside.norm(dim=2)
        done = length[:, 0] <= self.settled * grad.norm(dim=1)
        if follows:
            done &= length[:, 1] <= self.settled * values[:, 0].abs()
        return done, outside


def _model(space: Subspace, cap: int) -> tuple[Float[Tensor, "B cap"], Float[Tensor, "B cap D"]]:
    """Ritz values and vectors, filled up to ``cap``.

    What the space leaves out has no slope: any positive curvature will do there.
    """
    values, y = space.decomposed()
    values, y = values[:, :cap], y[:, :cap]  # no more than D are genuine, and what is empty comes last
    vectors = torch.bmm(y, space.q[:, : space.dim])
    known = torch.arange(values.shape[1], device=values.device) < space.valid.sum(1, keepdim=True)
    pad = cap - values.shape[1]
    values = torch.nn.functional.pad(torch.where(known, values, 1.0), (0, pad), value=1.0)
    return values, torch.nn.functional.pad(torch.where(known[:, :, None], vectors, 0.0), (0, 0, 0, pad))


def choose_curvature(ndim: int, dense_limit: int = DENSE_PATHS) -> Curvature:
    """Dense Hessians up to ``dense_limit`` coordinates, Krylov spaces beyond."""
    return Dense() if ndim <= dense_limit else Krylov()
