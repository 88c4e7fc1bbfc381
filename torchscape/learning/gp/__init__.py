"""Gaussian processes: the landscape of their hyperparameters, sampling them, and ensembles of both."""

from torchscape.learning.gp.boxed_mixture import BoxedMixture
from torchscape.learning.gp.ensembles import Foresight, GPEnsembleReport, foresight, gp_ensemble_report
from torchscape.learning.gp.hyperparameters import (
    HyperparameterLandscape,
    hyperparameter_landscape,
    hyperparameter_minima,
)
from torchscape.learning.gp.sampling import hyperparameter_hmc, settled_hmc

__all__ = [
    "BoxedMixture",
    "Foresight",
    "GPEnsembleReport",
    "HyperparameterLandscape",
    "foresight",
    "gp_ensemble_report",
    "hyperparameter_hmc",
    "hyperparameter_landscape",
    "hyperparameter_minima",
    "settled_hmc",
]
