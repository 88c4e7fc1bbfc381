"""Scalars of an exploration for TensorBoard."""

from __future__ import annotations

import math
import os
import weakref
from pathlib import Path
from typing import Any

from torchscape.errors import MissingExtra
from torchscape.explore.live import RoundReport

__all__ = ["TensorBoard"]


class TensorBoard:
    """Writes what every round has brought as scalars: ``explore(..., on_round=TensorBoard("runs/a"))``.

    ``tensorboard --logdir runs`` shows them, also while the exploration runs. They stand over the evaluations of
    energy and gradient that the file has cost by then, so that the curves of a run which was cut short go on where
    they ended, and runs with other settings can be compared at equal cost:

    - ``landscape/``: minima, transition_states, components, lowest_energy,
    - ``work/``: quenches and evaluations_per_second of this call, seconds,
    - one group for each strategy, with its done tries and what else it tells (``basin-hopping/acceptance``).

    Args:
        folder: for the event files of this run; made when absent.

    Raises:
        MissingExtra: without TensorBoard.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtra.of("tensorboard", "tensorboard") from error
        self.folder = Path(folder)
        self._writer: Any = SummaryWriter(self.folder)
        self.close = weakref.finalize(self, self._writer.close)

    def __call__(self, report: RoundReport) -> None:
        """Write the scalars of one round."""
        pace = report.n_evaluations / report.seconds if report.seconds > 0 else math.nan
        scalars = {
            "landscape/minima": report.n_minima,
            "landscape/transition_states": report.n_transition_states,
            "landscape/components": report.n_components,
            "landscape/lowest_energy": report.lowest_energy,
            "work/quenches": report.n_quenches,
            "work/seconds": report.seconds,
            "work/evaluations_per_second": pace,
            f"{report.strategy}/tries": report.done,
            **{f"{report.strategy}/{name}": value for name, value in report.figures.items()},
        }
        for name, value in scalars.items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, report.n_evaluations_in_all)
        self._writer.flush()
