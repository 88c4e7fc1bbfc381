"""What a landscape says: pure functions of a ``Network``.

Most names are at home in one of four rooms (thermodynamics, kinetics, topology, graph), whose ``__init__`` lists
them; all of them are names of this package, too.
"""

from typing import TYPE_CHECKING

from torchscape.analysis import graph, kinetics, thermodynamics, topology
from torchscape.analysis.discovery import Completeness, Coverage, completeness, coverage
from torchscape.analysis.family import Family, FamilyEvent
from torchscape.analysis.graph import *
from torchscape.analysis.kinetics import *
from torchscape.analysis.rarefaction import RarefactionCurve, rarefaction_curve
from torchscape.analysis.thermodynamics import *
from torchscape.analysis.topology import *
from torchscape.deprecation import old_names

__all__ = [
    "Completeness",
    "Coverage",
    "Family",
    "FamilyEvent",
    "RarefactionCurve",
    "completeness",
    "coverage",
    "rarefaction_curve",
]
__all__ += graph.__all__
__all__ += kinetics.__all__
__all__ += thermodynamics.__all__
__all__ += topology.__all__

if not TYPE_CHECKING:  # a type checker shall know the old names no longer
    _IN_METRICS = (
        "Calibration",
        "CalibrationComparison",
        "ClassAreas",
        "ConservedParameters",
        "EnsembleComparison",
        "JointDensity",
        "LossLines",
        "MantelTest",
        "MisclassificationDistances",
        "NormalMixture",
        "ROC",
        "RankCorrelation",
        "RegressionComparison",
        "Stacking",
        "accuracy",
        "auc",
        "calibration",
        "class_roc",
        "cluster_order",
        "compare_calibration",
        "compare_ensembles",
        "compare_regression",
        "conserved_parameters",
        "false_discovery",
        "joint_density",
        "kendall",
        "loss_lines",
        "macro_roc",
        "mantel",
        "mean_probability",
        "micro_roc",
        "misclassification_distances",
        "misclassification_index",
        "misclassified",
        "predicted_classes",
        "rank_correlation",
        "ranks",
        "roc",
        "select_at_random",
        "select_by_group",
        "select_diverse",
        "select_greedily",
        "spearman",
        "stacking_weights",
        "vote",
    )
    _RENAMED = {
        "Saturation": "torchscape.analysis.RarefactionCurve",
        "saturation": "torchscape.analysis.rarefaction_curve",
    }
    _IN_METRICS_NOW = {name: f"torchscape.metrics.{name}" for name in _IN_METRICS}
    __getattr__ = old_names(__name__, _IN_METRICS_NOW | _RENAMED, until="0.2")
