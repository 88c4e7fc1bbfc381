"""What a round has found, put into the landscape: minima, the ends of paths, transition states, tried pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from torchscape.explore import curvatures
from torchscape.explore.shared import Shared
from torchscape.explore.strategy import Round
from torchscape.explore.tasks import Found
from torchscape.landscape import Landscape
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.saddles import Certificate, SaddleSearch
from torchscape.types import Bool, Int, Tensor

__all__ = ["Writer", "pairs_that_found"]


class Writer:
    """Writes the findings of one exploration. The caller holds the transaction."""

    def __init__(self, landscape: Landscape, potential: Potential, shared: Shared) -> None:
        self.landscape, self.potential, self.shared = landscape, potential, shared

    def judge(self, results: list[Found]) -> dict[str, tuple[StationaryPoints, Int[Tensor, "_"]]]:
        """Minima (or else ends of paths) with their certificates, where nothing that is written first can matter.

        To certify them may take long; outside of the transaction it can be cut short, and is not begun anew.
        """
        if len(results) != 1:
            return {}
        found, certificate = results[0], Certificate(dense_limit=curvatures.FEW)
        if len(found.minima):
            return {"minima": self._certify(found.minima, certificate)}
        if found.saddles is None:
            return {}
        return {"ends": self._certify(_ends(found.saddles), certificate)}

    def _certify(
        self, points: StationaryPoints, certificate: Certificate
    ) -> tuple[StationaryPoints, Int[Tensor, "_"]]:
        return self.landscape.certified(points, certificate, certify=self.shared.certify)

    def write(
        self,
        found: Found,
        round: Round,
        task: str,
        judged: Mapping[str, tuple[StationaryPoints, Int[Tensor, "_"]]],
    ) -> Int[Tensor, "B"]:
        """One hit per quench and per search for a transition state; ends of paths come along without."""
        certificate = Certificate(dense_limit=curvatures.FEW)

        def add(what: str, points: StationaryPoints, **options: Any) -> Int[Tensor, "B"]:
            if what not in judged:
                return self.landscape.add_minima(points, task=task, certify=certificate, **options)
            points, known = judged[what]
            return self.landscape.add_minima(points, task=task, known=known, **options)

        ids = add("minima", found.minima)
        if found.higher is not None:
            self.landscape.add_higher_saddles(found.higher, task=task)
        saddles = found.saddles
        if saddles is None:
            return ids
        pairs = round.detail.get("pairs")
        uncounted = torch.zeros(2 * len(saddles), dtype=torch.int64)
        both = add("ends", _ends(saddles), hits=uncounted, start=saddles.pair.repeat(2))
        minus, plus = both.split(len(saddles)) if len(saddles) else (both, both)
        leaves = self._on_walls(saddles)
        hits = pairs_that_found(saddles) if pairs else saddles.hits
        accepted = self.landscape.add_transition_states(
            saddles.ts, minus, plus, leaves=leaves, hits=hits, task=task, start=saddles.pair
        )
        if pairs:
            led = saddles.candidate_ts >= 0
            led[led.clone()] = accepted[saddles.candidate_ts[led]] >= 0
            connected = set(saddles.candidate_pair[led].tolist())
            outcomes = ["transition state" if p in connected else "none found" for p in range(len(pairs))]
            self.landscape.record_pairs(torch.tensor(pairs), outcomes)
        return ids

    def _on_walls(self, saddles: SaddleSearch) -> Bool[Tensor, "E 2"] | None:
        """Which of the two downhill paths of each transition state ended on a wall of the box."""
        bounds = self.potential.bounds
        if bounds is None or bounds.keep_walls:
            return None
        ends, bounds = (saddles.minus, saddles.plus), bounds.to(saddles.minus.x.device)
        return torch.stack([~bounds.interior(end.x) & end.converged for end in ends], 1)


def _ends(saddles: SaddleSearch) -> StationaryPoints:
    return StationaryPoints.cat([saddles.minus, saddles.plus])


def pairs_that_found(saddles: SaddleSearch) -> Int[Tensor, "E"]:
    """Number of pairs whose path led to each transition state: two maxima of one path are one search."""
    found = saddles.candidate_ts >= 0
    once = torch.stack([saddles.candidate_pair[found], saddles.candidate_ts[found]]).unique(dim=1)
    return torch.bincount(once[1], minlength=len(saddles))
