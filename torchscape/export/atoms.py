"""Atoms and trajectories of ASE, both ways."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from torchscape.errors import MissingExtra, TorchscapeError
from torchscape.network import Network
from torchscape.points import StationaryPoints
from torchscape.types import Float, Tensor

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["from_ase", "to_ase"]


def to_ase(
    of: Network | StationaryPoints | Float[Tensor, "B D"],
    symbols: str | Sequence[str],
    *,
    which: Literal["minima", "transition_states"] = "minima",
    length: float = 1.0,
    energy: float = 1.0,
    **atoms: Any,
) -> list[Atoms]:
    """Structures as ``ase.Atoms``, one for each minimum, transition state or row, ready for ``ase.io.write``.

    Each carries its energy as that of a single-point calculation, where it is known, and what else is known in
    ``info``: ``id``, ``log_det``, ``n_modes``, ``hits`` and the properties of a network.

    Args:
        of: a network with coordinates, points, or coordinates alone; three for each atom.
        symbols: one chemical symbol for all atoms, a formula ("Ar7", "H2O"), or one symbol for each.
        which: of a network, its minima or its transition states (without degenerate rearrangements).
        length: unit of the coordinates in Å (3.4 for argon in units of sigma).
        energy: unit of the energies in eV.
        atoms: further arguments of ``ase.Atoms``, as ``cell`` and ``pbc``.

    Raises:
        MissingExtra: without ASE.
        TorchscapeError: if there are no coordinates, or the symbols do not fit them.

    Reference:
        Larsen et al., J. Phys.: Condens. Matter 29, 273002 (2017), doi 10.1088/1361-648X/aa680e.
    """
    ase, single_point = _ase()
    x, energies, columns = _columns(of, which)
    n_atoms, rest = divmod(x.shape[1], 3)
    if rest:
        raise TorchscapeError(f"rows of {x.shape[1]} coordinates are not atoms in space: ASE takes three for each")
    names = _symbols(symbols, n_atoms)
    positions = (length * x.detach().cpu().double()).reshape(len(x), n_atoms, 3).numpy()
    values = {name: column.tolist() for name, column in columns.items()}
    made = []
    for row in range(len(x)):
        one = ase.Atoms(names, positions=positions[row], **atoms)
        one.info.update({name: column[row] for name, column in values.items()})
        if energies is not None and bool(energies[row].isfinite()):
            one.calc = single_point(one, energy=energy * float(energies[row]))
        made.append(one)
    return made


def from_ase(
    atoms: str | Path | Atoms | Iterable[Atoms], *, length: float = 1.0, energy: float = 1.0
) -> StationaryPoints:
    """Structures of ASE as points: x [B, 3 n], with energies and RMS gradients where their calculators know them.

    Nothing is calculated. Whether a point is stationary is not for ASE to say: its status is "still running",
    until :func:`torchscape.relax`, ``saddles.confirm`` or ``Landscape.from_network`` has looked.

    Args:
        atoms: ``Atoms``, several of them, or the file of a trajectory (whatever ``ase.io.read`` reads), all of
            the same atoms in the same order.
        length: unit of the coordinates in Å.
        energy: unit of the energies in eV.

    Raises:
        MissingExtra: without ASE.
        TorchscapeError: if there are none, they cannot be read, or differ in their atoms.
    """
    ase, _ = _ase()
    structures = _structures(ase, atoms)
    if not structures:
        raise TorchscapeError("there are no structures: give at least one ase.Atoms")
    first = structures[0].get_chemical_symbols()
    for number, one in enumerate(structures):
        if one.get_chemical_symbols() != first:
            raise TorchscapeError(
                f"structure {number} has other atoms than the first, or in another order: give those of one system"
            )
    x = torch.stack([torch.as_tensor(one.get_positions(), dtype=torch.float64).reshape(-1) for one in structures])
    energies = [_known(one, "energy") for one in structures]
    forces = [_known(one, "forces") for one in structures]
    gradient = [
        torch.nan if f is None else float(torch.as_tensor(f, dtype=torch.float64).square().mean().sqrt())
        for f in forces
    ]
    return StationaryPoints.of(
        x / length,
        torch.tensor([torch.nan if e is None else float(e) for e in energies], dtype=torch.float64) / energy,
        grad_rms=torch.tensor(gradient, dtype=torch.float64) * length / energy,
    )


def _ase() -> tuple[Any, Any]:
    try:
        import ase
        import ase.io
        from ase.calculators.singlepoint import SinglePointCalculator
    except ImportError:
        raise MissingExtra.of("ASE", "ase") from None
    return ase, SinglePointCalculator


def _columns(
    of: Network | StationaryPoints | Tensor, which: str
) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B"] | None, dict[str, Tensor]]:
    """Coordinates, energies, and what else is known of each."""
    if isinstance(of, Tensor):
        return of, None, {}
    if isinstance(of, StationaryPoints):
        return of.x, of.energy, {"index": of.index, "log_det": of.log_det}
    if which not in ("minima", "transition_states"):
        raise TorchscapeError(f'which={which!r}: give "minima" or "transition_states"')
    minima = which == "minima"
    x = of.coords if minima else of.ts_coords
    if x is None:
        raise TorchscapeError(
            f"this network carries no coordinates of its {which}: ask the landscape for network(coords=True)"
        )
    if minima:
        known = {"id": of.ids, "log_det": of.log_det, "n_modes": of.n_modes, "hits": of.hits}
        return x, of.energy, {**known, **of.properties}
    known = {"id": of.ts_ids, "log_det": of.ts_log_det, "n_modes": of.ts_n_modes, "hits": of.ts_hits}
    return x, of.ts_energy, {**known, "minimum_a": of.edges[0], "minimum_b": of.edges[1], **of.ts_properties}


def _symbols(symbols: str | Sequence[str], n_atoms: int) -> list[str]:
    from ase.symbols import string2symbols

    try:
        names = string2symbols(symbols) if isinstance(symbols, str) else list(symbols)
    except (ValueError, KeyError) as error:
        raise TorchscapeError(f"symbols={symbols!r} is no formula ({error}): give one such as 'Ar7'") from None
    names = names * n_atoms if len(names) == 1 else names
    if len(names) != n_atoms:
        raise TorchscapeError(f"symbols={symbols!r} names {len(names)} atoms, and there are {n_atoms}")
    return names


def _structures(ase: Any, atoms: Any) -> list[Any]:
    if isinstance(atoms, ase.Atoms):
        return [atoms]
    if not isinstance(atoms, str | Path):
        return list(atoms)
    try:
        return list(ase.io.read(atoms, index=":"))
    except FileNotFoundError:
        raise TorchscapeError(f"there is no file {atoms}") from None
    except Exception as error:  # a reader of any of a hundred formats
        raise TorchscapeError(f"{atoms} cannot be read by ASE ({type(error).__name__}: {error})") from None


def _known(atoms: Any, name: str) -> Any:
    """What a calculator has calculated; None where it would have to calculate it now."""
    if atoms.calc is None:
        return None
    return atoms.calc.get_property(name, atoms, allow_calculation=False)
