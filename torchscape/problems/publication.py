"""``Published``: one figure from the literature."""

from __future__ import annotations

import dataclasses

__all__ = ["Published"]


@dataclasses.dataclass(frozen=True)
class Published:
    """One published figure.

    Attributes:
        what: what was counted or measured ("minima", "mean degree").
        value: the number; (low, high) for a range; words where no number is given.
        source: paper and place, with DOI.
        setting: what it was found for.
        remark: what to know before comparing.

    Example:
        >>> Published("minima", 4, "D. M. Himmelblau, Applied Nonlinear Programming (1972)").value
        4
    """

    what: str
    value: float | int | tuple[float, float] | str
    source: str
    setting: str = ""
    remark: str = ""
