"""The steepest-descent path of many coordinates, from gradients: implicit steps by quasi-Newton iterations."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.numerics import energy_noise
from torchscape.optimise.mixed import coarse_twin
from torchscape.optimise.search import Armijo
from torchscape.optimise.stepping import Evaluation, Search, Trying, clamped, resolve
from torchscape.optimise.termination import standing
from torchscape.optimise.trust import ErrorControl
from torchscape.points import Status
from torchscape.potentials.base import Potential
from torchscape.potentials.preconditioner import InSingle, Preconditioner
from torchscape.saddles.backward import ZERO_STABLE, Equation, Passed, next_equation
from torchscape.saddles.divides import Course, Ends
from torchscape.saddles.projector import Projector
from torchscape.saddles.secants import Secants
from torchscape.types import Bool, Float, Tensor
from torchscape.validation import COUNT, COUNT_OR_ZERO, NOT_NEGATIVE, POSITIVE, check_fields

__all__ = ["ImplicitDescent"]

_ITERATIONS = 12  # in one step
_LOST = 2.0  # times the longest step: so far from the last point no solution is looked for
_SHARE = 0.2  # of the error of a step that its equation may be left with
_SETTLED = 0.1  # of the length of a step, likewise
_NEAR = 0.15  # Newton's step from where a minimiser may take over, in length scales
_AWAY = 3.0  # times that: a minimiser that has gone so far was begun too early
_SEARCH = Armijo()
_TIMES = ErrorControl(3.0, 0.0, float("inf"), safety=0.8)  # the order is that of each step, the bounds are below


@dataclasses.dataclass(frozen=True)
class _Implicit(Trying):
    """State of a batch of paths; ``seen`` was evaluated last."""

    seen: Float[Tensor, "B D"]
    seen_grad: Float[Tensor, "B D"]
    path: Passed
    time: Float[Tensor, "B"]
    equation: Equation
    secants: Secants
    near: Float[Tensor, "B"]
    ending: Bool[Tensor, "B"]  # rows that are minimised


@dataclasses.dataclass(frozen=True)
class ImplicitDescent(Search[_Implicit]):
    """Options of the descent in many coordinates, and the stepper that a pool runs.

    dx/dt = -grad U by the backward differentiation formula of second order, with variable steps. A step solves
    grad U(z) + shift (z - anchor) = 0, the condition for a minimum of U + shift |z - anchor|^2 / 2, where shift is
    about 3 / (2 dt). So stiff directions need no short steps (Hairer & Wanner, Solving Ordinary Differential
    Equations II, section V.1, doi 10.1007/978-3-642-05221-7). Quasi-Newton iterations find the solution,
    whose pairs serve all steps of a path (:class:`~torchscape.saddles.secants.Secants`): a step costs about four
    gradients, and a path little more than a minimisation from its start. How long a step may be is decided by its
    error across the path; one along it only changes the time.

    Where Newton's step is short and no pair curves downwards, the same memory serves a minimiser. Should that go
    several times further, or meet negative curvature, the path goes on from where it was left.

    Attributes:
        path_tol: error allowed per step, in units of the potential's ``length_scale``.
        max_step: longest step, in the same unit.
        tol: RMS gradient that counts as converged; None for 1e-8 in float64.
        memory: pairs kept.
        max_evaluations: evaluations a row may spend on the path; one that needs more goes on with ten times as
            many, and is open then.
        doubt: error that a path may have gathered, in units of ``length_scale``, as a bound says which lets every
            error grow at the most negative curvature seen across the path; beyond, it is followed again, ten times
            as accurately each time, until two end in one point, see :func:`~torchscape.saddles.descend`; infinite
            for never.
        n_again: how often at most.
    """

    path_tol: float = 0.1
    max_step: float = 1.0
    tol: float | None = None
    memory: int = 20
    max_evaluations: int = 1000
    doubt: float = 3.0
    n_again: int = 3
    counted_as = "descents"

    def __post_init__(self) -> None:
        check_fields(
            self,
            path_tol=POSITIVE,
            max_step=POSITIVE.or_infinite,
            tol=NOT_NEGATIVE.or_none,
            memory=COUNT,
            max_evaluations=COUNT,
            doubt=NOT_NEGATIVE.or_infinite,
            n_again=COUNT_OR_ZERO,
        )

    def finer(self) -> ImplicitDescent:
        """Ten times as accurate: the error of a step falls with the third power of its length."""
        spend = int(10 ** (1 / 3) * self.max_evaluations)
        return dataclasses.replace(self, path_tol=0.1 * self.path_tol, max_evaluations=spend)

    def bytes_per_row(self, ndim: int, dtype: torch.dtype) -> int:
        """Memory that one row of the batch takes."""
        return 8 * (self.memory + 1) * ndim + (10 * self.memory**2 + 40 * ndim) * dtype.itemsize

    def init(self, potential: Potential, x: Float[Tensor, "B D"]) -> _Implicit:
        """State before any evaluation."""
        x = clamped(potential, x)
        return _Implicit.init(
            x,
            seen=x.clone(),
            seen_grad=torch.zeros_like(x),
            path=Passed.nothing(x),
            time=x.new_ones(len(x)),
            equation=Equation.nothing(x),
            secants=Secants.none(x, self.memory),
            near=x.new_full((len(x),), _NEAR * potential.length_scale),
            ending=torch.zeros(len(x), dtype=torch.bool, device=x.device),
        )

    def evaluate(self, potential: Potential, state: _Implicit) -> Evaluation:
        """Without what takes no part of the gradient."""
        energy, grad = potential.energy_and_grad(state.trial)
        return Evaluation(state.trial, energy, Projector.at(potential, state.trial, grad).apply_one(grad))

    def advance(self, potential: Potential, state: _Implicit, new: Evaluation) -> _Implicit:
        """Learn from an evaluation; accept its point, or come closer to the solution."""
        z, energy, grad, length = new.x, new.energy, new.grad, potential.length_scale
        running, first = state.status == Status.RUNNING, torch.isinf(state.energy)
        finite = torch.isfinite(energy) & torch.isfinite(grad).all(1)
        state = self._learnt(potential, state, grad, running & finite, first)
        to_next, to_end = self._newton(potential, state, grad)

        flowing, ending = running & ~first & ~state.ending, running & state.ending
        solved, again, factor, error = self._judged(potential, state, energy, to_next, flowing & finite)
        again = again | (flowing & ~finite)
        taken, back, shrink = self._minimised(potential, state, energy, grad, ending, finite)
        begun = running & first & finite

        rate = state.secants.across(z - state.path.x, grad - state.path.grad).amin(1).clamp(max=0.0).abs()
        path = state.path.begun(energy, grad, begun).after(z, energy, grad, state.time, error, rate, solved)
        near = torch.where(back, 0.3 * state.near, state.near)
        bowl = (state.secants.curvatures >= 0).all(1) & (path.n_steps >= 3) & (path.arc > 0.05 * length)
        enters = solved & bowl & (to_end.norm(dim=1) < near)
        anew = begun | (solved & ~enters) | again | back
        begin = 1e-3 * length / grad.norm(dim=1).clamp(min=torch.finfo(grad.dtype).tiny ** 0.5)
        time = torch.where(begun, begin, factor * state.time)
        time, ahead = next_equation(path, time, state.secants.curvatures, self.max_step * length)
        tried = state.equation.n_tried + (flowing & ~solved & ~again)
        equation = dataclasses.replace(state.equation, n_tried=tried).replaced(anew, ahead)

        shorter = ending & ~taken & ~back
        trial = z + torch.where((ending | enters)[:, None], to_end, to_next)
        trial = torch.where(shorter[:, None], state.x + shrink[:, None] * (z - state.x), trial)
        trial = torch.where(anew[:, None], equation.guess, trial)
        now = resolve(state, new, solved | taken, running)
        now = dataclasses.replace(
            now,
            x=torch.where(back[:, None], path.x, now.x),
            energy=torch.where(back, path.energy, now.energy),
            grad=torch.where(back[:, None], path.grad, now.grad),
            # an iteration that has not come to its end is no rejection
            n_rejected=torch.where(now.accepted, 0, state.n_rejected + (again | shorter)),
        )
        status = self.ended(potential, state, now, now.grad.square().mean(1).sqrt())
        trial = torch.where((status == Status.RUNNING)[:, None], trial, now.x)
        return now.onto(
            state,
            trial=clamped(potential, trial),
            path=path,
            time=torch.where(anew, time, state.time),
            equation=equation,
            near=near,
            ending=(state.ending | enters) & ~back,
            status=status,
        )

    def result(self, potential: Potential, state: _Implicit) -> Ends:
        """Where every row stands, with its residual, and its course: in doubt where ``room`` is below 1."""
        points = standing(state.x, state.energy, state.grad, state.status, state.n_evaluations)
        strayed = state.path.strayed
        room = self.doubt * potential.length_scale / strayed.clamp(min=torch.finfo(strayed.dtype).tiny ** 0.5)
        return Ends(points, Course(strayed, room, state.path.x))

    # --- parts of a step -----------------------------------------------------------------------------------

    def _learnt(
        self,
        potential: Potential,
        state: _Implicit,
        grad: Float[Tensor, "B D"],
        usable: Bool[Tensor, "B"],
        first: Bool[Tensor, "B"],
    ) -> _Implicit:
        """After another evaluation, whose difference from the last is a pair."""
        s = state.trial - state.seen
        y = torch.where(usable[:, None], grad - state.seen_grad, 0.0)
        # Rounding is no curvature.
        least = 10 * torch.finfo(s.dtype).eps * state.trial.norm(dim=1).clamp(min=potential.length_scale)
        apart = usable & (s.norm(dim=1) > least)
        noted = (apart | (usable & first))[:, None]
        return dataclasses.replace(
            state,
            secants=state.secants.with_pair(s, y, apart & ~first, _preconditioner(potential, state.trial)),
            seen=torch.where(noted, state.trial, state.seen),
            seen_grad=torch.where(noted, grad, state.seen_grad),
        )

    def _newton(
        self, potential: Potential, state: _Implicit, grad: Float[Tensor, "B D"]
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        """From the trial point to the solution of the equation; and to the minimum, no further than ``near``."""
        shift = state.equation.shift
        residual = grad + shift[:, None] * (state.trial - state.equation.anchor)
        shifts = torch.stack([shift, torch.zeros_like(shift)], 1)
        first = _preconditioner(potential, state.trial)
        steps = state.secants.newton(torch.stack([residual, grad], 1), shifts, first)
        to_next, to_end = steps.unbind(1)
        long = to_end.norm(dim=1) / state.near
        return to_next, torch.where(state.ending & (long > 1), 1 / long, 1.0)[:, None] * to_end

    def _judged(
        self,
        potential: Potential,
        state: _Implicit,
        energy: Float[Tensor, "B"],
        to_next: Float[Tensor, "B D"],
        going: Bool[Tensor, "B"],
    ) -> tuple[Bool[Tensor, "B"], Bool[Tensor, "B"], Float[Tensor, "B"], Float[Tensor, "B"]]:
        """Which trial points are the next of their path, which steps are tried again, by how much the next time
        step is longer or shorter, and the error across the path."""
        path, equation, length = state.path, state.equation, potential.length_scale
        tol, most = self.path_tol * length, self.max_step * length
        step, off = state.trial - path.x, state.trial - equation.guess
        moved, rest = step.norm(dim=1), to_next.norm(dim=1)
        converged = going & (rest <= (_SETTLED * moved).clamp(max=_SHARE * tol))
        part = (off * step).sum(1) / moved.square().clamp(min=torch.finfo(moved.dtype).tiny)
        error = equation.error((off - part[:, None] * step).norm(dim=1), state.time, path)
        noise = energy_noise(energy, potential.energy_scale)
        wrong = converged & ((error > tol) | (energy > path.energy + noise) | (moved > 1.3 * most))
        lost = (step + to_next).norm(dim=1) > _LOST * most
        failed = going & ~converged & ((equation.n_tried + 1 >= _ITERATIONS) | lost | ~torch.isfinite(rest))
        order = 2.0 + equation.second.to(error)
        factor = torch.minimum(_TIMES.factor(error, tol, order), 0.9 * most / moved.clamp(min=1e-9 * length))
        # Where hardly anything moves the order does not matter, and the first order allows any growth.
        growth = torch.where((moved > 0.02 * length) | (factor < ZERO_STABLE), ZERO_STABLE, 8.0)
        factor = torch.where(wrong, factor.clamp(0.1, 0.5), torch.minimum(factor.clamp(min=0.2), growth))
        return converged & ~wrong, wrong | failed, torch.where(converged, factor, 0.3), error

    def _minimised(
        self,
        potential: Potential,
        state: _Implicit,
        energy: Float[Tensor, "B"],
        grad: Float[Tensor, "B D"],
        ending: Bool[Tensor, "B"],
        finite: Bool[Tensor, "B"],
    ) -> tuple[Bool[Tensor, "B"], Bool[Tensor, "B"], Float[Tensor, "B"]]:
        """Of rows that are minimised: which steps are taken, which rows go back to their path, and how much
        shorter a step becomes that is not taken."""
        unit, s = potential.energy_scale, state.trial - state.x
        before, after = state.energy / unit, energy / unit
        slope, new_slope = (state.grad * s).sum(1) / unit, (grad * s).sum(1) / unit
        taken = ending & finite & _SEARCH.accepts(before, slope, after, new_slope)
        away = (state.trial - state.path.x).norm(dim=1) > _AWAY * state.near
        rounding = torch.finfo(slope.dtype).eps ** (1 / 3) * (slope.abs() + new_slope.abs())
        back = ending & (away | (taken & (new_slope < slope - rounding)))
        return taken & ~back, back, _SEARCH.shrink(before, slope, after, new_slope)


def _preconditioner(potential: Potential, x: Float[Tensor, "B D"]) -> Preconditioner | None:
    """What the pairs start from; walls cut coordinates off, which a preconditioner mixes.

    Where precision is mixed it is that of float32, as the pairs themselves are: a path takes six products with it
    for each gradient.
    """
    if potential.bounds is not None or potential.preconditioner is None:
        return None
    twin = coarse_twin(potential, x)
    coarse = None if twin is None else twin.preconditioner
    return potential.preconditioner if coarse is None else InSingle(coarse)
