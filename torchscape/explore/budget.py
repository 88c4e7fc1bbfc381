"""How much an exploration may spend."""

from __future__ import annotations

import dataclasses
import math

from torchscape.validation import COUNT_OR_ZERO, FINITE, NOT_NEGATIVE, check_fields

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
        energy: a target: the exploration ends when a minimum as low as this is known, to within the window in
            which energies are the same (about 1e-6), so that a published energy can be given as it is printed.

    Example:
        >>> Budget(quenches=100).exceeded(seconds=5.0, quenches=100, evaluations=0)
        'quenches'
        >>> Budget(energy=-44.326801).exceeded(seconds=5.0, quenches=100, evaluations=0, lowest=-44.3268014)
        'energy'
    """

    seconds: float | int | None = None
    quenches: int | None = None
    evaluations: int | None = None
    energy: float | int | None = None

    def __post_init__(self) -> None:
        check_fields(
            self,
            seconds=NOT_NEGATIVE.or_infinite.or_none,
            quenches=COUNT_OR_ZERO.or_none,
            evaluations=COUNT_OR_ZERO.or_none,
            energy=FINITE.or_none,
        )

    def exceeded(
        self, *, seconds: float, quenches: int, evaluations: int, lowest: float = math.inf, window: float = 1e-6
    ) -> str | None:
        """The name of the first limit that is reached, None if there is room; ``lowest`` is the energy of the
        lowest minimum, ``window`` by how much it may miss the target."""
        spent = {"seconds": seconds, "quenches": quenches, "evaluations": evaluations}
        for name, amount in spent.items():
            limit = getattr(self, name)
            if limit is not None and amount >= limit:
                return name
        return "energy" if self.energy is not None and lowest <= self.energy + window else None
