"""How much an exploration may spend."""

from __future__ import annotations

import dataclasses

from torchscape.validation import COUNT_OR_ZERO, NOT_NEGATIVE, check_fields

__all__ = ["Budget"]


@dataclasses.dataclass(frozen=True)
class Budget:
    """Limits for one call of ``explore``; None is unlimited.

    When the wall time is up, the exploration ends within the evaluation at hand and two seconds; everything that
    has ended is kept, and the next call goes on from there. Tasks of your own that use none of this package's
    searches run to their end. The other limits are looked at between rounds.

    Attributes:
        seconds: wall time.
        quenches: minimisations from new starting points.
        evaluations: energy-and-gradient evaluations of single rows.

    Example:
        >>> Budget(quenches=100).exceeded(seconds=5.0, quenches=100, evaluations=0)
        'quenches'
    """

    seconds: float | int | None = None
    quenches: int | None = None
    evaluations: int | None = None

    def __post_init__(self) -> None:
        check_fields(
            self,
            seconds=NOT_NEGATIVE.or_infinite.or_none,
            quenches=COUNT_OR_ZERO.or_none,
            evaluations=COUNT_OR_ZERO.or_none,
        )

    def exceeded(self, *, seconds: float, quenches: int, evaluations: int) -> str | None:
        """The name of the first limit that is reached, None if there is room."""
        spent = {"seconds": seconds, "quenches": quenches, "evaluations": evaluations}
        for name, amount in spent.items():
            limit = getattr(self, name)
            if limit is not None and amount >= limit:
                return name
        return None
