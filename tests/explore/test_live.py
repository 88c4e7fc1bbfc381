"""What can be seen of an exploration while it runs: reports after rounds, the log, bars, TensorBoard."""

from __future__ import annotations

import functools
import logging
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import torchscape as tsc
from torchscape import progress
from torchscape.explore import RoundReport, TensorBoard
from torchscape.explore.live import clock


@functools.cache
def surface() -> tsc.FunctionPotential:
    """Four minima in a ring of four transition states."""
    return tsc.FunctionPotential(lambda x: (x[0] ** 2 - 1) ** 2 + (x[1] ** 2 - 1) ** 2 + 0.1 * x[0] * x[1], 2)


def hopping(hops: int = 4) -> tsc.BasinHopping:
    return tsc.BasinHopping(walkers=16, hops=hops, round_hops=1)


def explored(landscape: tsc.Landscape, **options) -> tsc.explore.ExploreReport:
    strategies = options.pop("strategies", [hopping(), tsc.ConnectMinima()])
    return tsc.explore(landscape, surface(), strategies=strategies, progress=False, **options)


def test_every_round_is_reported_as_it_is_committed():
    reports: list[RoundReport] = []
    with tsc.Landscape.in_memory(surface()) as landscape:
        seen = []

        def on_round(report: RoundReport) -> None:
            reports.append(report)
            seen.append((landscape.n_minima, landscape.n_transition_states, landscape.network().n_components))
            assert report.landscape is landscape
            assert not landscape.is_writing

        final = explored(landscape, on_round=on_round)
        lowest = float(landscape.minima().energy.min())
    assert seen == [(one.n_minima, one.n_transition_states, one.n_components) for one in reports]
    hops = [one for one in reports if one.strategy == "basin-hopping"]
    assert [one.round for one in hops] == list(range(1, len(hops) + 1))
    assert [one.done for one in hops] == [16, 32, 48, 64, 80]  # the starting points, and four hops
    assert {one.total for one in hops} == {80}
    last = reports[-1]
    assert (last.n_minima, last.n_transition_states, last.n_components) == (4, 4, 1)
    assert (last.n_quenches, last.n_evaluations) == (final.n_quenches, final.n_evaluations)
    assert last.lowest_energy == lowest
    assert hops[0].n_components == hops[0].n_minima
    assert [one.seconds for one in reports] == sorted(one.seconds for one in reports)


def test_acceptance_is_the_share_of_hops_that_were_accepted():
    reports: list[RoundReport] = []
    with tsc.Landscape.in_memory(surface()) as landscape:
        explored(landscape, strategies=[hopping()], on_round=reports.append)
        (key,) = landscape.state_keys("basin-hopping")
        state = landscape.load_state(key)
    accepted, n_hops = int(state["accepted"].sum()), 16 * 4
    assert reports[-1].figures == {"acceptance": accepted / n_hops}
    assert 0 < accepted < n_hops + 1


def test_what_is_ahead_counts_down_and_knows_the_budget():
    reports: list[RoundReport] = []
    with tsc.Landscape.in_memory(surface()) as landscape:
        budget = tsc.Budget(seconds=1000, quenches=500)
        explored(landscape, on_round=reports.append, budget=budget)
    hops = [one.ahead for one in reports if one.strategy == "basin-hopping"]
    assert [one.tries["basin-hopping"] for one in hops] == [64, 48, 32, 16, 0]
    assert {one.tries["connect"] for one in hops} == {None}
    assert all(math.isnan(one.seconds) for one in hops)  # nothing is known of the pairs to come
    last = reports[-1]
    assert last.ahead.tries == {"basin-hopping": 0, "connect": 0}
    assert last.ahead.seconds == 0
    assert last.ahead.budget["quenches"] == 500 - last.n_quenches
    assert 900 < last.ahead.budget["seconds"] < 1000
    assert "evaluations" not in last.ahead.budget


def test_the_time_ahead_is_what_is_left_at_the_pace_so_far():
    reports: list[RoundReport] = []
    with tsc.Landscape.in_memory(surface()) as landscape:
        explored(landscape, strategies=[hopping()], on_round=reports.append)
    for one in reports:
        left, done = one.total - one.done, one.done
        assert one.ahead.seconds <= left / done * one.seconds * 1.01 + 1e-3
        assert (one.ahead.seconds > 0) == (left > 0)


class OwnError(Exception):
    pass


@pytest.mark.parametrize("at", [1, 3])
def test_an_error_in_the_callback_loses_nothing(tmp_path, at):
    """It is raised with its own message, after the commit; the next call goes on as if nothing had happened."""

    def fails(report: RoundReport) -> None:
        if report.round == at:
            raise OwnError("the dashboard is gone")

    with tsc.Landscape.open(tmp_path / "a.db", surface()) as landscape:
        with pytest.raises(OwnError, match=r"^the dashboard is gone$"):
            explored(landscape, on_round=fails)
        assert landscape.n_tasks("hops") == at
        assert landscape.runs()[-1]["status"] == "failed"
    with tsc.Landscape.open(tmp_path / "a.db", surface()) as landscape:
        assert explored(landscape).is_complete
        found = landscape.network()
    with tsc.Landscape.in_memory(surface()) as landscape:
        explored(landscape)
        whole = landscape.network()
    assert torch.equal(found.energy, whole.energy)
    assert torch.equal(found.hits, whole.hits)
    assert torch.equal(found.edges, whole.edges)


def test_a_callback_may_end_it_as_ctrl_c_does():
    def enough(report: RoundReport) -> None:
        if report.n_minima == 4:
            raise KeyboardInterrupt

    with tsc.Landscape.in_memory(surface()) as landscape:
        report = explored(landscape, on_round=enough)
    assert (report.status, report.n_minima) == ("interrupted", 4)


def test_members_of_a_family_are_reported_too():
    reports: list[RoundReport] = []
    tsc.explore_family(
        lambda b: tsc.FunctionPotential(lambda x: x[0] ** 4 / 4 - x[0] ** 2 / 2 + b * x[0], 1, name=f"b = {b}"),
        [0.0, 0.1],
        strategies=[tsc.BasinHopping(walkers=4, hops=0)],
        progress=False,
        on_round=reports.append,
    )
    assert len({id(one.landscape) for one in reports}) == 2


# --- the log ----------------------------------------------------------------------------------------------


def test_the_log_tells_of_rounds_and_runs(caplog):
    with caplog.at_level(logging.INFO, logger="torchscape"), tsc.Landscape.in_memory(surface()) as landscape:
        report = explored(landscape)
    told = [record.getMessage() for record in caplog.records]
    assert all(record.name.startswith("torchscape.") for record in caplog.records)
    assert told[0].startswith("exploring ")
    assert told[-1].startswith("run 1 ended, complete: 4 minima, 4 transition states")
    assert sum(one.startswith("basin-hopping, round ") for one in told) == 5
    assert f"{report.n_evaluations} evaluations" in told[-1]


QUIET = """
import logging, torchscape as tsc
logging.getLogger("torchscape.explore").warning("a warning that nobody asked for")
with tsc.Landscape.in_memory(tsc.potentials.Himmelblau()) as landscape:
    tsc.explore(landscape, landscape.potential, strategies=tsc.BasinHopping(walkers=4, hops=1), progress=False)
"""


def test_nothing_is_printed_unless_somebody_asks():
    run = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


# --- bars -------------------------------------------------------------------------------------------------


def test_a_pipe_has_lines_with_all_that_a_bar_shows(capsys, monkeypatch):
    monkeypatch.delenv("TORCHSCAPE_PROGRESS", raising=False)
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    with tsc.Landscape.in_memory(surface()) as landscape:
        tsc.explore(landscape, surface(), strategies=[hopping()], budget=tsc.Budget(seconds=3500))
    text = capsys.readouterr().err
    assert "\r" not in text
    last = text.splitlines()[-1]
    assert last.startswith("basin-hopping: 100% 80/80")
    for what in ("minima=4", "transition states=0", "components=4", "acceptance=0.", "time left=58:"):
        assert what in last


def test_a_terminal_and_a_notebook_have_bars(monkeypatch):
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("TORCHSCAPE_PROGRESS", raising=False)
    assert progress._wants_lines()
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert not progress._wants_lines()
    monkeypatch.setenv("TORCHSCAPE_PROGRESS", "lines")
    assert progress._wants_lines()
    monkeypatch.setenv("TORCHSCAPE_PROGRESS", "bar")
    monkeypatch.setattr(sys, "stderr", None)
    assert not progress._wants_lines()


def test_no_stream_at_all_has_lines(monkeypatch):
    monkeypatch.delenv("TORCHSCAPE_PROGRESS", raising=False)
    monkeypatch.setattr(sys, "stderr", None)
    assert progress._wants_lines()


def test_clock():
    assert [clock(s) for s in (0.0, 59.6, 3599.0, 3600.0)] == ["0:00", "1:00", "59:59", "1:00:00"]


# --- TensorBoard ------------------------------------------------------------------------------------------


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard itself reads there."""
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = event_accumulator.EventAccumulator(os.fspath(folder))
    found.Reload()
    return {tag: [(one.step, one.value) for one in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_has_the_numbers_of_every_round(tmp_path):
    pytest.importorskip("tensorboard")
    reports: list[RoundReport] = []
    board = TensorBoard(tmp_path / "runs")

    def both(report: RoundReport) -> None:
        reports.append(report)
        board(report)

    with tsc.Landscape.open(tmp_path / "a.db", surface()) as landscape:
        explored(landscape, strategies=[hopping(2)], on_round=both)
        explored(landscape, strategies=[hopping(3), tsc.ConnectMinima()], on_round=both)  # goes on where it ended
        in_all = landscape.n_evaluations()
    board.close()
    found = scalars(tmp_path / "runs")
    steps = [one.n_evaluations_in_all for one in reports]
    assert steps == sorted(set(steps))
    assert steps[-1] == in_all
    assert found["landscape/minima"] == [(s, one.n_minima) for s, one in zip(steps, reports, strict=True)]
    assert found["landscape/transition_states"][-1][1] == 4
    assert found["landscape/components"][-1][1] == 1
    hops = [one for one in reports if one.strategy == "basin-hopping"]
    shares = [value for _, value in found["basin-hopping/acceptance"]]
    assert shares == pytest.approx([one.figures["acceptance"] for one in hops if one.figures], rel=1e-6)


def test_tensorboard_that_is_absent_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(tsc.errors.MissingExtra, match=r"torchscape\[tensorboard\]"):
        TensorBoard(tmp_path)
