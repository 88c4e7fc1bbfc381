"""Minima that are not isolated: walks along flat directions, which tell whether two points are one family.

Where the Hessian of a minimum has more zero eigenvalues than its symmetry explains, minima may form a manifold
(U is Morse-Bott there: the flat directions at a point are the tangent space). Two minima are one *family* when a
path of minima joins them.
"""

from __future__ import annotations

import dataclasses

import torch

from torchscape import random, stopwatch
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.saddles.eigen import finite_rows, rows_within
from torchscape.symmetry.base import Symmetry
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["FamilyWalk", "extends", "joined", "shared_directions"]


@dataclasses.dataclass(frozen=True)
class FamilyWalk:
    """How a path between two points of one manifold of minima is looked for.

    A step goes along the flat directions and is brought back by Newton's method in the others, with the Hessian
    of where it began. It counts when that needs at most ``bend`` of its length, when the energy is what it was,
    and when the straight line between both ends rises no more than twice what its sagitta explains (a quarter of
    the correction): a step that leaps over a barrier to another manifold does.

    Attributes:
        max_steps: steps per try.
        tries: from either end by turns; from the third try on from where a random walk leads, and towards random
            symmetric images. None for 4, and for 6 where there are images.
        kicks: random directions tried in one try where the way to the goal is blocked: the goal lies across the
            flat directions, as the antipode of a circle does.
        bend: largest correction of a step, in units of its length.
        dense_limit: coordinates up to which walks are made; each step needs a Hessian.
    """

    max_steps: int = 50
    tries: int | None = None
    kicks: int = 2
    bend: float = 0.2
    dense_limit: int = 500


def joined(
    potential: Potential,
    a: StationaryPoints,
    b: StationaryPoints,
    radius: float,
    *,
    walk: FamilyWalk | None = None,
    seed: int = 0,
) -> Bool[Tensor, "P"]:
    """Whether a path of stationary points leads from each a to an image of its b: False where none was found.

    Args:
        potential: U.
        a, b: points of equal energy, with ``n_zero`` known (that of ``a`` is used for both).
        radius: distance at which two points are the same.
        walk: how to look.
        seed: of random directions and images.

    Example:
        >>> class Ring(Potential):
        ...     ndim = 2
        ...     def energy(self, x):
        ...         return (x.square().sum(1) - 1) ** 2
        >>> east = StationaryPoints.of(torch.tensor([[1.0, 0.0]]).double(), torch.zeros(1).double(),
        ...                            n_zero=torch.ones(1, dtype=torch.int64))
        >>> joined(Ring(), east, east.replace(x=-east.x), radius=0.1).tolist()
        [True]
    """
    walk = walk or FamilyWalk()
    found = torch.zeros(len(a), dtype=torch.bool, device=a.x.device)
    if potential.ndim > walk.dense_limit:
        return found
    key = random.fold(seed, torch.arange(len(a), device=a.x.device))
    tries = walk.tries or (4 if type(potential.symmetry) is Symmetry else 6)
    for number in range(tries):
        left = torch.nonzero(~found)[:, 0]
        for rows in left.split(rows_within(potential.ndim, a.x.dtype, a.x.device)):
            start, goal = (a[rows], b[rows]) if number % 2 == 0 else (b[rows], a[rows])
            own = random.fold(key[rows], number)
            target = goal.x if number < 2 else potential.symmetry.random_image(goal.x, own)
            if number < 2:
                target = potential.symmetry.align(start.x, target)
            wander = 0 if number < 2 else 4 * (number - 1)
            found[rows] = _walked(potential, start, target, a.n_zero[rows], radius, walk, own, wander)
    return found


def extends(
    potential: Potential, points: StationaryPoints, radius: float, *, walk: FamilyWalk | None = None, seed: int = 0
) -> Bool[Tensor, "B"]:
    """Whether stationary points continue along the flat directions of each, to a distance of ``radius`` and more.

    A zero eigenvalue alone does not say so: x^4 has one, and a single minimum. Beyond the ``dense_limit`` nothing
    is tried, and the answer is True.

    Example:
        >>> class Quartic(Potential):
        ...     ndim = 2
        ...     def energy(self, x):
        ...         return x[:, 0] ** 4 + x[:, 1] ** 2
        >>> origin = StationaryPoints.of(torch.zeros(1, 2).double(), torch.zeros(1).double(),
        ...                              n_zero=torch.ones(1, dtype=torch.int64))
        >>> extends(Quartic(), origin, radius=0.1).tolist()
        [False]
    """
    walk = walk or FamilyWalk()
    found = torch.zeros(len(points), dtype=torch.bool, device=points.x.device)
    if potential.ndim > walk.dense_limit:
        return ~found
    key = random.fold(seed, torch.arange(len(points), device=points.x.device), 1)
    for number in range(2):
        left = torch.nonzero(~found)[:, 0]
        for rows in left.split(rows_within(potential.ndim, points.x.dtype, points.x.device)):
            some, own = points[rows], random.fold(key[rows], number)
            found[rows] = _walked(potential, some, None, some.n_zero, radius, walk, own, walk.max_steps)
    return found


def shared_directions(
    potential: Potential, x: Float[Tensor, "B D"], n_zero: Int[Tensor, "B"], tol: float = 1e-4
) -> Float[Tensor, "K D"]:
    """An orthonormal basis of the directions that are flat at every row: what a translation would explain."""
    _, flat, vectors = _spectrum(potential, x, n_zero)
    projectors = torch.bmm((vectors * flat[:, :, None]).mT, vectors * flat[:, :, None])
    mu, v = torch.linalg.eigh(projectors.mean(0))
    return v.T[mu > 1 - tol]


def _spectrum(potential, x, n_zero) -> tuple[Float[Tensor, "B D"], Bool[Tensor, "B D"], Float[Tensor, "B D D"]]:
    """Eigenvalues, which of them are the ``n_zero`` smallest in size, and eigenvectors as rows."""
    mu, v = torch.linalg.eigh(finite_rows(potential.hessian(x))[0])
    rank = mu.abs().argsort(1).argsort(1)
    return mu, rank < n_zero[:, None], v.mT


@dataclasses.dataclass
class _Walkers:
    """Where the walkers stand; one row per pair."""

    x: Float[Tensor, "P D"]
    length: Float[Tensor, "P"]  # of the next step at most
    kick: Float[Tensor, "P D"]  # direction of a walk that does not aim at the goal
    kick_left: Int[Tensor, "P"]  # steps of it still to come
    n_kicks: Int[Tensor, "P"]
    arrived: Bool[Tensor, "P"]
    alive: Bool[Tensor, "P"]
    spectrum: tuple[Float[Tensor, "P D"], Bool[Tensor, "P D"], Float[Tensor, "P D D"]]
    fresh: Bool[Tensor, "P"]  # whether the spectrum is that of x: nothing has moved since


def _walked(
    potential: Potential,
    start: StationaryPoints,
    target: Float[Tensor, "P D"] | None,
    n_zero: Int[Tensor, "P"],
    radius: float,
    walk: FamilyWalk,
    key: Int[Tensor, "P"],
    wander: int,
) -> Bool[Tensor, "P"]:
    """Which walkers arrive at their targets, or, where there is none, at a distance of ``radius`` from the start.

    They wander for ``wander`` steps before they make for the target.
    """
    x0, energy0 = start.x, potential.energy_and_grad(start.x)[0]
    n, like = len(x0), start.x[:, 0]
    state = _Walkers(
        x=x0.clone(),
        length=torch.full_like(like, max(radius, 0.2 * potential.length_scale)),
        kick=random.normal(key, x0.shape[1], x0.dtype),
        kick_left=torch.full_like(n_zero, wander),
        n_kicks=torch.zeros_like(n_zero),
        arrived=torch.zeros(n, dtype=torch.bool, device=x0.device),
        alive=torch.ones(n, dtype=torch.bool, device=x0.device),
        spectrum=_spectrum(potential, x0, n_zero),
        fresh=torch.ones(n, dtype=torch.bool, device=x0.device),
    )
    shortest = 1e-2 * radius
    for number in range(walk.max_steps):
        stopwatch.check()
        rows = torch.nonzero(state.alive)[:, 0]
        if len(rows) == 0:
            break
        x = state.x[rows]
        towards = x - x0[rows] if target is None else target[rows] - x
        far = towards.norm(dim=1)
        there = far >= radius if target is None else far <= radius
        state.arrived[rows] = there
        moved_on = rows[~state.fresh[rows] & ~there]
        for kept, new in zip(
            state.spectrum, _spectrum(potential, state.x[moved_on], n_zero[moved_on]), strict=True
        ):
            kept[moved_on] = new
        mu, flat, v = (kept[rows] for kept in state.spectrum)
        spectrum = mu, flat, v
        direction = _directions(state, rows, spectrum, towards, far, key, number, walk)
        moved, accepted = _step(potential, x, direction, spectrum, energy0[rows], radius, walk.bend)
        state.x[rows] = torch.where(accepted[:, None], moved, x)
        state.fresh[rows] = ~accepted
        state.kick[rows] = torch.where(accepted[:, None], moved - x, state.kick[rows])
        state.kick_left[rows] = (state.kick_left[rows] - accepted.to(torch.int64)).clamp(min=0)
        state.length[rows] *= torch.where(accepted, 1.5, 0.5)
        spent = state.n_kicks[rows] > walk.kicks
        state.alive[rows] = ~(there | spent | (state.length[rows] < shortest))
    return state.arrived


def _directions(state, rows, spectrum, towards, far, key, number, walk) -> Float[Tensor, "B D"]:
    """The flat step of each row: towards its goal, or, where that lies across all flat directions, anywhere."""
    _, flat, v = spectrum

    def projected(u: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        along = torch.where(flat, torch.bmm(v, u[:, :, None])[:, :, 0], 0.0)
        return torch.bmm(v.mT, along[:, :, None])[:, :, 0]

    length, kicking = state.length[rows], state.kick_left[rows] > 0
    aim = projected(towards)
    blocked = ~kicking & (aim.norm(dim=1) < 0.05 * far)
    anew = random.normal(random.fold(key[rows], number, 2), towards.shape[1], towards.dtype)
    state.n_kicks[rows] += blocked.to(torch.int64)
    steps = 4 ** (state.n_kicks[rows] - 1).clamp(min=0)
    state.kick_left[rows] = torch.where(blocked, steps, state.kick_left[rows])
    kick = projected(torch.where(blocked[:, None], anew, state.kick[rows]))
    step = torch.where((kicking | blocked)[:, None], kick, aim)
    size = step.norm(dim=1)
    wanted = torch.where(kicking | blocked, length, torch.minimum(size, length))
    return step * (wanted / size.clamp(min=torch.finfo(size.dtype).tiny))[:, None]


def _step(potential, x, step, spectrum, energy0, radius, bend) -> tuple[Float[Tensor, "B D"], Bool[Tensor, "B"]]:
    """Along the step, back by Newton's method across the flat directions; and whether the way there never rose."""
    mu, flat, v = spectrum
    tiny = torch.finfo(x.dtype).tiny
    size = torch.where(flat, torch.inf, mu.abs()).clamp(min=tiny)
    y = x + step
    last = x.new_full((len(x),), torch.inf)
    for _ in range(4):
        grad = potential.energy_and_grad(y)[1]
        along = torch.bmm(v, grad[:, :, None])[:, :, 0] / torch.where(mu < 0, -size, size)
        change = torch.bmm(v.mT, along[:, :, None])[:, :, 0]
        y, last = y - change, change.norm(dim=1)
    correction = y - x - step
    across = torch.where(flat, 0.0, torch.bmm(v, correction[:, :, None])[:, :, 0])
    stiff = torch.where(flat, 0.0, mu.abs())
    places = (x[:, None] + x.new_tensor([0.25, 0.5, 0.75, 1.0])[:, None] * (y - x)[:, None]).flatten(0, 1)
    rise = (potential.energy_and_grad(places)[0].reshape(len(x), 4) - energy0[:, None]).abs()
    rounding = 1e3 * torch.finfo(x.dtype).eps * (energy0.abs() + stiff.amax(1) * radius**2)
    softest = size.amin(1).nan_to_num(posinf=0.0)
    sagitta = (stiff * (across / 4).square()).sum(1) / 2
    length, corrected = step.norm(dim=1), correction.norm(dim=1)
    good = (last <= 0.02 * length) & (corrected <= bend * length + 1e-3 * radius)
    good &= (rise[:, :3] <= (2 * sagitta + 0.02 * softest * radius**2 + rounding)[:, None]).all(1)
    # What the last correction left may still hold energy: a step of Newton gains half of mu s^2.
    left = (stiff.amax(1) * last.square()).clamp(max=torch.finfo(x.dtype).max)
    good &= (rise[:, 3] <= left + rounding) & torch.isfinite(y).all(1)
    if potential.bounds is not None:
        good &= potential.bounds.interior(y)
    return y, good
