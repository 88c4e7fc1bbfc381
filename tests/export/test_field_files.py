"""What the field's programs leave behind: read as they write it, and written so that they could not tell."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchscape import Network, analysis
from torchscape.errors import TorchscapeError
from torchscape.export import read_pathsample, read_pathsample_sets, write_pathsample
from torchscape.export.fortran import columns, real, whole, words_of
from torchscape.export.pathdata import Keywords

FIELD = Path(__file__).parents[2].parent / "shared" / "data" / "field"
field = pytest.mark.skipif(not FIELD.is_dir(), reason="the files of the field's programs are not at hand")


# --- numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("1.234-101", 1.234e-101),
        ("0.1000000000+101", 1e100),
        ("-1.5D+01", -15.0),
        ("2.5d0", 2.5),
        ("1.5Q-3", 0.0015),
        (".5", 0.5),
        ("7.", 7.0),
    ],
)
def test_numbers_are_read_as_fortran_writes_them(word, value):
    assert real(word) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("word", ["nan", "inf", "********", "1.2.3", "abc", "1e999", ""])
def test_what_is_no_number_is_refused(word):
    with pytest.raises(ValueError, match=r"."):
        real(word)


def test_whole_numbers_may_be_written_as_reals():
    assert [whole(word) for word in ("48", "1.0", "0.2000000000E+01", "3.")] == [48, 1, 2, 3]
    with pytest.raises(ValueError, match=r"'1\.5' is no whole number"):
        whole("1.5")


@given(
    st.lists(st.floats(-1e8, 1e9, allow_nan=False), min_size=1, max_size=5),
    st.sampled_from([10, 15]),
)
@settings(max_examples=200, deadline=None)
def test_columns_that_touch_are_told_apart(values, decimals):
    """As Fortran writes them: so wide that the largest of them leaves no blank before it."""
    texts = [f"{value:.{decimals}f}" for value in values]
    width = max(map(len, texts))
    line = "".join(text.rjust(width) for text in texts)
    assert [float(word) for word in words_of(line)] == [float(text) for text in texts]


def test_an_exponent_without_its_letter_is_no_second_number():
    assert words_of("0.1000000000+101 1.0 1") == ["0.1000000000+101", "1.0", "1"]
    assert words_of("1.0000000000-101.5000000000") == ["1.0000000000", "-101.5000000000"]
    assert words_of("-1.5" + "*" * 40) == ["-1.5", "*" * 20, "*" * 20]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_columns_give_back_every_bit(values):
    texts = columns(values)
    assert len(set(map(len, texts))) == 1
    assert all(text[0] == " " for text in texts)
    assert [real(text.strip()) for text in texts] == values


# --- folders ----------------------------------------------------------------------------------------------


@field
def test_a_folder_without_points_is_read():
    """points.min and points.ts of 0 bytes, as NOPOINTS leaves them; the pathdata there has a dummy NATOMS."""
    network = read_pathsample(FIELD / "nopoints")
    assert (network.n_minima, network.n_edges, network.coords) == (994, 4320, None)
    assert set(network.n_modes.tolist()) == set(network.ts_n_modes.tolist()) == {-1}
    a, b = read_pathsample_sets(FIELD / "nopoints")
    assert torch.nonzero(network.properties["in_A"])[:, 0].tolist() == a.tolist() == [143]
    assert torch.nonzero(network.properties["in_B"])[:, 0].tolist() == b.tolist() == [3]


@field
def test_exponents_of_three_digits_lose_their_letter(tmp_path):
    """Minima that graph transformation has removed have the energy 0.1000000000+101."""
    network = read_pathsample(FIELD / "nopoints", minima="min.data.1.00000.NGT")
    assert int((network.energy == 1e100).sum()) == 992
    write_pathsample(network, tmp_path)
    assert torch.equal(read_pathsample(tmp_path).energy, network.energy)


@field
def test_populations_and_rates_do_without_the_number_of_modes_and_heat_capacity_does_not():
    unknown = read_pathsample(FIELD / "nopoints")
    known = read_pathsample(FIELD / "nopoints", n_modes=7)
    a, b = read_pathsample_sets(FIELD / "nopoints")
    times = [analysis.rate_constants(analysis.rates(net, 1.0), a, b).mfpt for net in (unknown, known)]
    assert times[0] == times[1] == pytest.approx(7.520218829e11, rel=1e-9)
    assert torch.equal(analysis.occupation(unknown, 0.7), analysis.occupation(known, 0.7))
    assert torch.equal(analysis.shannon_entropy(unknown, 0.7), analysis.shannon_entropy(known, 0.7))
    for quantity in (
        analysis.heat_capacity,
        analysis.mean_energy,
        analysis.free_energy,
        analysis.log_partition,
        analysis.heat_capacity_contributions,
    ):
        with pytest.raises(TorchscapeError, match=r"n_modes=3 \* n_atoms - 6"):
            quantity(unknown, 0.7)
    assert float(analysis.heat_capacity(known, 0.7).baseline) == pytest.approx(3.5)


@field
def test_the_number_of_modes_comes_from_the_coordinates():
    """60 atoms, by their moments of inertia: C_V of the lowest is 87, where it was 0.5."""
    network = read_pathsample(FIELD / "pele_folder")
    assert network.coords.shape == (2, 180)
    assert (network.n_modes.tolist(), network.ts_n_modes.tolist()) == ([174, 174], [173])
    cold = float(network.energy.diff().abs()) / 100
    assert float(analysis.heat_capacity(network, cold).value) == pytest.approx(87.0)


@field
def test_a_published_database_with_coordinates_comes_back_byte_for_byte(tmp_path):
    """F25.15, a degenerate rearrangement (minimum 11), orders, moments, min.A, coordinates."""
    network = read_pathsample(FIELD / "lj38")
    assert (network.n_minima, network.n_edges, len(network.rearrangements)) == (64, 69, 1)
    assert set(network.n_modes.tolist()) == {108}
    lines = [line.split() for line in (FIELD / "lj38" / "ts.data").read_text().splitlines()]
    [(row, itself)] = [(row, words) for row, words in enumerate(lines, 1) if words[3] == words[4]]
    around = network.rearrangements
    assert (around.ids.tolist(), around.minimum.tolist()) == ([row], [int(itself[3]) - 1])
    assert around.energy.tolist() == [float(itself[0])]
    write_pathsample(network, tmp_path)
    for name in ("min.data", "ts.data", "points.min", "points.ts"):
        assert (tmp_path / name).read_bytes() == (FIELD / "lj38" / name).read_bytes(), name
    for name in ("min.A", "min.B"):
        assert (tmp_path / name).read_text().split() == (FIELD / "lj38" / name).read_text().split()
    assert Keywords(tmp_path / "pathdata").n_modes == 108


@field
@pytest.mark.parametrize("name", ["lj38", "nopoints", "pele_folder", "pygt_32state"])
def test_nothing_is_lost_on_the_way_there_and_back(name, tmp_path):
    network = read_pathsample(FIELD / name)
    write_pathsample(network, tmp_path)
    expect_equal(read_pathsample(tmp_path), network)
    for file in ("min.data", "ts.data", "min.A", "min.B"):
        if (FIELD / name / file).is_file():
            there, here = (np.array(numbers_in(folder / file)) for folder in (FIELD / name, tmp_path))
            assert np.array_equal(there, here), file


@field
def test_a_model_in_free_format_with_a_dummy_number_of_atoms_is_read():
    """PyGT's 32 states: NATOMS 2 and NOFRQS say nothing of modes; more than one state in A and in B."""
    network = read_pathsample(FIELD / "pygt_32state")
    assert (network.n_minima, set(network.n_modes.tolist())) == (32, {-1})
    a, b = read_pathsample_sets(FIELD / "pygt_32state")
    assert torch.nonzero(network.properties["in_A"])[:, 0].tolist() == a.tolist()
    assert torch.nonzero(network.properties["in_B"])[:, 0].tolist() == b.tolist()


def expect_equal(one: Network, two: Network) -> None:
    columns = ("energy", "log_det", "log_degeneracy", "n_modes", "ids", "coords", "edges")
    saddles = ("ts_energy", "ts_log_det", "ts_log_degeneracy", "ts_n_modes", "ts_ids", "ts_coords")
    for name in (*columns, *saddles):
        expect_alike(getattr(one, name), getattr(two, name), name)
    for group in ("properties", "ts_properties"):
        assert getattr(one, group).keys() == getattr(two, group).keys()
        for name, column in getattr(one, group).items():
            expect_alike(column, getattr(two, group)[name], name)
    for name in ("minimum", "energy", "log_det", "log_degeneracy", "ids", "coords", "n_modes"):
        expect_alike(getattr(one.rearrangements, name), getattr(two.rearrangements, name), name)


def expect_alike(one, two, name) -> None:
    assert (one is None) == (two is None), name
    if one is not None:
        torch.testing.assert_close(one, two, rtol=0.0, atol=0.0, equal_nan=True, msg=name)


def numbers_in(path: Path) -> list[float]:
    return [real(word) for line in path.read_text().splitlines() for word in words_of(line)]


# --- what is made here ------------------------------------------------------------------------------------


def three_atoms() -> Network:
    """A line and a triangle, one transition state between them and one that exchanges atoms of the triangle."""
    triangle = [0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 1.0, math.sqrt(3.0), 0.0]
    line = [-1.5, 0.0, 0.0, 0.0, 0.0, 0.0, 1.5, 0.0, 0.0]
    x = torch.tensor([triangle, line], dtype=torch.float64)
    return Network.of(
        energy=[-2.185, 1 / 3],
        edges=[(0, 1)],
        ts_energy=[2 / 3],
        log_det=[5.0, 4.0],
        n_modes=torch.tensor([3, 4]),
        coords=x,
        ts_coords=x[:1] * 1.1,
    )


def test_a_cluster_is_known_by_its_modes(tmp_path):
    """3 N - 6 of them, 3 N - 5 on a line: it gets moments of inertia, and needs no note of its modes."""
    write_pathsample(three_atoms(), tmp_path, temperature=0.5)
    moments = np.loadtxt(tmp_path / "min.data")[:, 3:]
    np.testing.assert_allclose(moments, [[2.0, 2.0, 4.0], [0.0, 4.5, 4.5]], atol=1e-10)
    again = read_pathsample(tmp_path)
    assert again.n_modes.tolist() == [3, 4]
    assert torch.equal(again.energy, three_atoms().energy)
    pathdata = (tmp_path / "pathdata").read_text()
    assert {"NATOMS         3", "DIRECTION      AB", "TEMPERATURE    0.5"} <= set(pathdata.splitlines())
    assert "vibrational" not in pathdata


def test_modes_and_group_order_that_pathsample_has_no_word_for_come_back(tmp_path):
    network = Network.of([0.0, 0.5], [(0, 1)], [1.0], n_modes=28, log_degeneracy=[math.log(3.0), math.log(12.0)])
    write_pathsample(network, tmp_path)
    again = read_pathsample(tmp_path)
    assert (again.n_modes.tolist(), again.ts_n_modes.tolist()) == ([28, 28], [27])
    torch.testing.assert_close(again.log_degeneracy, network.log_degeneracy, rtol=0, atol=1e-14)
    assert read_pathsample(tmp_path, n_modes=5).n_modes.tolist() == [5, 5]


@pytest.mark.parametrize(
    ("text", "n_modes"),
    [
        ("NATOMS 38", 108),
        ("natoms 38 ! a comment\nBULK 5 5 5", 111),
        ("NATOMS 10\nTWOD", 17),
        ("NATOMS 10\nTWOD\nBULK 3 3 0", 18),
        ("NATOMS 10\nPULL 1 10", 26),
        ("NATOMS 10\nFREEZE 1 2 3", 21),
        ("NATOMS 10\nNOTRANSROT", 30),
        ("NATOMS 10\nNOFRQS", None),
        ("NATOMS 1", None),
        ("! NATOMS 38", None),
        ("NATOMS many", None),
        ("TEMPERATURE 1.0", None),
    ],
)
def test_keywords_say_how_many_modes(text, n_modes, tmp_path):
    (tmp_path / "pathdata").write_text(text)
    assert Keywords(tmp_path / "pathdata").n_modes == n_modes


def test_keywords_of_other_coordinates_are_not_believed(tmp_path):
    network = three_atoms()
    write_pathsample(network, tmp_path, cluster=False)
    (tmp_path / "pathdata").write_text("NATOMS 5\n")
    assert read_pathsample(tmp_path).n_modes.tolist() == [-1, -1]
    (tmp_path / "pathdata").write_text("NATOMS 3\nBULK 9 9 9\n")
    assert read_pathsample(tmp_path).n_modes.tolist() == [6, 6]


def test_inputs_of_ones_own_stay(tmp_path):
    (tmp_path / "pathdata").write_text("EXEC OPTIM\n")
    write_pathsample(three_atoms(), tmp_path, a=[0], b=[1])
    write_pathsample(three_atoms(), tmp_path)
    assert (tmp_path / "pathdata").read_text() == "EXEC OPTIM\n"
    assert not (tmp_path / "min.A").exists()  # end states of an earlier export are none of this one


def test_the_tree_that_dinfo_asks_for_holds_everything(tmp_path):
    write_pathsample(three_atoms(), tmp_path)
    said = dict(line.split(maxsplit=1) for line in (tmp_path / "dinfo").read_text().splitlines() if " " in line)
    first, delta, levels = float(said["FIRST"]), float(said["DELTA"]), int(said["LEVELS"])
    assert first >= 2 / 3 > first - delta
    assert first - levels * delta <= -2.185
    assert (said["MINIMA"], said["TS"], said["CONNECTMIN"]) == ("min.data", "ts.data", "1")


def test_end_states_that_are_not_there_are_named(tmp_path):
    write_pathsample(three_atoms(), tmp_path, a=[0], b=[1])
    (tmp_path / "min.A").write_text("1\n3\n")
    with pytest.raises(TorchscapeError, match=r"min\.A names minimum 3, and there are 2"):
        read_pathsample(tmp_path)


def test_moments_that_did_not_fit_are_unknown(tmp_path):
    write_pathsample(three_atoms(), tmp_path)
    lines = (tmp_path / "min.data").read_text().splitlines()
    lines[0] = f"{-2.185:20.10f}{5.0:20.10f}{1:6d}{1.0:20.10f}" + "*" * 40
    (tmp_path / "min.data").write_text("\n".join(lines) + "\n")
    network = read_pathsample(tmp_path)
    assert network.properties["inertia_a"][0] == 1.0
    assert bool(network.properties["inertia_c"][:1].isnan().all())
    write_pathsample(network, tmp_path / "again")
    expect_equal(read_pathsample(tmp_path / "again"), network)


def test_rearrangements_go_with_their_minima(tmp_path):
    if not FIELD.is_dir():
        pytest.skip("the files of the field's programs are not at hand")
    shutil.copytree(FIELD / "lj38", tmp_path, dirs_exist_ok=True)
    network = read_pathsample(tmp_path)
    keep = network.energy.argsort()
    sorted_ = network.subset(keep)
    assert keep[sorted_.rearrangements.minimum].tolist() == network.rearrangements.minimum.tolist()
    gone = network.subset(torch.tensor([0, 1]))
    assert (len(gone.rearrangements), gone.n_degenerate_rearrangements) == (0, 0)
