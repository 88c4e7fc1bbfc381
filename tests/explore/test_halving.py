"""Who has nothing left to do takes half of what another is at: nothing is done twice, nothing else is found."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence

import pytest
import torch
from explore_doubles import Desks, Wells, in_memory
from test_labour import alike, pairs_of_lj7
from test_processes import Deadly, without_evaluations

from torchscape import StationaryPoints
from torchscape.explore import BasinHopping, ConnectMinima, Processes, crew_round
from torchscape.explore.ahead import Part
from torchscape.explore.tasks import Found, dealt
from torchscape.optimise.ledger import compute_once

LOCK = threading.Lock()
done: list[float] = []  # rows that were computed, by any worker


@dataclasses.dataclass(frozen=True)
class Waits:
    """Rows that take so many seconds each; what is found are their seconds, in the place of energies."""

    seconds: torch.Tensor
    kind = "waits"

    @property
    def n_rows(self) -> int:
        return len(self.seconds)

    def divided(self, n: int) -> list[Waits]:
        return [Waits(self.seconds[rows]) for rows in dealt(self.n_rows, n)]

    def joined(self, found: Sequence[Found]) -> Found:
        points = StationaryPoints.cat([one.minima for one in found])
        order = torch.cat([torch.arange(self.n_rows)[rows] for rows in dealt(self.n_rows, len(found))]).argsort()
        return Found(points[order])

    def run(self, potential) -> Found:
        def wait(rows):
            taken = self.seconds[rows]
            time.sleep(float(taken.sum()))
            with LOCK:
                done.extend(taken.tolist())
            return StationaryPoints.of(taken[:, None], taken)

        return Found(compute_once("waits", StationaryPoints, (self.seconds[:, None],), wait, 1))


def test_half_of_what_takes_long_goes_to_who_has_nothing_to_do(monkeypatch):
    monkeypatch.setattr(crew_round, "_IDLE", 0.1)
    done.clear()
    seconds = 1e-6 * torch.arange(32, dtype=torch.float64)  # all are different
    seconds[1::2] += 0.05  # these are one worker's, at first
    with Desks(2) as desks:
        (found,) = desks.run(Wells(1), [Waits(seconds)])
        assert desks.n_halved >= 1
        assert desks._pace["waits"] > 0.015  # seconds of a row, of all that were spent on the task
    assert torch.equal(found.minima.energy, seconds)
    assert sorted(done) == sorted(seconds.tolist())  # each once


@pytest.mark.parametrize("workers", [2, 3])
def test_pairs_find_the_same_however_often_they_are_cut(monkeypatch, workers):
    monkeypatch.setattr(crew_round, "_IDLE", 0.0)
    monkeypatch.setattr(crew_round, "_ASKED", 0.002)  # seconds: all of it takes a fast machine 0.2
    monkeypatch.setattr(crew_round, "FEW", 1)
    u, task = pairs_of_lj7()
    with Desks(workers) as desks:
        list(desks.run(u, [Waits(torch.zeros(32))]))  # now they are all there
        monkeypatch.setattr(desks, "parts", lambda at, work: [Part(at, work, work.n_rows, next(desks.numbers))])
        (found,) = desks.run(u, [dataclasses.replace(task, is_part=True)])
    assert desks.n_halved >= 1
    candidates = found.state["candidates"]
    (found,) = [task.joined([found])]
    assert torch.equal(candidates.owner, dataclasses.replace(task, is_part=True).run(u).state["candidates"].owner)
    alike(task.run(u), found.completed(u), is_cut=True)


def test_a_worker_that_dies_of_half_a_part_is_replaced(monkeypatch, tmp_path):
    monkeypatch.setattr(crew_round, "_IDLE", 0.0)
    monkeypatch.setattr(crew_round, "FEW", 1)
    file = tmp_path / "left"
    file.write_text("0")
    potential, strategies = Deadly(file), [BasinHopping(walkers=12, hops=1), ConnectMinima(neighbours=2)]
    whole = in_memory(potential, strategies, seed=3)
    file.write_text("2")
    with Processes(workers=2) as executor:
        assert without_evaluations(in_memory(potential, strategies, seed=3, executor=executor)) == (
            without_evaluations(whole)
        )
    assert file.read_text() == "0"
