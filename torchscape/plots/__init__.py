"""Pictures of a landscape, each one call: ``plots.disconnectivity(network)``."""

from torchscape.plots.calibration import CalibrationPage, ReliabilityPlot, calibration, reliability
from torchscape.plots.coverage import CoveragePlot, coverage
from torchscape.plots.curves import CurvePlot, entropy, frustration, heat_capacity, occupation
from torchscape.plots.disconnectivity import DisconnectivityPlot, disconnectivity
from torchscape.plots.distributions import BarrierPlot, DegreePlot, barriers, degree_distribution
from torchscape.plots.ensembles import EnsemblePlot, ensembles
from torchscape.plots.family import BranchPlot, DisconnectivitySeries, branches, disconnectivity_series
from torchscape.plots.generalisation import CorrelationPlot, LinesPlot, correlations, loss_lines, robustness
from torchscape.plots.network import NetworkPlot, network
from torchscape.plots.peak_trees import PeakTrees, heat_capacity_trees
from torchscape.plots.predictions import DensityPlot, HeatMap, ROCPlot, distance_densities, misclassification, roc
from torchscape.plots.profile import ProfilePlot, profile

__all__ = [
    "BarrierPlot",
    "BranchPlot",
    "CalibrationPage",
    "CorrelationPlot",
    "CoveragePlot",
    "CurvePlot",
    "DegreePlot",
    "DensityPlot",
    "DisconnectivityPlot",
    "DisconnectivitySeries",
    "EnsemblePlot",
    "HeatMap",
    "LinesPlot",
    "NetworkPlot",
    "PeakTrees",
    "ProfilePlot",
    "ROCPlot",
    "ReliabilityPlot",
    "barriers",
    "branches",
    "calibration",
    "correlations",
    "coverage",
    "degree_distribution",
    "disconnectivity",
    "disconnectivity_series",
    "distance_densities",
    "ensembles",
    "entropy",
    "frustration",
    "heat_capacity",
    "heat_capacity_trees",
    "loss_lines",
    "misclassification",
    "network",
    "occupation",
    "profile",
    "reliability",
    "robustness",
    "roc",
]
