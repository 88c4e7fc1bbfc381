"""Clusters of atoms."""

from __future__ import annotations

import dataclasses
from typing import Any

from torchscape.potentials.clusters import ClusterPotential, Trimer
from torchscape.potentials.gupta import METALS
from torchscape.potentials.gupta import Gupta as GuptaCluster
from torchscape.potentials.lennard_jones import BinaryLennardJones, LennardJones
from torchscape.potentials.pair_clusters import Dzugutov, Morse
from torchscape.potentials.thomson import Thomson
from torchscape.problems.problem import Known, Problem
from torchscape.problems.published_clusters import (
    LOWEST_GUPTA,
    LOWEST_KOB_ANDERSEN,
    LOWEST_LJ,
    LOWEST_MORSE,
    LOWEST_THOMSON,
)

__all__ = [
    "binary_lennard_jones",
    "dzugutov",
    "gupta",
    "kob_andersen",
    "lennard_jones",
    "lj6",
    "lj7",
    "lj13",
    "lj38",
    "morse",
    "thomson",
    "trimer",
]

_CCD = "D. J. Wales and J. P. K. Doye, J. Phys. Chem. A 101, 5111 (1997), doi 10.1021/jp970984n"
_DOUBLE_FUNNEL = (
    "J. P. K. Doye, M. A. Miller and D. J. Wales, J. Chem. Phys. 110, 6896 (1999), doi 10.1063/1.478595"
)
_LJ7_SADDLES = (
    -15.444733800, -15.319864441, -15.283421275, -15.097845644, -15.033384354, -15.026438106,
    -14.816399804, -14.811129645, -14.596945713, -14.568061437, -14.548572943, -12.548937709,
)  # fmt: skip


def lennard_jones(n: int = 7, container: float | int | str | None = "auto", dim: int = 3, **place) -> Problem:
    """Lennard-Jones cluster of n atoms, in space or in a plane."""
    lowest = (LOWEST_LJ[n],) if n in LOWEST_LJ and dim == 3 else ()
    known = Known(minima=lowest, note="the global minimum only" if lowest else "")
    return _cluster(n, known, _CCD, {"container": container, "dim": dim, **place})


def morse(n: int = 13, rho: float | int = 6.0, **place) -> Problem:
    """Morse cluster of n atoms with range parameter rho: 3, 6, 10 or 14 in the literature."""
    return _of(
        Morse(n, rho, **place),
        f"{n} atoms with pair energies e (e - 2), e = exp({rho:g} (1 - r))",
        "J. P. K. Doye and D. J. Wales, J. Chem. Soc., Faraday Trans. 93, 4233 (1997), doi 10.1039/a706221d",
        lowest=LOWEST_MORSE.get((float(rho), n)),
    )


def dzugutov(n: int = 13, **place) -> Problem:
    """Cluster of n atoms whose potential has a barrier beyond its well, against close packing."""
    return _of(
        Dzugutov(n, **place),
        f"{n} atoms with Dzugutov's pair potential",
        "J. P. K. Doye, D. J. Wales and S. I. Simdyankin, Faraday Discuss. 118, 159 (2001), doi 10.1039/b008833l",
        temperature=0.3,
    )


def gupta(n: int = 13, metal: str = "Au", **place) -> Problem:
    """Cluster of n atoms of a metal (Au, Cu, Pd or Pt) with Gupta's many-body potential, in eV."""
    return _of(
        GuptaCluster(n, metal, **place),
        f"{n} atoms of {metal}: A, xi, p, q = {', '.join(f'{value:g}' for value in METALS[metal][:4])}",
        "F. Cleri and V. Rosato, Phys. Rev. B 48, 22 (1993), doi 10.1103/PhysRevB.48.22",
        lowest=LOWEST_GUPTA.get((metal, n)),
        temperature=0.3,
    )


def binary_lennard_jones(n: int = 13, n_b: int = 12, sigma_bb: float | int = 1.3, **place) -> Problem:
    """Binary Lennard-Jones cluster: n_b of n atoms are larger, and all wells as deep."""
    return _of(
        BinaryLennardJones(n - n_b, n_b, sigma=sigma_bb, **place),
        f"{n - n_b} atoms of diameter 1 and {n_b} of diameter {sigma_bb:g}",
        "J. P. K. Doye and L. Meyer, Phys. Rev. Lett. 95, 063401 (2005), doi 10.1103/PhysRevLett.95.063401",
    )


def kob_andersen(
    n: int = 13, n_b: int = 3, density: float | int | None = None, cutoff: float | int | None = None, **place
) -> Problem:
    """Kob and Andersen's mixture, n_b of n atoms the smaller: a cluster, or with a density in a periodic
    box, where the cutoff is 2.5 sigma or half of the box unless given."""
    where = ""
    if density is not None:
        side = (n / density) ** (1 / 3)
        cutoff = min(2.5, 0.5 * side) if cutoff is None else cutoff
        place["box"] = side
        where = f", in a periodic box of {side:.4g}"
    where += "" if cutoff is None else f", cut off at {cutoff:.4g} sigma"
    in_space = density is None and cutoff == 2.5 and place.get("dim", 3) == 3
    return _of(
        BinaryLennardJones(n - n_b, n_b, sigma=(1.0, 0.8, 0.88), epsilon=(1.0, 1.5, 0.5), cutoff=cutoff, **place),
        f"{n - n_b} and {n_b} atoms: sigma 1, 0.8, 0.88, epsilon 1, 1.5, 0.5{where}",
        "W. Kob and H. C. Andersen, Phys. Rev. E 51, 4626 (1995), doi 10.1103/PhysRevE.51.4626",
        lowest=LOWEST_KOB_ANDERSEN.get((n - n_b, n_b)) if in_space else None,
    )


def thomson(n: int = 12, **place) -> Problem:
    """Equal charges on a sphere: the Thomson problem."""
    return _of(
        Thomson(n, **place),
        f"{n} unit charges on the unit sphere",
        "D. J. Wales and S. Ulker, Phys. Rev. B 74, 212101 (2006), doi 10.1103/PhysRevB.74.212101",
        lowest=LOWEST_THOMSON.get(n),
    )


def _of(
    potential: ClusterPotential,
    description: str,
    source: str,
    *,
    lowest: float | None = None,
    temperature: float = 0.8,
) -> Problem:
    known = Known() if lowest is None else Known(minima=(lowest,), note="the global minimum only")
    n = potential.n_atoms
    suggested: dict[str, Any] = {
        "strategy": ("basin-hopping", "connect", "climb"),
        "searches": 100,
        "walkers": 32,
        "hops": 10 if n <= 7 else 200,
        "temperature": temperature,
        "step": 0.9,
    }
    return Problem(
        name=type(potential).__name__.lower(),
        potential=potential,
        description=description,
        source=source,
        known=known,
        suggested=suggested,
    )


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
    problem = _of(LennardJones(n, **place), f"{n} atoms with pair energies 4 (r^-12 - r^-6)", source)
    suggested = dict(problem.suggested)
    if n > 7 and place.get("dim", 3) == 3:
        # LJ_38 takes a quarter of the quenches that it takes with Gaussian moves alone, LJ_26 half.
        suggested["move"] = "gaussian:0.7,angular:0.1,symmetrise:0.2"
    return dataclasses.replace(problem, name=f"lj{n}", known=known, suggested=suggested)


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
