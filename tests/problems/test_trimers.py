"""The database of trimers: what it holds, and how it is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from torchscape import problems, random
from torchscape.errors import TorchscapeError, UnknownName
from torchscape.optimise import relax
from torchscape.potentials.clusters import Trimer
from torchscape.problems import trimers
from torchscape.problems.cache import cache_folder, cached
from torchscape.problems.trimers import flow_labels, isomer, trimer_data, trimer_database

DATA = Path(__file__).parents[3] / "shared" / "data" / "triatomic_database.npz"
SIDES = {0: [1.1687523184] * 3, 1: [1.1087628937, 1.1087628937, 2.2175257874]}


def test_descents_run_from_the_start_to_the_isomer():
    found = trimer_database(400)
    assert [len(column) for column in found.values()] == [400] * 4
    ends = np.sort(found["trajectory"][:, 0], axis=1)
    for row, label in zip(ends, found["label"], strict=True):
        assert np.allclose(row, SIDES[min(label, 1)], atol=1e-5)
    # the atom in the middle of a chain does not touch the longest side
    chains = found["label"] > 0
    longest = found["trajectory"][chains, 0].argmax(1)
    assert np.array_equal(found["label"][chains], np.array([3, 2, 1])[longest])
    short = found["n_steps"] <= trimers.MOST_STEPS
    assert 0.5 < short.mean() < 1
    rows = np.arange(400)[short]
    assert np.array_equal(found["trajectory"][rows, found["n_steps"][short]], found["distances"][short])
    assert np.array_equal(found["trajectory"][rows, -1], found["distances"][short])
    # every kept step moves, and by no more than the cap of 0.1 length scales allows for a distance
    moves = np.abs(np.diff(found["trajectory"], axis=1)).max(2)
    assert moves.max() <= 0.1 * Trimer.length_scale * 2**0.5 + 1e-12
    assert (moves[short, 0] > 0).all()


def test_labels_are_those_of_an_independent_quench():
    start = Trimer().sample(500, seed=int(random.fold(0, 0)))
    labels = isomer(relax(Trimer(), start, tol=1e-8).x)
    found = trimer_database(100)
    rows = [int((Trimer.distances(start) - torch.as_tensor(r)).abs().sum(1).argmin()) for r in found["distances"]]
    assert (labels[rows].numpy() == found["label"]).mean() > 0.9  # near boundaries the minimiser decides


def test_the_seed_alone_decides_and_not_how_many_are_asked_for(monkeypatch, tmp_path):
    """Computed twice, as by two users; the second asks for more than one block of them."""
    monkeypatch.setattr(trimers, "_BLOCK", 40)
    before = torch.get_rng_state()
    monkeypatch.setenv("TORCHSCAPE_CACHE", str(tmp_path / "one"))
    few, other = trimer_data(20, seed=3), trimer_data(20, seed=4)
    monkeypatch.setenv("TORCHSCAPE_CACHE", str(tmp_path / "two"))
    many = trimer_data(60, seed=3)
    assert torch.equal(few[0], many[0][:20])
    assert torch.equal(few[1], many[1][:20])
    assert not torch.equal(few[0], other[0])
    assert torch.equal(before, torch.get_rng_state())


def test_computed_once(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHSCAPE_CACHE", str(tmp_path))
    calls = []
    quenched = trimers._quenched
    monkeypatch.setattr(trimers, "_quenched", lambda *args: calls.append(args) or quenched(*args))
    first = trimer_data(30)
    again = trimer_data(40)
    assert calls == [(0, 0)]
    assert torch.equal(first[0], again[0][:30])
    (path,) = cache_folder().iterdir()
    path.write_bytes(path.read_bytes()[:1000])  # a damaged file is made again
    assert torch.equal(trimer_data(30)[0], first[0])
    assert calls == [(0, 0)] * 2
    assert [p.name for p in cache_folder().iterdir()] == [path.name]  # nothing half-written left behind


def test_an_interrupted_write_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHSCAPE_CACHE", str(tmp_path))

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cached("a", lambda: {"x": np.zeros(3)})
    assert list(cache_folder().iterdir()) == []


def test_without_a_folder_to_write_in(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCHSCAPE_CACHE", str(tmp_path / "file"))
    assert cached("a", lambda: {"x": np.arange(3)})["x"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "XDG_CACHE_HOME", "{}/torchscape"),
        ("win32", "LOCALAPPDATA", "{}/torchscape"),
        ("darwin", "HOME", "{}/Library/Caches/torchscape"),
    ],
)
def test_the_place_of_the_platform(monkeypatch, tmp_path, platform, variable, expected):
    monkeypatch.delenv("TORCHSCAPE_CACHE")
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setenv(variable, str(tmp_path))
    assert str(cache_folder()) == expected.format(tmp_path)


# --- the network on them ------------------------------------------------------------------------------------


def test_any_of_the_distances_at_any_step():
    options = {"n_train": 40, "n_test": 10}
    full = problems.get("trimer-network", **options)
    assert full.potential.ndim == 3 * 3 + 3 + 12 + 4
    some = problems.parse("trimer-network:distances=r13+r12,steps=10", **options)
    assert some.potential.ndim == 2 * 3 + 3 + 12 + 4
    expected = trimer_data(50, steps=10)[0][40:, [1, 0]]
    assert torch.equal(some.test[0], expected)
    short = trimer_database(50)["n_steps"] <= 80
    assert torch.equal(trimer_data(50, steps=80)[0][short], trimer_data(50)[0][short])
    for spec, error, message in (
        ("distances=r12+r21", UnknownName, "unknown distance 'r21'"),
        ("distances=r12+r12", TorchscapeError, "twice"),
        ("steps=81", TorchscapeError, "last 80"),
    ):
        with pytest.raises(error, match=message):
            problems.parse(f"trimer-network:{spec}", **options)


def test_biases_are_regularised_or_not():
    u, free = (
        problems.get("trimer-network", n_train=40, n_test=0, l2=1.0, biases=b).potential for b in (True, False)
    )
    x = u.sample(1)
    biases = torch.cat([x[0, 9:12], x[0, 24:]])
    assert u.energy(x).item() - free.energy(x).item() == pytest.approx(biases.square().sum().item())


def test_steps_from_a_file(tmp_path):
    path = tmp_path / "trimers.npz"
    np.savez(path, **trimer_database(60))
    options = {"n_train": 40, "n_test": 20}
    ours, read = (problems.get("trimer-network", steps=7, data=d, **options) for d in (None, str(path)))
    assert ours.potential.fingerprint() == read.potential.fingerprint()
    with pytest.raises(TorchscapeError, match="last 80"):
        problems.get("trimer-network", steps=81, data=str(path), **options)


def test_fate_is_easier_to_tell_close_to_the_end():
    """The published trend (Fig. 4): near convergence two distances suffice, at the start they do not."""
    errors = {}
    for steps in (5, None):
        problem = problems.get("trimer-network", distances="r12+r13", steps=steps, n_train=250, n_test=200)
        points = relax(problem.potential, problem.potential.sample(4), tol=1e-4)
        best = points.x[points.energy.argmin()][None]
        classes = problem.potential.predict(best, problem.test[0])[0].argmax(1)
        errors[steps] = (classes != problem.test[1]).double().mean().item()
    assert errors[5] < 0.02
    assert errors[None] > 0.2


@pytest.mark.slow
def test_ten_thousand_trimers_have_the_published_shares():
    """The full database, against class counts found independently with another minimiser."""
    shares = np.bincount(trimer_database()["label"]) / 10_000
    assert np.abs(shares - [0.2137, 0.2700, 0.2590, 0.2573]).max() < 0.03


@pytest.mark.slow
def test_labels_by_flow_are_those_of_an_integrator_and_not_those_of_the_quench():
    """SciPy's LSODA along dx/dt = -grad U, for trimers at which the two kinds of labels differ, and others."""
    from scipy.integrate import solve_ivp

    distances, label = trimer_data(150)
    flow = flow_labels(distances)
    assert 0.82 < float((flow == label).double().mean()) < 0.95
    assert int((flow == 0).sum()) < int((label == 0).sum())
    u = trimers.Trimer()
    differing = (flow != label).nonzero()[:3, 0].tolist()
    for k in [*differing, *(flow == label).nonzero()[:2, 0].tolist()]:
        r12, r13, r23 = distances[k].tolist()
        along = (r12**2 + r13**2 - r23**2) / (2 * r12)
        x = np.zeros(9)
        x[[3, 6, 7]] = r12, along, np.sqrt(r13**2 - along**2)

        def down(_, y):
            return -u.energy_and_grad(torch.as_tensor(y)[None])[1][0].numpy()

        end = solve_ivp(down, (0, 30), x, method="LSODA", rtol=1e-8, atol=1e-9).y[:, -1]
        r = trimers.Trimer.distances(torch.as_tensor(end)[None])[0]
        # Long before it has converged: a chain's longest side is near twice the others, a triangle's is not.
        is_chain = float(r.max()) > 1.5 * float(r.min())
        assert is_chain == (int(flow[k]) != 0)
