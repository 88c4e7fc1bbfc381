"""To a transition state: bands, eigenvector-following, lowest eigenpairs, verification."""

from typing import TYPE_CHECKING

from torchscape.deprecation import old_names
from torchscape.saddles.band import Band
from torchscape.saddles.certify import Certificate, certify_minima
from torchscape.saddles.characterisation import characterise
from torchscape.saddles.curvature import Dense, Krylov
from torchscape.saddles.determinant import Determinant, log_determinant
from torchscape.saddles.directions import ModesAndRandom, RandomDirections, SoftModes
from torchscape.saddles.downhill_paths import Descent, ImplicitDescent, Quench, choose_descent, descend
from torchscape.saddles.eigen import Eigenpairs, lowest_eigenpairs
from torchscape.saddles.eigenvector_following import Follow, follow
from torchscape.saddles.found import SaddleSearch
from torchscape.saddles.search import climb, confirm, connect
from torchscape.saddles.spectral import LogDet, stochastic_log_det
from torchscape.saddles.stationary import NewtonSearch, find_stationary
from torchscape.saddles.valleys import band_heights
from torchscape.saddles.verify import Outcome

__all__ = [
    "Band",
    "Certificate",
    "Dense",
    "Descent",
    "Determinant",
    "Eigenpairs",
    "Follow",
    "ImplicitDescent",
    "Krylov",
    "LogDet",
    "ModesAndRandom",
    "NewtonSearch",
    "Outcome",
    "Quench",
    "RandomDirections",
    "SaddleSearch",
    "SoftModes",
    "band_heights",
    "certify_minima",
    "characterise",
    "choose_descent",
    "climb",
    "confirm",
    "connect",
    "descend",
    "find_stationary",
    "follow",
    "log_determinant",
    "lowest_eigenpairs",
    "stochastic_log_det",
]

if not TYPE_CHECKING:  # which type checkers would take for any name at all
    _IN_FAMILIES = ("Bifurcation", "Continuation", "Continued", "continue_points", "locate_fold")
    _NOW = {name: f"torchscape.families.{name}" for name in _IN_FAMILIES}
    __getattr__ = old_names(__name__, _NOW | {"Newton": "torchscape.saddles.NewtonSearch"}, until="0.2")
