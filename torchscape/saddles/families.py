"""Minima that are not isolated: walks along flat directions, which tell whether two points are one family.

Where the Hessian of a minimum has more zero eigenvalues than its symmetry explains, minima may form a manifold
(U is Morse-Bott there: the flat directions at a point are the tangent space). Two minima are one *family* when a
path of minima joins them.
"""

from __future__ import annotations

import dataclasses

import torch

from torchscape import random, stopwatch
from torchscape.memory import PRODUCTS, rows_that_fit
from torchscape.numerics import DENSE_STEPS, DENSE_WALKS
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.saddles.decomposition import rows_within
from torchscape.saddles.floors import DenseFloors, Floors, KrylovFloors, spectrum_with_flat
from torchscape.symmetry.base import Symmetry
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT, COUNT_OR_ZERO, POSITIVE, check_fields

__all__ = ["FamilyWalk", "are_joined", "extends", "shared_directions"]

_BLOCKED = 0.05  # of the way to the goal: where less of it is flat, the goal lies across
_LEAST = 1e-6  # of a random direction: the part of it along a single flat direction is 1 / sqrt(D)


@dataclasses.dataclass(frozen=True)
class FamilyWalk:
    """How a path between two points of one manifold of minima is looked for.

    A step goes along the flat directions and is brought back by Newton's method in the others, with the Hessian
    of where it began. It counts when that needs at most ``bend`` of its length, when the energy is what it was,
    and when the straight line between both ends rises no more than twice what its sagitta explains (a quarter of
    the correction): a step that leaps over a barrier to another manifold does.

    Up to ``dense_limit`` coordinates flat directions are eigenvectors of Hessians. Beyond, they are what conjugate
    gradients leave of a direction, from Hessian-vector products alone: with longer steps, but without an end where
    other curvatures are small, too. So up to ``mixed_limit`` every second try has Hessians.

    Attributes:
        max_steps: steps per try.
        tries: from either end by turns; from the third try on from where a random walk leads, and towards random
            symmetric images. None for 4, and for 6 where there are images.
        kicks: random directions tried in one try where the way to the goal is blocked: the goal lies across the
            flat directions, as the antipode of a circle does.
        bend: largest correction of a step, in units of its length.
        dense_limit: coordinates up to which each step forms a Hessian.
        mixed_limit: coordinates up to which each step of the second, fourth, sixth try does.
        cg_steps: beyond, conjugate-gradient iterations at most for one direction or correction.
        max_products: beyond, Hessian-vector products that all tries of one pair may take.
    """

    max_steps: int = 50
    tries: int | None = None
    kicks: int = 2
    bend: float = 0.2
    dense_limit: int = DENSE_STEPS
    mixed_limit: int = DENSE_WALKS
    cg_steps: int = 200
    max_products: int = 10_000

    def __post_init__(self) -> None:
        check_fields(
            self,
            max_steps=COUNT_OR_ZERO,
            tries=COUNT_OR_ZERO.or_none,
            kicks=COUNT_OR_ZERO,
            bend=POSITIVE,
            dense_limit=COUNT_OR_ZERO,
            mixed_limit=COUNT_OR_ZERO,
            cg_steps=COUNT,
            max_products=COUNT,
        )

    def is_dense(self, ndim: int, number: int) -> bool:
        """Whether the try of this number, from 0 on, forms Hessians."""
        return ndim <= self.dense_limit or (ndim <= self.mixed_limit and number % 2 == 1)


def are_joined(
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
        >>> are_joined(Ring(), east, east.replace(x=-east.x), radius=0.1).tolist()
        [True]
    """
    walk = walk or FamilyWalk()
    found = torch.zeros(len(a), dtype=torch.bool, device=a.x.device)
    spent = torch.zeros_like(a.n_zero)
    key = random.fold(seed, torch.arange(len(a), device=a.x.device))
    tries = walk.tries or (4 if type(potential.symmetry) is Symmetry else 6)
    for number in range(tries):
        left = torch.nonzero(~found & (spent < walk.max_products))[:, 0]
        dense = walk.is_dense(potential.ndim, number)
        for rows in left.split(_together(potential, a.x, dense)):
            start, goal = (a[rows], b[rows]) if number % 2 == 0 else (b[rows], a[rows])
            own = random.fold(key[rows], number)
            target = goal.x if number < 2 else potential.symmetry.random_image(goal.x, own)
            if number < 2:
                target = potential.symmetry.align(start.x, target)
            wander = 0 if number < 2 else 4 * (number - 1)
            ways = _Ways(start, target, a.n_zero[rows], own, wander, spent[rows])
            found[rows], spent[rows] = _walked(potential, ways, radius, walk, dense)
    return found


def extends(
    potential: Potential, points: StationaryPoints, radius: float, *, walk: FamilyWalk | None = None, seed: int = 0
) -> Bool[Tensor, "B"]:
    """Whether stationary points continue along the flat directions of each, to a distance of ``radius`` and more.

    A zero eigenvalue alone does not say so: x^4 has one, and a single minimum.

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
    spent = torch.zeros_like(points.n_zero)
    key = random.fold(seed, torch.arange(len(points), device=points.x.device), 1)
    for number in range(2):
        left = torch.nonzero(~found & (spent < walk.max_products))[:, 0]
        dense = walk.is_dense(potential.ndim, number)
        for rows in left.split(_together(potential, points.x, dense)):
            some, own = points[rows], random.fold(key[rows], number)
            ways = _Ways(some, None, some.n_zero, own, walk.max_steps, spent[rows])
            found[rows], spent[rows] = _walked(potential, ways, radius, walk, dense)
    return found


def shared_directions(
    potential: Potential, x: Float[Tensor, "B D"], n_zero: Int[Tensor, "B"], tol: float = 1e-4
) -> Float[Tensor, "K D"]:
    """An orthonormal basis of the directions that are flat at every row: what a translation would explain."""
    _, flat, vectors = spectrum_with_flat(potential, x, n_zero)
    projectors = torch.bmm((vectors * flat[:, :, None]).mT, vectors * flat[:, :, None])
    mu, v = torch.linalg.eigh(projectors.mean(0))
    shared: Tensor = v.T[mu > 1 - tol]
    return shared


def _together(potential: Potential, x: Float[Tensor, "P D"], dense: bool) -> int:
    """Walkers that go on together."""
    if dense:
        return rows_within(potential.ndim, x.dtype, x.device)
    return rows_that_fit(potential.ndim, x.device, on_host=PRODUCTS)


@dataclasses.dataclass(frozen=True)
class _Ways:
    """What is to be walked: one row per pair."""

    start: StationaryPoints
    target: Float[Tensor, "P D"] | None  # None: away from the start
    n_zero: Int[Tensor, "P"]
    key: Int[Tensor, "P"]
    wander: int  # steps before they make for the target
    spent: Int[Tensor, "P"]  # Hessian-vector products of earlier tries


@dataclasses.dataclass
class _Walkers:
    """Where the walkers stand; one row per pair."""

    x: Float[Tensor, "P D"]
    length: Float[Tensor, "P"]  # of the next step at most
    kick: Float[Tensor, "P D"]  # direction of a walk that does not aim at the goal
    kick_left: Int[Tensor, "P"]  # steps of it still to come
    n_kicks: Int[Tensor, "P"]
    aim: Float[Tensor, "P D"]  # flat direction of the next step
    reach: Float[Tensor, "P"]  # the longest step along it that helps
    arrived: Bool[Tensor, "P"]
    alive: Bool[Tensor, "P"]
    fresh: Bool[Tensor, "P"]  # whether the direction is that of x: nothing has moved since


def _walked(
    potential: Potential, ways: _Ways, radius: float, walk: FamilyWalk, dense: bool
) -> tuple[Bool[Tensor, "P"], Int[Tensor, "P"]]:
    """Which walkers arrive at their targets, or, where there is none, at a distance of ``radius`` from the start;
    and the products that they have taken by then.
    """
    x0, target = ways.start.x, ways.target
    energy0 = potential.energy_and_grad(x0)[0]
    floors: Floors = (
        DenseFloors(potential, x0, ways.n_zero) if dense else KrylovFloors(potential, x0, walk.cg_steps)
    )
    no = torch.zeros(len(x0), dtype=torch.bool, device=x0.device)
    state = _Walkers(
        x=x0.clone(),
        length=torch.full_like(x0[:, 0], max(radius, 0.2 * potential.length_scale)),
        kick=random.normal(ways.key, x0.shape[1], x0.dtype),
        kick_left=torch.full_like(ways.n_zero, ways.wander),
        n_kicks=torch.zeros_like(ways.n_zero),
        aim=torch.zeros_like(x0),
        reach=torch.zeros_like(x0[:, 0]),
        arrived=no.clone(),
        alive=~no,
        fresh=no.clone(),
    )
    moved = no.clone()
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
        state.alive[rows] = ~there
        going = torch.nonzero(~there)[:, 0]
        rows, x, towards = rows[going], x[going], towards[going]
        if len(rows) == 0:
            break
        if len(elsewhere := rows[moved[rows]]):
            floors.look(state.x[elsewhere], elsewhere)
        turning = torch.nonzero(~state.fresh[rows])[:, 0]
        if len(turning):
            _turn(state, floors, rows[turning], towards[turning], ways.key, number, walk)
        step = torch.minimum(state.reach[rows], state.length[rows])[:, None] * state.aim[rows]
        place, accepted = _step(potential, floors, rows, x, step, energy0[rows], radius, walk.bend)
        state.x[rows] = torch.where(accepted[:, None], place, x)
        state.fresh[rows], moved[rows] = ~accepted, accepted
        state.kick[rows] = torch.where(accepted[:, None], place - x, state.kick[rows])
        state.kick_left[rows] = (state.kick_left[rows] - accepted.to(torch.int64)).clamp(min=0)
        state.length[rows] *= torch.where(accepted, 1.5, 0.5)
        lost = (state.n_kicks[rows] > walk.kicks) | (state.length[rows] < 1e-2 * radius)
        state.alive[rows] = ~lost & (ways.spent[rows] + floors.spent[rows] < walk.max_products)
    return state.arrived, ways.spent + floors.spent


def _turn(
    state: _Walkers,
    floors: Floors,
    rows: Int[Tensor, "B"],
    towards: Float[Tensor, "B D"],
    key: Int[Tensor, "P"],
    number: int,
    walk: FamilyWalk,
) -> None:
    """The flat direction of each row: towards its goal; anywhere, where that lies across all flat directions."""
    x, kicking = state.x[rows], state.kick_left[rows] > 0
    wanted = torch.where(kicking[:, None], state.kick[rows], towards)
    aim = floors.along(x, wanted, rows, torch.where(kicking, _LEAST, _BLOCKED / 2).to(x))
    blocked = ~kicking & (aim.norm(dim=1) < _BLOCKED * towards.norm(dim=1))
    state.n_kicks[rows] += blocked.to(torch.int64)
    steps = 4 ** (state.n_kicks[rows] - 1).clamp(min=0)
    state.kick_left[rows] = torch.where(blocked, steps, state.kick_left[rows])
    lost = torch.nonzero(blocked)[:, 0]
    if len(lost):
        some = rows[lost]
        anew = random.normal(random.fold(key[some], number, 2), towards.shape[1], towards.dtype)
        aim[lost] = floors.along(x[lost], anew, some, x.new_full((len(lost),), _LEAST))
    size = aim.norm(dim=1)
    state.aim[rows] = aim / size.clamp(min=torch.finfo(size.dtype).tiny)[:, None]
    state.reach[rows] = torch.where(kicking | blocked, torch.inf, size)


def _step(
    potential: Potential,
    floors: Floors,
    rows: Int[Tensor, "B"],
    x: Float[Tensor, "B D"],
    step: Float[Tensor, "B D"],
    energy0: Float[Tensor, "B"],
    radius: float,
    bend: float,
) -> tuple[Float[Tensor, "B D"], Bool[Tensor, "B"]]:
    """Along the step, back by Newton's method across the flat directions; and whether the way there never rose."""
    y, last = floors.settled(x, x + step, rows)
    softest, stiffest = floors.stiffness(rows)
    correction = y - x - step
    places = (x[:, None] + x.new_tensor([0.25, 0.5, 0.75, 1.0])[:, None] * (y - x)[:, None]).flatten(0, 1)
    rise = (potential.energy_and_grad(places)[0].reshape(len(x), 4) - energy0[:, None]).abs()
    rounding = 1e3 * torch.finfo(x.dtype).eps * (energy0.abs() + stiffest * radius**2)
    sagitta = floors.bent(x, correction / 4, rows) / 2
    length, corrected = step.norm(dim=1), correction.norm(dim=1)
    good = (last <= 0.02 * length) & (corrected <= bend * length + 1e-3 * radius)
    good &= (rise[:, :3] <= (2 * sagitta + 0.02 * softest * radius**2 + rounding)[:, None]).all(1)
    # What the last correction left may still hold energy: a step of Newton gains half of mu s^2.
    left = (stiffest * last.square()).clamp(max=torch.finfo(x.dtype).max)
    good &= (rise[:, 3] <= left + rounding) & torch.isfinite(y).all(1)
    if potential.bounds is not None:
        good &= potential.bounds.interior(y)
    return y, good
