"""ASE's atoms and trajectories, both ways, checked by ASE's own potential."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from torchscape import Network, StationaryPoints, export
from torchscape.errors import MissingExtra, TorchscapeError
from torchscape.potentials import LennardJones

ase = pytest.importorskip("ase", reason="needs ASE")


def pair(r: float) -> list[float]:
    return [0.0, 0.0, 0.0, 0.0, 0.0, r]


def network() -> Network:
    x = torch.tensor([pair(2 ** (1 / 6)), pair(1.5)], dtype=torch.float64)
    energy = LennardJones(2, container=None).energy(x)
    return Network.of(
        energy=energy,
        edges=[(0, 1)],
        ts_energy=[0.5],
        coords=x,
        ts_coords=x[:1] * 2,
        properties={"in_A": torch.tensor([1.0, 0.0])},
    )


def test_energies_are_those_that_ases_own_potential_has_there():
    from ase.calculators.lj import LennardJones as Theirs

    for atoms in export.to_ase(network(), "Ar", length=3.4, energy=0.0104):
        said = atoms.get_potential_energy()
        atoms.calc = Theirs(sigma=3.4, epsilon=0.0104, rc=1e3)
        assert atoms.get_potential_energy() == pytest.approx(said, rel=1e-9)


def test_a_network_comes_back_from_a_trajectory(tmp_path):
    import ase.io

    written = export.to_ase(network(), "Ar2", length=3.4, energy=0.0104)
    assert [atoms.info["in_A"] for atoms in written] == [1.0, 0.0]
    ase.io.write(tmp_path / "minima.traj", written)
    points = export.from_ase(tmp_path / "minima.traj", length=3.4, energy=0.0104)
    torch.testing.assert_close(points.x, network().coords)
    torch.testing.assert_close(points.energy, network().energy)
    assert bool(points.grad_rms.isnan().all())
    [saddle] = export.to_ase(network(), ["Ar", "Ne"], which="transition_states", pbc=True, cell=[9, 9, 9])
    assert (saddle.get_chemical_symbols(), saddle.info["minimum_b"], bool(saddle.pbc.all())) == (
        ["Ar", "Ne"],
        1,
        True,
    )


def test_gradients_are_the_forces_where_a_calculator_knows_them():
    from ase import Atoms
    from ase.calculators.lj import LennardJones as Theirs

    atoms = Atoms("Ar2", positions=np.array(pair(1.5)).reshape(2, 3))
    atoms.calc = Theirs(rc=1e3)
    assert bool(export.from_ase(atoms).energy.isnan())  # nothing is calculated for the question
    atoms.get_forces()
    x = torch.tensor([pair(1.5)], dtype=torch.float64)
    ours = LennardJones(2, container=None).energy_and_grad(x)[1]
    points = export.from_ase([atoms, atoms])
    torch.testing.assert_close(points.grad_rms, ours.square().mean(1).sqrt().repeat(2), rtol=1e-9, atol=0)
    in_units = export.from_ase(atoms, length=2.0, energy=4.0)
    assert float(in_units.grad_rms) == pytest.approx(float(points.grad_rms[0]) / 2)


def test_points_and_coordinates_alone_are_atoms_too():
    x = torch.randn(3, 6, dtype=torch.float64)
    assert all(atoms.calc is None for atoms in export.to_ase(x, "He"))
    points = StationaryPoints.of(x, torch.tensor([1.0, float("nan"), 3.0], dtype=torch.float64))
    known = [atoms.calc is not None for atoms in export.to_ase(points, "He")]
    assert known == [True, False, True]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: export.to_ase(torch.zeros(1, 4), "Ar"), "not atoms in space"),
        (lambda: export.to_ase(torch.zeros(1, 6), "Ar3"), "names 3 atoms, and there are 2"),
        (lambda: export.to_ase(torch.zeros(1, 6), "Xx!"), "is no formula"),
        (lambda: export.to_ase(Network.of([0.0], [], []), "Ar"), "no coordinates of its minima"),
        (lambda: export.from_ase([]), "no structures"),
        (lambda: export.from_ase("nowhere.xyz"), "there is no file"),
        (lambda: export.from_ase([ase.Atoms("Ar"), ase.Atoms("Ne")]), "structure 1 has other atoms"),
    ],
)
def test_misfits_are_named(call, message):
    with pytest.raises(TorchscapeError, match=message):
        call()


def test_without_ase_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ase", None)
    with pytest.raises(MissingExtra, match=r"torchscape\[ase\]"):
        export.to_ase(torch.zeros(1, 6), "Ar")
