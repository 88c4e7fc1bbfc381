"""Networks of other programs become landscapes: the same points, verified, and what is not the same is said."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path

import pytest
import torch

import torchscape as tsc
from torchscape import Landscape, Network, random
from torchscape.errors import DatabaseError, TorchscapeError
from torchscape.export import read_network, read_pathsample, write_pathsample
from torchscape.landscape import Fate, import_network
from torchscape.potentials import LennardJones
from torchscape.rearrangements import Rearrangements

DATA = Path(__file__).parents[2].parent / "shared" / "data"
lj7_known = pytest.mark.skipif(not (DATA / "lj7.json").exists(), reason="needs the stationary points of LJ_7")
field = pytest.mark.skipif(not (DATA / "field").is_dir(), reason="the field's files are not at hand")


def surface() -> tsc.Potential:
    """Wells at -1 and 1, a transition state at 0."""
    return tsc.FunctionPotential(lambda x: (x[0] ** 2 - 1) ** 2 + x[1] ** 2, 2, bounds=[(-2, 2), (-2, 2)])


def wells(**columns) -> Network:
    x = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    given = {"coords": x, "ts_coords": torch.zeros(1, 2, dtype=torch.float64), "n_modes": 2}
    return Network.of([0.0, 0.0], [(0, 1)], [1.0], **{**given, **columns})


def lj7(seed: int = 0, blur: float = 0.0) -> Network:
    """All stationary points of LJ_7 as turned, relabelled images, some way from where they belong."""
    known, symmetry = json.loads((DATA / "lj7.json").read_text()), LennardJones(7).symmetry

    def images(points: list[dict], number: int) -> torch.Tensor:
        x = torch.tensor([point["x"] for point in points], dtype=torch.float64)
        key = random.fold(seed + number, torch.arange(len(x)))
        return symmetry.random_image(x, key) + blur * random.normal(random.fold(key, 1), x.shape[1], x.dtype)

    x, ts_x = images(known["minima"], 0), images(known["ts"], 100)
    ends = torch.tensor([point["connects"] for point in known["ts"]]).T
    energy = torch.tensor([point["E"] for point in known["ts"]], dtype=torch.float64)
    around = ends[0] == ends[1]
    return Network.of(
        energy=[point["E"] for point in known["minima"]],
        edges=ends[:, ~around],
        ts_energy=energy[~around],
        coords=x,
        ts_coords=ts_x[~around],
        rearrangements=Rearrangements.of(ends[0, around], energy[around], coords=ts_x[around]),
    )


@lj7_known
def test_lj7_comes_back_whole_from_points_that_are_only_near():
    with Landscape.from_network(lj7(blur=1e-4), LennardJones(7)) as landscape:
        assert landscape.imported.all_same
        told = landscape.summary()
    assert (told["n_minima"], told["n_transition_states"], told["n_connected_pairs"]) == (4, 12, 5)
    assert told["n_degenerate_rearrangements"] == 6
    assert told["energies"] == pytest.approx([-16.50538417, -15.93504306, -15.59321094, -15.53306005], abs=1e-8)
    assert told["ts_energies"][-1] == pytest.approx(-12.54893771, abs=1e-8)


@lj7_known
def test_lj7_survives_the_way_through_pathsamples_files_and_can_be_explored_further(tmp_path):
    potential = LennardJones(7)
    with Landscape.from_network(lj7(), potential) as landscape:
        before = landscape.network(coords=True)
    write_pathsample(before, tmp_path / "files", a=[0], b=[3])
    read = read_pathsample(tmp_path / "files")
    assert set(read.n_modes.tolist()) == {15}
    with Landscape.from_network(read, potential, tmp_path / "lj7.db") as landscape:
        assert landscape.imported.all_same
        after = landscape.network()
        climbs = tsc.ClimbFromMinima(searches=2)
        tsc.explore(landscape, potential, strategies=[climbs], progress=False, check=False)
        assert (landscape.n_minima, landscape.n_transition_states) == (4, 12)
    for name in ("energy", "log_det", "ts_energy", "ts_log_det", "log_degeneracy", "ts_log_degeneracy"):
        torch.testing.assert_close(getattr(after, name), getattr(before, name), rtol=1e-9, atol=1e-7)
    assert (after.edges.sort(0).values == before.edges.sort(0).values).all()
    assert after.rearrangements.minimum.tolist() == before.rearrangements.minimum.tolist()
    assert (after.properties["in_A"].tolist(), after.properties["in_B"].tolist()) == ([1, 0, 0, 0], [0, 0, 0, 1])


def test_what_is_not_the_same_is_said():
    """Of the minima one has another energy, one lies in the basin of another, one falls out of the box; of the
    transition states one is a minimum, one joins others than it says."""
    x = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.6, 0.5]], dtype=torch.float64)
    network = Network.of(
        energy=[0.25, 0.0, 0.3],
        edges=[(0, 2), (0, 1)],
        ts_energy=[1.0, 1.0],
        coords=x,
        ts_coords=torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64),
    )
    with pytest.warns(UserWarning, match="1 of 3 minima are the same") as warned:
        landscape = Landscape.from_network(network, surface())
    with landscape:
        told = landscape.imported
        assert (landscape.n_minima, landscape.n_transition_states) == (2, 1)
    assert told.minimum_fates.tolist() == [Fate.OTHER_ENERGY, Fate.SAME, Fate.MOVED]
    assert told.minima.tolist() == [0, 1, 1]
    assert told.ts_fates.tolist()[0] == Fate.SAME
    assert told.ts_fates.tolist()[1] in (Fate.LOST, Fate.MOVED)
    assert told.n_doubles >= 1
    assert "another energy" in str(warned[0].message)


def test_other_ends_are_said():
    """A third minimum of the network, of which a transition state says that it ends there."""
    quartic = tsc.FunctionPotential(
        lambda x: (x[0] ** 2 - 1) ** 2 * (x[0] - 3) ** 2 / 9 + x[1] ** 2, 2, name="three"
    )
    x = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        between = tsc.relax(
            tsc.FunctionPotential(lambda z: -((z[0] ** 2 - 1) ** 2) * (z[0] - 3) ** 2 / 9, 1, bounds=[(-1, 1)]),
            torch.zeros(1, 1, dtype=torch.float64),
        )
    top = torch.cat([between.x[0], torch.zeros(1, dtype=torch.float64)])[None]
    network = Network.of([0.0] * 3, [(0, 2)], -between.energy, coords=x, ts_coords=top)
    with pytest.warns(UserWarning, match="other minima at their ends"):
        landscape = Landscape.from_network(network, quartic)
    with landscape:
        assert landscape.imported.ts_fates.tolist() == [Fate.OTHER_ENDS]
        assert landscape.network().edges.sort(0).values.T.tolist() == [[0, 1]]


def test_a_network_of_another_potential_is_refused_and_leaves_no_file(tmp_path):
    path = tmp_path / "a.db"
    far = wells(coords=torch.tensor([[0.0, 1.5], [0.3, -1.5]], dtype=torch.float64))
    with pytest.raises(TorchscapeError, match="none of the 2 minima"):
        Landscape.from_network(far, surface(), path)
    assert not list(tmp_path.iterdir())
    wide = {"coords": torch.zeros(2, 9).double(), "ts_coords": torch.zeros(1, 9).double()}
    with pytest.raises(TorchscapeError, match="9 coordinates, the potential has 2"):
        Landscape.from_network(wells(**wide), surface())
    for missing in ("coords", "ts_coords"):
        with pytest.raises(TorchscapeError, match=r"points\.min and points\.ts"):
            Landscape.from_network(dataclasses.replace(wells(), **{missing: None}), surface())


def test_a_file_that_is_there_stays(tmp_path):
    path = tmp_path / "a.db"
    with Landscape.from_network(wells(), surface(), path) as landscape:
        assert landscape.imported.all_same
    with pytest.raises(DatabaseError, match="exists already"):
        Landscape.from_network(wells(), surface(), path)
    with Landscape.open(path, surface()) as landscape:
        again = import_network(landscape, wells())
        assert (again.all_same, landscape.n_minima, landscape.network().hits.tolist()) == (True, 2, [2, 2])


def test_a_network_without_transition_states_is_a_landscape_too():
    with Landscape.from_network(wells().only_edges(torch.zeros(1, dtype=torch.bool)), surface()) as landscape:
        assert (landscape.n_minima, landscape.n_transition_states) == (2, 0)


@field
@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "n_atoms", "n_minima", "n_saddles", "n_same"),
    [("lj38", 38, 64, 70, 62), ("pele_sqlite/lj13_small_pathsample.3.sqlite", 13, 100, 100, 95)],
)
def test_published_databases_are_there_to_the_last_point(path, n_atoms, n_minima, n_saddles, n_same):
    """OPTIM quenches from both sides of a saddle; of some, steepest descent leads to other minima."""
    network = read_network(DATA / "field" / path)
    with pytest.warns(UserWarning, match="other minima at their ends"):
        landscape = Landscape.from_network(network, LennardJones(n_atoms))
    with landscape:
        told = landscape.imported
        assert landscape.n_transition_states == n_saddles
        assert landscape.n_minima == n_minima + told.n_new_minima
    fates = torch.cat([told.ts_fates, told.rearrangement_fates])
    assert set(told.minimum_fates.tolist()) == {int(Fate.SAME)}
    assert set(fates.tolist()) == {int(Fate.SAME), int(Fate.OTHER_ENDS)}
    assert int((fates == Fate.SAME).sum()) >= n_same
