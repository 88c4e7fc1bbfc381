"""Measures of predictions, labels and arrays, which know no landscape: errors, calibration, ensembles."""

from torchscape.metrics.combination import Stacking, mean_probability, stacking_weights, vote
from torchscape.metrics.conserved import ConservedParameters, conserved_parameters, false_discovery
from torchscape.metrics.correlation import (
    MantelTest,
    RankCorrelation,
    kendall,
    mantel,
    rank_correlation,
    ranks,
    spearman,
)
from torchscape.metrics.distance_comparison import DistanceComparison, compare_distances
from torchscape.metrics.ensembles import EnsembleComparison, compare_ensembles
from torchscape.metrics.lines import LossLines, loss_lines
from torchscape.metrics.normal_mixture import NormalMixture, RegressionComparison, compare_regression
from torchscape.metrics.predictions import (
    JointDensity,
    MisclassificationDistances,
    accuracy,
    cluster_order,
    joint_density,
    misclassification_distances,
    misclassification_index,
    misclassified,
    predicted_classes,
)
from torchscape.metrics.reliability import Calibration, CalibrationComparison, calibration, compare_calibration
from torchscape.metrics.roc_curves import (
    ROC,
    ClassAreas,
    ROCReport,
    auc,
    class_roc,
    macro_roc,
    micro_roc,
    roc,
    roc_report,
)
from torchscape.metrics.selection import select_at_random, select_by_group, select_diverse, select_greedily

__all__ = [
    "ROC",
    "Calibration",
    "CalibrationComparison",
    "ClassAreas",
    "ConservedParameters",
    "DistanceComparison",
    "EnsembleComparison",
    "JointDensity",
    "LossLines",
    "MantelTest",
    "MisclassificationDistances",
    "NormalMixture",
    "ROCReport",
    "RankCorrelation",
    "RegressionComparison",
    "Stacking",
    "accuracy",
    "auc",
    "calibration",
    "class_roc",
    "cluster_order",
    "compare_calibration",
    "compare_distances",
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
    "roc_report",
    "select_at_random",
    "select_by_group",
    "select_diverse",
    "select_greedily",
    "spearman",
    "stacking_weights",
    "vote",
]
