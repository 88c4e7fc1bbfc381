"""Stationary points of index 2 and more: kept beside the network, counted with the rest."""

from __future__ import annotations

import torch
from landscape_fixtures import Bowl, points

from torchscape import Landscape


def test_points_go_where_their_index_says():
    """One call of ``add`` for a mixture; ids count within each kind."""
    with Landscape.in_memory(Bowl(4)) as landscape:
        landscape.add(points([[0.0, 0.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0]], index=0))
        x = torch.nn.functional.pad(torch.tensor([[5.0, 0.0], [1.0, 3.0], [7.0, 0.0], [5.0, 5.0]]), (0, 2))
        mixed = points(x, index=torch.tensor([2, 1, 4, 2]))
        ends = torch.tensor([[-1, 0, -1, -1], [-1, 1, -1, -1]])
        assert landscape.add(mixed, *ends).tolist() == [0, 0, 1, 2]
        assert landscape.counts_by_index() == [2, 1, 2, 0, 1]
        every = landscape.stationary_points()
        assert every.index.tolist() == [0, 0, 1, 2, 4, 2]
        assert torch.equal(every.energy, every.energy.sort().values)
        assert landscape.summary()["counts_by_index"] == [2, 1, 2, 0, 1]
        network = landscape.network()
        assert (network.n_minima, network.n_edges) == (2, 1)


def test_known_points_are_recognised_and_bad_ones_refused(tmp_path):
    u = Bowl(3)
    with Landscape.open(tmp_path / "l.db", u) as landscape:
        first = points([[5.0, 0.0, 0.0], [6.0, 0.0, 0.0]], index=torch.tensor([2, 3]))
        assert landscape.add_higher_saddles(first, task="a").tolist() == [0, 1]
        again = points(
            [[6.0, 0.01, 0.0], [5.0, 0.0, 0.0], [6.0, 1.0, 0.0]],
            [36.0, 25.0, torch.nan],
            index=torch.tensor([3, 2, 2]),
        )
        assert landscape.add_higher_saddles(again).tolist() == [1, 0, -1]
        wrong = points([[1.0, 1.0, 0.0], [2.0, 1.0, 0.0], [3.0, 0.0, 0.0]], index=torch.tensor([1, -1, 4]))
        assert landscape.add_higher_saddles(wrong).tolist() == [-1, -1, -1]
        assert landscape.refusals() == {"higher saddle: not finite": 1, "higher saddle: wrong index": 3}
        assert landscape.counts_by_index() == [0, 0, 1, 1]
    with Landscape.open(tmp_path / "l.db") as landscape:
        assert landscape.counts_by_index() == [0, 0, 1, 1]
        assert landscape.stationary_points().energy.tolist() == [25.0, 36.0]


def test_a_landscape_without_any():
    with Landscape.in_memory(Bowl()) as landscape:
        assert landscape.counts_by_index() == [0, 0]
        assert len(landscape.stationary_points()) == 0
