"""What an experiment is, and how one is run."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torchscape as tsc
from reproductions.page import Page
from torchscape.analysis import Family
from torchscape.explore import ExploreReport, Strategy
from torchscape.potentials import Potential

__all__ = ["Experiment", "Run", "published_figures"]

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One experiment of the papers.

    Attributes:
        name: on the command line, and of the page.
        title: one line.
        source: where it was published.
        carry_out: does it, and fills the page.
    """

    name: str
    title: str
    source: str
    carry_out: Callable[[Run, Page], None]


@dataclasses.dataclass(frozen=True)
class Run:
    """How an experiment is run.

    Attributes:
        quick: small settings in place of full ones.
        data: folder with reference data sets; None where there are none.
        work: folder for databases; what is in it already is gone on with.
        out: folder for pages.
        max_time: seconds for each exploration of this call; None is unlimited.
        device: where potentials are evaluated.
        progress: show progress bars.
    """

    quick: bool
    data: Path | None
    work: Path
    out: Path
    max_time: float | None = None
    device: str = "cpu"
    progress: bool = True

    def pick(self, quick: T, full: T) -> T:
        """The setting that applies."""
        return quick if self.quick else full

    def file(self, name: str) -> str | None:
        """The path of a reference data set; None where it is not there."""
        path = None if self.data is None else self.data / name
        return str(path) if path is not None and path.is_file() else None

    @property
    def budget(self) -> tsc.Budget:
        return tsc.Budget(seconds=self.max_time)

    @contextlib.contextmanager
    def explored(
        self, name: str, potential: Potential, strategies: Sequence[Strategy], seed: int = 0
    ) -> Iterator[tuple[tsc.Landscape, ExploreReport]]:
        """The landscape in the database of that name, once the strategies have done what was left to do."""
        with tsc.Landscape.open(self.work / f"{name}.db", potential) as landscape:
            if self.max_time == 0:
                yield landscape, _as_it_is(landscape)
                return
            report = tsc.explore(
                landscape,
                potential,
                strategies=strategies,
                seed=seed,
                budget=self.budget,
                progress=self.progress,
            )
            if report.status == "interrupted":
                raise KeyboardInterrupt
            yield landscape, report

    def family(
        self, name: str, at: Callable[[float], Potential], values: Sequence, strategies: Sequence[Strategy]
    ) -> Family:
        """The landscapes at these values of a parameter, in the databases of that name, and their branches."""
        return tsc.explore_family(
            at,
            values,
            strategies=strategies,
            budget=self.budget,
            folder=self.work / name,
            progress=self.progress,
        )


def _as_it_is(landscape: tsc.Landscape) -> ExploreReport:
    """The report of an exploration that did nothing, not even what a killed one had left to do."""
    return ExploreReport(
        status="complete" if landscape.summary()["complete"] else "budget: seconds",
        n_minima=landscape.n_minima,
        n_transition_states=landscape.n_transition_states,
        n_quenches=0,
        n_evaluations=0,
        seconds=0.0,
        outcomes={},
    )


def published_figures(problem: str) -> dict[str, Any]:
    """The published figures of a problem by what they are, the first of each."""
    figures = tsc.problems.published(problem)
    return {figure.what: figure.value for figure in reversed(figures)}
