"""The progress bar of a strategy's turn: it moves with every quench, band or climb that ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torchscape.explore.strategy import Strategy
from torchscape.landscape import Landscape
from torchscape.progress import progress_bar

__all__ = ["TurnBar"]


class TurnBar:
    """A ``tqdm`` bar that counts tries.

    Within a round it counts rows of the stage that came first (quenches, or the bands of pairs); how far a later
    stage is stands behind, with the minima, transition states and components that are known, what the strategy
    says of itself (the share of accepted hops), and what is ``left`` of the budget's time. After the round the
    strategy says what was done. What was done before this turn counts for no pace.
    """

    def __init__(
        self,
        landscape: Landscape,
        strategy: Strategy,
        *,
        show: bool,
        state: Any,
        left: Callable[[], str] = lambda: "",
    ) -> None:
        done, total = strategy.progress(state)
        self.landscape, self.strategy, self.shown, self.left = landscape, strategy, show, left
        self._figures: dict[str, Any] = {}
        self.bar: Any = progress_bar(show=show, desc=strategy.name, unit=" tries", total=total, initial=done)
        self._stages: dict[str, int] = {}

    def __enter__(self) -> TurnBar:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def show(self, state: Any) -> None:
        """What is done after a round."""
        done, total = self.strategy.progress(state)
        self._stages = {}
        self.bar.total, self.bar.n = total, done
        if not self.shown:
            return
        figures = {name: f"{value:.2g}" for name, value in self.strategy.figures(state).items()}
        self._figures = {"components": self.landscape.glance().n_components, **figures}
        self.bar.set_postfix(self._known(), refresh=True)

    def ended(self, what: str, n: int) -> None:
        """Rows of a stage of the round have ended."""
        if not self.shown:
            return
        self._stages[what] = self._stages.get(what, 0) + n
        if what == next(iter(self._stages)):
            self.bar.update(n if self.bar.total is None else max(0, min(n, self.bar.total - self.bar.n)))
        else:
            self.bar.set_postfix({what: self._stages[what], **self._known()}, refresh=False)
            self.bar.update(0)

    def _known(self) -> dict[str, Any]:
        counts = {"minima": self.landscape.n_minima, "transition states": self.landscape.n_transition_states}
        left = self.left()
        return {**counts, **self._figures, **({"time left": left} if left else {})}
