"""Clusters of atoms."""

from __future__ import annotations

from typing import Any

from torchscape.potentials.clusters import Trimer
from torchscape.potentials.lennard_jones import LennardJones
from torchscape.problems.problem import Known, Problem
from torchscape.problems.published_figures import LOWEST_LJ

__all__ = ["lennard_jones", "lj6", "lj7", "lj13", "lj38", "trimer"]

_CCD = "D. J. Wales and J. P. K. Doye, J. Phys. Chem. A 101, 5111 (1997), doi 10.1021/jp970984n"
_DOUBLE_FUNNEL = (
    "J. P. K. Doye, M. A. Miller and D. J. Wales, J. Chem. Phys. 110, 6896 (1999), doi 10.1063/1.478595"
)
_LJ7_SADDLES = (
    -15.444733800, -15.319864441, -15.283421275, -15.097845644, -15.033384354, -15.026438106,
    -14.816399804, -14.811129645, -14.596945713, -14.568061437, -14.548572943, -12.548937709,
)  # fmt: skip


def lennard_jones(n: int = 7, container: float | int | str | None = "auto", **place) -> Problem:
    """Lennard-Jones cluster of n atoms."""
    lowest = (LOWEST_LJ[n],) if n in LOWEST_LJ else ()
    known = Known(minima=lowest, note="the global minimum only")
    return _cluster(n, known, _CCD, {"container": container, **place})


def lj6(**place) -> Problem:
    """Six Lennard-Jones atoms: the octahedron and the capped bipyramid."""
    return _cluster(6, Known(minima=(-12.7120622568, -12.302927529932), n_minima=2, n_saddles=3), _CCD, place)


def lj7(**place) -> Problem:
    """Seven Lennard-Jones atoms: four minima, twelve transition states, half of them degenerate."""
    known = Known(
        minima=(-16.505384168, -15.935043060, -15.593210938, -15.533060054),
        saddles=_LJ7_SADDLES,
        n_minima=4,
        n_saddles=12,
        n_connected_pairs=5,
        note="six transition states join permutational images of one minimum; the highest is found rarely",
    )
    return _cluster(7, known, _CCD, place)


def lj13(**place) -> Problem:
    """Thirteen Lennard-Jones atoms: one steep funnel to the icosahedron."""
    return _cluster(13, Known(minima=(-44.326801,), note="the global minimum only"), _CCD, place)


def lj38(**place) -> Problem:
    """Thirty-eight Lennard-Jones atoms: two funnels, the truncated octahedron's the lower and the narrower."""
    known = Known(minima=(-173.928426591, -173.252378416), note="the bottoms of the two funnels")
    return _cluster(38, known, _DOUBLE_FUNNEL, place)


def _cluster(n: int, known: Known, source: str, place) -> Problem:
    # Of all sizes: half of the transition states join images of one minimum, between which no band is drawn.
    suggested: dict[str, Any] = {
        "strategy": ("basin-hopping", "connect", "climb"),
        "searches": 100,
        "walkers": 32,
        "hops": 10 if n <= 7 else 200,
        "temperature": 0.8,
        "step": 0.9,
    }
    return Problem(
        name=f"lj{n}",
        potential=LennardJones(n, **place),
        description=f"{n} atoms with pair energies 4 (r^-12 - r^-6)",
        source=source,
        known=known,
        suggested=suggested,
    )


def trimer(strength: float | int = 2.0, **place) -> Problem:
    """Three atoms with Lennard-Jones and three-body forces: a triangle, and the lower linear chain."""
    published = Known(
        minima=(-2.2190981696, -2.1850988403),
        saddles=(-1.98506966,),
        n_minima=2,
        n_saddles=1,
        n_connected_pairs=1,
        note="one transition state joins the two; permutations of the chain's middle atom are images",
    )
    return Problem(
        name="trimer",
        potential=Trimer(strength, **place),
        description=f"Lennard-Jones + Axilrod-Teller with strength {strength}",
        source="A. J. Ballard et al., Phys. Chem. Chem. Phys. 19, 12585 (2017), doi 10.1039/c7cp01108c",
        known=published if strength == 2 else Known(),
        suggested={"walkers": 16, "hops": 10, "temperature": 0.5, "step": 1.0},
    )
