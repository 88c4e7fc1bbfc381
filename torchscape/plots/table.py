"""Every plot, declared once: the face of the room, the parser and the command line read this table.

A new plot is its function and one row in :data:`PLOTS`. What ``torchscape plot`` shall draw has a ``needs`` or
``options`` there (or ``shell=True``); what a plot takes that no other one does is an :class:`Option` of its own.
Nothing here imports torch or matplotlib, so that help does not wait for them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from torchscape.errors import TorchscapeError, UnknownName

__all__ = ["PLOTS", "Option", "Plot", "declared_options", "drawn_from_the_shell", "faces", "of_kind"]


@dataclasses.dataclass(frozen=True)
class Option:
    """An option of the command line that becomes an argument of a plot.

    Attributes:
        flag: without its dashes, as in "min-barrier".
        help: what it does; who takes it, where few do.
        value: what follows it: "count" (a whole number above 0), "positive", "temperatures", "two minima",
            "minima", "sets" (of minima by name), "range" (of energies), "width" (of a figure), "text", or "" of a
            switch.
        metavar: how the help names that.
        arguments: from the name of the plot and the value to the arguments of the function; by default the one
            that has the name of the flag.
        missing: what to say of a plot that needs it, after "plot NAME needs".
    """

    flag: str
    help: str
    value: str = "text"
    metavar: str | None = None
    arguments: Callable[[str, Any], dict[str, Any]] | None = None
    missing: str = ""

    @property
    def name(self) -> str:
        """As an attribute of the parsed arguments."""
        return self.flag.replace("-", "_")

    def given(self, kind: str, value: Any) -> dict[str, Any]:
        """The arguments that ``--flag value`` means to the plot of this name.

        Raises:
            TorchscapeError: for a value that this plot cannot use.
        """
        return {self.name: value} if self.arguments is None else self.arguments(kind, value)


def _one_temperature(kind: str, chosen: list[float]) -> dict[str, Any]:
    if len(chosen) > 1:
        raise TorchscapeError(f"plot {kind} shows one temperature: give --temperature {chosen[0]:g}")
    return {"temperature": chosen[0]}


COLOUR = Option("colour", "colour by energy, degree, community or a named property", metavar="NAME")
SIZE = Option("size", "network: discs by degree, equal or a named property", metavar="NAME")
LOWEST = Option("lowest", "draw only the N lowest minima; heat-capacity: theirs too", "count", "N")
LOWEST_TOO = dataclasses.replace(LOWEST, arguments=lambda kind, m: {"lowest": [m]})  # beside the curve of all
MIN_BARRIER = Option("min-barrier", "disconnectivity: from this on", "positive", "E")
LEVELS = Option("levels", "disconnectivity: draw mergers up to the next of N levels", "count", "N")
STEP = Option("step", "disconnectivity: draw mergers up to the next of levels so far apart", "positive", "E")
STYLE = Option("style", "disconnectivity: orthogonal or slanted", metavar="NAME")
WINDOW = Option("window", "disconnectivity: from this energy to that, as --window=LOW:HIGH", "range", "LOW:HIGH")
BROKEN = Option("broken", "disconnectivity: these energies taken out of the axis", "range", "LOW:HIGH")
RELATIVE = Option("relative", "disconnectivity: energies above the lowest minimum", "")
COLLAPSE = Option("collapse", "disconnectivity: what is left out as wedges with its number of minima", "")
SCALE_BAR = Option("scale-bar", "disconnectivity: a bar in the place of the axis", "")
HIGHLIGHT = Option(
    "highlight", "disconnectivity: sets of minima in a colour each, the rest black", "sets", "NAME=I,J;..."
)
DINFO = Option("dinfo", "disconnectivity: as this input file of disconnectionDPS says", metavar="FILE")
REGROUP = Option(
    "regroup",
    "disconnectivity: with --temperature, lump what free-energy barriers up to E separate",
    "positive",
    "E",
)
WIDTH = Option("width", "column, page or inches", "width", "W")
HEIGHT = Option("height", "in inches", "positive", "H")
TEMPERATURES = Option(
    "temperature",
    "one for pictures of one (disconnectivity: of free energies), T,T,... or LOW:HIGH:N for curves",
    "temperatures",
    "T",
    arguments=lambda kind, chosen: {"temperatures": chosen},
)
TEMPERATURE = dataclasses.replace(TEMPERATURES, arguments=_one_temperature)
BETWEEN = Option(
    "between",
    "profile: from minimum I to J, 0 being the lowest; with --temperature by the fastest path there",
    "two minima",
    "I,J",
    arguments=lambda kind, ends: dict(zip(("start", "end"), ends, strict=True)),
    missing="two minima: give --between I,J, 0 being the lowest",
)
LABELS = Option("labels", "number the minima, 0 being the lowest", "")
LABEL = Option(
    "label",
    "number these minima",
    "minima",
    "I,J,...",
    arguments=lambda kind, chosen: {"labels": chosen},
)
GAPS = Option("gaps", "barriers: the energy gaps too", "")
EDGES = Option("edges", "network: lines by barrier, or equal", metavar="NAME")
WHOLE = Option(
    "whole",
    "heat-capacity: all curves on that of a single minimum",
    "",
    arguments=lambda kind, given: {"excess": False},
)
UNIT = Option("unit", "unit of the energy, for the labels", metavar="TEXT")

_TREE = (HIGHLIGHT, LEVELS, STEP, STYLE, WINDOW, BROKEN, RELATIVE, COLLAPSE, SCALE_BAR, DINFO)
_PAGE = (WIDTH, HEIGHT)
_IN_ORDER = (
    COLOUR, SIZE, LOWEST, MIN_BARRIER, *_TREE, TEMPERATURES, REGROUP, BETWEEN, LABELS, LABEL, EDGES, GAPS, WHOLE,
    UNIT, *_PAGE,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Plot:
    """One plot.

    Attributes:
        name: of the function.
        module: where it is, by its full name, or with a dot before it in this room.
        picture: the class that it returns.
        options: what the command line may say of it.
        needs: what it must say.
        shell: whether the command line draws it, from a network alone.
    """

    name: str
    module: str
    picture: str
    options: tuple[Option, ...] = ()
    needs: tuple[Option, ...] = ()
    shell: bool = False

    @property
    def kind(self) -> str:
        """Its name on the command line."""
        return self.name.replace("_", "-")

    @property
    def home(self) -> str:
        """The full name of its module."""
        return f"torchscape.plots{self.module}" if self.module.startswith(".") else self.module


PLOTS = [
    Plot("barriers", ".distributions", "BarrierPlot", (GAPS, UNIT), shell=True),
    Plot("branches", ".family", "BranchPlot"),
    Plot("calibration", ".calibration_page", "CalibrationPage"),
    Plot("correlations", ".generalisation", "CorrelationPlot"),
    Plot("coverage", ".rarefaction", "CoveragePlot", shell=True),
    Plot("degree_distribution", ".distributions", "DegreePlot", shell=True),
    Plot(
        "disconnectivity",
        ".disconnectivity_graph",
        "DisconnectivityPlot",
        (COLOUR, LOWEST, MIN_BARRIER, *_TREE, TEMPERATURE, REGROUP, LABELS, LABEL, UNIT, *_PAGE),
        shell=True,
    ),
    Plot("disconnectivity_series", ".family", "DisconnectivitySeries"),
    Plot("distance_densities", ".predictions", "DensityPlot"),
    Plot("embedding", ".diffusion", "EmbeddingPlot"),
    Plot("ensembles", ".ensemble_scores", "EnsemblePlot"),
    Plot("entropy", ".curves", "CurvePlot", (TEMPERATURES, UNIT), shell=True),
    Plot("free_energy_curve", ".diffusion", "FreeEnergyPlot"),
    Plot("frustration", ".curves", "CurvePlot", (TEMPERATURES, UNIT), shell=True),
    Plot("heat_capacity", ".curves", "CurvePlot", (LOWEST_TOO, TEMPERATURES, WHOLE, UNIT), shell=True),
    Plot("heat_capacity_trees", ".peak_trees", "PeakTrees", (LOWEST, LEVELS, TEMPERATURE, UNIT), shell=True),
    Plot("in_plane_losses", ".planes", "PlanePlot"),
    Plot("loss_lines", ".generalisation", "LinesPlot"),
    Plot("misclassification", ".predictions", "HeatMap"),
    Plot(
        "network",
        ".network_drawing",
        "NetworkPlot",
        (COLOUR, SIZE, LOWEST, EDGES, LABELS, UNIT, *_PAGE),
        shell=True,
    ),
    Plot("occupation", ".curves", "CurvePlot", (TEMPERATURES, UNIT), shell=True),
    Plot("plane", ".planes", "PlanePlot"),
    Plot("plane_3d", ".planes", "PlanePlot"),
    Plot("predictive_bands", ".regression", "BandPlot"),
    Plot(
        "profile",
        ".energy_profile",
        "ProfilePlot",
        (TEMPERATURE, BETWEEN, LABELS, UNIT),
        needs=(BETWEEN,),
        shell=True,
    ),
    Plot("regression_scores", ".regression", "RegressionPlot"),
    Plot("reliability", ".calibration_page", "ReliabilityPlot"),
    Plot("robustness", ".generalisation", "LinesPlot"),
    Plot("roc", ".predictions", "ROCPlot"),
    Plot("spectrum", ".diffusion", "SpectrumPlot"),
    Plot("restraint_integrand", ".basins", "RestraintPlot"),
    Plot("volume_distribution", ".basins", "VolumePlot"),
    Plot("zooms", ".planes", "ZoomPlot"),
]
"""All plots. One of your own joins by ``PLOTS.append(Plot("my_plot", "my_package.my_module", "MyPicture"))``."""


def faces() -> dict[str, str]:
    """The module, by its full name, of every public name of the room: functions, and the classes they return."""
    homes = {plot.picture: plot.home for plot in PLOTS}
    return dict(sorted((homes | {plot.name: plot.home for plot in PLOTS}).items()))


def drawn_from_the_shell() -> dict[str, Plot]:
    """The plots that the command line draws, by their names there."""
    return {plot.kind: plot for plot in sorted(PLOTS, key=lambda plot: plot.name) if plot.shell}


def declared_options() -> list[Option]:
    """The options of all these plots, each once, the usual ones first."""
    declared = {option.flag: option for plot in drawn_from_the_shell().values() for option in plot.options}
    usual = {option.flag: option for option in _IN_ORDER}
    return list((usual | {flag: option for flag, option in declared.items() if flag not in usual}).values())


def of_kind(kind: str) -> Plot:
    """The plot of that name on the command line.

    Raises:
        UnknownName: if there is none.
    """
    known = drawn_from_the_shell()
    if kind not in known:
        raise UnknownName.of("kind of plot", kind, list(known))
    return known[kind]
