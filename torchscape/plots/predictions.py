"""What the networks at the minima predict: misclassification distances, ROC curves, lines, ensembles."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from torchscape import metrics
from torchscape.metrics import DistanceComparison, JointDensity, MantelTest, MisclassificationDistances, ROCReport
from torchscape.metrics.predictions import linkage_of
from torchscape.plots.canvas import Picture, axes_of, figure_of
from torchscape.plots.colours import categories
from torchscape.types import Float, Int, Tensor

__all__ = ["DensityPlot", "HeatMap", "ROCPlot", "distance_densities", "misclassification", "roc"]


@dataclasses.dataclass(frozen=True, repr=False)
class HeatMap(Picture):
    """A drawn matrix of distances.

    Attributes:
        figure, axes: where it was drawn.
        order: the minima along the sides [N].
    """

    figure: Figure
    axes: Axes
    order: Int[Tensor, "N"]

    @property
    def _content(self) -> str:
        return f"{len(self.order)} minima"


def misclassification(
    distances: MisclassificationDistances,
    *,
    relative: bool = False,
    ids: Int[Tensor, "N"] | None = None,
    method: str = "average",
    ax: Axes | None = None,
) -> HeatMap:
    """Heat map of the misclassification distances, minima that err alike side by side, with their dendrogram.

    Args:
        distances: from :func:`torchscape.metrics.misclassification_distances`.
        relative: show l_ij / l_max instead of l_ij.
        ids: what to call the minima; written along the sides up to 40 of them.
        method: of the clustering (:func:`torchscape.metrics.cluster_order`).
        ax: axes to draw on; a new figure by default.

    Reference: Ballard et al., Phys. Chem. Chem. Phys. 19, 12585 (2017), doi 10.1039/c7cp01108c, Fig. 8.

    Example:
        >>> from torchscape import plots
        >>> wrong = torch.tensor([[True, False, False], [False, True, False], [True, False, False]])
        >>> picture = plots.misclassification(metrics.misclassification_distances(wrong))
        >>> picture.order.tolist() in ([1, 0, 2], [1, 2, 0], [0, 2, 1], [2, 0, 1])
        True
        >>> plt.close(picture.figure)
    """
    matrix = distances.relative if relative else distances.value
    n = len(matrix)
    order = metrics.cluster_order(matrix, method)
    axes = axes_of(ax, size=(6.4, 5.8))
    image = axes.imshow(_numpy(matrix[order][:, order]), cmap="viridis", interpolation="nearest")
    label = r"$\ell_{ij}\,/\,\ell_{\max}$" if relative else r"misclassification distance $\ell_{ij}$"
    figure_of(axes).colorbar(image, ax=axes, label=label, fraction=0.045, pad=0.02)
    names = (torch.arange(n) if ids is None else ids)[order.cpu()].tolist()
    if n <= 40:
        axes.set_xticks(range(n), names, rotation=90, fontsize=7)
        axes.set_yticks(range(n), names, fontsize=7)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    axes.set_xlabel("minimum")
    axes.set_ylabel("minimum")
    if n > 1:
        _dendrogram(axes, matrix, method)
    return HeatMap(figure_of(axes), axes, order)


def _dendrogram(axes: Axes, matrix: Float[Tensor, "N N"], method: str) -> None:
    """The clustering above the heat map, its leaves over the columns."""
    from scipy.cluster.hierarchy import dendrogram

    above = axes.inset_axes((0.0, 1.01, 1.0, 0.14))
    tree = dendrogram(linkage_of(matrix, method), no_plot=True)
    for x, y in zip(tree["icoord"], tree["dcoord"], strict=True):
        above.plot(np.asarray(x) / 10 - 0.5, y, color="0.3", lw=0.8)  # SciPy puts leaf k at 10 k + 5
    above.set_xlim(-0.5, len(matrix) - 0.5)
    above.set_ylim(bottom=0)
    above.axis("off")


@dataclasses.dataclass(frozen=True, repr=False)
class DensityPlot(Picture):
    """Joint densities side by side.

    Attributes:
        figure: where they were drawn.
        axes: one for each distance in parameter space, by its name.
        densities: what was drawn, by name.
        tests: rank correlation of the two distances with the p-value of the Mantel test, by name.
    """

    figure: Figure
    axes: Mapping[str, Axes]
    densities: Mapping[str, JointDensity]
    tests: Mapping[str, MantelTest]

    @property
    def _content(self) -> str:
        return ", ".join(self.densities)


def distance_densities(comparison: DistanceComparison) -> DensityPlot:
    """Joint density of two distances between minima, one panel for each that the first is compared with.

    With the symmetry of the network left in and taken out, the two panels show what removing it changes. Above
    each stands the rank correlation over pairs, with the p-value of the Mantel test.

    Args:
        comparison: from :func:`torchscape.metrics.compare_distances`: misclassification distance beside
            distances in parameter space.

    Reference: Ballard et al. (2017), doi 10.1039/c7cp01108c, Fig. 9 and the discussion of symmetry after it.

    Example:
        >>> from torchscape import plots
        >>> d = torch.cdist(torch.arange(5.0)[:, None], torch.arange(5.0)[:, None])
        >>> found = metrics.compare_distances(d / 10, {"as found": d}, n_permutations=9)
        >>> picture = plots.distance_densities(found)
        >>> list(picture.axes)
        ['as found']
        >>> plt.close(picture.figure)
    """
    densities, tests = comparison.densities, comparison.tests
    n = len(densities)
    figure, panels = plt.subplots(
        1, n, figsize=(1.0 + 4.2 * n, 4.0), layout="constrained", squeeze=False, sharey=True, sharex=True
    )
    # One logarithmic scale for all: close pairs crowd into few cells and would leave the rest black.
    some = torch.cat([found.density[found.density > 0] for found in densities.values()])
    scale = LogNorm(float(some.min()), float(some.max()) * 1.01)
    for panel, (name, found) in zip(panels[0], densities.items(), strict=True):
        density = np.ma.masked_equal(_numpy(found.density).T, 0.0)
        mesh = panel.pcolormesh(_numpy(found.x_edges), _numpy(found.y_edges), density, cmap="viridis", norm=scale)
        test = tests[name]
        panel.set_title(f"{name}: rank correlation {test.value:.2f} (p = {test.p_value:.2g})", fontsize=9)
        panel.set_xlabel("distance in parameter space")
    figure.colorbar(mesh, ax=list(panels[0]), label="density of pairs", fraction=0.05, pad=0.02)
    panels[0][0].set_ylabel(r"misclassification distance $\ell_{ij}$")
    return DensityPlot(figure, dict(zip(densities, panels[0], strict=True)), densities, tests)


@dataclasses.dataclass(frozen=True, repr=False)
class ROCPlot(Picture):
    """Drawn ROC curves.

    Attributes:
        figure, axes: where they were drawn.
        areas: under the curves of all minima.
    """

    figure: Figure
    axes: Axes
    areas: metrics.ClassAreas

    @property
    def _content(self) -> str:
        return f"{len(self.areas.macro)} minima"


def roc(
    report: ROCReport, *, minimum: int = 0, names: Sequence[str] | None = None, ax: Axes | None = None
) -> ROCPlot:
    """ROC curves of one minimum, class by class and averaged, before the averages of the other minima in grey.

    Args:
        report: from :func:`torchscape.metrics.roc_report`.
        minimum: position of the one that is drawn in full.
        names: of the classes.
        ax: axes to draw on; a new figure by default.

    Reference: Ballard et al. (2017), doi 10.1039/c7cp01108c, III.

    Example:
        >>> from torchscape import plots
        >>> p = torch.tensor([[[0.8, 0.2], [0.4, 0.6], [0.3, 0.7]]])
        >>> picture = plots.roc(metrics.roc_report(p, torch.tensor([0, 1, 1])))
        >>> picture.areas.macro.tolist()
        [1.0]
        >>> plt.close(picture.figure)
    """
    axes = axes_of(ax, size=(7.2, 4.8))
    curves, macro, areas = report.classes, report.macro, report.areas
    others = np.delete(np.stack([_numpy(macro.false_positive), _numpy(macro.true_positive)], -1), minimum, 0)
    axes.add_collection(LineCollection(list(others), colors="0.8", lw=0.6, zorder=1))
    present = areas.per_class[minimum].isfinite().nonzero()[:, 0].tolist()
    palette = categories(len(present))
    for number, c in enumerate(present):
        again = number // len(palette)  # more classes than colours: the next round is drawn otherwise
        style = {"color": palette[number % len(palette)], "ls": ("-", ":", "-.")[again % 3]}
        label = f"{names[c] if names else f'class {c}'} ({_numpy(areas.per_class)[minimum, c]:.3f})"
        x, y = curves.false_positive[minimum, c], curves.true_positive[minimum, c]
        axes.plot(_numpy(x), _numpy(y), lw=0.9, label=label, zorder=2, **style)
    for curve, name, dash in ((macro, "macro", "-"), (report.micro, "micro", "--")):
        x, y = curve.false_positive[minimum], curve.true_positive[minimum]
        label = f"{name} average ({float(curve.area[minimum]):.3f})"
        axes.plot(_numpy(x), _numpy(y), color="black", lw=1.8, ls=dash, label=label, zorder=3)
    if len(areas.macro) > 1:
        axes.plot([], [], color="0.8", lw=0.6, label="other minima (macro)")
    axes.plot([0, 1], [0, 1], color="0.5", lw=0.8, ls=":", zorder=1)
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    axes.set_box_aspect(1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        frameon=False, fontsize=8, title="area under the curve", loc="upper left", bbox_to_anchor=(1.0, 1.0)
    )
    return ROCPlot(figure_of(axes), axes, areas)


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()
