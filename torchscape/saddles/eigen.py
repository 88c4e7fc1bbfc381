"""Lowest eigenpairs of batches of Hessians by Hessian-vector products."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import torch

from torchscape import random, stopwatch
from torchscape.brief import brief
from torchscape.devices import HOST, asking_is_free, is_host
from torchscape.memory import available_memory, in_parts, limits_of
from torchscape.optimise.columns import build, leaves
from torchscape.optimise.resumable import resumable
from torchscape.optimise.rows import take_rows
from torchscape.potentials.base import Potential
from torchscape.saddles.decomposition import finite_rows
from torchscape.saddles.projector import Projector
from torchscape.transfer import moved
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT, COUNT_OR_ZERO, NOT_NEGATIVE, SEED

__all__ = [
    "Eigenpairs",
    "Subspace",
    "lowest_eigenpairs",
]

_SPACE_BYTES = 1 << 28  # of the search space of one row
_SPACES_BYTES = 1 << 32  # of all of them at once on a CPU
_MOST_VECTORS = 300
_UNSEEN = 50  # vectors in the space per step between two looks at its Ritz pairs


@brief
@dataclasses.dataclass(frozen=True)
class Eigenpairs:
    """The K lowest eigenpairs of each row, with the evidence.

    Attributes:
        values: eigenvalues mu, ascending.
        vectors: unit eigenvectors v.
        residuals: |H v - mu v|; some eigenvalue lies within this of mu.
        scale: largest |mu| seen, which residuals are measured against.
        n_hvps: Hessian-vector products spent on the row.
    """

    values: Float[Tensor, "B K"]
    vectors: Float[Tensor, "B K D"]
    residuals: Float[Tensor, "B K"]
    scale: Float[Tensor, "B"]
    n_hvps: Int[Tensor, "B"]


def lowest_eigenpairs(
    potential: Potential,
    x: Float[Tensor, "B D"],
    k: int = 1,
    *,
    guess: Float[Tensor, "B G D"] | None = None,
    tol: float = 1e-6,
    rel_tol: float = 0.0,
    max_dim: int | None = None,
    max_hvps: int = 2000,
    projector: Projector | None = None,
    seed: int = 0,
) -> Eigenpairs:
    """The ``k`` lowest eigenpairs of P H(x) P by a thick-restarted block Lanczos method on products H v.

    The search space grows by the residuals H v - mu v of the k lowest Ritz pairs and of one guard pair, with
    full reorthogonalisation, and is restarted from its lower half when it is full (Wu & Simon 2000,
    doi 10.1137/S0895479898334605). The guard starts from a random vector, so that a warm start that happens
    to be an exact eigenvector of a higher mode cannot pass for the lowest one.

    Args:
        potential: U; only its Hessian-vector products are used.
        x: points [B D].
        k: number of eigenpairs.
        guess: approximate eigenvectors, for instance those of a nearby point.
        tol: a row is done when every |H v - mu v| <= tol max|mu|,
        rel_tol: or rel_tol |mu|, which settles signs sooner. Keep it below 1 / sqrt(D): what a random start holds
            of a mode not yet seen must still show in the residual.
        max_dim: vectors kept per row; by default 300, fewer where they would take more than 256 MiB. A space that
            is never restarted needs the fewest products: a third of those of 38 vectors at a minimum of 8000
            coordinates.
        max_hvps: products after which a row is given up, a few blocks late at most; pairs that are not converged
            by then show it in ``residuals``.
        projector: directions to leave out; None for the known zero modes at x.
        seed: of the random guard vector.

    Example:
        >>> class Bowl(Potential):
        ...     ndim = 50
        ...     def energy(self, x):
        ...         return 0.5 * (x**2 * torch.arange(1.0, 51.0, dtype=x.dtype)).sum(1)
        >>> pairs = lowest_eigenpairs(Bowl(), torch.zeros(1, 50, dtype=torch.float64), k=2)
        >>> pairs.values.round(decimals=5).tolist()
        [[1.0, 2.0]]
    """
    COUNT_OR_ZERO.check("lowest_eigenpairs", k=k)
    NOT_NEGATIVE.check("lowest_eigenpairs", tol=tol, rel_tol=rel_tol)
    COUNT.or_none.check("lowest_eigenpairs", max_dim=max_dim)
    COUNT.check("lowest_eigenpairs", max_hvps=max_hvps)
    SEED.check("lowest_eigenpairs", seed=seed)
    projector = Projector.at(potential, x) if projector is None else projector
    d = x.shape[1]
    k = min(k, d)
    per_vector = 2 * d * x.dtype.itemsize
    cap = max_dim or max(30 + 4 * k, min(_MOST_VECTORS, _SPACE_BYTES // per_vector))
    cap = min(d, max(cap, 3 * (k + 1))) + k + 1
    room = available_memory(x.device)
    most = (min(_SPACES_BYTES, room) if is_host(x.device) else room) // (cap * per_vector)
    everyone = torch.arange(len(x), device=x.device)

    def lowest(rows: Int[Tensor, "R"]) -> Eigenpairs:
        near = None if guess is None else guess[rows]
        part = projector.take(rows)
        return _lowest(potential, x[rows], k, near, tol, rel_tol, cap, max_hvps, part, seed)

    limits, key = limits_of(potential), ("search spaces", x.device, x.dtype)
    size = max(1, most)
    parts = in_parts(lowest, (everyone,), limits=limits, key=key, size=size, what="search spaces")
    return _together(parts, [everyone]) if parts else lowest(everyone)


def _lowest(
    potential: Potential,
    x: Float[Tensor, "B D"],
    k: int,
    guess: Float[Tensor, "B G D"] | None,
    tol: float,
    rel_tol: float,
    cap: int,
    max_hvps: int,
    projector: Projector,
    seed: int,
) -> Eigenpairs:
    """:func:`lowest_eigenpairs` of as many rows as there is memory for, with search spaces of ``cap`` vectors."""
    b, d = x.shape
    block = k + 1
    key = random.fold(seed, torch.arange(1, device=x.device)).expand(b)
    n_random = 1 if guess is not None else block
    noise = [random.normal(random.fold(key, j), d, x.dtype)[:, None, :] for j in range(n_random)]
    start = torch.cat([*([] if guess is None else [guess]), *noise], 1)

    products = potential.products_at(x)
    size = max(cap, start.shape[1])
    at: _Round | None = None
    settings = f"{k} {tol} {rel_tol} {cap} {max_hvps} {seed} {x.dtype}"
    with resumable(
        "eigenpair searches", settings, (x, start), lambda: {} if at is None else at.columns()
    ) as stored:
        if stored:
            at = _Round.of(stored, size, x.device)
            projector, products = projector.take(at.active), potential.products_at(x[at.active])
        else:
            space = Subspace.empty(x, size).expanded(start, products, projector)
            at = _Round(space, 0, torch.arange(b, device=x.device), (), ())
        least = start.shape[1] + 4 * block  # the guard needs a few products before it can tell anything
        while True:
            stopwatch.look()
            space, active, found, owners = at.space, at.active, at.found, at.owners
            values, vectors, residual, scale = space.ritz(min(block, space.dim))
            norms = residual.norm(dim=2)
            enough = (rel_tol * values[:, :k].abs()).maximum(tol * scale[:, None])
            done = (norms[:, :k] <= enough).all(1) & (space.n_hvps >= least)
            done |= space.n_hvps >= max_hvps
            pairs = Eigenpairs(values[:, :k], vectors[:, :k], norms[:, :k], scale, space.n_hvps)
            # The one question of a round: which rows are done, and whether the newest block added anything.
            seen, grew = torch.stack([done, space.valid[:, at.before : space.dim].any(1)]).to(HOST)
            n_done = int(seen.sum())
            if n_done == len(done) or not bool(grew.any()):
                break
            if 4 * n_done >= len(done):  # what is finished need not be multiplied any more
                gone, rest = moved((torch.nonzero(seen)[:, 0], torch.nonzero(~seen)[:, 0]), x.device)
                found, owners = (*found, take_rows(pairs, gone)), (*owners, active[gone])
                active, space, residual = active[rest], take_rows(space, rest), residual[rest]
                pairs = take_rows(pairs, rest)
                projector, products = projector.take(rest), potential.products_at(x[active])
            else:
                residual = torch.where(done[:, None, None], 0.0, residual)  # a finished row waits as it is
            space, before = _grown(space, residual, cap, products, projector)
            if before == space.dim:  # the space is invariant in every row: nothing is left to be found
                break
            at = _Round(space, before, active, found, owners)
    return _together([*found, pairs], [*owners, active])


def _grown(
    space: Subspace,
    residual: Float[Tensor, "B K D"],
    cap: int,
    products: Callable[[Tensor], Tensor],
    projector: Projector,
) -> tuple[Subspace, int]:
    """With the residuals and products of them, and how many vectors came before the newest block."""
    if space.dim + residual.shape[1] > cap:
        space = space.restarted(min(max(cap // 2, residual.shape[1]), space.dim))
    grown = space.expanded(residual, products, projector)
    if grown.dim == space.dim:
        return grown, grown.dim
    # H times the newest block makes the same space; Ritz pairs of a large one are not wanted at every step
    for _ in range(space.dim // _UNSEEN):
        n_new = grown.dim - space.dim
        if n_new == 0 or grown.dim + n_new > cap:
            break
        space, grown = grown, grown.expanded(grown.hq[:, grown.dim - n_new : grown.dim], products, projector)
    return grown, min(space.dim, grown.dim - 1)


@dataclasses.dataclass(frozen=True)
class _Round:
    """Where a search for eigenpairs stands between two rounds.

    Attributes:
        space: of the rows that go on.
        before: vectors before its newest block.
        active: which rows these are.
        found, owners: what is done, and to which rows it belongs.
    """

    space: Subspace
    before: int
    active: Int[Tensor, "R"]
    found: tuple[Eigenpairs, ...]
    owners: tuple[Int[Tensor, "F"], ...]

    def columns(self) -> dict[str, Tensor]:
        """All of it as tensors; of the space what is in use."""
        space, n = self.space, self.space.dim
        columns = {
            "q": space.q[:, :n],
            "hq": space.hq[:, :n],
            "t": space.t[:, :n, :n],
            "valid": space.valid[:, :n],
        }
        columns |= {"n_hvps": space.n_hvps, "before": torch.tensor(self.before), "active": self.active}
        if self.found:
            found = _together([*self.found], [*self.owners])
            columns |= leaves(found, Tensor, "found.") | {"owners": torch.cat(self.owners).sort().values}
        return columns

    @classmethod
    def of(cls, columns: Mapping[str, Tensor], capacity: int, device: torch.device) -> _Round:
        before = int(columns["before"])  # on the host, where nothing waits for it
        columns = moved(dict(columns), device)
        found = (build(Eigenpairs, columns, "found."),) if "owners" in columns else ()
        owners = (columns["owners"],) if "owners" in columns else ()
        n = columns["q"].shape[1]
        space = Subspace.empty(columns["q"][:, 0], capacity)
        for name in ("q", "hq", "valid"):
            getattr(space, name)[:, :n] = columns[name]
        space.t[:, :n, :n] = columns["t"]
        space = dataclasses.replace(space, dim=n, n_hvps=columns["n_hvps"])
        return cls(space, before, columns["active"], found, owners)


def _together(parts: list[Eigenpairs], owners: list[Tensor]) -> Eigenpairs:
    """Parts of a batch, each with the rows it belongs to, as the whole batch in order."""
    order = torch.cat(owners).argsort()
    fields = (field.name for field in dataclasses.fields(Eigenpairs))
    return Eigenpairs(*(torch.cat([getattr(part, name) for part in parts])[order] for name in fields))


@dataclasses.dataclass(frozen=True)
class Subspace:
    """An orthonormal basis Q of each row with the products H Q: all that Rayleigh-Ritz needs.

    A vector that adds nothing new (breakdown: the space is invariant) is kept as zeros and masked.

    Attributes:
        q, hq: basis and products, the first ``dim`` vectors in use.
        t: Q H Q^T, which grows by a block at a time.
        valid: which of them are not zero.
        dim: vectors in use, the same number for every row.
        n_hvps: products spent on each row.
    """

    q: Float[Tensor, "B M D"]
    hq: Float[Tensor, "B M D"]
    t: Float[Tensor, "B M M"]
    valid: Bool[Tensor, "B M"]
    dim: int
    n_hvps: Int[Tensor, "B"]

    @classmethod
    def empty(cls, x: Float[Tensor, "B D"], capacity: int) -> Subspace:
        b, d = x.shape
        valid = torch.zeros(b, capacity, dtype=torch.bool, device=x.device)
        n = torch.zeros(b, dtype=torch.int64, device=x.device)
        q, t = x.new_zeros(b, capacity, d), x.new_zeros(b, capacity, capacity)
        return cls(q, torch.zeros_like(q), t, valid, 0, n)

    def expanded(
        self, new: Float[Tensor, "B K D"], hvp: Callable[[Tensor], Tensor], projector: Projector
    ) -> Subspace:
        """With a block of new directions, those that add something to some row; the buffers are given away."""
        stopwatch.check()
        room = self.q.shape[1] - self.dim
        new, valid = orthonormalised(new[:, :room], self.q[:, : self.dim], projector)
        if asking_is_free(valid):  # on a device, what adds nothing is kept as zeros
            useful = torch.nonzero(valid.any(0))[:, 0]
            new, valid = new[:, useful], valid[:, useful]
        if new.shape[1] == 0:
            return self
        stop = self.dim + new.shape[1]
        self.q[:, self.dim : stop] = new
        self.hq[:, self.dim : stop] = projector.apply(hvp(new))
        cross = torch.bmm(self.q[:, :stop], self.hq[:, self.dim : stop].mT)
        self.t[:, :stop, self.dim : stop] = cross
        self.t[:, self.dim : stop, :stop] = cross.mT
        self.valid[:, self.dim : stop] = valid
        return dataclasses.replace(self, dim=stop, n_hvps=self.n_hvps + valid.sum(1))

    def decomposed(self) -> tuple[Float[Tensor, "B m"], Float[Tensor, "B m m"]]:
        """Ritz values, ascending, and their coordinates in the basis, as rows. Empty directions come last."""
        t, valid = self._t(), self.valid[:, : self.dim]
        top = 2 * t.abs().sum(2).amax(1, keepdim=True) + 1
        values, y = torch.linalg.eigh(t + torch.diag_embed(torch.where(valid, 0.0, top)))
        return values, y.mT

    def _t(self) -> Float[Tensor, "B m m"]:
        t = self.t[:, : self.dim, : self.dim]
        return finite_rows(0.5 * (t + t.mT))[0]

    def ritz(
        self, n: int
    ) -> tuple[Float[Tensor, "B n"], Float[Tensor, "B n D"], Float[Tensor, "B n D"], Float[Tensor, "B"]]:
        """The ``n`` lowest Ritz values, vectors and residuals H v - mu v; the largest |Ritz value|."""
        values, y = self.decomposed()
        n_valid = self.valid[:, : self.dim].sum(1, keepdim=True)
        empty = torch.arange(values.shape[1], device=values.device) >= n_valid
        scale = values.masked_fill(empty, 0.0).abs().amax(1)
        values, y = values[:, :n], y[:, :n]
        vectors = torch.bmm(y, self.q[:, : self.dim])
        residual = torch.bmm(y, self.hq[:, : self.dim]) - values[:, :, None] * vectors
        return values, vectors, residual, scale

    def restarted(self, keep: int) -> Subspace:
        """Only the ``keep`` lowest Ritz vectors, which costs no product."""
        values, y = self.decomposed()
        y = y[:, :keep]
        fresh = Subspace.empty(self.q[:, 0], self.q.shape[1])
        fresh.q[:, :keep] = torch.bmm(y, self.q[:, : self.dim])
        fresh.hq[:, :keep] = torch.bmm(y, self.hq[:, : self.dim])
        n_valid = self.valid[:, : self.dim].sum(1, keepdim=True)
        fresh.t[:, :keep, :keep] = torch.diag_embed(values[:, :keep])
        fresh.valid[:, :keep] = torch.arange(keep, device=values.device) < n_valid
        return dataclasses.replace(fresh, dim=keep, n_hvps=self.n_hvps)


def orthonormalised(
    new: Float[Tensor, "B K D"], basis: Float[Tensor, "B m D"], projector: Projector
) -> tuple[Float[Tensor, "B K D"], Bool[Tensor, "B K"]]:
    """P ``new`` made orthonormal to the basis and within itself; what vanishes becomes zero, and is marked.

    Two passes of Gram-Schmidt: "twice is enough" (Giraud et al. 2005, doi 10.1007/s00211-005-0615-4), the whole
    block at once against the basis. Each projects again, because normalising what little is left would blow up
    its rounding errors outside P.
    """
    floor = torch.finfo(new.dtype).eps ** 0.5
    length = new.norm(dim=2, keepdim=True)
    out = new / length.clamp(min=torch.finfo(new.dtype).tiny)
    alive = length > 0
    for _ in range(2):
        out = projector.apply(out)
        out = torch.baddbmm(out, torch.bmm(out, basis.mT), basis, alpha=-1)
        for j in range(out.shape[1]):
            before, v = out[:, :j], out[:, j : j + 1]
            v = v - torch.bmm(torch.bmm(v, before.mT), before)
            left = v.norm(dim=2, keepdim=True)
            alive[:, j : j + 1] &= (left > floor) & torch.isfinite(left)
            out[:, j : j + 1] = torch.where(alive[:, j : j + 1], v / left, 0.0)
    return out, out.abs().amax(2) > 0
