"""All experiments by name, in the order of the index."""

from __future__ import annotations

from reproductions import (
    auc_against_steps,
    auc_loss,
    families,
    gp_folds,
    gp_foresight,
    iris,
    lj38,
    mnist,
    pspin_counts,
    pspin_energies,
    regression,
    students,
    trimers,
)
from reproductions.experiment import Experiment

__all__ = ["EXPERIMENTS"]

EXPERIMENTS: dict[str, Experiment] = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (
        regression,
        trimers,
        auc_against_steps,
        auc_loss,
        mnist,
        pspin_counts,
        pspin_energies,
        students,
        gp_folds,
        gp_foresight,
        families,
        iris,
        lj38,
    )
}
