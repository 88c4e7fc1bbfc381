"""All experiments by name, in the order of the index."""

from __future__ import annotations

from reproductions import gp_folds, iris, mnist, pspin_counts, pspin_energies, regression, trimers
from reproductions.experiment import Experiment

__all__ = ["EXPERIMENTS"]

EXPERIMENTS: dict[str, Experiment] = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (regression, trimers, mnist, pspin_counts, pspin_energies, gp_folds, iris)
}
