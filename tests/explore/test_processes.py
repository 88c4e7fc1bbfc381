"""Tasks in parts, and parts in processes: the landscape is that of one process, whatever becomes of workers."""

from __future__ import annotations

import os
import pickle
import signal
import time

import pytest
import torch
from explore_doubles import Cutting, Wells, in_memory, tables

import torchscape as tsc
from torchscape.errors import OptionError, PotentialError, TorchscapeError
from torchscape.explore import (
    BasinHopping,
    ClimbFromMinima,
    ConnectMinima,
    LowerBarriers,
    Processes,
    StationarySearch,
    TemperedBasinHopping,
    crew_round,
    worker,
)
from torchscape.explore.executors import choose_executor
from torchscape.explore.messages import Closed, packed
from torchscape.explore.tasks import blocks, dealt
from torchscape.optimise.ledger import Entry, latest

HOPPING = BasinHopping(walkers=12, hops=1)
SEARCHES = {
    "basin-hopping": [BasinHopping(walkers=9, hops=3)],
    "tempered": [TemperedBasinHopping(ladders=3, temperatures=(0.2, 0.5, 1.0), hops=4)],
    "stationary": [StationarySearch(starts=40)],
    "lower barriers": [HOPPING, LowerBarriers(max_rounds=2)],
}  # the others: test_explore_contract.py


def without_evaluations(content: dict[str, list[tuple]]) -> dict[str, list[tuple]]:
    """What two parts have found is verified twice: only the evaluations of a task may tell."""
    content = dict(content)
    content["task"] = [tuple(v for v in row if not isinstance(v, int)) for row in content["task"]]
    return content


@pytest.mark.parametrize("which", SEARCHES)
def test_parts_of_tasks_find_what_the_whole_finds(which):
    cutting = Cutting(4)
    whole = in_memory(Wells(3), SEARCHES[which], seed=1)
    parts = in_memory(Wells(3), SEARCHES[which], seed=1, executor=cutting)
    assert cutting.n_cut > 0
    assert without_evaluations(parts) == without_evaluations(whole)
    if which in ("basin-hopping", "tempered"):
        assert parts == whole


def test_blocks_hold_every_row_once():
    for n_rows in range(1, 12):
        for n in range(1, 14):
            some = blocks(n_rows, n)
            assert [row for block in some for row in range(n_rows)[block]] == list(range(n_rows))
            sizes = [block.stop - block.start for block in some]
            assert max(sizes) - min(sizes) <= 1
            assert len(sizes) == min(n, n_rows)


def test_dealt_shares_hold_every_row_once_and_each_some_of_the_last():
    for n_rows in range(1, 12):
        for n in range(1, 14):
            shares = [list(range(n_rows)[share]) for share in dealt(n_rows, n)]
            assert sorted(row for share in shares for row in share) == list(range(n_rows))
            assert len(shares) == min(n, n_rows)
            assert all(n_rows - share[-1] <= len(shares) for share in shares)


# --- processes --------------------------------------------------------------------------------------------


class Deadly(Wells):
    """Kills the process that evaluates it, as long as there is a file to say so; then it is as it was.

    Args:
        file: whose first line says how many more processes are to die; nobody dies in this one.
        where: "dies", "raises" or "sleeps".
    """

    def __init__(self, file, what: str = "dies") -> None:
        super().__init__(3)
        self.file, self.what, self.home = os.fspath(file), what, os.getpid()

    def energy(self, x):
        if os.getpid() != self.home and (left := self._left()):
            if self.what == "dies":
                self._write(left - 1)
                os.kill(os.getpid(), signal.SIGKILL)
            if self.what == "raises":
                raise PotentialError("no energy today")
            time.sleep(0.05)
        return super().energy(x)

    def _left(self) -> int:
        with open(self.file) as file:
            return int(file.read() or 0)

    def _write(self, left: int) -> None:
        with open(self.file, "w") as file:
            file.write(str(left))


@pytest.fixture(scope="module")
def executor():
    with Processes(workers=2) as two:
        yield two


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "left"
    path.write_text("0")
    return path


def test_the_landscape_is_that_of_one_process(executor):
    strategies = [BasinHopping(walkers=12, hops=1), ConnectMinima(neighbours=2), ClimbFromMinima(searches=1)]
    whole = in_memory(Wells(3), strategies, seed=3)
    assert without_evaluations(in_memory(Wells(3), strategies, seed=3, executor=executor)) == without_evaluations(
        whole
    )


def test_an_error_in_a_worker_is_the_error(executor, file):
    potential = Deadly(file, "raises")
    file.write_text("1")
    with (
        tsc.Landscape.in_memory(potential) as landscape,
        pytest.raises(PotentialError, match="no energy today") as caught,
    ):
        tsc.explore(landscape, potential, strategies=[HOPPING], executor=executor, progress=False)
    assert "in a worker" in caught.value.__notes__[0]


def test_a_limit_stops_the_workers_and_keeps_what_has_ended(executor, file):
    """Evaluations take 50 ms until the limit has passed; the resumed run ends like one that was not stopped."""
    potential = Deadly(file, "sleeps")
    hopping = BasinHopping(walkers=20, hops=3)
    whole = in_memory(potential, [hopping], seed=3, executor=executor)  # when this ends, all workers are there
    assert whole == in_memory(potential, [hopping], seed=3)
    with tsc.Landscape.in_memory(potential) as landscape:
        options = {"strategies": [hopping], "seed": 3, "progress": False, "executor": executor}
        tsc.explore(landscape, potential, budget=tsc.Budget(seconds=0.0), **options)
        file.write_text("1")
        began = time.monotonic()
        report = tsc.explore(landscape, potential, budget=tsc.Budget(seconds=0.6), **options)
        assert report.status == "budget: seconds"
        assert sum(report.unfinished.values()) > 0
        assert time.monotonic() - began < 60
        tsc.explore(landscape, potential, budget=tsc.Budget(seconds=0.6), **options)
        going = sum(n for kind, n in landscape.kept().items() if kind.startswith("unfinished"))
        assert going <= 60  # each row once for each time that all was cut short, not once for each worker, too
        file.write_text("0")
        assert tsc.explore(landscape, potential, **options).is_complete
        assert tables(landscape) == whole


def test_what_cannot_be_sent_is_said(executor):
    class Local(Wells):
        def __reduce__(self):
            raise TypeError("it holds an open file")

    with (
        tsc.Landscape.in_memory(Local()) as landscape,
        pytest.raises(TorchscapeError, match=r"the potential cannot be sent .*it holds an open file"),
    ):
        tsc.explore(landscape, landscape.potential, strategies=[HOPPING], executor=executor, progress=False)


def test_functions_of_a_script_reach_the_workers(executor):
    pytest.importorskip("cloudpickle")
    surface = tsc.FunctionPotential(lambda x: ((x**2 - 1) ** 2).sum(), 2)
    assert in_memory(surface, [HOPPING], executor=executor) == in_memory(surface, [HOPPING])


def test_words_for_executors():
    with choose_executor("processes") as executor:
        assert executor.workers == len(os.sched_getaffinity(0))
    for word in ("process", "processes:", "processes:two", "in-process:2"):
        with pytest.raises(OptionError, match="give 'in-process'"), choose_executor(word):
            pass
    with pytest.raises(OptionError, match="workers=0"):
        Processes(workers=0)
    assert torch.get_num_threads() > 0


# --- last, as the workers of the others die here, and a new one takes seconds --------------------------------


def test_a_worker_that_dies_is_replaced(executor, file):
    potential = Deadly(file)
    whole = in_memory(potential, [HOPPING], seed=3)
    file.write_text("1")
    assert in_memory(potential, [HOPPING], seed=3, executor=executor) == whole
    assert file.read_text() == "0"


def test_a_part_that_kills_its_workers_is_named(executor, file, monkeypatch):
    monkeypatch.setattr(crew_round, "_LIVES", 1)
    potential = Deadly(file)
    file.write_text("1000")
    with tsc.Landscape.in_memory(potential) as landscape:
        with pytest.raises(TorchscapeError, match=r"1 worker has died of one part .*hops, \d+ rows.* -9"):
            tsc.explore(landscape, potential, strategies=[HOPPING], executor=executor, progress=False)
        assert landscape.runs()[-1]["status"] == "failed"


def test_what_a_part_has_ended_is_told_before_its_end():
    """The next part may kill the worker: what the exploration takes for ended had gone with it."""

    class Heard:
        def __init__(self):
            self.told = []

        def send_bytes(self, data):
            self.told.append(pickle.loads(data))

        def recv_bytes(self):
            raise Closed

    heard, potential = Heard(), Wells(3)
    one = worker.Worker(heard, threads=1)
    one.data = packed(potential, "the potential")
    for number in range(2):
        (task,) = HOPPING.propose(None, potential, HOPPING.start(None, potential, number)).tasks
        one.run(number, False, packed(task, "a task", compact=True))
    kinds = [kind for kind, *_ in heard.told if kind in ("kept", "found", "failed")]
    assert kinds == ["kept", "found", "kept", "found"]
    assert all(sum(map(len, told[3])) > 0 for told in heard.told if told[0] == "kept")


def test_of_a_row_that_is_told_twice_the_last_counts():
    def entry(keys, values):
        column = torch.tensor(values, dtype=torch.float64)
        return Entry("unfinished", "running", "", torch.tensor(keys, dtype=torch.uint8)[:, None], {"x": column})

    kept = latest([entry([1, 2, 3], [1.0, 2.0, 3.0]), entry([4], [4.0]), entry([3, 1], [30.0, 10.0])])
    assert [one.keys[:, 0].tolist() for one in kept] == [[2], [4], [3, 1]]
    assert [one.columns["x"].tolist() for one in kept] == [[2.0], [4.0], [30.0, 10.0]]
