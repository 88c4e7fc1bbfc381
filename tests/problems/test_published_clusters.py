"""Published energies of clusters: every one that is listed is found from random starts, and none below."""

from __future__ import annotations

import pytest

import torchscape as tsc
from torchscape import problems
from torchscape.explore import Angular, BasinHopping, Budget, Gaussian, Mixture
from torchscape.problems.published_clusters import (
    LOWEST_GUPTA,
    LOWEST_KOB_ANDERSEN,
    LOWEST_LJ,
    LOWEST_MORSE,
    LOWEST_THOMSON,
)

MOVES = Mixture(((0.7, Gaussian()), (0.3, Angular())))
LISTED = {
    **{f"lj:n={n}": energy for n, energy in LOWEST_LJ.items() if n < 38},
    **{f"morse:n={n},rho={rho:g}": energy for (rho, n), energy in LOWEST_MORSE.items()},
    **{f"gupta:n={n},metal={metal}": energy for (metal, n), energy in LOWEST_GUPTA.items()},
    **{f"kob-andersen:n={n_a + n_b},n_b={n_b},cutoff=2.5": e for (n_a, n_b), e in LOWEST_KOB_ANDERSEN.items()},
    **{f"thomson:n={n}": energy for n, energy in LOWEST_THOMSON.items()},
}
TWO_DECIMALS = ("gupta:n=38,metal=Au",)
QUICK = ("lj:n=8", "morse:n=8,rho=6", "thomson:n=12")


@pytest.mark.filterwarnings("ignore:.*continuous families")  # atoms beyond each other's cutoff
@pytest.mark.parametrize(
    "spec", [one if one in QUICK else pytest.param(one, marks=pytest.mark.slow) for one in LISTED]
)
def test_a_listed_energy_is_the_lowest_that_a_search_finds(spec):
    """Printed to two to nine decimals: found to the last of them, and nothing lower by more than that."""
    problem, energy = problems.parse(spec), LISTED[spec]
    assert problem.known.minima == (energy,)
    decimals = min(len(f"{energy:.9f}".rstrip("0").partition(".")[2]), 9)
    digits = 0.51 * 10.0 ** -max(decimals, 2 if spec in TWO_DECIMALS else 4)
    with tsc.Landscape.in_memory(problem.potential) as landscape:
        hopping = BasinHopping(
            walkers=16, hops=600, temperature=problem.suggested["temperature"], step=0.9, move=MOVES
        )
        options = {"strategies": [hopping], "progress": False, "seed": 4}
        report = tsc.explore(landscape, problem.potential, budget=Budget(energy=energy + digits), **options)
        assert report.status in ("budget: energy", "complete")
        further = Budget(quenches=200)
        tsc.explore(landscape, problem.potential, budget=further, **options)
        assert float(landscape.minimum_energies()[0]) == pytest.approx(energy, abs=digits + 1e-6)
