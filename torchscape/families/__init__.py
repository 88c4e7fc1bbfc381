"""Landscapes along a control parameter p: one exploration for each value, and the branches through them.

Each stationary point of a member is followed to both neighbouring values, grad U(x(p); p) = 0, all points of
one step as one batch (:func:`continue_points`). Where it arrives at a point that the neighbour knows, up to
symmetry, the two are one branch; where the neighbour does not know it, it is added there. Where a branch ends
it is asked why:

- *fold*: it meets a branch whose index differs by one, and an eigenvalue vanishes, mu^2 ~ p* - p. Located with
  the extended system of Moore and Spence; the other branch, if no search had found it, is followed back;
- *pitchfork*: it ends on a branch that goes on and changes its index, mu ~ p* - p (or *transcritical*: it goes
  on beyond that branch, with the other index);
- *left the box*: it reaches a wall of the potential's bounds;
- *lost*, with the reason.

Beyond ``Continuation.dense_limit`` coordinates branches are followed, but folds and pitchforks are not located.

With two control parameters fold curves meet in cusps, with three, lines of cusps in swallowtails:
:func:`locate_cusp` and :func:`locate_swallowtail` find them from a stationary point near by.

Branches that are born and die between two values leave no trace at either. With ``halvings`` the middle of
every gap is explored too, and then, as often as said, the middles of those gaps that remain in doubt: in which
a branch is lost for no located reason, or beside a middle with a branch that neither neighbour has.
"""

from torchscape.families.bifurcations import Bifurcation, locate_fold
from torchscape.families.catastrophes import Catastrophe, locate_cusp, locate_swallowtail
from torchscape.families.continuation import Continuation, Continued, continue_points
from torchscape.families.exploration import explore_family

__all__ = [
    "Bifurcation",
    "Catastrophe",
    "Continuation",
    "Continued",
    "continue_points",
    "explore_family",
    "locate_cusp",
    "locate_fold",
    "locate_swallowtail",
]
