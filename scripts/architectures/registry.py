"""All architectures of the gallery, by name."""

from __future__ import annotations

from architectures.entry import Entry
from architectures.karate import KARATE
from architectures.oscillator import OSCILLATOR
from architectures.residual import RESIDUAL
from architectures.sequences import SEQUENCES

__all__ = ["ENTRIES"]

ENTRIES: dict[str, Entry] = {entry.name: entry for entry in (RESIDUAL, SEQUENCES, KARATE, OSCILLATOR)}
