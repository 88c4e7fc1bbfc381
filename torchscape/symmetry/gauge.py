"""Continuous freedom taken out: the image of least norm under rescaling of units, maps of spaces, and shifts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from torchscape.symmetry.action import Action
from torchscape.symmetry.modules.spaces import Rotation, Turn
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["Gauge", "Scaling", "Shift", "balance", "centre", "levelled", "scale_modes"]

_NEWTON = 100
_SWEEPS = 300


@dataclasses.dataclass(frozen=True)
class Shift:
    """Sets of coordinates to each of which one constant may be added (the softmax shift).

    Attributes:
        name: of the parameter.
        coordinates: one set per row.
        signs: +1 or -1, with which it is added to each of the k; None for +1.
    """

    name: str
    coordinates: Int[Tensor, "Z k"]
    signs: Float[Tensor, "k"] | None = None

    def added(self, x: Float[Tensor, "B D"], amount: Float[Tensor, "B Z"]) -> Float[Tensor, "B D"]:
        """x with so much added to every set."""
        x = x.clone()
        x[:, self.coordinates] += amount[:, :, None] * self._signs(x)
        return x

    def mean(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B Z"]:
        """How much of every set is a shift."""
        return (x[:, self.coordinates] * self._signs(x)).mean(2)

    def modes(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B Z D"]:
        """The tangents of the shifts of all sets."""
        mode = x.new_zeros(len(x), len(self.coordinates), x.shape[1])
        mode[:, torch.arange(len(self.coordinates), device=x.device)[:, None], self.coordinates] = self._signs(x)
        return mode

    def to(self, device: torch.device) -> Shift:
        signs = None if self.signs is None else self.signs.to(device)
        return Shift(self.name, self.coordinates.to(device), signs)

    def _signs(self, x: Tensor) -> Float[Tensor, "k"]:
        return x.new_ones(self.coordinates.shape[1]) if self.signs is None else self.signs.to(x.dtype)


@dataclasses.dataclass(frozen=True)
class Gauge:
    """A row of least norm, and the way back.

    Attributes:
        y: the row: centred, its spaces mapped, its units multiplied.
        factor: of every coordinate (zero where the infimum is at zero).
        turns: of every space that may be mapped in any way.
        shift: what was taken away to begin with.
    """

    y: Float[Tensor, "B D"]
    factor: Float[Tensor, "B D"]
    turns: tuple[tuple[Rotation, Turn], ...]
    shift: Float[Tensor, "B D"]

    def undo(self, y: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """``y`` with the scales, maps and shifts that this row had."""
        y = y / torch.where(self.factor > 0, self.factor, 1.0)
        for space, turn in self.turns:
            y = space.apply(y, turn.reversed())
        return y + self.shift


@dataclasses.dataclass(frozen=True)
class Scaling:
    """All rescalings of all units: coordinate d is multiplied by exp(sum_z E_dz t_z).

    Coordinates with the same row of E are one bin; only bins and the non-zero entries of E are kept.

    Attributes:
        n_scales: number of generators Z.
        groups: the numbers of the groups that they belong to.
        coordinates: those that any of them moves.
        bins: for each of these the number of its bin.
        generators, exponents: the non-zero entries of the row of E of each bin, padded with exponent 0.
    """

    n_scales: int
    groups: frozenset[int]
    coordinates: Int[Tensor, "d"]
    bins: Int[Tensor, "d"]
    generators: Int[Tensor, "R k"]
    exponents: Float[Tensor, "R k"]

    @classmethod
    def of(cls, actions: Sequence[Action], ndim: int) -> Scaling:
        """The rescalings of these groups."""
        rows: list[dict[int, float]] = [{} for _ in range(ndim)]
        start = 0
        for action in actions:
            n = action.group.size * action.group.copies
            for bundle in action.bundles:
                for j, e in enumerate(bundle.scales):
                    for unit, places in enumerate(bundle.coordinates.flatten(0, 1).tolist() if e else []):
                        z = start + j * n + unit
                        for d in places:
                            rows[d][z] = rows[d].get(z, 0.0) + e
            start += n * action.group.n_scales
        kinds: dict[tuple, int] = {}
        cleaned = [tuple(sorted((z, e) for z, e in row.items() if e)) for row in rows]
        bins = [(d, kinds.setdefault(row, len(kinds))) for d, row in enumerate(cleaned) if row]
        width = max((len(row) for row in kinds), default=1)
        padded = [[*row, *[(0, 0.0)] * (width - len(row))] for row in kinds]
        table = torch.tensor(padded, dtype=torch.float64).reshape(len(kinds), width, 2)
        pairs = torch.tensor(bins, dtype=torch.int64).reshape(-1, 2)
        scaled = frozenset(action.number for action in actions if action.group.n_scales)
        return cls(start, scaled, pairs[:, 0], pairs[:, 1], table[..., 0].long(), table[..., 1].contiguous())

    def to(self, x: Tensor) -> Scaling:
        """On the device and in the precision of x."""
        if self.exponents.device == x.device and self.exponents.dtype == x.dtype:
            return self
        return Scaling(
            self.n_scales,
            self.groups,
            self.coordinates.to(x.device),
            self.bins.to(x.device),
            self.generators.to(x.device),
            self.exponents.to(x),
        )


def balance(
    scaling: Scaling, spaces: Sequence[Rotation], shifts: Sequence[Shift], x: Float[Tensor, "B D"]
) -> Gauge:
    """The image of least norm under the shifts, the rescalings of the units and the maps of ``spaces``.

    The squared norm sum_r q_r exp(2 E_r t) is convex in the logarithms t of the scales, with one minimum: Newton's
    method. For a unit whose incoming weights v scale with c and outgoing weights w with 1/c, the minimum is at
    c^2 = |w| / |v|, in and out equally long. Where v or w vanishes the infimum is at c -> 0 or infinity, and the
    unit becomes zero altogether (U is the same there, being constant along the orbit and continuous). A space is
    balanced in closed form (:func:`levelled`); where several of them, or scales too, share coordinates, they take
    turns until nothing moves: the norm is convex along the group (Kempf & Ness 1979, doi 10.1007/BFb0066647).
    """
    y, shift = centre(shifts, x)
    factor = torch.ones_like(x)
    turns: dict[int, tuple[Rotation, Turn]] = {}
    general = {space.number for space in spaces}
    coupled = [s for s in spaces if any(b.others & (general | scaling.groups) for b in s.bundles)]
    for space in spaces:
        if all(space is not one for one in coupled):
            turn = levelled(space, y)
            y, turns[space.number] = space.apply(y, turn), (space, turn)
    alone = len(coupled) + bool(scaling.n_scales) <= 1
    running = torch.ones(len(x), dtype=torch.bool, device=x.device)
    for _ in range(1 if alone else _SWEEPS):
        before = y
        for space in coupled:
            turn = levelled(space, y).where(running)
            y = space.apply(y, turn)
            turns[space.number] = space, turn.after(turns[space.number][1]) if space.number in turns else turn
        if scaling.n_scales:
            scaling = scaling.to(x)
            more = torch.where(running[:, None], _scales(scaling, y), 1.0)
            y, factor = y * more, factor * more
        # A row goes on as long as it moves itself, whatever its neighbours do.
        running = running & ((y - before).norm(dim=1) > 1e4 * torch.finfo(x.dtype).eps * y.norm(dim=1))
        if alone or not bool(running.any()):
            break
    return Gauge(y, factor, tuple(turns.values()), shift)


def levelled(space: Rotation, x: Float[Tensor, "B D"]) -> Turn:
    """The map of a space after which vectors and linear forms in it have one and the same matrix of inertia.

    With P and Q those of vectors and forms, the least tr(M P M^T) + tr(M^-T Q M^-1) is at M^T M = P^-1 # Q (the
    geometric mean): up to a rotation M = D^1/4 W^T P^-1/2, where P^1/2 Q P^1/2 = W D W^T. Axes in which there is
    nothing of one kind become zero for both.
    """
    p, q = (space.inertia(x, form) for form in (False, True))
    root, back = _roots(p)
    d, w = torch.linalg.eigh(root @ q @ root)
    limit = 1e2 * torch.finfo(x.dtype).eps * d.amax(-1, keepdim=True).clamp(min=0)
    d = torch.where(d > limit, d, 0.0)
    up = d.pow(0.25)
    down = torch.where(d > 0, 1 / torch.where(d > 0, up, 1.0), 0.0)
    there, again = up[..., None] * w.mT @ back, root @ w * down[..., None, :]
    u, _, vt = torch.linalg.svd(there)
    unturned = vt.mT @ u.mT  # the map is then symmetric, and the identity where there is nothing to do
    return Turn(unturned @ there, again @ unturned.mT)


def _roots(matrix: Float[Tensor, "*B n n"]) -> tuple[Float[Tensor, "*B n n"], Float[Tensor, "*B n n"]]:
    """The square root of a matrix that is not negative, and its inverse where it has one."""
    value, axes = torch.linalg.eigh(matrix)
    limit = 1e2 * torch.finfo(matrix.dtype).eps * value.amax(-1, keepdim=True).clamp(min=0)
    there = value > limit
    root = torch.where(there, value, 1.0).sqrt()
    up, down = (torch.where(there, r, 0.0)[..., None, :] for r in (root, 1 / root))
    return axes * up @ axes.mT, axes * down @ axes.mT


def _scales(scaling: Scaling, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """The factors of all coordinates at the least norm."""
    factor = torch.ones_like(x)
    q = x.new_zeros(len(x), len(scaling.generators))
    q.index_add_(1, scaling.bins, x[:, scaling.coordinates].square())
    q, alive = _without_dead(scaling, q)
    exponent = _exponents(scaling, _least_norm(scaling, q))
    factor[:, scaling.coordinates] = torch.where(alive, exponent.exp(), 0.0)[:, scaling.bins]
    return factor


def _without_dead(scaling: Scaling, q: Float[Tensor, "B R"]) -> tuple[Float[Tensor, "B R"], Bool[Tensor, "B R"]]:
    """q without the bins that some rescaling can shrink to nothing, and which bins are left."""
    alive = torch.ones_like(q, dtype=torch.bool)
    while True:
        grown, shrunk = (
            _gather(scaling, q[:, :, None] * (sign * scaling.exponents > 0)) > 0 for sign in (1.0, -1.0)
        )
        dead = (grown ^ shrunk)[:, scaling.generators] & (scaling.exponents != 0)
        vanishing = dead.any(2) & (q > 0)
        if not bool(vanishing.any()):
            return q, alive
        alive = alive & ~vanishing
        q = q * alive


def _least_norm(scaling: Scaling, q: Float[Tensor, "B R"]) -> Float[Tensor, "B Z"]:
    """The t that minimises sum_r q_r exp(2 E_r t), by Newton's method with steps of at most a factor e."""
    z, e = scaling.n_scales, scaling.exponents
    pairs = (scaling.generators[:, :, None] * z + scaling.generators[:, None, :]).flatten()
    t = q.new_zeros(len(q), z)
    eye = torch.eye(z, dtype=q.dtype, device=q.device)
    eps = torch.finfo(q.dtype).eps
    running = torch.ones(len(q), dtype=torch.bool, device=q.device)
    for _ in range(_NEWTON):
        p = q * torch.exp(2.0 * _exponents(scaling, t))
        slope = _gather(scaling, p[:, :, None] * e)
        weights = (2.0 * p[:, :, None, None] * e[:, :, None] * e[:, None, :]).flatten(1)
        curvature = q.new_zeros(len(q), z * z).index_add_(1, pairs, weights).reshape(-1, z, z)
        size = curvature.diagonal(dim1=1, dim2=2).rsqrt().nan_to_num(posinf=0.0)
        scaled = (
            curvature * size[:, :, None] * size[:, None, :] + 8 * eps * eye + torch.diag_embed((size == 0).to(q))
        )
        step = size * torch.linalg.solve_ex(scaled, size * slope).result.nan_to_num()
        largest = _exponents(scaling, step).abs().amax(1)
        t = t - torch.where(running, 1.0 / largest.clamp(min=1.0), 0.0)[:, None] * step
        running = running & (largest > 64 * eps)
        if not bool(running.any()):
            break
    return t


def _gather(scaling: Scaling, values: Float[Tensor, "B R k"]) -> Float[Tensor, "B Z"]:
    """Sums over bins for each generator."""
    zero = values.new_zeros(len(values), scaling.n_scales)
    return zero.index_add_(1, scaling.generators.flatten(), values.flatten(1))


def _exponents(scaling: Scaling, t: Float[Tensor, "B Z"]) -> Float[Tensor, "B R"]:
    return (t[:, scaling.generators] * scaling.exponents).sum(2)


def centre(shifts: Sequence[Shift], x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
    """x without the mean of every shiftable set, and what was taken away."""
    shift = torch.zeros_like(x)
    for one in shifts:
        shift = one.added(shift, one.mean(x))
    return x - shift, shift


def scale_modes(
    actions: Sequence[Action], shifts: Sequence[Shift], x: Float[Tensor, "B D"]
) -> Float[Tensor, "B Z D"]:
    """The tangents of all rescalings and shifts at x, not normalised."""
    modes = [x.new_zeros(len(x), 0, x.shape[1])]
    for action in actions:
        n = action.group.size * action.group.copies
        for j in range(action.group.n_scales):
            mode = x.new_zeros(len(x), n, x.shape[1])
            unit = torch.arange(n, device=x.device)[:, None]
            for bundle in action.bundles:
                if bundle.scales[j]:
                    places = bundle.coordinates.flatten(0, 1)
                    mode[:, unit, places] += bundle.scales[j] * x[:, places]
            modes.append(mode)
    return torch.cat([*modes, *(shift.modes(x) for shift in shifts)], 1)
