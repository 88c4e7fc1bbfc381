"""Families of minima: points joined by paths of minima, of which one stands for all."""

from __future__ import annotations

import json

import torch

from torchscape.landscape import rows
from torchscape.landscape.codec import to_blobs
from torchscape.landscape.store import Store
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["Families", "doubtful", "known_zero_modes", "represented"]

_DOUBT = (
    30.0  # eigenvalues up to so many times |gradient| / length_scale may be zero at the stationary point itself
)


class Families:
    """Which minima of a file are members of a family, and which of them stands for it.

    Where the Hessian of a minimum has more zero eigenvalues than the declared symmetry explains, minima may form
    a continuous family: a ring, the orbit of an undeclared symmetry. One member, the first found, stands
    for its family; the others stay in the file under their ids, but no longer count. Their hits are those of the
    representative, and transition states end in it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def represented(self, ids: Int[Tensor, "K"]) -> Int[Tensor, "K"]:
        """The minimum that counts in place of each: itself, or the representative of its family. -1 stays -1."""
        return represented(self._store, ids)

    def without_family(self) -> Int[Tensor, "K"]:
        """Ids of characterised minima that may belong to a family, and were not compared with others yet."""
        found = self._store.execute(
            "SELECT id FROM minimum WHERE family IS NULL AND n_zero IS NOT NULL ORDER BY id"
        )
        return rows.ints([row[0] for row in found])

    def flat_directions(self, ids: Int[Tensor, "K"] | None = None) -> Int[Tensor, "K"]:
        """Number of flat directions that no declared symmetry explains, of minima in the order of :meth:`minima`;
        0 where the curvature is unknown.
        """
        ids = rows.minimum_ids(self._store) if ids is None else ids.cpu()
        return rows.column(self._store, "minimum", "COALESCE(n_flat, 0)", ids).nan_to_num(0.0).long()

    @property
    def n_families(self) -> int:
        """Minima that are no points: continuous families."""
        counted = f"SELECT COUNT(*) FROM minimum NOT INDEXED WHERE n_flat > 0 AND {rows.IS_MINIMUM}"
        return int(self._store.execute(counted)[0][0])

    def members(self, families: Int[Tensor, "K"], most: int) -> Int[Tensor, "M 2"]:
        """(id, representative) of members of these families, representatives included: the last ``most`` found."""
        found = self._store.execute(
            "SELECT id, family FROM minimum WHERE family IN (SELECT value FROM json_each(?)) "
            "ORDER BY id DESC LIMIT ?",
            (json.dumps(families.tolist()), most),
        )
        return rows.ints([number for row in found for number in row]).reshape(-1, 2)

    def set_families(self, ids: Int[Tensor, "K"], families: Int[Tensor, "K"]) -> None:
        """Say which minimum stands for each: itself, or one with a lower id. A representative that is merged into
        another takes its members along.
        """
        with self._store.transaction():
            pairs = list(zip(families.tolist(), ids.tolist(), strict=True))
            # Placeholders without numbers: those with numbers warn on some versions of Python 3.12.
            named = [(family, own, own) for family, own in pairs]
            self._store.executemany("UPDATE minimum SET family = ? WHERE id = ? OR family = ?", named)
            moved = [(own, family) for family, own in pairs if family != own]
            if not moved:
                return
            self._store.executemany(
                "UPDATE minimum SET hits = hits + (SELECT hits FROM minimum WHERE id = ?) WHERE id = ?", moved
            )
            self._store.executemany("UPDATE minimum SET hits = 0 WHERE id = ?", [(own,) for own, _ in moved])
            for end in ("minus", "plus"):
                self._store.execute(
                    f"UPDATE transition_state SET {end} = (SELECT family FROM minimum WHERE id = {end}) "
                    f"WHERE {end} IN (SELECT id FROM minimum WHERE family != id)"
                )

    def set_flat_directions(
        self, ids: Int[Tensor, "K"], n_flat: Int[Tensor, "K"], points: StationaryPoints | None = None
    ) -> None:
        """Number of flat directions that no declared symmetry explains; with ``points`` (the same minima) also
        their curvature, in place of what is stored.
        """
        pairs = list(zip(n_flat.tolist(), ids.tolist(), strict=True))
        self._store.executemany("UPDATE minimum SET n_flat = ? WHERE id = ?", pairs)
        if points is None:
            return
        spectra = [None] * len(ids) if points.eigenvalues is None else to_blobs(points.eigenvalues)
        lowest = points.log_det * torch.nan if points.eigenvalues is None else points.eigenvalues[:, 0]
        columns = (points.index, points.log_det, points.n_zero, lowest)
        self._store.executemany(
            "UPDATE minimum SET idx = ?, log_det = ?, n_zero = ?, lowest = COALESCE(?, lowest), "
            "eigenvalues = COALESCE(?, eigenvalues) WHERE id = ?",
            list(zip(*(column.tolist() for column in columns), spectra, ids.tolist(), strict=True)),
        )


def represented(store: Store, ids: Int[Tensor, "K"]) -> Int[Tensor, "K"]:
    """The representative of the family of each minimum, itself where it has none."""
    # "+id": in the order of "id" SQLite would go through all minima, of which few or none are members.
    found = store.execute("SELECT id, family FROM minimum WHERE family != id ORDER BY +id")
    if not found or not len(ids):
        return ids
    member, family = rows.ints([number for row in found for number in row]).reshape(-1, 2).T.contiguous()
    position = torch.searchsorted(member, ids).clamp(max=len(member) - 1)
    return torch.where(member[position] == ids, family[position], ids)


def known_zero_modes(potential: Potential, points: StationaryPoints) -> Int[Tensor, "B"]:
    """How many zero modes the declared symmetry has at each point; where there are none, no point is asked."""
    if not bool((points.n_zero > 0).any()):
        return torch.zeros(len(points), dtype=torch.int64)
    modes = potential.symmetry.zero_modes(points.x.to(potential.device, potential.dtype))
    n_modes: Tensor = (modes.norm(dim=2) > 0.5).sum(1)
    return n_modes.cpu()


def doubtful(points: StationaryPoints, n_flat: Int[Tensor, "B"], length_scale: float) -> Bool[Tensor, "B"]:
    """Minima that may be members of a family: with flat directions, or with eigenvalues that may become zero.

    A point at a distance d from the stationary point next to it has eigenvalues that are wrong by about |H'| d,
    of the size of its gradient over the length scale.
    """
    if points.eigenvalues is None:
        return n_flat > 0
    size = points.eigenvalues.abs().nan_to_num(nan=torch.inf).sort(1).values
    place = points.n_zero.clamp(min=0, max=points.ndim - 1)[:, None]
    floor: Float[Tensor, "B"] = _DOUBT * points.grad_rms * points.ndim**0.5 / length_scale
    return (n_flat > 0) | (size.gather(1, place)[:, 0] <= floor).cpu()
