"""Energies of the global minima of clusters, as published; every one was found again by our own search."""

from __future__ import annotations

from torchscape.problems.publication import Published

__all__ = [
    "LOWEST_GUPTA",
    "LOWEST_KOB_ANDERSEN",
    "LOWEST_LJ",
    "LOWEST_MORSE",
    "LOWEST_THOMSON",
    "PUBLISHED_CLUSTERS",
]

_CCD = "D. J. Wales and J. P. K. Doye, J. Phys. Chem. A 101, 5111 (1997), doi 10.1021/jp970984n"
LOWEST_LJ = {  # number of atoms: energy, epsilon
    2: -1.0, 3: -3.0, 4: -6.0, 5: -9.103852, 6: -12.712062, 7: -16.505384, 8: -19.821489, 9: -24.113360,
    10: -28.422532, 11: -32.765970, 12: -37.967600, 13: -44.326801, 38: -173.928427,
}  # fmt: skip

_MORSE = "J. P. K. Doye and D. J. Wales, J. Chem. Soc., Faraday Trans. 93, 4233 (1997), doi 10.1039/a706221d"
_MORSE_TABLE = {  # number of atoms: energies at rho = 3, 6, 10, 14
    5: (-9.2995, -9.0449, -9.0036, -9.0003),
    6: (-13.5442, -12.4878, -12.0949, -12.0182),
    7: (-17.5530, -16.2076, -15.9565, -15.8831),
    8: (-22.0429, -19.3274, -18.9646, -18.8837),
    9: (-26.7784, -23.4172, -22.8508, -22.6449),
    10: (-31.8886, -27.4733, -26.5839, -26.1327),
    11: (-37.9308, -31.5219, -30.2652, -29.5961),
    12: (-44.0979, -36.4003, -34.3668),
}
LOWEST_MORSE = {  # (rho, number of atoms): energy
    **{
        (rho, n): energy
        for n, row in _MORSE_TABLE.items()
        for rho, energy in zip((3.0, 6.0, 10.0, 14.0), row, strict=False)
    },
    (3.0, 13): -51.737046,
    (6.0, 13): -42.439863,
    (14.0, 13): -37.258877,
}

_THOMSON = "D. J. Wales and S. Ulker, Phys. Rev. B 74, 212101 (2006), doi 10.1103/PhysRevB.74.212101"
LOWEST_THOMSON = {  # number of charges: energy
    2: 0.5, 3: 1.732050808, 4: 3.674234614, 5: 6.474691495, 6: 9.985281374, 7: 14.452977414, 8: 19.675287861,
    9: 25.759986531, 10: 32.716949460, 11: 40.596450510, 12: 49.165253058, 32: 412.261274651,
}  # fmt: skip

_PELE = "github.com/pele-python/pele, pele/potentials/tests"
_WEAL = "G. R. Weal's thesis, github.com/GardenGroupUO/Geoffrey-R-Weal-PhD-Thesis, chapter 4, Au38"
LOWEST_GUPTA = {("Pt", 13): -64.91633912, ("Au", 38): -130.47}  # metal, number of atoms: energy, eV
_GUPTA_SOURCES = {("Pt", 13): f"{_PELE}/test_gupta.py", ("Au", 38): _WEAL}

LOWEST_KOB_ANDERSEN = {(10, 3): -48.6156136322}  # of A and of B: energy; cut off at 2.5 sigma


def _lj(n: int) -> Published:
    return _lowest(LOWEST_LJ[n], _CCD, f"{n} atoms, pair energies 4 (r^-12 - r^-6)")


def _lowest(energy: float, source: str, setting: str) -> Published:
    return Published("energy of the global minimum", energy, source, setting)


PUBLISHED_CLUSTERS: dict[str, tuple[Published, ...]] = {
    "lj": tuple(_lj(n) for n in LOWEST_LJ),
    "lj6": (_lj(6),),
    "lj7": (_lj(7),),
    "lj13": (_lj(13),),
    "lj38": (
        _lj(38),
        Published(
            "energy of the bottom of the icosahedral funnel",
            -173.252378,
            "J. P. K. Doye, M. A. Miller and D. J. Wales, J. Chem. Phys. 110, 6896 (1999), doi 10.1063/1.478595",
        ),
    ),
    "gupta": tuple(
        _lowest(energy, _GUPTA_SOURCES[metal, n], f"{n} atoms of {metal}, in eV")
        for (metal, n), energy in LOWEST_GUPTA.items()
    ),
    "kob-andersen": tuple(
        _lowest(energy, f"{_PELE}/_blj13_min.xyz", f"{n_a} and {n_b} atoms, cut off at 2.5 sigma")
        for (n_a, n_b), energy in LOWEST_KOB_ANDERSEN.items()
    ),
    "morse": tuple(
        _lowest(energy, _MORSE, f"{n} atoms, rho = {rho:g}") for (rho, n), energy in LOWEST_MORSE.items()
    ),
    "thomson": tuple(_lowest(energy, _THOMSON, f"{n} charges") for n, energy in LOWEST_THOMSON.items()),
}
