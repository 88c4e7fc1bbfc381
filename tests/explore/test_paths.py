"""Integrated paths of a whole landscape: stored once, carried by the network, drawn by the profile."""

from __future__ import annotations

import shutil

import pytest
import torch

import torchscape as tsc
from torchscape import plots
from torchscape.errors import TorchscapeError
from torchscape.explore import integrate_paths


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    potential = tsc.problems.get("lj7").potential
    file = tmp_path_factory.mktemp("explored") / "lj7.db"
    with tsc.Landscape.open(file, potential) as landscape:
        strategies = [tsc.BasinHopping(walkers=16, hops=1), tsc.ConnectMinima(neighbours=3)]
        tsc.explore(landscape, potential, strategies=strategies, progress=False)
    return file, potential


@pytest.fixture
def lj7(explored, tmp_path):
    """Each test writes into a copy of its own."""
    file, potential = explored
    shutil.copy(file, tmp_path / "lj7.db")
    with tsc.Landscape.open(tmp_path / "lj7.db", potential) as landscape:
        yield landscape, potential


def test_every_path_joins_the_minima_of_its_transition_state(lj7):
    landscape, potential = lj7
    assert landscape.paths() is None
    assert landscape.network().ts_path is None
    n = integrate_paths(landscape, potential, n_points=21, progress=False)
    network = landscape.network()
    assert n == len(landscape.transition_state_ids()) >= network.n_edges > 0
    path = network.ts_path
    torch.testing.assert_close(path[:, 0, 1], network.energy[network.edges[0]])
    torch.testing.assert_close(path[:, -1, 1], network.energy[network.edges[1]])
    torch.testing.assert_close(path[:, 10, 1], network.ts_energy)
    assert bool((path[:, 0, 0] == 0).all())
    assert bool((path[:, :, 0].diff(dim=1) > 0).all())
    assert integrate_paths(landscape, potential, n_points=21, progress=False) == 0


def test_paths_follow_their_transition_states(lj7):
    landscape, potential = lj7
    ids = landscape.transition_state_ids()[-1:]
    assert integrate_paths(landscape, potential, ids, n_points=9, progress=False) == 1
    network = landscape.network()
    known = network.ts_path[:, 0, 0].isfinite()
    assert network.ts_ids[known].tolist() == ids.tolist()
    last = network.only_edges(known.nonzero()[:, 0])
    assert bool(last.ts_path.isfinite().all())
    ends = last.edges[:, 0]
    assert last.subset(ends).ts_path.shape == (1, 9, 2)
    assert last.subset(ends[:1]).ts_path.shape == (0, 9, 2)
    assert last.to("cpu").ts_path is not None
    picture = plots.profile(last, *ends.tolist())
    assert picture.axes.get_xlabel() == "arc length along the path"
    assert picture.x[-1] == pytest.approx(float(last.ts_path[0, -1, 0]))


def test_paths_survive_the_file(tmp_path):
    potential = tsc.problems.get("mueller-brown").potential
    with tsc.Landscape.open(tmp_path / "mb.db", potential) as landscape:
        strategies = [tsc.BasinHopping(walkers=16, hops=0), tsc.ConnectMinima()]
        tsc.explore(landscape, potential, strategies=strategies, progress=False)
        assert integrate_paths(landscape, potential, progress=False) == 2
        written = landscape.network().ts_path
    with tsc.Landscape.open(tmp_path / "mb.db") as landscape:
        assert torch.equal(landscape.network().ts_path, written)


def test_what_is_no_path_is_refused(lj7):
    landscape, _ = lj7
    ids = landscape.transition_state_ids()[:1]
    arc = torch.linspace(0, 1, 5, dtype=torch.float64)[None]
    landscape.set_paths(ids, arc, arc)
    with pytest.raises(TorchscapeError, match="5 points"):
        landscape.set_paths(ids, arc[:, :3], arc[:, :3])
    with pytest.raises(TorchscapeError, match="fall"):
        landscape.set_paths(ids, arc.flip(1), arc)
    with pytest.raises(TorchscapeError, match="do not exist"):
        landscape.set_paths(ids + 1000, arc, arc)
    with pytest.raises(TorchscapeError, match="not finite"):
        landscape.set_paths(ids, arc, arc * torch.nan)
