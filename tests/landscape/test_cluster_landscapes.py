"""Rotated, reflected, translated and relabel clusters are the points they came from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from landscape_fixtures import points

from torchscape import Landscape, random
from torchscape.potentials import LennardJones

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "lj7.json"

pytestmark = pytest.mark.skipif(not DATA.exists(), reason=f"needs {DATA.name} with the stationary points of LJ_7")


def test_lj7_has_4_minima_12_transition_states_and_5_edges_however_its_points_are_turned():
    known = json.loads(DATA.read_text())
    potential = LennardJones(7)
    minima = torch.tensor([point["x"] for point in known["minima"]], dtype=torch.float64)
    saddles = torch.tensor([point["x"] for point in known["ts"]], dtype=torch.float64)
    ends = torch.tensor([point["connects"] for point in known["ts"]])

    def seen(x, seed, index):
        """Random images, in random order, with the energies that the potential gives them."""
        key = random.fold(seed, torch.arange(len(x)))
        x = potential.symmetry.random_image(x, key)
        return points(x, potential.energy(x).detach(), index=index)

    with Landscape.in_memory(potential) as landscape:
        for seed in range(4):
            order = random.permutation(random.fold(99, torch.tensor([seed])), len(minima))[0]
            ids = landscape.add_minima(seen(minima[order], seed, 0))
            number = torch.empty_like(ids)
            number[order] = ids
            found = landscape.add_transition_states(
                seen(saddles, 100 + seed, 1), number[ends[:, 0]], number[ends[:, 1]]
            )
            assert sorted(found.tolist()) == list(range(12))
        summary = landscape.summary()
    counts = (
        "n_minima",
        "n_transition_states",
        "n_connected_pairs",
        "n_components",
        "n_degenerate_rearrangements",
    )
    assert [summary[name] for name in counts] == [4, 12, 5, 1, 6]
    assert summary["hits"] == [4] * 4
    assert summary["ts_hits"] == [4] * 12
    assert summary["n_inconsistent_ends"] == 0
    assert summary["energies"] == pytest.approx([point["E"] for point in known["minima"]], abs=1e-7)
