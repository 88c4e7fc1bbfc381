"""What the exploration itself computes of many points, shared out among the workers of its executor."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from torchscape.devices import HOST
from torchscape.explore.executors import Executor
from torchscape.explore.tasks import Found, blocks
from torchscape.numerics import DENSE_SPECTRUM
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.saddles import Certificate, certify_minima, characterise
from torchscape.saddles.signs import signs

__all__ = ["Shared"]


@dataclasses.dataclass(frozen=True)
class _OfPoints:
    """A function of each point by itself."""

    points: StationaryPoints

    @property
    def n_rows(self) -> int:
        return len(self.points)

    def divided(self, n: int) -> list[Any]:
        return [dataclasses.replace(self, points=self.points[rows]) for rows in blocks(self.n_rows, n)]

    def joined(self, found: Sequence[Found]) -> Found:
        return Found(StationaryPoints.cat([one.minima for one in found]))


@dataclasses.dataclass(frozen=True)
class Certificates(_OfPoints):
    """Candidates, brought to their minima where they fall short, with the status that they deserve."""

    certificate: Certificate
    kind = "certificates"

    def run(self, potential: Potential) -> Found:
        return Found(certify_minima(potential, self.points.to(potential.device), self.certificate))


@dataclasses.dataclass(frozen=True)
class Curvatures(_OfPoints):
    """Points with index, log-determinant and zero modes; or no more than the index of minima."""

    log_det: bool = True
    kind = "curvatures"

    def run(self, potential: Potential) -> Found:
        return Found(_curved(potential, self.points.to(potential.device), self.log_det))


def _curved(potential: Potential, points: StationaryPoints, log_det: bool) -> StationaryPoints:
    if log_det or potential.ndim <= DENSE_SPECTRUM:
        return characterise(potential, points)
    return signs(potential, points)[0]


@dataclasses.dataclass(frozen=True)
class Shared:
    """Certificates and curvatures: by the workers of an executor that has several, else here."""

    executor: Executor

    @property
    def workers(self) -> int:
        return int(getattr(self.executor, "workers", 1))

    def certify(
        self, potential: Potential, points: StationaryPoints, certificate: Certificate
    ) -> StationaryPoints:
        """As :func:`~torchscape.saddles.certify_minima`."""
        if self.workers == 1 or len(points) < 2:
            return certify_minima(potential, points, certificate)
        return self._run(potential, Certificates(points.to(HOST), certificate), points)

    def characterise(
        self, potential: Potential, points: StationaryPoints, *, log_det: bool = True
    ) -> StationaryPoints:
        """As :func:`~torchscape.saddles.characterise`. Without ``log_det`` minima of many coordinates are asked
        for no more than a negative curvature (:func:`~torchscape.saddles.signs.signs`)."""
        if self.workers == 1 or len(points) < 2:
            return _curved(potential, points, log_det)
        return self._run(potential, Curvatures(points.to(HOST), log_det), points)

    def _run(
        self, potential: Potential, task: Certificates | Curvatures, points: StationaryPoints
    ) -> StationaryPoints:
        (found,) = self.executor.run(potential, [task])
        return found.minima.to(points.x.device)
