"""Machine-learning measures that evaluate a model at many minima: what they predict, how flat they are."""

from torchscape.learning.bayesian import (
    BayesianReport,
    Predictive,
    PredictiveMoments,
    bayesian_report,
    predictive,
    predictive_moments,
)
from torchscape.learning.checkpoint_report import CheckpointReport
from torchscape.learning.checkpoints import compare_checkpoints
from torchscape.learning.directions import (
    Plane,
    filter_normalised,
    hessian_plane,
    plane_of,
    principal_plane,
    random_plane,
    three_point_plane,
)
from torchscape.learning.distances import align_all, parameter_distances
from torchscape.learning.ensembles import EnsembleReport, ensemble_report
from torchscape.learning.gp import (
    BoxedMixture,
    Foresight,
    GPEnsembleReport,
    HyperparameterLandscape,
    foresight,
    gp_ensemble_report,
    hyperparameter_hmc,
    hyperparameter_landscape,
    hyperparameter_minima,
    settled_hmc,
)
from torchscape.learning.held_out_data import HeldOut, held_out
from torchscape.learning.interpolation import interpolate
from torchscape.learning.planes import PlaneSurface, Projected, plane_surface, project, zoom_series
from torchscape.learning.sharpness import Flatness, flatness, hessian_trace, top_eigenvalues
from torchscape.learning.weight_noise import Robustness, robustness
from torchscape.learning.worst_cases import WorstCase, worst_case, worst_case_loss

__all__ = [
    "BayesianReport",
    "BoxedMixture",
    "CheckpointReport",
    "EnsembleReport",
    "Flatness",
    "Foresight",
    "GPEnsembleReport",
    "HeldOut",
    "HyperparameterLandscape",
    "Plane",
    "PlaneSurface",
    "Predictive",
    "PredictiveMoments",
    "Projected",
    "Robustness",
    "WorstCase",
    "align_all",
    "bayesian_report",
    "compare_checkpoints",
    "ensemble_report",
    "filter_normalised",
    "flatness",
    "foresight",
    "gp_ensemble_report",
    "held_out",
    "hessian_plane",
    "hessian_trace",
    "hyperparameter_hmc",
    "hyperparameter_landscape",
    "hyperparameter_minima",
    "interpolate",
    "parameter_distances",
    "plane_of",
    "plane_surface",
    "predictive",
    "predictive_moments",
    "principal_plane",
    "project",
    "random_plane",
    "robustness",
    "settled_hmc",
    "three_point_plane",
    "top_eigenvalues",
    "worst_case",
    "worst_case_loss",
    "zoom_series",
]
