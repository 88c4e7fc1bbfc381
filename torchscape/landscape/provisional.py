"""Minima of a round that is not finished: seen at once, numbered when it ends."""

from __future__ import annotations

from typing import Any

from torchscape.landscape.annotations import Annotations

__all__ = ["Provisional"]

_KEY = "provisional"


class Provisional(Annotations):
    """The part of a landscape that knows of an unfinished round.

    Ids count in the order of discovery, which is that of a round's starts and not of the clock. What a round has
    found when it is cut short is in the file under the next free ids, and without hits; when the round is resumed
    these give way to its proper results, so that a run which was stopped numbers its minima, and all that follows
    from the numbers, like one that was not. Once something else refers to one of them they stay.
    """

    @property
    def provisional(self) -> str | None:
        """The round whose minima are provisional, None where all are final."""
        told = self.load_state(_KEY)
        return None if told is None else str(told["round"])

    def mark_provisional(self, round: str, first: int) -> None:
        """The minima from id ``first`` on are those of an unfinished round."""
        self.save_state(_KEY, {"round": round, "first": first, "stop": self.next_minimum_id()})

    def settle(self) -> None:
        """What was provisional stays as it is."""
        self.drop_states(_KEY)

    def withdraw(self, round: str) -> bool:
        """Take provisional minima of that round out again; False where something refers to them, and they stay."""
        told: dict[str, Any] | None = self.load_state(_KEY)
        if told is None:
            return True
        with self._store.transaction():
            self.settle()
            first = int(told["first"])
            if told["round"] != round or told["stop"] != self.next_minimum_id() or self._is_referred_to(first):
                return False
            self._store.execute("DELETE FROM minimum WHERE id >= ?", (first,))
            self._store.execute("DELETE FROM refusal WHERE task = ?", (told["round"],))
        for forget in self._store.on_rollback:
            forget()
        return True

    def next_minimum_id(self) -> int:
        """The id that the next new minimum will get."""
        return int(self._store.execute("SELECT COALESCE(MAX(id), -1) + 1 FROM minimum")[0][0])

    def _is_referred_to(self, first: int) -> bool:
        """Whether a transition state, a pair, a property or another minimum speaks of ids from ``first`` on."""
        asked = (
            "SELECT 1 FROM transition_state WHERE minus >= ? OR plus >= ?",
            "SELECT 1 FROM pair WHERE b >= ?",
            "SELECT 1 FROM property WHERE minimum >= ?",
            "SELECT 1 FROM minimum WHERE id < ? AND family >= ?",
            "SELECT 1 FROM minimum WHERE id >= ? AND hits > 0",
        )
        return any(self._store.execute(f"{one} LIMIT 1", (first,) * one.count("?")) for one in asked)
