"""The integrated path over a transition state: the energy along the steepest descents to its two minima."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from torchscape.brief import brief
from torchscape.devices import asking_is_free
from torchscape.errors import TorchscapeError
from torchscape.optimise.rows import put_rows
from torchscape.points import StationaryPoints, Status
from torchscape.potentials.base import Potential
from torchscape.saddles.characterisation import characterise_with_modes
from torchscape.saddles.downhill_paths import Descent
from torchscape.saddles.verify import onwards, push_off
from torchscape.types import Float, Int, Tensor

__all__ = ["Pathways", "pathways", "stops"]

_AT_ONCE = 256  # transition states whose paths are followed side by side
_ACCURATE = Descent(path_tol=1e-3, max_step=0.2, max_evaluations=5000)
_MOST_SADDLES = 3  # saddles that a path may meet on its way down before it is given up


@brief
@dataclasses.dataclass(frozen=True)
class Pathways:
    """The steepest-descent paths over E transition states, each as I points from its minus to its plus end.

    Attributes:
        arc: arc length from the minus end, in the potential's coordinates; the transition state is the middle
            point, and the points of each half are evenly spaced.
        energy: energy there.
        minus, plus: where the paths end; look at their ``converged``.
    """

    arc: Float[Tensor, "E I"]
    energy: Float[Tensor, "E I"]
    minus: StationaryPoints
    plus: StationaryPoints

    def __len__(self) -> int:
        return len(self.arc)


def pathways(
    potential: Potential, ts: StationaryPoints, *, n_points: int = 65, options: Descent | None = None
) -> Pathways:
    """Integrate dx/ds = -grad U / |grad U| both ways from transition states, and keep the energy on the way.

    A path that symmetry leads into another saddle is pushed off that too, and goes on. A path that does not end in
    a minimum within ``options.max_evaluations`` is known up to where it came; its end is then not ``converged``.

    Args:
        potential: U.
        ts: transition states [E].
        n_points: I, odd.
        options: steps and tolerances; by default shorter and more accurate ones than a search needs. Cost: one
            evaluation a step, and now and then a Hessian (or, beyond 200 coordinates, Hessian-vector products).

    Raises:
        TorchscapeError: if ``n_points`` is even or below 3.

    References: Fukui (1981), doi 10.1021/ar00072a001; Page & McIver (1988), doi 10.1063/1.454172.

    Example:
        >>> class Wells(Potential):
        ...     ndim = 1
        ...     def energy(self, x):
        ...         return (x[:, 0] ** 2 - 1) ** 2
        >>> zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        >>> top = StationaryPoints.of(zero[None], one, grad_rms=zero)
        >>> found = pathways(Wells(), top, n_points=5)
        >>> found.arc.round(decimals=3).tolist(), found.energy.round(decimals=3).abs().tolist()
        ([[0.0, 0.5, 1.0, 1.5, 2.0]], [[0.0, 0.562, 1.0, 0.562, 0.0]])
    """
    if n_points < 3 or n_points % 2 == 0:
        raise TorchscapeError(f"n_points = {n_points}: the transition state is the middle one of an odd number")
    options = options or _ACCURATE
    parts = [
        _pathways(potential, ts[rows], n_points, options)
        for rows in torch.arange(len(ts), device=ts.x.device).split(_AT_ONCE)
        if len(rows)
    ]
    if not parts:
        none = StationaryPoints.empty(potential.ndim, dtype=ts.x.dtype, device=ts.x.device)
        nothing = ts.energy.new_empty(0, n_points)
        return Pathways(nothing, nothing, none, none)
    return Pathways(
        torch.cat([part.arc for part in parts]),
        torch.cat([part.energy for part in parts]),
        StationaryPoints.cat([part.minus for part in parts]),
        StationaryPoints.cat([part.plus for part in parts]),
    )


def stops(
    potential: Potential, ts: StationaryPoints, *, most: int = 32, options: Descent | None = None
) -> list[tuple[Float[Tensor, "M D"], int]]:
    """Where the steepest descents from each transition state stood on their way, from one end over the transition
    state to the other, at most about ``most`` points to each side; and which point is the transition state.

    They are points of the path as it was integrated, nothing in between is interpolated; the ends are as they were
    reached. Which of them comes first is chance. Options and errors are those of :func:`pathways`.

    Example:
        >>> class Wells(Potential):
        ...     ndim = 1
        ...     def energy(self, x):
        ...         return (x[:, 0] ** 2 - 1) ** 2
        >>> zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        >>> ((x, top),) = stops(Wells(), StationaryPoints.of(zero[None], one, grad_rms=zero))
        >>> abs(x[[0, top, -1], 0]).round(decimals=3).tolist(), bool((x.diff(dim=0).abs() > 0).all())
        ([1.0, 0.0, 1.0], True)
    """
    options = options or _ACCURATE
    found = []
    for rows in torch.arange(len(ts), device=ts.x.device).split(max(1, _AT_ONCE // most)):
        n, ends, track = _followed(potential, ts[rows], options, most)
        places = track.stood(ends.x)
        for k in range(n):
            back, on = places[k].flip(0), places[n + k]
            found.append((torch.cat([back, ts.x[rows[k]][None], on]), len(back)))
    return found


def _pathways(potential: Potential, ts: StationaryPoints, n_points: int, options: Descent) -> Pathways:
    n, ends, track = _followed(potential, ts, options)
    half = n_points // 2 + 1
    arc, energy = track.resampled(half)
    like = ts.energy
    left, right = arc[:n], arc[n:]
    return Pathways(
        torch.as_tensor(np.concatenate([left[:, -1:] - left[:, :0:-1], left[:, -1:] + right], 1)).to(like),
        torch.as_tensor(np.concatenate([energy[:n, :0:-1], energy[n:]], 1)).to(like),
        ends[:n],
        ends[n:],
    )


def _followed(
    potential: Potential, ts: StationaryPoints, options: Descent, most: int = 0
) -> tuple[int, StationaryPoints, _Track]:
    """Both paths down from each of n transition states: those to the minus side first, then the others."""
    points, mode = characterise_with_modes(potential, ts)
    starts = push_off(potential, points, mode)
    n = len(ts)
    track = _Track.at(ts.x.repeat(2, 1), ts.energy.repeat(2), most)
    ends = track.follow(potential, starts, options, torch.arange(2 * n, device=ts.x.device))
    for _ in range(_MOST_SADDLES):
        there, mode = characterise_with_modes(potential, ends)
        stuck = (ends.converged & (there.index > 0)).nonzero()[:, 0]
        if not len(stuck):
            break
        off = onwards(potential, there[stuck], mode[stuck])
        further = track.follow(potential, off, options, stuck)
        ends = put_rows(ends, stuck, further)
    return n, ends, track


@dataclasses.dataclass
class _Track:
    """What paths have passed: for each row the steps, energies and slopes |grad U| on its way.

    The length of a step is negative where it turns back on the one before: it corrects one that went too far.
    """

    x: Float[Tensor, "B D"]
    passed: list[Tensor]  # each [3 B]; NaN where a row did not move
    most: int = 0  # places that are kept, of each row; up to twice as many meanwhile
    kept: dict[int, Float[Tensor, "B D"]] = dataclasses.field(
        default_factory=dict
    )  # by their number in ``passed``
    every: int = 1  # step is kept

    @classmethod
    def at(cls, x: Float[Tensor, "B D"], energy: Float[Tensor, "B"], most: int = 0) -> _Track:
        zero = torch.zeros_like(energy)
        return cls(x.clone(), [torch.stack([zero, energy, zero])], most)

    def keep(self, rows: Int[Tensor, "K"], here: Float[Tensor, "K D"]) -> None:
        """Remember where the rows are now, unless it was a step that is left out."""
        number = len(self.passed) - 1
        if not self.most or number % self.every:
            return
        self.kept[number] = self.x.index_copy(0, rows, here)
        if len(self.kept) > 2 * self.most:
            self.every *= 2
            self.kept = {n: x for n, x in self.kept.items() if n % self.every == 0}

    def stood(self, ends: Float[Tensor, "B D"]) -> list[Float[Tensor, "M D"]]:
        """The places of each row that were kept, in their order, and its end; none where it turned back."""
        step = torch.stack([note[0] for note in self.passed]).double().cpu()
        arc = step.nan_to_num(0.0).cumsum(0)
        ahead = arc.flip(0).cummin(0).values.flip(0)
        good = step.isfinite() & (step > 0)
        good[:-1] &= arc[:-1] <= ahead[1:]
        number = torch.arange(len(step))[:, None]
        good &= number < torch.where(step > 0, number, -1).amax(0)  # its last step led to the end
        numbers = list(self.kept)
        kept = good[numbers].T.tolist()
        return [
            torch.stack([self.kept[n][row] for n, there in zip(numbers, kept[row], strict=True) if there] + [end])
            for row, end in enumerate(ends)
        ]

    def follow(
        self, potential: Potential, starts: Float[Tensor, "K D"], options: Descent, rows: Int[Tensor, "K"]
    ) -> StationaryPoints:
        """Walk down from the starts, which continue the given rows."""
        state = options.init(potential, starts)
        here, before = self.x[rows], torch.zeros_like(starts)
        onwards = torch.ones_like(starts[:, 0])
        while True:
            state = options.step(potential, state)
            step = state.x - here
            moved = (step != 0).any(1) & torch.isfinite(state.energy)
            onwards = torch.where((step * before).sum(1) < 0, -onwards, onwards)
            length = step.norm(dim=1) * onwards
            note = torch.full((3, len(self.x)), torch.nan, dtype=starts.dtype, device=starts.device)
            seen = torch.stack([length, state.energy, state.grad.norm(dim=1)])
            note[:, rows] = torch.where(moved, seen, torch.nan)
            self.passed.append(note)
            here, before = state.x, torch.where(moved[:, None], step, before)
            self.keep(rows, here)
            # On a device rows are looked at now and then: one that has ended leaves no trace of further steps.
            looks = asking_is_free(here) or len(self.passed) % 8 == 0
            if looks and not bool((state.status == Status.RUNNING).any()):
                break
        self.x[rows] = here
        return options.result(potential, state).points

    def resampled(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Arc length and energy at n evenly spaced points of each row [B n], by cubics with the right slopes."""

        from scipy.interpolate import CubicHermiteSpline

        table = torch.stack(self.passed).double().cpu().numpy()
        arcs = np.empty((table.shape[2], n))
        energies = np.empty_like(arcs)
        for row in range(table.shape[2]):
            step, energy, slope = table[~np.isnan(table[:, 0, row]), :, row].T
            arc = step.cumsum()
            ahead = np.append(np.minimum.accumulate(arc[::-1])[::-1][1:], np.inf)
            arc, energy, slope = (column[arc < ahead] for column in (arc, energy, slope))
            arcs[row] = np.linspace(0.0, arc[-1], n)
            curve = CubicHermiteSpline(arc, energy, -slope) if len(arc) > 1 else np.poly1d([energy[0]])
            energies[row] = curve(arcs[row])
        return arcs, energies
