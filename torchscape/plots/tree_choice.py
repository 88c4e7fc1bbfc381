"""Which minima a disconnectivity graph shows, and how many others each of its branches stands for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from torchscape.analysis.topology import MergeTree
from torchscape.errors import TorchscapeError

__all__ = ["Shown", "choose_minima"]


@dataclasses.dataclass(frozen=True)
class Shown:
    """The n minima that are drawn, in the order of the merge tree.

    Attributes:
        minima: positions in the network [n].
        gap: energies at which neighbours merge, through minima that are left out as well [n - 1].
        count: how many minima each branch stands for, itself included [n].
        inside: the highest merger of those with it; -inf where it stands for itself alone [n].
        note: what is left out, in words; "" where nothing is.
    """

    minima: np.ndarray
    gap: np.ndarray
    count: np.ndarray
    inside: np.ndarray
    note: str


def choose_minima(
    tree: MergeTree,
    *,
    lowest: int | None = None,
    min_barrier: float | None = None,
    minima: Sequence[int] | None = None,
    top: float | None = None,
    most: int = 1000,
) -> Shown:
    """The minima to draw: all of them as long as there is room.

    Args:
        tree: of N minima.
        lowest: only this many of the lowest of them.
        min_barrier: only those whose lowest barrier to a lower minimum is at least this.
        minima: only these positions.
        top: only those at or below this energy.
        most: so many branches have room: where nothing is chosen, those with the highest barriers; of minima that
            nothing connects only as many of the lowest as have room beside.

    Raises:
        TorchscapeError: if nothing is left.
    """
    energy, barrier = tree.energy.double().cpu().numpy(), tree.persistence.double().cpu().numpy()
    n = len(energy)
    keep = np.ones(n, dtype=bool)
    said = []
    if top is not None:
        keep &= energy <= top
        if not keep.all():
            said.append(f"up to {top:.5g}")
    if minima is not None:
        keep &= np.isin(np.arange(n), _positions(minima, n))
    if min_barrier is not None:
        keep &= barrier >= min_barrier
        if min_barrier > 0:
            said.append(f"barriers of at least {min_barrier:.3g}")
    if lowest is not None:
        order = np.argsort(energy, kind="stable")
        chosen = order[keep[order]][: max(lowest, 1)]
        keep = np.isin(np.arange(n), chosen)
    elif min_barrier is None and minima is None and keep.sum() > most:
        alone = _alone(tree)
        order = np.lexsort((energy, -np.minimum(barrier, np.finfo(float).max), alone))
        chosen = order[keep[order]][:most]
        hidden = int((keep & alone).sum() - alone[chosen].sum())
        keep = np.isin(np.arange(n), chosen)
        if hidden:
            said.append(f"without {hidden} that nothing connects")
        if np.isfinite(barrier[chosen[-1]]):
            said.append(f"barriers of at least {barrier[chosen[-1]]:.3g}")
    if not keep.any():
        raise TorchscapeError(
            "no minimum is left to draw: the window of energies or the choice of minima is too narrow"
        )
    return _shown(tree, keep, _in_words(keep, lowest is not None, said))


def _alone(tree: MergeTree) -> np.ndarray:
    """Minima that nothing connects with any other, the lowest of all apart: they say nothing about barriers."""
    into, dies = tree.into.cpu().numpy(), tree.dies_at.double().cpu().numpy()
    joined = np.isfinite(dies)
    alone = ~joined
    alone[into[joined]] = False
    alone[int(tree.energy.argmin())] = False
    return alone


def _in_words(keep: np.ndarray, lowest: bool, said: list[str]) -> str:
    if keep.all():
        return ""
    which = f"the lowest {keep.sum()}" if lowest else f"{keep.sum()}"
    return ", ".join([f"{which} of {len(keep)} minima", *said])


def _positions(minima: Sequence[int], n: int) -> np.ndarray:
    chosen = np.asarray(list(minima), dtype=np.int64)
    if ((chosen < 0) | (chosen >= n)).any():
        wrong = chosen[(chosen < 0) | (chosen >= n)][0]
        raise TorchscapeError(f"there is no minimum {wrong}: they are numbered from 0 to {n - 1}")
    return chosen


def _shown(tree: MergeTree, keep: np.ndarray, note: str) -> Shown:
    leaves, gap = tree.leaves.cpu().numpy(), tree.gap.double().cpu().numpy()
    dies, into = tree.dies_at.double().cpu().numpy(), tree.into.cpu().numpy()
    places = np.flatnonzero(keep[leaves])
    between = gap[:0]
    if len(places) > 1:
        between = np.maximum.reduceat(gap, places[:-1])
        between[-1] = gap[places[-2] : places[-1]].max()  # reduceat runs on to the end for its last entry
    to = np.where(keep, np.arange(len(keep)), into)
    while not np.array_equal(further := to[to], to):
        to = further
    count = np.bincount(to, minlength=len(keep))
    inside = np.full(len(keep), -np.inf)
    np.maximum.at(inside, to[~keep], dies[~keep])
    minima = leaves[places]
    return Shown(minima, between, count[minima], inside[minima], note)
