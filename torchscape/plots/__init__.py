"""Pictures of a landscape, each one call: ``plots.disconnectivity(network)``."""

from torchscape.plots.basins import SpringPlot, VolumePlot, spring_integrand, volume_distribution
from torchscape.plots.calibration import CalibrationPage, ReliabilityPlot, calibration, reliability
from torchscape.plots.coverage import CoveragePlot, coverage
from torchscape.plots.curves import CurvePlot, entropy, frustration, heat_capacity, occupation
from torchscape.plots.diffusion import (
    EmbeddingPlot,
    FreeEnergyPlot,
    SpectrumPlot,
    embedding,
    free_energy_curve,
    spectrum,
)
from torchscape.plots.disconnectivity import DisconnectivityPlot, disconnectivity
from torchscape.plots.distributions import BarrierPlot, DegreePlot, barriers, degree_distribution
from torchscape.plots.ensembles import EnsemblePlot, ensembles
from torchscape.plots.family import BranchPlot, DisconnectivitySeries, branches, disconnectivity_series
from torchscape.plots.generalisation import CorrelationPlot, LinesPlot, correlations, loss_lines, robustness
from torchscape.plots.network import NetworkPlot, network
from torchscape.plots.peak_trees import PeakTrees, heat_capacity_trees
from torchscape.plots.planes import PlanePlot, ZoomPlot, in_plane_losses, plane, plane_3d, zooms
from torchscape.plots.predictions import DensityPlot, HeatMap, ROCPlot, distance_densities, misclassification, roc
from torchscape.plots.profile import ProfilePlot, profile
from torchscape.plots.regression import BandPlot, RegressionPlot, predictive_bands, regression_scores

__all__ = [
    "BandPlot",
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
    "EmbeddingPlot",
    "EnsemblePlot",
    "FreeEnergyPlot",
    "HeatMap",
    "LinesPlot",
    "NetworkPlot",
    "PeakTrees",
    "PlanePlot",
    "ProfilePlot",
    "ROCPlot",
    "RegressionPlot",
    "ReliabilityPlot",
    "SpectrumPlot",
    "SpringPlot",
    "VolumePlot",
    "ZoomPlot",
    "barriers",
    "branches",
    "calibration",
    "correlations",
    "coverage",
    "degree_distribution",
    "disconnectivity",
    "disconnectivity_series",
    "distance_densities",
    "embedding",
    "ensembles",
    "entropy",
    "free_energy_curve",
    "frustration",
    "heat_capacity",
    "heat_capacity_trees",
    "in_plane_losses",
    "loss_lines",
    "misclassification",
    "network",
    "occupation",
    "plane",
    "plane_3d",
    "predictive_bands",
    "profile",
    "regression_scores",
    "reliability",
    "robustness",
    "roc",
    "spectrum",
    "spring_integrand",
    "volume_distribution",
    "zooms",
]
