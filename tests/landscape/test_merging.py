"""Landscapes of one potential that were explored in two places become one."""

from __future__ import annotations

import pytest
import torch

import torchscape as tsc
from torchscape import Landscape, problems
from torchscape.cli import main
from torchscape.errors import DatabaseError, FingerprintMismatch
from torchscape.landscape import merge

STRATEGIES = [tsc.BasinHopping(walkers=32, hops=2), tsc.ConnectMinima()]


def explored(potential, path, seed):
    with Landscape.open(path, potential) as landscape:
        tsc.explore(landscape, potential, strategies=STRATEGIES, seed=seed, progress=False)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Himmelblau's function, explored with two seeds."""
    folder = tmp_path_factory.mktemp("merge")
    u = problems.get("himmelblau").potential
    return u, explored(u, folder / "a.db", 0), explored(u, folder / "b.db", 1)


def places(landscape):
    """The two ends of every transition state, in the order of their energies, that with the lower x first."""
    x = landscape.minima(landscape.ends().reshape(-1)).x.reshape(-1, 2, landscape.ndim)
    return torch.where((x[:, 0, :1] < x[:, 1, :1])[:, None], x, x.flip(1))


def test_points_are_recognised_and_hits_added(files):
    u, a, b = files
    with Landscape.open(a) as one, Landscape.open(b) as two, Landscape.in_memory(u) as both:
        nets = [one.network(), two.network()]
        first, second = merge(both, one), merge(both, two)
        net = both.network()
        assert (first.n_minima, first.n_transition_states, first.n_known) == (net.n_minima, len(net.ts_energy), 0)
        assert (second.n_minima, second.n_refused) == (0, 0)
        assert second.n_known == one.n_minima + two.n_transition_states
        hits = torch.zeros_like(net.hits)  # all four have energy 0, so that their order means nothing
        for landscape, part in zip((one, two), nets, strict=True):
            at = net.position_of(both.find(landscape.minima()))
            hits[at] += part.hits
            torch.testing.assert_close(net.log_det[at], part.log_det)
            assert set(map(frozenset, at[part.edges].T.tolist())) == set(map(frozenset, net.edges.T.tolist()))
            torch.testing.assert_close(places(both), places(landscape), atol=1e-5, rtol=0)
        assert torch.equal(net.hits, hits)
        torch.testing.assert_close(net.ts_energy, nets[0].ts_energy)
        torch.testing.assert_close(net.ts_log_det, nets[0].ts_log_det)
        assert set(map(tuple, both.tried_pairs().pairs.tolist())) >= set(
            map(tuple, one.tried_pairs().pairs.tolist())
        )
        report = tsc.explore(both, u, strategies=[tsc.ConnectMinima()], progress=False)
        assert report.status == "complete"
        assert both.n_minima == 4


def test_halves_of_a_landscape_become_the_whole(files):
    """Either half lacks an end of the middle transition state, which a third file has."""
    u, a, _ = files
    with Landscape.open(a) as whole:
        x, ends = whole.minima(), whole.ends()
        ids, saddles = whole.minimum_ids(), whole.transition_states()
        with Landscape.in_memory(u) as left, Landscape.in_memory(u) as right:
            left.add_minima(x[:3], hits=torch.tensor([1, 2, 3]))
            right.add_minima(x[1:], hits=torch.tensor([10, 20, 30]))
            right.set_property("label", [5.0, 6.0, 7.0])
            left.set_property("label", {int(left.minimum_ids()[1]): 1.0})
            merged = merge(left, right)
            assert (merged.n_minima, merged.n_known) == (1, 2)
            with Landscape.open(a) as again:
                third = merge(left, again)
            assert (third.n_minima, third.n_transition_states, third.n_refused) == (0, len(saddles), 0)
            net = left.network()
            assert net.hits.tolist()[0] == 1 + int(whole.network().hits[0])
            assert left.properties()["label"].nan_to_num(-1.0).tolist() == [-1.0, 1.0, 6.0, 7.0]
            energies = [sorted((whole.minima(e).energy).tolist()) for e in ends]
            found = [sorted((left.minima(e).energy).tolist()) for e in left.ends()]
            torch.testing.assert_close(torch.tensor(found), torch.tensor(energies))
        assert len(ids) == 4


def test_points_of_every_index_come_along(device):
    """Of (x^2 - 1)^2 + (y^2 - 1)^2 in a box: 4 minima, 4 transition states, 1 maximum."""
    u = tsc.FunctionPotential(lambda x: ((x**2 - 1) ** 2).sum(), 2, bounds=[(-2, 2), (-2, 2)], device=device)
    with Landscape.in_memory(u) as one, Landscape.in_memory(u) as both:
        tsc.explore(one, u, strategies=tsc.StationarySearch(starts=200), progress=False)
        merged = [merge(both, one), merge(both, one)]
        assert [(m.n_minima, m.n_transition_states, m.n_higher, m.n_known) for m in merged] == [
            (4, 4, 1, 0),
            (0, 0, 0, 9),
        ]
        assert both.counts_by_index() == one.counts_by_index() == [4, 4, 1]
        net, before = both.network(), one.network()
        assert torch.equal(net.hits.sort().values, 2 * before.hits.sort().values)
        assert torch.equal(net.ts_hits.sort().values, 2 * before.ts_hits.sort().values)


def test_a_path_that_leaves_the_box_still_does():
    """x^3 / 3 - x in [-3, 3]: from the top at -1 one path ends at 1, the other leaves."""
    u = tsc.FunctionPotential(lambda x: x[0] ** 3 / 3 - x[0], 1, bounds=[(-3, 3)])
    with Landscape.in_memory(u) as one, Landscape.in_memory(u) as both:
        tsc.explore(one, u, strategies=tsc.StationarySearch(starts=40), progress=False)
        assert [end for end in one.ends()[0].tolist() if end >= 0] == one.minimum_ids().tolist()
        merged = merge(both, one)
        assert (merged.n_minima, merged.n_transition_states, merged.n_refused) == (1, 1, 0)
        assert torch.equal(both.ends(), one.ends())


def test_another_potential_or_the_same_file_is_refused(files, tmp_path):
    u, a, _ = files
    other = problems.get("six-hump-camel").potential
    with Landscape.open(a) as one, Landscape.in_memory(other) as mine, pytest.raises(FingerprintMismatch):
        merge(mine, one)
    with (
        Landscape.open(a, u) as one,
        Landscape.open(a) as again,
        pytest.raises(DatabaseError, match="into itself"),
    ):
        merge(one, again)
    with Landscape.open(a) as one, Landscape.in_memory(u) as mine:
        with pytest.raises(DatabaseError, match="with its potential"):
            merge(one, mine)
        before = mine.n_minima
    assert before == 0


def test_from_the_shell(files, tmp_path, capsys):
    u, a, b = files
    target = tmp_path / "both.db"
    assert main(["merge", "himmelblau", str(a), str(b), "-o", str(target)]) == 0
    said = capsys.readouterr().out
    assert "a.db: new: 4 minima, 4 transition states; known: 0" in said
    assert "b.db: new: nothing; known: 8" in said
    with Landscape.open(target, u) as both:
        assert both.n_minima == 4
    assert main(["merge", "himmelblau", str(a), str(b), "-o", str(target)]) == 2
    assert "exists already" in capsys.readouterr().err
