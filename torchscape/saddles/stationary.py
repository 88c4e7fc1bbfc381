"""Stationary points of every index: Newton's method within a trust radius, many starts at once."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.errors import PotentialError
from torchscape.optimise import run_pool, standing
from torchscape.optimise.rows import put_rows
from torchscape.optimise.stepping import Evaluation, Trying, clamped, resolve
from torchscape.optimise.trust import TrustRadius
from torchscape.points import StationaryPoints, Status
from torchscape.potentials.base import Potential
from torchscape.potentials.expected import expect_potential
from torchscape.saddles.certify import exact_twin, in_dtype, with_rows
from torchscape.saddles.characterisation import characterise
from torchscape.saddles.curvature import Curvature, Dense
from torchscape.saddles.modelled import Modelled, ModelSearch, Residual
from torchscape.saddles.projector import Projector
from torchscape.saddles.steps import gradient_step, index_step
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT, NOT_NEGATIVE, POSITIVE, check_fields

__all__ = ["NewtonSearch", "find_stationary"]


@dataclasses.dataclass(frozen=True)
class Aimed:
    """Where a search starts, and the index that it aims for: -1 for none."""

    x: Float[Tensor, "B D"]
    target: Int[Tensor, "B"]


@dataclasses.dataclass(frozen=True)
class _Aiming(Modelled, Trying):
    """State of a batch of searches; ``expected`` is the gradient that the model expects at the trial point."""

    expected: Float[Tensor, "B D"]
    target: Int[Tensor, "B"]
    n_outside: Int[Tensor, "B"]
    n_lost: Int[Tensor, "B"]


@dataclasses.dataclass(frozen=True)
class NewtonSearch(ModelSearch[_Aiming]):
    """Options of the search for stationary points of any index, and the stepper that a pool runs.

    Close to a stationary point both ways of searching are Newton's method; they differ further out.

    *Without a target* the length of the gradient g is minimised by steps -(H^2 + nu)^-1 H g (Levenberg and
    Marquardt; More 1978, doi 10.1007/BFb0067700), towards whichever stationary point is near. Where |g| is
    shortest but not zero such a search ends, with a status that says so.

    *With a target index k* steps go uphill along the k lowest modes and downhill along all others (Yin, Zhang &
    Zhang 2019, doi 10.1137/19M1253356), which reaches the few points of lowest and highest index as easily as
    the many in between.

    Known zero modes take no part. A step is taken when enough of what its model predicted comes true: of the
    decrease of |g|^2, or, with a target, of the change of g.

    Attributes:
        curvature: where Hessians come from; by default a fresh dense one at every step.
        max_step: largest trust radius, in units of the potential's ``length_scale``.
        first_step: initial trust radius, in the same unit.
        tol: RMS gradient that counts as converged; None for 1e-8 in float64.
        max_evaluations: evaluations a row may spend.
        accept: least gain ratio (of what came, over what was predicted) of a step that is taken.
        least_gain: without a target, a predicted decrease below this part of |g|^2 ends the search.
        max_outside: steps in a row that would leave the box before the search is given up as ``OUTSIDE``.
        max_lost: steps in a row with fewer negative curvatures than the target index before the search is given
            up as ``UNBOUNDED``: it climbs where nothing will ever turn down.
    """

    curvature: Curvature = dataclasses.field(default_factory=lambda: Dense(refresh=1))
    max_step: float = 1.0
    first_step: float = 0.5
    tol: float | None = None
    max_evaluations: int = 100
    accept: float = 1e-3
    least_gain: float = 1e-6
    max_outside: int = 5
    max_lost: int = 25
    counted_as = "searches"

    def __post_init__(self) -> None:
        check_fields(
            self,
            max_step=POSITIVE,
            first_step=POSITIVE,
            tol=NOT_NEGATIVE.or_none,
            max_evaluations=COUNT,
            accept=NOT_NEGATIVE,
            least_gain=NOT_NEGATIVE,
            max_outside=COUNT,
            max_lost=COUNT,
        )

    def init(self, potential: Potential, start: Aimed) -> _Aiming:
        """Before any evaluation."""
        x = clamped(potential, start.x)
        zero = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return _Aiming.init(
            x,
            expected=torch.zeros_like(x),
            target=start.target.clone(),
            radius=x.new_full((len(x),), self.first_step * potential.length_scale),
            n_outside=zero,
            n_lost=zero.clone(),
            model=self.curvature.init(x),
        )

    def evaluate(self, potential: Potential, state: _Aiming) -> Evaluation:
        """Without the part of the gradient along zero modes."""
        energy, grad = potential.energy_and_grad(state.trial)
        return Evaluation(state.trial, energy, Projector.at(potential, state.trial).apply_one(grad))

    def advance(self, potential: Potential, state: _Aiming, new: Evaluation) -> tuple[_Aiming, Residual]:
        running = state.status == Status.RUNNING
        kept = _gain_ratio(state, new.grad)
        now = resolve(state, new, kept >= self.accept, state.model.going(running))
        s = new.x - state.x
        inaccurate = running & ~now.first & (kept < 0.5)
        model = self.curvature.update(state.model, s, now.grad - state.grad, now.moved, inaccurate)
        residual = Residual(now.grad, Projector.at(potential, now.x))
        radius = TrustRadius(self.max_step * potential.length_scale).after(
            state.radius,
            torch.minimum(s.norm(dim=1), state.radius),  # longer by rounding only
            good=now.moved & (kept > 0.75),
            poor=now.moved & (kept < 0.25),
            refused=now.rejected,
        )
        status = self.ended(potential, state, now, residual.rms)
        return now.onto(state, radius=radius, model=model, status=status), residual

    def aim(self, potential: Potential, state: _Aiming, residual: Residual) -> _Aiming:
        """Towards the stationary point of the model that is asked for."""
        x, model, status = state.x, state.model, state.status
        running = status == Status.RUNNING
        going = model.going(running)
        n_lost = torch.where((model.values < 0).sum(1) < state.target, state.n_lost + running, 0)
        n_lost = model.kept(state.n_lost, n_lost)
        status = torch.where(running & (n_lost > self.max_lost), int(Status.UNBOUNDED), status)
        slope = model.along(state.grad)
        aims = (state.target >= 0)[:, None]
        c = gradient_step(model.values, slope, state.radius)
        c = torch.where(aims, index_step(model.values, slope, state.target, state.radius), c)
        trial = torch.where(going[:, None], x + model.back(c), x)
        n_outside = state.n_outside
        if potential.bounds is not None:
            inside = potential.bounds.clamp(trial)
            n_outside = model.kept(n_outside, torch.where((inside != trial).any(1), n_outside + running, 0))
            status = torch.where(running & (n_outside > self.max_outside), int(Status.OUTSIDE), status)
            c, trial = model.along(inside - x), inside
        after = slope + model.values * c
        # A wall in the way is another story.
        trapped = self._trapped(slope, after) & ~aims[:, 0] & going & (status == Status.RUNNING) & (n_outside == 0)
        return dataclasses.replace(
            state,
            trial=trial,
            expected=model.back(after),
            n_outside=n_outside,
            n_lost=n_lost,
            status=torch.where(trapped, int(Status.TRAPPED), status),
        )

    def result(self, potential: Potential, state: _Aiming) -> StationaryPoints:
        """Where every row stands, with its residual."""
        return standing(state.x, state.energy, state.grad, state.status, state.n_evaluations)

    # --- parts of a step ------------------------------------------------------------------------------------

    def _trapped(self, before: Float[Tensor, "B K"], after: Float[Tensor, "B K"]) -> Bool[Tensor, "B"]:
        """Whether the model sees nearly no way to shorten the gradient."""
        square = before.square().sum(1)
        return ~(square - after.square().sum(1) > self.least_gain * square)


def _gain_ratio(state: _Aiming, grad: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
    """What came, over what was predicted: 1 for a perfect model, negative for a misleading one."""
    before = state.grad.square().sum(1)
    decrease = (before - grad.square().sum(1)) / (before - state.expected.square().sum(1))
    change = (grad - state.expected).norm(dim=1) / (state.expected - state.grad).norm(dim=1)
    return torch.nan_to_num(torch.where(state.target < 0, decrease, 1 - change), nan=-torch.inf)


def find_stationary(
    potential: Potential,
    starts: Float[Tensor, "B D"],
    *,
    target: Int[Tensor, "K"] | None = None,
    options: NewtonSearch | None = None,
    pool_size: int | None = None,
) -> StationaryPoints:
    """From every start to a stationary point of whatever index; row i of the result belongs to start i.

    Converged rows are characterised (:func:`~torchscape.saddles.characterise`); the others have index -1 and a
    status. Where coordinates are float32 the last steps are taken in float64 (:meth:`Potential.double`).
    Dense Hessians are used: this is for hundreds of coordinates, not for thousands.

    Args:
        potential: U.
        starts: starting points [B D].
        target: the index that each search aims for, -1 for none; None for none anywhere. A search may end at
            another index.
        options: of the search.
        pool_size: rows in flight; None for as many as memory allows.

    Raises:
        PotentialError: if ``starts`` is not [B D] for this potential, or ``target`` not one number for each.

    Example:
        >>> class Wells(Potential):
        ...     ndim = 2
        ...     def energy(self, x):
        ...         return ((x**2 - 1) ** 2).sum(1)
        >>> starts = torch.tensor([[-0.9, 0.8], [0.1, 0.9], [0.1, 0.9]], dtype=torch.float64)
        >>> found = find_stationary(Wells(), starts, target=torch.tensor([-1, -1, 2]))
        >>> found.index.tolist(), found.energy.round(decimals=9).tolist()
        ([0, 1, 2], [0.0, 1.0, 2.0])
    """
    expect_potential("find_stationary", potential)
    COUNT.or_none.check("find_stationary", pool_size=pool_size)
    if starts.ndim != 2 or starts.shape[1] != potential.ndim:
        raise PotentialError(f"starts must be [B, {potential.ndim}], not {list(starts.shape)}: one row per start")
    target = torch.full((len(starts),), -1) if target is None else target
    if target.shape != starts.shape[:1]:
        raise PotentialError(
            f"target has shape {list(target.shape)} for {len(starts)} starts: give one index each"
        )
    if len(starts) == 0:
        return StationaryPoints.empty(potential.ndim, dtype=starts.dtype, device=starts.device)
    options = options or NewtonSearch()
    starts = starts.to(potential.device, potential.dtype)
    found: StationaryPoints = run_pool(options, potential, Aimed(starts, target.to(starts.device)), size=pool_size)
    found = found.replace(eigenvalues=torch.full_like(found.x, torch.nan))
    exact = exact_twin(potential)
    if exact.dtype != potential.dtype:
        return _ended_in(exact, found, options)
    rows = torch.nonzero(found.converged)[:, 0]
    return put_rows(found, rows, characterise(potential, found[rows])) if len(rows) else found


def _ended_in(exact: Potential, found: StationaryPoints, options: NewtonSearch) -> StationaryPoints:
    """With the last steps taken in float64: in float32 neither where a search ends nor its index is certain."""
    ended = (found.status == Status.CONVERGED) | (found.status == Status.STALLED)
    rows = torch.nonzero(ended | (found.status == Status.TRAPPED))[:, 0]
    again = find_stationary(exact, found.x[rows].to(exact.device, exact.dtype), options=options)
    again = again.to(found.x.device)
    again = again.replace(n_evaluations=again.n_evaluations + found.n_evaluations[rows])
    return in_dtype(with_rows(found, rows, again), found.x.dtype)
