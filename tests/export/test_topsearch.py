"""topsearch's folders, written as its version 0.0.3 writes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import torchscape as tsc
from torchscape.errors import TorchscapeError
from torchscape.export import read_network, read_topsearch

MINIMA = np.array([[3.0, 2.0], [-2.805118, 3.131312], [-3.779310, -3.283186], [3.584428, -1.848127]])
SADDLES = {(0, 3): ([3.385154, 0.073852], 13.31193), (0, 1): ([0.086678, 2.884255], 67.71916)}


def himmelblau() -> tsc.Potential:
    def energy(x):
        return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2

    return tsc.FunctionPotential(energy, 2, bounds=[(-6, 6), (-6, 6)])


def written(folder, suffix="", saddles=SADDLES):
    """By the same calls of NumPy with the same formats."""
    np.savetxt(folder / f"min.data{suffix}", [[i, 0.0] for i in range(4)], fmt="%i %8.5f")
    np.savetxt(folder / f"min.coords{suffix}", MINIMA)
    np.savetxt(folder / f"ts.data{suffix}", [[i, j, e] for (i, j), (_, e) in saddles.items()], fmt="%i %i %8.5f")
    np.savetxt(folder / f"ts.coords{suffix}", [x for x, _ in saddles.values()])
    np.savetxt(folder / f"pairlist{suffix}", np.array([[0, 1], [0, 3]]), fmt="%i")
    return folder


@pytest.mark.parametrize("suffix", ["", ".one"])
def test_a_folder_is_read(tmp_path, suffix):
    network = read_topsearch(written(tmp_path, suffix), suffix=suffix)
    assert (network.n_minima, network.edges.tolist()) == (4, [[0, 0], [3, 1]])
    assert network.ts_energy.tolist() == [13.31193, 67.71916]
    assert np.array_equal(network.coords.numpy(), MINIMA)
    assert bool(network.log_det.isnan().all())
    assert set(network.n_modes.tolist()) == {-1}


def test_it_becomes_a_landscape_with_what_the_files_do_not_say(tmp_path):
    network = read_network(written(tmp_path))
    with tsc.Landscape.from_network(network, himmelblau()) as landscape:
        assert landscape.imported.all_same
        found = landscape.network()
    assert found.edges.shape == (2, 2)
    assert found.ts_energy.tolist() == pytest.approx([13.31192627, 67.71915009], abs=1e-7)
    assert bool(torch.cat([found.log_det, found.ts_log_det]).isfinite().all())


def test_one_minimum_and_no_transition_state_are_a_network(tmp_path):
    """NumPy writes an empty file without a line then."""
    (tmp_path / "min.data").write_text("0 -1.50000\n")
    (tmp_path / "min.coords").write_text("1.0 2.0\n")
    for name in ("ts.data", "ts.coords"):
        (tmp_path / name).write_text("")
    network = read_topsearch(tmp_path)
    assert (network.n_minima, network.n_edges, network.coords.tolist()) == (1, 0, [[1.0, 2.0]])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("min.data", "0 -1.0 3\n", r"min\.data, line 1: 3 numbers where 2 belong"),
        ("min.data", "0 x\n", r"min\.data, line 1: could not convert"),
        ("min.data", "", "holds no minima"),
        ("min.data", "0 1.0\n1 2.0\n2 3.0\n3 4.1", "in the middle of a line"),
        ("min.coords", "1 2\n3 4\n", "has 2 points where the .data file has 4"),
        ("ts.coords", "1 2\n3\n", r"ts\.coords, line 2: 1 numbers where 2 belong"),
        ("ts.data", "0 9 1.0\n0 1 2.0\n", r"ts\.data, line 1: joins 0 and 9"),
    ],
)
def test_misfits_are_named(tmp_path, name, text, message):
    (written(tmp_path) / name).write_text(text)
    with pytest.raises(TorchscapeError, match=message):
        read_topsearch(tmp_path)


def test_missing_files_are_named(tmp_path):
    (written(tmp_path) / "ts.coords").unlink()
    with pytest.raises(TorchscapeError, match=r"ts\.coords does not exist"):
        read_topsearch(tmp_path)
    with pytest.raises(TorchscapeError, match=r"without min\.data"):
        read_network(tmp_path.parent)
