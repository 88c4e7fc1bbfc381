"""To a transition state: bands, eigenvector-following, lowest eigenpairs, verification."""

from torchscape.saddles.band import Band
from torchscape.saddles.bifurcations import Bifurcation, locate_fold
from torchscape.saddles.certify import Certificate, certify_minima
from torchscape.saddles.characterise import characterise
from torchscape.saddles.continuation import Continuation, Continued, continue_points
from torchscape.saddles.curvature import Dense, Krylov
from torchscape.saddles.descend import Descent, ImplicitDescent, Quench, choose_descent, descend
from torchscape.saddles.directions import ModesAndRandom, RandomDirections, SoftModes
from torchscape.saddles.eigen import Eigenpairs, lowest_eigenpairs
from torchscape.saddles.follow import Follow, follow
from torchscape.saddles.search import SaddleSearch, climb, confirm, connect
from torchscape.saddles.spectral import LogDet, stochastic_log_det
from torchscape.saddles.stationary import Newton, find_stationary
from torchscape.saddles.verify import Outcome

__all__ = [
    "Band",
    "Bifurcation",
    "Certificate",
    "Continuation",
    "Continued",
    "Dense",
    "Descent",
    "Eigenpairs",
    "Follow",
    "ImplicitDescent",
    "Krylov",
    "LogDet",
    "ModesAndRandom",
    "Newton",
    "Outcome",
    "Quench",
    "RandomDirections",
    "SaddleSearch",
    "SoftModes",
    "certify_minima",
    "characterise",
    "choose_descent",
    "climb",
    "confirm",
    "connect",
    "continue_points",
    "descend",
    "find_stationary",
    "follow",
    "locate_fold",
    "lowest_eigenpairs",
    "stochastic_log_det",
]
