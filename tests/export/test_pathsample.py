"""PATHSAMPLE's files: published data read and come back byte for byte, damage is named by file and line."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchscape import Network
from torchscape.errors import TorchscapeError
from torchscape.export import read_pathsample, read_pathsample_sets, write_pathsample

PUBLISHED = Path(__file__).parents[2].parent / "shared" / "data" / "pathsample_9comm"
published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published PATHSAMPLE example is not at hand")

TRIANGLE = [[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [1.0, math.sqrt(3.0), 0.0]]
LINE = [[-1.5, 0.0, 0.0], [0.0, 0.0, 0.0], [1.5, 0.0, 0.0]]


def cluster_network() -> Network:
    """Two minima of three atoms and the transition state between them, with orders 6, 2 and 1 in a group of 12."""
    return Network.of(
        energy=[-2.185, -2.219],
        edges=[(0, 1)],
        ts_energy=[-1.985],
        log_det=[5.0, 4.0],
        ts_log_det=[3.0],
        log_degeneracy=[math.log(12 / 6), math.log(12 / 2)],
        ts_log_degeneracy=[math.log(12.0)],
        n_modes=3,
        coords=torch.tensor([TRIANGLE, LINE], dtype=torch.float64).reshape(2, 9),
        ts_coords=torch.tensor([TRIANGLE], dtype=torch.float64).reshape(1, 9),
    )


@published
def test_published_database_reads_as_numpy_reads_it():
    network = read_pathsample(PUBLISHED)
    minima, saddles = np.loadtxt(PUBLISHED / "min.data"), np.loadtxt(PUBLISHED / "ts.data")
    assert (network.n_minima, network.n_edges) == (994, 4320)
    assert np.array_equal(network.energy.numpy(), minima[:, 0])
    assert np.array_equal(network.log_det.numpy(), minima[:, 1])
    assert np.array_equal(network.ts_energy.numpy(), saddles[:, 0])
    assert np.array_equal(network.edges.numpy(), saddles[:, 3:5].astype(int).T - 1)
    a, b = read_pathsample_sets(PUBLISHED)
    assert (network.ids[a].tolist(), network.ids[b].tolist()) == ([144], [4])


@published
def test_published_database_comes_back_byte_for_byte(tmp_path):
    a, b = read_pathsample_sets(PUBLISHED)
    written = write_pathsample(read_pathsample(PUBLISHED), tmp_path, a=a, b=b)
    names = ["min.A", "min.B", "min.data", "ts.data"]
    assert sorted(path.name for path in written) == sorted(["dinfo", *names, "pathdata"])
    for path in map(tmp_path.joinpath, names):
        assert path.read_bytes() == (PUBLISHED / path.name).read_bytes(), path.name


@published
def test_every_cut_through_the_published_file_is_noticed_or_harmless(tmp_path):
    """Cut ts.data within line 40: the error names the line, unless only its blanks are left, or there."""
    shutil.copytree(PUBLISHED, tmp_path, dirs_exist_ok=True)
    whole = (PUBLISHED / "ts.data").read_bytes()[: 131 * 40]
    for cut in range(131 * 39, 131 * 40, 7):
        (tmp_path / "ts.data").write_bytes(whole[:cut])
        within_line = cut - 131 * 39
        if within_line > 7:
            with pytest.raises(TorchscapeError, match=r"ts\.data, line 40"):
                read_pathsample(tmp_path)
        else:
            assert read_pathsample(tmp_path).n_edges == 39
    (tmp_path / "ts.data").write_bytes(whole)
    assert read_pathsample(tmp_path).n_edges == 40


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=25, deadline=None)
def test_random_networks_survive_the_round_trip(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    n, m, d = int(rng.integers(2, 9)), int(rng.integers(0, 12)), int(rng.integers(1, 6))
    first = rng.integers(0, n, m)
    network = Network.of(
        energy=rng.normal(size=n) * 10.0 ** rng.integers(-3, 12),
        edges=torch.from_numpy(np.stack([first, (first + rng.integers(1, n, m)) % n])),
        ts_energy=rng.normal(size=m) * 1e3,
        log_det=rng.normal(size=n) * 1e3,
        ts_log_det=rng.normal(size=m) * 1e9,
        log_degeneracy=math.log(5040) - np.log(rng.integers(1, 5040, n)),
        ts_log_degeneracy=math.log(5040) - np.log(rng.integers(1, 5040, m)),
        coords=torch.from_numpy(rng.normal(size=(n, d))),
        ts_coords=torch.from_numpy(rng.normal(size=(m, d))),
    )
    folder = tmp_path_factory.mktemp("round")
    write_pathsample(network, folder, log_group_order=math.log(5040))
    again = read_pathsample(folder, log_group_order=math.log(5040))
    for name in ("energy", "log_det", "ts_energy", "ts_log_det"):
        torch.testing.assert_close(getattr(again, name), getattr(network, name), rtol=1e-10, atol=0.6e-10)
    for name in ("log_degeneracy", "ts_log_degeneracy"):
        torch.testing.assert_close(getattr(again, name), getattr(network, name), rtol=0, atol=1e-12)
    for name in ("edges", "coords", "ts_coords"):
        assert torch.equal(getattr(again, name), getattr(network, name)), name


def test_points_are_headerless_float64_records(tmp_path):
    network = cluster_network()
    write_pathsample(network, tmp_path)
    raw = np.fromfile(tmp_path / "points.min", dtype="<f8").reshape(2, 9)
    assert np.array_equal(raw, network.coords.numpy())
    assert (tmp_path / "points.ts").stat().st_size == 72


def test_orders_are_those_of_the_stabilisers(tmp_path):
    write_pathsample(cluster_network(), tmp_path)
    assert np.loadtxt(tmp_path / "min.data")[:, 2].tolist() == [6.0, 2.0]
    assert np.loadtxt(tmp_path / "ts.data")[2] == 1.0
    again = read_pathsample(tmp_path, log_group_order=math.log(12.0), n_modes=3)
    torch.testing.assert_close(again.log_degeneracy, cluster_network().log_degeneracy)
    assert (again.n_modes.tolist(), again.ts_n_modes.tolist()) == ([3, 3], [2])


def test_moments_of_inertia_have_their_closed_forms(tmp_path):
    """Equilateral triangle of side 2: r^2/2, r^2/2, r^2 = 2, 2, 4. Line of spacing 1.5: 0, 2 r^2, 2 r^2 = 4.5."""
    write_pathsample(cluster_network(), tmp_path, cluster=True)
    np.testing.assert_allclose(
        np.loadtxt(tmp_path / "min.data")[:, 3:], [[2.0, 2.0, 4.0], [0.0, 4.5, 4.5]], atol=1e-10
    )
    write_pathsample(cluster_network(), tmp_path)
    assert (np.loadtxt(tmp_path / "min.data")[:, 3:] == 1.0).all()


def test_degenerate_rearrangements_are_kept_not_connected(tmp_path):
    write_pathsample(cluster_network(), tmp_path)
    line = (tmp_path / "ts.data").read_text()
    before, after = line.rsplit(" 2 ", 1)
    (tmp_path / "ts.data").write_text(f"{before} 1 {after}{line}")
    shutil.copy(tmp_path / "points.ts", tmp_path / "one")
    (tmp_path / "points.ts").write_bytes((tmp_path / "one").read_bytes() * 2)
    network = read_pathsample(tmp_path)
    assert (network.n_degenerate_rearrangements, network.n_edges, network.ts_ids.tolist()) == (1, 1, [2])
    assert network.ts_coords.shape == (1, 9)
    around = network.rearrangements
    assert (around.minimum.tolist(), around.ids.tolist(), around.energy.tolist()) == ([0], [1], [-1.985])
    write_pathsample(network, tmp_path / "again")
    assert (tmp_path / "again" / "ts.data").read_bytes() == (tmp_path / "ts.data").read_bytes()
    assert (tmp_path / "again" / "points.ts").read_bytes() == (tmp_path / "points.ts").read_bytes()


def test_fortran_double_exponents_are_numbers(tmp_path):
    (tmp_path / "min.data").write_text("-1.5D+01 2.0d0 4 1 1 1\n\n0.25E1 1 2 1 1 1 9 9\n")
    (tmp_path / "ts.data").write_text("")
    network = read_pathsample(tmp_path)
    assert network.energy.tolist() == [-15.0, 2.5]
    assert network.log_degeneracy.tolist() == [-math.log(4.0), -math.log(2.0)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("min.data", "", "holds no minima"),
        ("min.data", "1 1 1 1 1 1\n1 1 1 1\n", "min.data, line 2: 4 numbers where 6 belong"),
        ("min.data", "1 1.0 x 1 1 1\n", "min.data, line 1: could not convert string to float: 'X'"),
        ("min.data", "nan 1.0 1 1 1 1\n", "min.data, line 1: 'nan' is not a finite number"),
        ("min.data", "0.0 1.0 0 1 1 1\n", "min.data, line 1: 0 is no order"),
        ("min.data", "0 -1.5\n1 -1.2\n", "not PATHSAMPLE's"),
        ("ts.data", "1 1 1 1 2 1 1 1\n1 1 1 1 3 1 1 1\n", "ts.data, line 2: minimum 3 is not among the 2"),
        ("ts.data", "1 1 1 0 1 1 1 1\n", "ts.data, line 1: minimum 0 is not among the 2"),
        ("ts.data", "1 1 1 1.5 2 1 1 1\n", "ts.data, line 1: '1.5' is no whole number"),
    ],
)
def test_misfit_lines_are_named(tmp_path, name, text, message):
    write_pathsample(cluster_network(), tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(TorchscapeError, match=message):
        read_pathsample(tmp_path)


def test_missing_binary_and_truncated_files_are_named(tmp_path):
    with pytest.raises(TorchscapeError, match=r"min\.data does not exist"):
        read_pathsample(tmp_path)
    write_pathsample(cluster_network(), tmp_path, a=[0], b=[1])
    points = (tmp_path / "points.min").read_bytes()
    (tmp_path / "points.min").write_bytes(points[:-8])
    with pytest.raises(TorchscapeError, match=r"points\.min has 136 bytes"):
        read_pathsample(tmp_path)
    (tmp_path / "points.min").write_bytes(points[:-16])
    with pytest.raises(TorchscapeError, match="one of them is truncated"):
        read_pathsample(tmp_path)
    (tmp_path / "points.min").write_bytes(points)
    (tmp_path / "min.B").write_text("2\n1\n")
    with pytest.raises(TorchscapeError, match="announces 2 minima and lists 1"):
        read_pathsample_sets(tmp_path)
    (tmp_path / "min.B").write_text("")
    with pytest.raises(TorchscapeError, match="how many minima"):
        read_pathsample_sets(tmp_path)
    (tmp_path / "min.data").write_bytes(bytes(range(256)))
    with pytest.raises(TorchscapeError, match="not a text file"):
        read_pathsample(tmp_path)


def test_what_pathsample_cannot_hold_is_refused(tmp_path):
    network = cluster_network()
    with pytest.raises(TorchscapeError, match=r"point-group order 1\.5"):
        write_pathsample(network, tmp_path, log_group_order=math.log(3.0))
    with pytest.raises(TorchscapeError, match="there is no minimum 2"):
        write_pathsample(network, tmp_path, a=[2])
    unknown = dataclasses.replace(network, ts_log_det=torch.full((1,), torch.nan, dtype=torch.float64))
    with pytest.raises(TorchscapeError, match="ts_log_det is unknown at 1 points"):
        write_pathsample(unknown, tmp_path)
    flat = Network.of(energy=[0.0], edges=[], ts_energy=[], coords=torch.zeros(1, 4, dtype=torch.float64))
    with pytest.raises(TorchscapeError, match="3 per atom"):
        write_pathsample(flat, tmp_path, cluster=True)
    assert not any(tmp_path.iterdir())


def test_a_number_of_a_minimum_cut_short_is_noticed(tmp_path):
    """12, cut to 1, is as good a number as any."""
    network = Network.of(
        energy=torch.arange(12.0).double(), log_det=torch.zeros(12).double(), edges=[(0, 11)], ts_energy=[20.0]
    )
    write_pathsample(dataclasses.replace(network, ts_log_det=torch.zeros(1).double()), tmp_path, a=[11], b=[0])
    assert read_pathsample_sets(tmp_path)[0].tolist() == [11]
    path = tmp_path / "min.A"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(TorchscapeError, match="in the middle of a line"):
        read_pathsample_sets(tmp_path)


@pytest.mark.parametrize(("name", "n_read"), [("min.data", 6), ("ts.data", 8)])
def test_numbers_of_data_files_cut_short_are_noticed(tmp_path, name, n_read):
    """Wherever the file ends within its last line: it is read only where all of its numbers are whole."""
    write_pathsample(cluster_network(), tmp_path)
    path = tmp_path / name
    whole, right = path.read_bytes(), read_pathsample(tmp_path)
    line = whole.splitlines()[-1]
    for end in range(1, len(line) + 1):
        left = line[:end]
        if not left.strip():
            continue
        path.write_bytes(whole[: len(whole) - 1 - len(line)] + left)
        if left.endswith(b" ") and len(left.split()) >= n_read:
            assert torch.equal(read_pathsample(tmp_path).energy, right.energy)
        else:
            with pytest.raises(TorchscapeError, match=name):
                read_pathsample(tmp_path)
