"""pele's databases: published ones read, pickles of strangers refused."""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from torchscape.errors import TorchscapeError
from torchscape.export import is_foreign, read_network, read_pele
from torchscape.export.pickled import array_of
from torchscape.potentials import LennardJones

FILES = Path(__file__).parents[2].parent / "shared" / "data" / "field" / "pele_sqlite"
published = pytest.mark.skipif(not FILES.is_dir(), reason="pele's databases are not at hand")


# --- pickles ----------------------------------------------------------------------------------------------


@given(
    arrays.arrays(
        st.sampled_from(["<f8", "<f4", ">f8", "<i8", "<i4", "u1"]), arrays.array_shapes(max_dims=3, max_side=4)
    ),
    st.integers(0, 5),
    st.sampled_from("CF"),
)
@settings(max_examples=100, deadline=None)
def test_every_array_of_numbers_comes_back(array, protocol, order):
    array = np.asarray(array, order=order)
    found = array_of(pickle.dumps(array, protocol=protocol))
    assert found.shape == array.shape
    assert found.dtype.kind == array.dtype.kind
    np.testing.assert_array_equal(found, array)


def test_an_array_that_python_2_has_pickled_is_read():
    """There a byte is a character: opcode U (SHORT_BINSTRING), and the module numpy.core.multiarray."""
    raw = np.array([1.5, -2.0]).astype("<f8").tobytes()
    told = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85q\x03U\x01bq\x04\x87q\x05Rq\x06"
        b"(K\x01K\x02\x85q\x07cnumpy\ndtype\nq\x08U\x02f8q\tK\x00K\x01\x87q\nRq\x0b"
        b"(K\x03U\x01<q\x0cNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\rb\x89U\x10" + raw + b"q\x0etq\x0fb."
    )
    assert array_of(told).tolist() == [1.5, -2.0]


class Runs:
    def __init__(self, *call) -> None:
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "value",
    [
        Runs(os.system, ("touch {path}",)),
        Runs(eval, ("open('{path}', 'w')",)),
        Runs(getattr, ("text", "upper")),
        collections.OrderedDict(a=1),
        Runs(np.fromfile, ("/etc/passwd",)),
        Runs(np.ndarray, ((1 << 40,), "f8")),
        Runs(np.dtype, ("f8",)),
        np.float64(1.0),
    ],
)
def test_whatever_else_a_pickle_asks_for_is_refused_before_it_is_called(value, tmp_path):
    witness = tmp_path / "ran"
    if isinstance(value, Runs):
        function, arguments = value.call
        value = Runs(function, tuple(a.format(path=witness) if isinstance(a, str) else a for a in arguments))
    with pytest.raises(TorchscapeError, match=r"pickle"):
        array_of(pickle.dumps(value))
    assert not witness.exists()


@pytest.mark.parametrize(
    "array", [np.array([None]), np.array(["a"]), np.array([1j]), np.array([True]), np.zeros(1, "f8,i4")]
)
def test_arrays_of_something_else_than_numbers_are_refused(array):
    with pytest.raises(TorchscapeError, match=r"pickle"):
        array_of(pickle.dumps(array))


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_pickle_is_an_error_or_an_array(data):
    whole = bytearray(pickle.dumps(np.arange(4.0), protocol=data.draw(st.sampled_from([2, 4, 5]))))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(TorchscapeError):
        assert array_of(bytes(whole[: data.draw(st.integers(0, len(whole)))])).dtype.kind in "fiu"


# --- databases --------------------------------------------------------------------------------------------


@published
@pytest.mark.parametrize(
    ("name", "n", "n_atoms", "lowest"),
    [
        ("lj13_small_pathsample.3.sqlite", (100, 100), 13, -44.326801),
        ("lj15.3.sqlite", (44, 44), 15, -52.322627),
        ("lj75_very_small_pathsample.3.sqlite", (99, 16), 75, -397.492331),
    ],
)
def test_published_databases_are_read(name, n, n_atoms, lowest):
    """Energies are those of the coordinates, as far as pele has converged and printed them."""
    network = read_pele(FILES / name)
    assert (network.n_minima, network.n_edges + len(network.rearrangements)) == n
    assert float(network.energy.min()) == pytest.approx(lowest, abs=1e-6)
    assert set(network.n_modes.tolist()) == {3 * n_atoms - 6}
    potential = LennardJones(n_atoms, container=None)
    for x, energy in ((network.coords, network.energy), (network.ts_coords, network.ts_energy)):
        torch.testing.assert_close(potential.energy(x), energy, rtol=0, atol=1e-4)
    assert bool(network.log_det.isfinite().all())
    assert is_foreign(FILES / name)
    assert read_network(FILES / name).n_minima == n[0]


@published
def test_the_point_group_of_the_icosahedron_and_its_spectrum_are_read():
    network = read_pele(FILES / "lj13_small_pathsample.3.sqlite")
    lowest = int(network.energy.argmin())
    assert float((-network.log_degeneracy[lowest]).exp()) == pytest.approx(120.0)
    x = network.coords[lowest : lowest + 1]
    spectrum = torch.linalg.eigvalsh(LennardJones(13, container=None).hessian(x)[0])[6:]
    assert float(spectrum.log().sum()) == pytest.approx(float(network.log_det[lowest]), abs=1e-3)


@published
def test_invalid_points_are_left_out_and_so_are_their_transition_states(tmp_path):
    path = tmp_path / "a.sqlite"
    shutil.copy(FILES / "lj15.3.sqlite", path)
    whole = read_pele(path)
    gone = int(whole.edges[0, 0])
    with sqlite3.connect(path) as database:
        database.execute("UPDATE tbl_minima SET invalid = 1 WHERE _id = ?", (int(whole.ids[gone]),))
        database.execute("UPDATE tbl_minima SET fvib = NULL, pgorder = NULL WHERE _id = ?", (int(whole.ids[-1]),))
    database.close()
    less = read_pele(path)
    assert less.n_minima == whole.n_minima - 1
    assert less.n_edges == int((whole.edges != gone).all(0).sum())
    assert bool(less.log_det[-1].isnan())


@published
@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (pickle.dumps(Runs(os.system, ("true",))), "minimum 3: a pickle asks for"),
        (pickle.dumps(np.zeros(7)), "minimum 3: 7 coordinates, where others have 45"),
        (b"", "minimum 3: the pickle of an array is damaged"),
        (None, "minimum 3: it has no coordinates"),
    ],
)
def test_foul_coordinates_are_named(blob, message, tmp_path):
    path = tmp_path / "a.sqlite"
    shutil.copy(FILES / "lj15.3.sqlite", path)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE tbl_minima SET coords = ? WHERE _id = 3", (blob,))
    database.close()
    with pytest.raises(TorchscapeError, match=message):
        read_pele(path)


def test_other_files_are_named(tmp_path):
    (tmp_path / "text").write_text("no database")
    database = sqlite3.connect(tmp_path / "other.sqlite")
    database.execute("CREATE TABLE a (b)")
    database.close()
    for name in ("text", "other.sqlite", "nowhere"):
        assert not is_foreign(tmp_path / name)
        with pytest.raises(TorchscapeError, match="no database of pele's"):
            read_pele(tmp_path / name)
