"""What a call of ``explore`` did, in numbers and in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torchscape.brief import brief
from torchscape.landscape.summary import describe_families, describe_invariances, describe_unfinished

__all__ = ["ExploreReport", "families_advice"]


@brief
@dataclasses.dataclass(frozen=True)
class ExploreReport:
    """What a call of :func:`explore` did.

    Attributes:
        status: "complete" (no strategy had anything left to do), "complete up to families" (the same, but some
            minima are continuous families, which never counts as complete), "no minimum found" (nothing was left
            to do, and nothing has come of it), "budget: ..." or "interrupted".
        n_minima, n_transition_states: in the database now.
        n_quenches, n_evaluations: spent by this call.
        seconds: wall time of this call.
        outcomes: how the candidates of saddle searches ended, by name.
        flat_directions: for each minimum, by ascending energy, along how many directions U is flat without a
            declared symmetry that explains it; 0 for an isolated minimum.
        unfinished: what has ended of a round that was cut short, by kind ("quenches", "bands"); it is in the
            file, and used when the round is resumed.
        advice: where no minimum is known, why, and what to do about it; else empty.
        compiled: where compiled code was asked for, what came of it (where there are workers, in one of them).
    """

    status: str
    n_minima: int
    n_transition_states: int
    n_quenches: int
    n_evaluations: int
    seconds: float
    outcomes: dict[str, int]
    flat_directions: tuple[int, ...] = ()
    advice: str = ""
    unfinished: Mapping[str, int] = dataclasses.field(default_factory=dict)
    compiled: str = ""

    @property
    def n_families(self) -> int:
        """Minima that are no points, but continuous families; each counts as one minimum."""
        return sum(n > 0 for n in self.flat_directions)

    @property
    def is_complete(self) -> bool:
        """Whether nothing was left to try, there are minima, and every one is isolated."""
        return self.status == "complete"

    def __str__(self) -> str:
        told = (
            f"{self.status}: {self.n_minima} minima, {self.n_transition_states} transition states; "
            f"{self.n_quenches} quenches, {self.n_evaluations} evaluations in {self.seconds:.1f} s"
        )
        if self.n_families:
            told += f"; {describe_families(list(self.flat_directions))}"
        if self.unfinished:
            told += f"; in an unfinished round {describe_unfinished(self.unfinished)}"
        if self.advice:
            told += f"; {self.advice}"
        if self.compiled:
            told += f"; {self.compiled}"
        most_first = sorted(self.outcomes.items(), key=lambda item: (-item[1], item[0]))
        ended = ", ".join(f"{n} {name.lower().replace('_', ' ')}" for name, n in most_first)
        return f"{told}; saddle searches: {ended}" if ended else told


def families_advice(report: ExploreReport, found: Mapping[str, Any]) -> str:
    """What to do about minima that are no points."""
    told = describe_families(list(report.flat_directions))
    if found:
        return f"{told}; {describe_invariances(found)}"
    return (
        f"{told}: regularise what lies along them (l2), declare the symmetry or the periods "
        "(symmetry=, periods=), or count each family as one minimum, as is done here; analysis gives it no volume"
    )
