"""How far an exploration is: a few numbers of a file, cheap enough to ask for after every round."""

from __future__ import annotations

import dataclasses
import math

from torchscape.landscape import rows
from torchscape.landscape.store import Store
from torchscape.sparse import links

__all__ = ["Glance", "glance"]


@dataclasses.dataclass(frozen=True)
class Glance:
    """What a landscape holds, and how the last run into it stands.

    Attributes:
        n_minima, n_transition_states, n_components: in the file; components of the network, single minima
            included.
        lowest_energy: of all minima, in the unit of the potential; NaN where there is none.
        n_evaluations: energy-and-gradient evaluations of all rounds that are committed.
        status: of the last run: "running", "complete", "interrupted" ...; empty before the first.
        is_written: whether a process holds the file for writing.
        seconds: since the last run began, or that it took; NaN before the first.
        n_evaluations_of_run: those of the last run.
        unfinished: what has ended of the round at work, by kind ("quenches", "bands").
    """

    n_minima: int
    n_transition_states: int
    n_components: int
    lowest_energy: float
    n_evaluations: int
    status: str = ""
    is_written: bool = False
    seconds: float = math.nan
    n_evaluations_of_run: int = 0
    unfinished: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def is_running(self) -> bool:
        """Whether a run is going on; that of a process which was killed is not, whatever the file says."""
        return self.is_written and self.status == "running"

    @property
    def rate(self) -> float:
        """Evaluations per second of the last run."""
        return self.n_evaluations_of_run / self.seconds if self.seconds > 0 else math.nan

    def __str__(self) -> str:
        told = [f"{self.n_minima} minima", f"{self.n_transition_states} transition states"]
        told.append(f"{self.n_components} component{'s' * (self.n_components != 1)}")
        if self.n_minima:
            told.append(f"lowest {self.lowest_energy:.10g}")
        if self.n_evaluations:
            rate = f" ({self.rate:.3g}/s)" if math.isfinite(self.rate) else ""
            told.append(f"{self.n_evaluations} evaluations{rate}")
        going = {what: n for what, n in self.unfinished.items() if not what.startswith("unfinished ")}
        if going:
            told.append("this round " + ", ".join(f"{n} {what}" for what, n in going.items()))
        return ", ".join(told)


def glance(store: Store) -> Glance:
    """The counts of a file, of one commit."""
    with store.snapshot():
        ids = rows.minimum_ids(store)
        ends = store.execute(
            f"SELECT minus, plus FROM transition_state WHERE minus != plus AND {rows.IS_TRANSITION_STATE}"
        )
        ((n_saddles,),) = store.execute(f"SELECT COUNT(*) FROM transition_state WHERE {rows.IS_TRANSITION_STATE}")
        ((lowest,),) = store.execute(f"SELECT MIN(energy) FROM minimum WHERE {rows.IS_MINIMUM}")
        ((n_evaluations,),) = store.execute("SELECT COALESCE(SUM(n_evaluations), 0) FROM task")
    a, b = rows.positions(ids, rows.ints([end for pair in ends for end in pair]).reshape(-1, 2)).T.numpy()
    n_components = 0
    if len(ids):
        from scipy.sparse.csgraph import connected_components

        n_components = int(connected_components(links(True, a, b, len(ids)), directed=False)[0])
    energy = math.nan if lowest is None else float(lowest)
    return Glance(len(ids), int(n_saddles), n_components, energy, int(n_evaluations))
