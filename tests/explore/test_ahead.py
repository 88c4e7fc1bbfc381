"""What workers compute ahead of the next round is found there, and decides nothing."""

from __future__ import annotations

import threading

import pytest
import torch
from explore_doubles import Desks, Wells, in_memory, tables
from test_processes import without_evaluations

import torchscape as tsc
from torchscape import StationaryPoints
from torchscape.explore import BasinHopping, ClimbFromMinima, ConnectMinima, StationarySearch
from torchscape.explore.on_ray import _Letterboxes


class Counted(Wells):
    """``evaluated`` are rows of all copies."""

    evaluated = 0
    lock = threading.Lock()

    def energy(self, x):
        with self.lock:
            Counted.evaluated += len(x)
        return super().energy(x)


@pytest.fixture
def desks():
    with Desks(2) as two:
        yield two


STRATEGIES = {
    "basin-hopping": [BasinHopping(walkers=8, hops=6, round_hops=2)],
    "connect": [BasinHopping(walkers=16, hops=1), ConnectMinima(round_pairs=12)],
    "climb": [BasinHopping(walkers=16, hops=1), ClimbFromMinima(searches=2, round_searches=8)],
    "stationary": [StationarySearch(starts=48, round_starts=24)],
}


@pytest.mark.parametrize("which", STRATEGIES)
def test_the_landscape_is_the_same(which, desks):
    whole = in_memory(Wells(3), STRATEGIES[which], seed=2)
    assert without_evaluations(in_memory(Wells(3), STRATEGIES[which], seed=2, executor=desks)) == (
        without_evaluations(whole)
    )
    assert desks.n_ahead > 0


def test_what_was_computed_ahead_is_not_computed_again(desks):
    """Walkers go on by themselves whatever others find, so that no guess is wrong."""
    hopping = STRATEGIES["basin-hopping"]
    Counted.evaluated = 0
    in_memory(Counted(3), hopping, seed=2, check=False)
    alone, Counted.evaluated = Counted.evaluated, 0
    in_memory(Counted(3), hopping, seed=2, executor=desks, check=False)
    assert desks.n_ahead > 0
    assert Counted.evaluated < 1.2 * alone


def test_foresight_is_the_next_round_where_nothing_new_is_found():
    """What ConnectMinima, ClimbFromMinima and StationarySearch foresee is what they then propose."""
    potential = Wells(3)
    with tsc.Landscape.in_memory(potential) as landscape:
        tsc.explore(landscape, potential, strategies=[BasinHopping(walkers=64, hops=3)], progress=False)
        for strategy in (
            ConnectMinima(round_pairs=4),
            ClimbFromMinima(round_searches=8),
            StationarySearch(round_starts=8),
        ):
            state = strategy.start(landscape, potential, 1)
            round = strategy.propose(landscape, potential, state)
            (foreseen,) = strategy.foresee(landscape, potential, state, round)
            found = [task.run(potential) for task in round.tasks]
            state = strategy.absorb(landscape, state, round, found, None)
            (proposed,) = strategy.propose(landscape, potential, state).tasks
            assert type(foreseen) is type(proposed)
            for name, value in vars(proposed).items():
                other = getattr(foreseen, name)
                if isinstance(value, StationaryPoints):
                    assert all(map(torch.equal, tensors(value), tensors(other)))
                else:
                    assert (
                        torch.equal(value, other)
                        if isinstance(value, torch.Tensor)
                        else repr(value) == repr(other)
                    )


def tensors(points: StationaryPoints) -> list[torch.Tensor]:
    return [column for column in vars(points).values() if column is not None]


def test_an_exploration_that_is_cut_short_rests(desks):
    """What was computed ahead is dropped, and nothing runs on; the rest is found by the next one."""
    potential, hopping = Wells(3), STRATEGIES["basin-hopping"]
    with tsc.Landscape.in_memory(potential) as landscape:
        options = {"strategies": hopping, "seed": 2, "progress": False, "executor": desks}
        assert not tsc.explore(landscape, potential, budget=tsc.Budget(quenches=20), **options).is_complete
        assert not desks.ahead.waiting
        assert tsc.explore(landscape, potential, **options).is_complete
        assert tables(landscape) == in_memory(potential, hopping, seed=2)


def test_letters_are_read_in_the_order_in_which_they_were_posted():
    box = _Letterboxes()
    for number in (2, 0, 3, 1):
        box.deliver(number, bytes([number]))
    assert [box.recv_bytes()[0] for _ in range(4)] == [0, 1, 2, 3]
    assert box.collected(0.01) == []
