"""A file that another process explores, and what a glance at it says."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

import torchscape as tsc
from torchscape.errors import DatabaseError, OptionError
from torchscape.landscape import glances
from torchscape.landscape.lock import WriterLock, is_locked


@pytest.fixture
def explored(tmp_path) -> Path:
    surface = tsc.potentials.Himmelblau()
    with tsc.Landscape.open(tmp_path / "h.db", surface) as landscape:
        tsc.explore(landscape, surface, strategies=[tsc.BasinHopping(walkers=16, hops=1), tsc.ConnectMinima()],
                    progress=False)  # fmt: skip
    return tmp_path / "h.db"


def test_a_glance_counts_what_the_network_has(explored):
    with tsc.Landscape.open(explored) as landscape:
        found, network = landscape.glance(), landscape.network()
        assert (found.n_minima, found.n_transition_states) == (4, 4)
        assert found.n_minima == landscape.n_minima
        assert found.n_components == network.n_components
        assert found.lowest_energy == float(network.energy.min())
        assert found.n_evaluations == landscape.n_evaluations()


def test_an_empty_landscape_has_no_lowest_energy():
    with tsc.Landscape.in_memory(tsc.potentials.Himmelblau()) as landscape:
        found = landscape.glance()
    assert (found.n_minima, found.n_components) == (0, 0)
    assert math.isnan(found.lowest_energy)
    assert str(found) == "0 minima, 0 transition states, 0 components"


def test_a_file_that_nobody_explores_is_looked_at_once(explored):
    (found,) = glances(explored)
    assert (found.status, found.is_written, found.is_running) == ("complete", False, False)
    assert found.n_evaluations_of_run == found.n_evaluations > 0


def test_whether_a_file_is_locked(tmp_path):
    path = tmp_path / "a.db"
    assert not is_locked(path)
    lock = WriterLock(path)
    assert is_locked(path)
    lock.release()
    assert not is_locked(path)
    (tmp_path / "a.db.lock").write_text("1 gone")  # of a process that was killed
    assert not is_locked(path)
    WriterLock(path).release()  # and asking has taken nothing


def slow(path: str, seconds: float, ready) -> None:
    import torch

    class Slow(tsc.potentials.Himmelblau):
        def energy(self, x: torch.Tensor) -> torch.Tensor:
            time.sleep(0.002)
            return super().energy(x)

    surface = Slow()
    with tsc.Landscape.open(path, surface) as landscape:
        hopping = tsc.BasinHopping(walkers=4, hops=100_000, round_hops=1)
        tsc.explore(landscape, surface, strategies=[hopping], progress=False, check=False,
                    budget=tsc.Budget(seconds=seconds), on_round=lambda report: ready.set())  # fmt: skip


@pytest.fixture
def process(tmp_path):
    """Another process that explores for so long."""
    running = []

    def start(seconds: float):
        context = multiprocessing.get_context("fork")
        ready = context.Event()
        one = context.Process(target=slow, args=(str(tmp_path / "s.db"), seconds, ready))
        one.start()
        running.append(one)
        assert ready.wait(60)
        return one

    yield start
    for one in running:
        one.kill()
        one.join()


def test_another_process_is_followed_to_its_end(process, tmp_path):
    process(2.0)
    found = list(glances(tmp_path / "s.db", every=0.1))
    assert len(found) > 1
    assert all(one.is_running for one in found[:-1])
    assert found[-1].status == "budget: seconds"
    counts = [one.n_evaluations for one in found]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]
    assert found[-1].rate == pytest.approx(found[-1].n_evaluations / found[-1].seconds)


def test_a_process_that_was_killed_is_no_longer_running(process, tmp_path):
    one = process(60.0)
    looks = glances(tmp_path / "s.db", every=0.05)
    assert next(looks).is_running
    os.kill(one.pid, signal.SIGKILL)
    one.join()
    *_, last = looks
    assert (last.status, last.is_running) == ("running", False)


def test_what_cannot_be_watched_is_said(tmp_path):
    with pytest.raises(DatabaseError, match="there is no file"):
        next(glances(tmp_path / "none.db"))
    with pytest.raises(OptionError, match="positive"):
        next(glances(tmp_path / "none.db", every=0))


def test_the_lock_and_that_of_a_library_respect_each_other(tmp_path):
    """``filelock`` takes the same lock of the system; what it has not got is who holds it."""
    filelock = pytest.importorskip("filelock")
    path = tmp_path / "a.db"
    other = filelock.FileLock(str(path) + ".lock")
    ours = WriterLock(path)
    with pytest.raises(filelock.Timeout) as refused:
        other.acquire(blocking=False)
    assert str(os.getpid()) not in str(refused.value)
    ours.release()
    with other.acquire(blocking=False):
        assert is_locked(path)
        with pytest.raises(DatabaseError, match="is being written"):
            WriterLock(path)
    ours = WriterLock(path)
    with pytest.raises(DatabaseError, match="already open for writing in this process"):
        WriterLock(path)
    ours.release()
    assert not (tmp_path / "a.db.lock").exists()
