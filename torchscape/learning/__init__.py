"""Machine-learning measures that evaluate a model at many minima: what they predict, how flat they are."""

from torchscape.learning.bayesian import (
    BayesianReport,
    Predictive,
    PredictiveMoments,
    bayesian_report,
    predictive,
    predictive_moments,
)
from torchscape.learning.distances import align_all, parameter_distances
from torchscape.learning.ensembles import EnsembleReport, ensemble_report
from torchscape.learning.flatness import Flatness, flatness, hessian_trace, top_eigenvalues, worst_case_loss
from torchscape.learning.held_out import HeldOut, held_out
from torchscape.learning.interpolation import interpolate
from torchscape.learning.robustness import Robustness, robustness

__all__ = [
    "BayesianReport",
    "EnsembleReport",
    "Flatness",
    "HeldOut",
    "Predictive",
    "PredictiveMoments",
    "Robustness",
    "align_all",
    "bayesian_report",
    "ensemble_report",
    "flatness",
    "held_out",
    "hessian_trace",
    "interpolate",
    "parameter_distances",
    "predictive",
    "predictive_moments",
    "robustness",
    "top_eigenvalues",
    "worst_case_loss",
]
