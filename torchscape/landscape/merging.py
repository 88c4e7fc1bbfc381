"""One landscape out of several files of the same potential."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.brief import brief
from torchscape.errors import DatabaseError
from torchscape.landscape import identity, rows
from torchscape.landscape.landscape import Landscape
from torchscape.types import Int, Tensor

__all__ = ["Merged", "merge"]

_BLOCK = 4096  # points read and offered together


@brief
@dataclasses.dataclass(frozen=True)
class Merged:
    """What a merge brought.

    Attributes:
        n_minima, n_transition_states, n_higher: points that were new.
        n_known: points of the other landscape that were here already.
        n_refused: points that were not taken; ``Landscape.refusals`` says why.
        minima: the id here of each minimum of the other landscape, in the order of its ``minimum_ids()``; -1 for
            the refused.
    """

    n_minima: int
    n_transition_states: int
    n_higher: int
    n_known: int
    n_refused: int
    minima: Int[Tensor, "N"]


def merge(landscape: Landscape, other: Landscape) -> Merged:
    """Add everything that another landscape of the same potential holds, in one transaction.

    Minima, transition states and higher saddles are recognised by this landscape's matching, up to symmetry; hits
    of known points are added, and what they lack (a log-determinant, say) is filled in. Pairs that were tried
    there count as tried here, and properties come along where there are none yet. Integrated paths do not, nor
    what the strategies of the other file were about to do next: going on with them here begins anew. Merging the
    same file twice adds its hits twice.

    Args:
        landscape: opened for its potential, and for writing.
        other: opened in any way; it is only read.

    Raises:
        FingerprintMismatch: if the other landscape belongs to another potential.
        DatabaseError: if it is the same file, or ``landscape`` cannot be written.

    Example:
        >>> import torchscape as tsc
        >>> surface = tsc.FunctionPotential(lambda x: (x[0]**2 - 1)**2 + x[1]**2, 2, bounds=[(-2, 2), (-2, 2)])
        >>> with tsc.Landscape.in_memory(surface) as one, tsc.Landscape.in_memory(surface) as two:
        ...     wells = tsc.relax(surface, torch.tensor([[-1.0, 0.0], [1.0, 0.0]]).double())
        ...     ids = one.add_minima(wells[:1]), two.add_minima(wells)
        ...     merged = merge(one, two)
        ...     merged.n_minima, merged.n_known, one.network(coords=False).hits.tolist()
        (1, 1, [2, 1])
    """
    potential = landscape.potential
    if potential is None or landscape.is_readonly:
        raise DatabaseError("merge(landscape, other): open the first one with its potential, for writing")
    if landscape.path is not None and other.path is not None and landscape.path.samefile(other.path):
        raise DatabaseError(f"{other.path} cannot be merged into itself")
    identity.expect_same(other._store, potential)
    with landscape.transaction():
        before = _counts(landscape)
        run = landscape.begin_run(0, {"merged": "memory" if other.path is None else other.path.name})
        minima = _minima(landscape, other)
        n_refused = (
            int((minima < 0).sum()) + _transition_states(landscape, other, minima) + _higher(landscape, other)
        )
        _attached(landscape, other, minima)
        landscape.finish_run(run, "merged")
        n_minima, n_transition_states, n_higher = (
            now - then for now, then in zip(_counts(landscape), before, strict=True)
        )
    n_known = sum(_counts(other)) - n_minima - n_transition_states - n_higher - n_refused
    return Merged(n_minima, n_transition_states, n_higher, n_known, n_refused, minima)


def _counts(landscape: Landscape) -> list[int]:
    """Points of each kind."""
    higher = landscape._store.execute("SELECT COUNT(*) FROM higher_saddle")[0][0]
    return [landscape.n_minima, landscape.n_transition_states, higher]


def _minima(landscape: Landscape, other: Landscape) -> Int[Tensor, "N"]:
    """The ids here of the other's minima."""
    there = other.minimum_ids()
    found = [there[:0]]
    for ids in there.split(_BLOCK):
        hits = rows.column(other._store, "minimum", "hits", ids).long()
        found.append(landscape.add_minima(other.minima(ids), hits=hits))
    return torch.cat(found)


def _transition_states(landscape: Landscape, other: Landscape, minima: Int[Tensor, "N"]) -> int:
    """Offer the other's transition states between the minima that they have here; how many were refused."""
    there, n_refused = other.minimum_ids(), 0
    for ids in other.transition_state_ids().split(_BLOCK):
        ends = other.ends(ids)
        place = rows.positions(there, other.represented(ends.reshape(-1)).reshape(-1, 2))
        here = torch.where(place >= 0, minima[place], -1) if len(minima) else place
        hits, lowest = (rows.column(other._store, "transition_state", name, ids) for name in ("hits", "lowest"))
        added = landscape.add_transition_states(
            other.transition_states(ids), *here.unbind(1), leaves=ends < 0, lowest=lowest, hits=hits.long()
        )
        n_refused += int((added < 0).sum())
    return n_refused


def _higher(landscape: Landscape, other: Landscape) -> int:
    """Offer the other's stationary points of higher index; how many were refused."""
    n_refused = 0
    for ids in rows.higher_saddle_ids(other._store).split(_BLOCK):
        hits = rows.column(other._store, "higher_saddle", "hits", ids).long()
        added = landscape.add_higher_saddles(other._view.points("higher_saddle", ids), hits=hits)
        n_refused += int((added < 0).sum())
    return n_refused


def _attached(landscape: Landscape, other: Landscape, minima: Int[Tensor, "N"]) -> None:
    """Pairs that were tried, and properties of minima that have none of that name here."""
    there, tried = other.minimum_ids(), other.tried_pairs()
    place = rows.positions(there, other.represented(tried.pairs.reshape(-1)).reshape(-1, 2))
    pairs = torch.where(place >= 0, minima[place], -1) if len(minima) else place
    keep = (pairs >= 0).all(1) & (pairs[:, 0] != pairs[:, 1])
    landscape.record_pairs(pairs[keep], [tried.outcomes[row] for row in torch.nonzero(keep)[:, 0].tolist()])
    here, ids = landscape.properties(), landscape.minimum_ids()
    for name, values in other.properties().items():
        old = here.get(name)
        lacking = ids if old is None else ids[old.isnan()]
        chosen = torch.isin(minima, lacking) & ~values.isnan()
        landscape.set_property(name, dict(zip(minima[chosen].tolist(), values[chosen].tolist(), strict=True)))
