"""All stationary points of every index, found by the command anyone would type; Euler's number as the check."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import torchscape as tsc
from torchscape.cli import main
from torchscape.explore import Budget, StationarySearch

FOLDER = Path(__file__).parents[3] / "shared" / "data"


def reference(n, seed):
    path = FOLDER / f"pspin_N{n}_s{seed}.json"
    if not path.exists():
        pytest.skip(f"reference data {path.name} are not beside this checkout")
    return json.loads(path.read_text())


def explored(potential, strategy, seed=0, **options):
    landscape = tsc.Landscape.in_memory(potential)
    report = tsc.explore(landscape, potential, strategies=[strategy], seed=seed, progress=False, **options)
    return landscape, report


def check_completeness(landscape, listed, n):
    """Every point of a list that a count of complex roots proves complete, with energy and index, and no other."""
    counts = landscape.counts_by_index()
    assert counts == listed["count_by_index"]
    assert sum((-1) ** k * c for k, c in enumerate(counts)) == listed["euler"]
    found = landscape.stationary_points()
    order = np.argsort([point["E"] for point in listed["points"]])
    energies = np.array([point["E"] for point in listed["points"]])[order]
    indices = np.array([point["index"] for point in listed["points"]])[order]
    assert np.allclose(found.energy, energies, rtol=0, atol=1e-9)
    assert found.index.tolist() == indices.tolist()
    w = torch.tensor([point["w"] for point in listed["points"]], dtype=torch.float64)[order]
    assert (found.x - n**0.5 * w / w.norm(dim=1, keepdim=True)).norm(dim=1).max() < 1e-6


def test_a_three_spin_model_is_found_completely():
    """Five spins; eight of them are found by the command line below."""
    u = tsc.problems.get("p-spin", n=5, seed=505).potential
    landscape, report = explored(u, StationarySearch(), seed=1)
    with landscape:
        assert report.is_complete
        check_completeness(landscape, reference(5, 505), 5)


def test_higher_points_of_a_plane_with_a_grid_of_stationary_points():
    """sin x + sin y over four half-periods: 4 minima, 4 maxima and 8 saddles inside the box."""
    edge = 4 * np.pi
    u = tsc.FunctionPotential(
        lambda x: x.sin().sum(1), 2, bounds=[(0, edge), (0, edge)], batched=True, length_scale=1.0
    )
    landscape, _ = explored(u, StationarySearch(starts=1000, patience=500))
    with landscape:
        assert landscape.counts_by_index() == [4, 8, 4]
        assert (
            landscape.stationary_points().energy.round(decimals=9).tolist() == [-2.0] * 4 + [0.0] * 8 + [2.0] * 4
        )


def test_points_that_are_not_isolated_are_left_out():
    """The mexican hat has a circle of minima, and one maximum."""
    hat = tsc.FunctionPotential(lambda x: ((x**2).sum(1) - 1) ** 2, 2, bounds=[(-2, 2)] * 2, batched=True)
    landscape, _ = explored(hat, StationarySearch(starts=200))
    with landscape:
        assert landscape.counts_by_index() == [0, 0, 1]


def test_an_interrupted_search_goes_on_as_if_nothing_had_happened(tmp_path):
    """Budget after every round, file closed and opened again: the same points, hits and evaluations."""
    u = tsc.problems.get("p-spin", n=3, seed=1).potential
    strategy = StationarySearch(starts=20, patience=None, round_starts=6)

    def content(landscape):
        state = landscape.summary()
        kept = ("counts_by_index", "energies", "ts_energies", "hits", "ts_hits", "n_evaluations", "connections")
        return {name: state[name] for name in kept}

    whole, _ = explored(u, strategy)
    with whole:
        expected = content(whole)
    statuses = []
    for _ in range(8):
        with tsc.Landscape.open(tmp_path / "l.db", u) as landscape:
            report = tsc.explore(landscape, u, strategies=[strategy], budget=Budget(quenches=1), progress=False)
            statuses.append(report.status)
            if report.is_complete:
                break
    assert statuses[:3] == ["budget: quenches"] * 3
    assert statuses[-1] == "complete"
    with tsc.Landscape.open(tmp_path / "l.db", u) as landscape:
        assert content(landscape) == expected


def drawn(strategy, potential, state):
    """The starting points of each round from ``state`` on, and the state at the end."""
    rounds = []
    with tsc.Landscape.in_memory(potential) as landscape:
        state = strategy.start(landscape, potential, 7) if state is None else state
        while (round := strategy.propose(landscape, potential, state)) is not None:
            (task,) = round.tasks
            rounds.append(potential.sample(task.stop, seed=task.seed)[task.first :])
            state = {**state, "done": state["done"] + len(rounds[-1])}
    return rounds, state


def test_a_longer_search_repeats_a_shorter_one():
    """Searches 0 to 23, and 24 to 49 later: the same starting points as 50 at once, in rounds of 16."""
    short, long = (StationarySearch(starts=n, patience=None, round_starts=16) for n in (24, 50))
    assert short.identity() == long.identity()
    u = tsc.problems.get("p-spin", n=3, seed=1).potential
    first, state = drawn(short, u, None)
    then, _ = drawn(long, u, state)
    at_once, _ = drawn(long, u, None)
    assert [len(x) for x in first + then] == [16, 8, 8, 16, 2]
    assert [len(x) for x in at_once] == [16, 16, 16, 2]
    assert torch.equal(torch.cat(first + then), torch.cat(at_once))
    assert len(torch.unique(torch.cat(at_once), dim=0)) == 50


@pytest.mark.parametrize(
    ("n", "couplings", "asked", "told"),
    [(8, 808, ["--strategy", "stationary"], "6, 15, 24, 30, 30, 24, 15, 6"), (5, 505, [], None)],
    ids=["asked for", "suggested"],
)
def test_from_the_command_line(n, couplings, asked, told, tmp_path, capsys):
    """As a person would type it; and ``info`` says how many there are of each index.

    What is suggested for few spins is this search, too, and basin-hopping and bands after it.
    """
    listed = reference(n, couplings)
    db = str(tmp_path / "pspin.db")
    assert main(["explore", f"p-spin:n={n},seed={couplings}", *asked, "--db", db, "--quiet"]) == 0
    capsys.readouterr()
    assert main(["info", db, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["counts_by_index"] == listed["count_by_index"]
    assert summary["complete"]
    per_spin = np.array(summary["energies"]) / n
    published = sorted(point["e_per_spin"] for point in listed["points"] if point["index"] == 0)
    assert np.allclose(per_spin, published, atol=1e-9)
    assert main(["info", db]) == 0
    assert (told or ", ".join(map(str, listed["count_by_index"]))) in capsys.readouterr().out
    with tsc.Landscape.open(db) as landscape:
        check_completeness(landscape, listed, n)
