"""A cluster of Ray on this machine: the landscape is that of one process, whatever becomes of workers and driver.

A minute or two of starting processes, so that these are run by ``-m slow`` (``scripts/cluster/test`` runs them).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
import torch
from explore_doubles import Wells, in_memory, tables
from test_processes import Deadly, without_evaluations

import torchscape as tsc
from torchscape.errors import DatabaseError, OptionError, PotentialError, TorchscapeError
from torchscape.explore import (
    BasinHopping,
    ClimbFromMinima,
    ConnectMinima,
    Found,
    RayExecutor,
    check_executor,
    crew_round,
)
from torchscape.explore.executors import choose_executor

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'torchscape[ray]'")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]

HOPPING = BasinHopping(walkers=30, hops=2)


@pytest.fixture(scope="module")
def cluster():
    """One machine of three cores, whatever it has."""
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def executor(cluster):
    with RayExecutor(workers=3) as three:
        yield three


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "left"
    path.write_text("0")
    return path


def test_it_keeps_the_promises_of_an_executor(executor):
    check_executor(executor)


def test_the_landscape_is_that_of_one_process(executor):
    strategies = [BasinHopping(walkers=20, hops=3), ConnectMinima(), ClimbFromMinima(searches=3)]
    whole = in_memory(Wells(3), strategies, seed=3)
    assert without_evaluations(in_memory(Wells(3), strategies, seed=3, executor=executor)) == without_evaluations(
        whole
    )


def test_a_demand_that_cannot_be_met_is_refused(executor):
    for asked, told in (
        (RayExecutor(workers=4), r"4 worker\(s\) of 1 core\(s\) .* has room for 3 \(1 machine\(s\) with 3 cores"),
        (RayExecutor(threads=4), r"has room for 0"),
        (RayExecutor(gpus=1), r"the potential is on the cpu"),
    ):
        with pytest.raises(OptionError, match=told):
            in_memory(Wells(2), [HOPPING], executor=asked)


class Threads:
    """A task that finds how many threads it has."""

    kind = "threads"

    def run(self, potential):
        return Found(tsc.StationaryPoints.empty(potential.ndim), n_quenches=torch.get_num_threads())


class Warned(Threads):
    """A task that warns."""

    def run(self, potential):
        warnings.warn("the floor is wet", UserWarning, stacklevel=1)
        return super().run(potential)


def test_threads_are_those_that_were_promised(executor):
    """Ray's workers are processes that others have used before: they keep the number of threads of those."""
    executor.close()  # its cores are needed
    for threads in (1, 2, 1):
        with RayExecutor(threads=threads) as some:
            told = [found.n_quenches for found in some.run(Wells(2), [Threads()] * 4)]
            assert told == [threads] * 4


def test_warnings_of_workers_are_said_here(executor):
    with pytest.warns(UserWarning, match="the floor is wet"):
        list(executor.run(Wells(2), [Warned()]))


def test_an_error_in_a_worker_is_the_error(executor, file):
    potential = Deadly(file, "raises")
    file.write_text("1")
    with pytest.raises(PotentialError, match="no energy today") as caught:
        in_memory(potential, [HOPPING], executor=executor)
    assert "in a worker" in caught.value.__notes__[0]


def test_functions_of_a_script_reach_the_workers(executor):
    surface = tsc.FunctionPotential(lambda x: ((x**2 - 1) ** 2).sum(), 2)
    assert in_memory(surface, [HOPPING], executor=executor) == in_memory(surface, [HOPPING])


def test_a_limit_stops_the_workers_and_keeps_what_has_ended(executor, file):
    potential = Deadly(file, "sleeps")
    hopping = BasinHopping(walkers=20, hops=3)
    whole = in_memory(potential, [hopping], seed=3)
    with tsc.Landscape.in_memory(potential) as landscape:
        options = {"strategies": [hopping], "seed": 3, "progress": False, "executor": executor}
        file.write_text("1")
        report = tsc.explore(landscape, potential, budget=tsc.Budget(seconds=3.0), **options)
        assert report.status == "budget: seconds"
        assert sum(report.unfinished.values()) > 0
        file.write_text("0")
        assert tsc.explore(landscape, potential, **options).is_complete
        assert tables(landscape) == whole


def desks() -> list[int]:
    """Process ids of the workers."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::_Desk"):
                found.append(int(path.parent.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


class Resting(Wells):
    """Sleeps before each evaluation, so that there is time to be killed."""

    def energy(self, x):
        time.sleep(0.002)
        return super().energy(x)


def test_workers_that_are_killed_at_random_change_nothing(executor, monkeypatch):
    monkeypatch.setattr(crew_round, "_LIVES", 1000)  # nobody dies of a part here
    strategies = [BasinHopping(walkers=24, hops=6), ConnectMinima(), ClimbFromMinima(searches=6)]
    whole = in_memory(Resting(3), strategies, seed=4)
    luck, is_over, killed = random.Random(1), threading.Event(), []

    def kill() -> None:
        while not is_over.wait(luck.uniform(0.2, 2.0)):
            if (alive := desks()) and len(killed) < 8:
                killed.append(luck.choice(alive))
                os.kill(killed[-1], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        found = in_memory(Resting(3), strategies, seed=4, executor=executor)
    finally:
        is_over.set()
        killer.join()
    assert len(killed) >= 3
    assert without_evaluations(found) == without_evaluations(whole)


class Poisoned(Deadly):
    """Kills whoever evaluates the start that lies lowest in the first coordinate."""

    def energy(self, x):
        lowest = self.sample(40, seed=3)[:, 0].min()
        return super().energy(x) if bool((x[:, 0] == lowest).any()) else Wells.energy(self, x)


def test_a_part_that_kills_its_workers_is_set_aside_and_named(executor, file):
    """The others end: what they have found is there for the next run."""
    potential, hopping = Poisoned(file), BasinHopping(walkers=40, hops=0)
    with tsc.Landscape.in_memory(potential) as landscape:
        options = {"strategies": [hopping], "seed": 3, "progress": False, "check": False, "executor": executor}
        file.write_text("1000")
        with pytest.raises(TorchscapeError, match=r"3 workers have died of one part .*hops, \d+ rows"):
            tsc.explore(landscape, potential, **options)
        assert landscape.runs()[-1]["status"] == "failed"
        assert file.read_text() == "997"
        assert 20 <= landscape.kept()["quenches"] < 40
        file.write_text("0")
        assert tsc.explore(landscape, potential, **options).is_complete
        assert tables(landscape) == in_memory(potential, [hopping], seed=3)


def test_words_for_executors():
    for word in ("ray:", "ray-tracing"):
        with pytest.raises(OptionError, match="'ray:ADDRESS'"), choose_executor(word):
            pass
    with choose_executor("ray:head:6379") as chosen:
        assert chosen.address == "head:6379"


MODEL = """
import time
import torchscape as tsc
from helper import slowly

def wells(x):
    return ((x**2 - 1)**2).sum() + 0.1 * x[0]

potential = tsc.FunctionPotential(slowly(wells), 3)
"""
HELPER = """
import os, time
def slowly(function):
    def energy(x):
        time.sleep(float(os.environ.get("DELAY", "0")))
        return function(x)
    return energy
"""


def command(folder: Path, *words: str) -> list[str]:
    return [
        sys.executable, "-m", "torchscape", "explore", f"{folder}/my_model.py:potential", "--db", f"{folder}/a.db",
        "--walkers", "16", "--hops", "6", "--quiet", *words,
    ]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_model.py").write_text(MODEL)
    (tmp_path / "helper.py").write_text(HELPER)
    return tmp_path


def test_a_driver_that_is_killed_loses_nothing_and_leaves_nothing(folder):
    """Its workers end by themselves; the next one, in one process, goes on to what an undisturbed run finds."""
    before = set(desks())
    environment = {**os.environ, "RAY_ADDRESS": "local", "DELAY": "0.2"}
    driver = subprocess.Popen(command(folder, "--executor", "ray"), env=environment, cwd=folder)
    until = time.monotonic() + 120
    while len(set(desks()) - before) < 1 and time.monotonic() < until and driver.poll() is None:
        time.sleep(0.2)
    time.sleep(15)
    assert driver.poll() is None, "it ended before it could be killed"
    driver.kill()
    driver.wait()
    until = time.monotonic() + 120
    while set(desks()) - before and time.monotonic() < until:
        time.sleep(0.5)
    assert not set(desks()) - before
    subprocess.run(command(folder), check=True)
    left = tables(folder / "a.db")
    (folder / "a.db").unlink()
    subprocess.run(command(folder), check=True)
    assert without_evaluations(left) == without_evaluations(tables(folder / "a.db"))


def test_sigterm_ends_a_driver_with_everything_kept(folder):
    """``ray.init`` puts a handler of its own in the place of SIGTERM's, which would end the process at once."""
    environment = {**os.environ, "RAY_ADDRESS": "local", "DELAY": "0.2"}
    driver = subprocess.Popen(command(folder, "--executor", "ray"), env=environment, cwd=folder)
    until = time.monotonic() + 200
    while not found(folder / "a.db") and time.monotonic() < until:
        time.sleep(1.0)
    assert driver.poll() is None, "it ended before it could be stopped"
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(60) == 128 + signal.SIGTERM
    assert found(folder / "a.db")
    with tsc.Landscape.open(folder / "a.db") as landscape:
        assert landscape.runs()[-1]["status"] == "interrupted"


def found(path: Path) -> int:
    """What has ended so far."""
    try:
        with tsc.Landscape.open(path) as landscape:
            return sum(landscape.kept().values()) + landscape.n_minima
    except DatabaseError:  # it is not there yet, or empty
        return 0
