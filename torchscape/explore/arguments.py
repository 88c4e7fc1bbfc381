"""What ``explore`` is given, looked at before anything runs."""

from __future__ import annotations

from typing import Any

from torchscape.errors import OptionError
from torchscape.explore.basin_hopping import BasinHopping
from torchscape.explore.budget import Budget
from torchscape.explore.connect import ConnectMinima
from torchscape.explore.strategy import Strategy
from torchscape.landscape import Landscape
from torchscape.potentials.expected import expect_potential

__all__ = ["checked_arguments"]


def checked_arguments(landscape: object, potential: object, strategies: Any, budget: object) -> list[Strategy]:
    """The strategies, where every argument is of its kind.

    Raises:
        OptionError: for one that is not; the message says what to give.
        PotentialError: for a potential that is none.
    """
    if not isinstance(landscape, Landscape):
        raise OptionError(
            "explore(landscape, potential): the landscape comes first, as Landscape.open(path, potential) gives "
            f"it, not a {type(landscape).__name__}"
        )
    expect_potential("explore", potential)
    if budget is not None and not isinstance(budget, Budget):
        raise OptionError(f"explore: budget={budget!r}; give a Budget, such as Budget(seconds=60)")
    if strategies is None:
        return [BasinHopping(), ConnectMinima()]
    chosen = [strategies] if isinstance(strategies, Strategy) else list(strategies)
    for one in chosen:
        if not isinstance(one, Strategy):
            what = f"the class {one.__name__}" if isinstance(one, type) else type(one).__name__
            raise OptionError(f"explore: strategies are objects such as BasinHopping(), not {what}")
    return chosen
