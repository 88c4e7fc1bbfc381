"""Surfaces given by a formula."""

from __future__ import annotations

from torchscape.errors import PotentialError
from torchscape.potentials.analytic import (
    AnalyticSurface,
    Himmelblau,
    MuellerBrown,
    Quadratic,
    Rosenbrock,
    SixHumpCamel,
)
from torchscape.potentials.separable import DoubleWell, Schwefel, SeparableSurface
from torchscape.problems.problem import Known, Problem

__all__ = ["double_well", "himmelblau", "mueller_brown", "quadratic", "rosenbrock", "schwefel", "six_hump_camel"]

_LISTED = 10_000


def himmelblau(**place) -> Problem:
    """Himmelblau's function: four minima of energy zero in a ring of four saddles."""
    return Problem(
        name="himmelblau",
        potential=Himmelblau(**place),
        description="(x^2 + y - 11)^2 + (x + y^2 - 7)^2 on [-6, 6]^2",
        source="D. M. Himmelblau, Applied Nonlinear Programming (McGraw-Hill, 1972)",
        known=_declared(Himmelblau(), n_connected_pairs=4),
        suggested={"walkers": 16, "hops": 10, "temperature": 50.0, "step": 1.0},
    )


def mueller_brown(**place) -> Problem:
    """The Mueller-Brown surface: three minima and two saddles in a bent valley."""
    return Problem(
        name="mueller-brown",
        potential=MuellerBrown(**place),
        description="a sum of four two-dimensional exponentials on [-1.5, 1.2] x [-0.2, 2]",
        source="K. Mueller and L. D. Brown, Theor. Chim. Acta 53, 75 (1979), doi 10.1007/BF00547608",
        known=_declared(MuellerBrown(), n_connected_pairs=2),
        suggested={"walkers": 16, "hops": 10, "temperature": 50.0, "step": 2.0},
    )


def six_hump_camel(**place) -> Problem:
    """The six-hump camel: six minima in three pairs, on [-3, 3] x [-2, 2]."""
    return Problem(
        name="six-hump-camel",
        potential=SixHumpCamel(**place),
        description="(4 - 2.1 x^2 + x^4/3) x^2 + x y + 4 (y^2 - 1) y^2",
        source="L. C. W. Dixon and G. P. Szego, Towards Global Optimisation 2 (North-Holland, 1978), p. 97",
        known=_declared(SixHumpCamel()),
        suggested={"walkers": 16, "hops": 10, "temperature": 1.0, "step": 2.0},
    )


def schwefel(ndim: int = 2, bounded: bool = True, **place) -> Problem:
    """Schwefel's function: 7^D minima, the lowest in a corner."""
    surface = Schwefel(ndim, bounded=bounded, **place)
    return Problem(
        name="schwefel",
        potential=surface,
        description=f"sum of 418.9829 - x sin sqrt|x| on [-500, 500]^{ndim}",
        source="H.-P. Schwefel, Numerical Optimization of Computer Models (Wiley, 1981), problem 2.26",
        known=_declared(
            surface,
            n_connected_pairs=6 * ndim * 7 ** (ndim - 1),
            note="one saddle in seven leads out of the box on one side and joins no two minima inside",
        ),
        # A uniform start falls into every well; what is left for the hops are wells that the starts have missed.
        suggested={
            "walkers": 256,
            "hops": 5,
            "temperature": 200.0,
            "step": 5.0,
            "neighbours": 4 * ndim,
            "strategy": ("basin-hopping", "connect", "climb"),
            "searches": 12,
        },
    )


def rosenbrock(ndim: int = 2, bounded: bool = False, **place) -> Problem:
    """Rosenbrock's function: a bent valley; from four to thirty dimensions with a second minimum."""
    surface = Rosenbrock(ndim, bounded=bounded, **place)
    return Problem(
        name="rosenbrock",
        potential=surface,
        description=f"sum of 100 (x_(i+1) - x_i^2)^2 + (1 - x_i)^2 in {ndim} dimensions",
        source="H. H. Rosenbrock, Comput. J. 3, 175 (1960), doi 10.1093/comjnl/3.3.175",
        known=_declared(surface) if ndim <= 7 else _only_minima(surface),
        suggested={"walkers": 16, "hops": 10, "temperature": 2.0, "step": 2.0},
    )


def double_well(
    ndim: int = 2, barrier: float | int = 1.0, width: float | int = 1.0, tilt: float | int = 0.2, **place
) -> Problem:
    """Independent double wells: 2^D minima at the corners of a cube, D 2^(D-1) saddles on its edges."""
    surface = DoubleWell(ndim, barrier=barrier, width=width, tilt=tilt, **place)
    return Problem(
        name="double-well",
        potential=surface,
        description=f"sum of barrier [(x/width)^2 - 1]^2 + tilt x/width in {ndim} dimensions",
        source="closed form",
        known=_declared(surface, n_connected_pairs=surface.n_saddles),
        suggested={"walkers": 64, "hops": 20, "temperature": float(barrier), "step": 2.0, "neighbours": ndim + 1},
    )


def quadratic(ndim: int = 2, condition: float | int = 100.0, **place) -> Problem:
    """A quadratic bowl: one minimum, curvatures from 1 to the condition number in equal ratios.

    Raises:
        PotentialError: without coordinates, or for a condition number below 1.
    """
    if ndim < 1 or not condition >= 1:
        raise PotentialError(f"ndim={ndim}, condition={condition}: give a coordinate, and a condition number >= 1")
    surface = Quadratic([float(condition) ** (i / max(1, ndim - 1)) for i in range(ndim)], **place)
    return Problem(
        name="quadratic",
        potential=surface,
        description=f"half the sum of mu_i x_i^2 in {ndim} dimensions, mu from 1 to {condition:g}",
        source="closed form",
        known=_declared(surface, n_connected_pairs=0),
        suggested={"walkers": 8, "hops": 1, "temperature": 1.0, "step": 1.0},
    )


def _declared(surface: AnalyticSurface, n_connected_pairs: int | None = None, note: str = "") -> Known:
    """What a surface declares, energies included while they are few."""
    if isinstance(surface, SeparableSurface) and max(surface.n_minima, surface.n_saddles) > _LISTED:
        return Known(
            n_minima=surface.n_minima, n_saddles=surface.n_saddles, n_connected_pairs=n_connected_pairs, note=note
        )
    minima, saddles = (tuple(p.energy for p in points) for points in (surface.minima, surface.saddles))
    return Known(minima, saddles, len(minima), len(saddles), n_connected_pairs, note)


def _only_minima(surface: Rosenbrock) -> Known:
    """Beyond seven dimensions the saddle that is declared is not known to be the only one."""
    minima = tuple(p.energy for p in surface.minima)
    return Known(minima=minima, n_minima=len(minima) if surface.ndim <= 30 else None)
