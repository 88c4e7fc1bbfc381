"""How many permutations and sign changes leave a point where it is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from torchscape.symmetry.action import Action
from torchscape.symmetry.groups import Block
from torchscape.types import Bool, Float, Tensor

__all__ = ["log_stabiliser"]

_MOST_VERTICES = 2048
_DEAD = 1e-5  # of the norm of a point: shorter units are nought, up to the convergence of a minimum


def log_stabiliser(
    actions: Sequence[Action], blocks: Sequence[Block], x: Float[Tensor, "B D"], tolerance: float
) -> Float[Tensor, "B"]:
    """ln of the order of the stabiliser of every row.

    Units of one group that are equal up to sign may be exchanged, and a unit whose odd part is zero may be
    flipped: with classes of m_c equal units, prod_c m_c! 2^(number of flippable units). That is all, unless
    units of several groups have to move together. Such elements are possible only where units look alike to a
    coarser test, which replaces what they share with other groups by its norm; rows in which the two tests
    disagree are searched exactly, as automorphisms of a graph (up to 2048 units with signs, and unless three
    groups share a coordinate, as in attention, or there are copies: there elements that move several groups
    together are not counted).

    Args:
        actions: the groups of units; what spaces own is compared as it stands (in canonical axes).
        blocks: the coordinates of all parameters.
        x: rows (balanced, if there are rescalings).
        tolerance: units are equal if they differ by less than this times the norm of the largest unit.
    """
    total = x.new_zeros(len(x))
    doubtful = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for action in actions:
        alike, flips = _alike(action, x, tolerance, coarse=False)
        alike_coarsely, flips_coarsely = _alike(action, x, tolerance, coarse=True)
        total = total + _log_order(alike, flips).reshape(len(x), action.group.copies).sum(1)
        differ = (alike != alike_coarsely).any(2).any(1) | (flips != flips_coarsely).any(1)
        doubtful |= differ.reshape(len(x), action.group.copies).any(1)
    n_vertices = sum(action.group.size << action.group.n_signs for action in actions)
    simple = all(len(block.owned) <= 2 for block in blocks) and all(a.group.copies == 1 for a in actions)
    if n_vertices <= _MOST_VERTICES and simple:
        for row in torch.nonzero(doubtful)[:, 0].tolist():
            total[row] = _searched(actions, blocks, x[row], tolerance)
    return total


def _log_order(alike: Bool[Tensor, "C n n"], flips: Float[Tensor, "C n"]) -> Float[Tensor, "C"]:
    """ln prod m_c! + ln of the number of sign choices: unit u contributes how many equal units come up to it."""
    rank = alike.tril().sum(2).clamp(min=1)
    return rank.to(flips.dtype).log().sum(1) + flips.sum(1) * math.log(2.0)


def _alike(
    action: Action, x: Float[Tensor, "B D"], tolerance: float, *, coarse: bool
) -> tuple[Bool[Tensor, "C n n"], Float[Tensor, "C n"]]:
    """Which units are equal up to signs, and log2 of the sign choices that leave each unit unchanged; for every
    copy of every row.
    """
    n, copies = action.group.size, action.group.copies
    signs = action.sign_table(x)
    apart = x.new_zeros(len(signs), len(x), copies, n, n)  # squared distance of unit u from s times unit w
    size = x.new_zeros(len(x), copies, n)
    for bundle in action.bundles:
        units = x[:, bundle.coordinates]
        size = size + units.square().sum(3)
        acting = [j for j, acts in enumerate(bundle.signs) if acts]
        factor = signs[:, acting].prod(1)
        if coarse and bundle.others:
            units, factor = units.norm(dim=3, keepdim=True), torch.ones_like(factor)
        for s in range(len(signs)):
            apart[s] += torch.cdist(units, factor[s] * units, compute_mode="donot_use_mm_for_euclid_dist").square()
    noise = _DEAD**2 * x.square().sum(1)  # of a point where all units are dead
    limit = torch.maximum(tolerance**2 * size.amax((1, 2)), noise).clamp(min=torch.finfo(x.dtype).tiny)
    same = apart <= limit[:, None, None, None]
    colour = action.group.colour.to(x.device)
    alike = same.any(0) & (colour[:, None] == colour)
    flips = same.diagonal(dim1=3, dim2=4).sum(0).to(x.dtype).log2()
    return alike.flatten(0, 1), flips.flatten(0, 1)


# --- the exact search ----------------------------------------------------------------------------------------


def _searched(
    actions: Sequence[Action], blocks: Sequence[Block], x: Float[Tensor, "D"], tolerance: float
) -> float:
    """The stabiliser as the automorphisms of a graph whose vertices are units with each choice of signs.

    A coordinate of one unit colours a vertex, a coordinate shared by two colours an edge; edges between the
    sign choices of one unit tie these together.
    """
    offset = np.cumsum([0] + [action.group.size << action.group.n_signs for action in actions])
    vertex: list[list[float]] = [[] for _ in range(offset[-1])]
    n = int(offset[-1])
    edge = np.zeros((n, n, 1))
    numbers = {action.number: k for k, action in enumerate(actions)}
    tables = [action.sign_table(x).cpu().numpy() for action in actions]
    for k, action in enumerate(actions):
        for u in range(action.group.size):
            for s in range(len(tables[k])):
                i = offset[k] + u * len(tables[k]) + s
                vertex[i] += [float(k), float(action.group.colour[u])]
                for t in range(len(tables[k])):  # the relative sign of two copies of one unit
                    relative = tables[k][s] * tables[k][t]
                    flips = (relative < 0) @ (1 << np.arange(len(relative)))
                    edge[i, offset[k] + u * len(tables[k]) + t, 0] = 1.0 + flips
    values = _rounded(x.cpu().double().numpy(), tolerance)
    features, links = [np.array(vertex)], [edge]
    for block in blocks:
        axes = block.owned
        table = values[np.moveaxis(block.coordinates.numpy(), axes, range(len(axes)))] if axes else None
        if len(axes) == 1:
            features.append(_vertex_features(block, axes, table, numbers, tables, offset))
        elif len(axes) == 2:
            links.append(_edge_features(block, axes, table, numbers, tables, offset))
    return _log_automorphisms(_integers(np.concatenate(features, 1)), _integers(np.concatenate(links, 2)))


def _rounded(values: np.ndarray, tolerance: float) -> np.ndarray:
    """Every value replaced by the mean of its cluster: neighbours closer than the tolerance belong together."""
    scale = tolerance * max(float(np.abs(values).max()), np.finfo(float).tiny)
    signed = np.concatenate([values, -values, [0.0]])  # so that clusters are symmetric about zero
    order = np.argsort(signed, kind="stable")
    cluster = np.cumsum(np.concatenate([[0], np.diff(signed[order]) > scale]))
    means = np.bincount(cluster, signed[order]) / np.bincount(cluster)
    means = 0.5 * (means - means[::-1])  # exactly antisymmetric
    out = np.empty_like(signed)
    out[order] = means[cluster]
    return out[: len(values)]


def _parities(block: Block, axis: int, tables, numbers) -> np.ndarray:
    """The factor of every sign choice of the owner of this axis."""
    table = tables[numbers[block.owners[axis]]]
    acting = [j for j, acts in enumerate(block.signs[axis]) if acts]
    return table[:, acting].prod(1)


def _vertex_features(block: Block, axes, table, numbers, tables, offset) -> np.ndarray:
    k = numbers[block.owners[axes[0]]]
    parity = _parities(block, axes[0], tables, numbers)
    flat = table.reshape(len(table), -1)
    out = np.zeros((offset[-1], flat.shape[1]))
    out[offset[k] : offset[k + 1]] = (flat[:, None, :] * parity[None, :, None]).reshape(-1, flat.shape[1])
    return out + 0.0


def _edge_features(block: Block, axes, table, numbers, tables, offset) -> np.ndarray:
    k, l = (numbers[block.owners[axis]] for axis in axes)
    p, q = (_parities(block, axis, tables, numbers) for axis in axes)
    flat = table.reshape(*table.shape[:2], -1)
    grid = flat[:, None, :, None, :] * p[None, :, None, None, None] * q[None, None, None, :, None]
    out = np.zeros((offset[-1], offset[-1], flat.shape[2]))
    out[offset[k] : offset[k + 1], offset[l] : offset[l + 1]] = grid.reshape(
        len(flat) * len(p), flat.shape[1] * len(q), -1
    )
    return out + 0.0


def _integers(features: np.ndarray) -> np.ndarray:
    """One integer for each distinct feature vector."""
    flat = features.reshape(-1, features.shape[-1])
    return np.unique(flat, axis=0, return_inverse=True)[1].reshape(features.shape[:-1])


def _log_automorphisms(vertex: np.ndarray, edge: np.ndarray) -> float:
    """ln of the number of permutations that keep all colours: orbit sizes along a stabiliser chain."""
    edge = edge * (vertex.max() + 2) + np.diag(vertex + 1)  # edges alone say it all now
    left = right = _refined(vertex, edge)
    total = 0.0
    while (cell := _first_cell(left)) is not None:
        base = cell[0]
        marked = _refined(_mark(left, base), edge)
        images = [v for v in cell if _extends(marked, _refined(_mark(right, v), edge), edge)]
        total += math.log(len(images))
        left = right = marked
    return total


def _extends(left: np.ndarray, right: np.ndarray, edge: np.ndarray) -> bool:
    """Whether some automorphism carries the colouring ``left`` to ``right``."""
    if not np.array_equal(np.bincount(left), np.bincount(right, minlength=left.max() + 1)):
        return False
    cell = _first_cell(left)
    if cell is None:
        image = np.argsort(right, kind="stable")[left]
        return bool(np.array_equal(edge, edge[np.ix_(image, image)]))
    marked = _refined(_mark(left, cell[0]), edge)
    candidates = np.flatnonzero(right == left[cell[0]])
    return any(_extends(marked, _refined(_mark(right, v), edge), edge) for v in candidates)


def _mark(colour: np.ndarray, vertex: np.integer) -> np.ndarray:
    """The colouring in which one vertex stands out (colours stay comparable between colourings)."""
    out = 2 * colour
    out[vertex] += 1
    return out


def _first_cell(colour: np.ndarray) -> np.ndarray | None:
    """The vertices of the first colour that more than one vertex has."""
    counts = np.bincount(colour)
    several = np.flatnonzero(counts > 1)
    return None if len(several) == 0 else np.flatnonzero(colour == several[0])


def _refined(colour: np.ndarray, edge: np.ndarray) -> np.ndarray:
    """Colours split by the colours of neighbours until that changes nothing; names depend on structure alone."""
    while True:
        seen = edge * (colour.max() + 1) + colour[None, :]
        back = edge.T * (colour.max() + 1) + colour[None, :]
        signature = np.concatenate([colour[:, None], np.sort(seen, 1), np.sort(back, 1)], 1)
        new = np.unique(signature, axis=0, return_inverse=True)[1].reshape(-1)
        if new.max() == np.unique(colour).size - 1:
            return new
        colour = new
