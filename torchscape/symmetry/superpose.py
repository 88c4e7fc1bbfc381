"""Laying one set of points over another: rotations by singular values, labels by assignment, starts by frames."""

from __future__ import annotations

import torch

from torchscape import random
from torchscape.memory import IN_CACHE, rows_that_fit
from torchscape.symmetry.assignment import assign
from torchscape.types import Float, Int, Tensor

__all__ = [
    "choose_frame",
    "frame_matches",
    "frame_rotations",
    "frames",
    "global_rotations",
    "kabsch",
    "least_overlaps",
    "overlap_cost",
    "refine",
]


def kabsch(a: Float[Tensor, "*S n k"], b: Float[Tensor, "*S n k"]) -> Float[Tensor, "*S k k"]:
    """The orthogonal R (rotation or rotation with reflection) that minimises |b R - a|.

    Reference: W. Kabsch, Acta Cryst. A32, 922 (1976), doi 10.1107/S0567739476001873.
    """
    u, _, vh = torch.linalg.svd(torch.nan_to_num(b.mT @ a))  # a NaN row must not raise for its neighbours
    return u @ vh


def overlap_cost(
    a: Float[Tensor, "*#S n k"], b: Float[Tensor, "*#S n k"], unlike: Float[Tensor, "n n"] | None
) -> Float[Tensor, "*#S n n"]:
    """Squared distances |a_i - b_j|^2, plus ``unlike`` where two atoms cannot exchange their labels.

    One product of (-2 a, |a|^2, 1) with (b, 1, |b|^2): of many small matrices each pass over the result takes
    longer than the product.
    """
    cost = _left(a) @ _right(b).mT
    return cost if unlike is None else cost + unlike


def least_overlaps(
    a: Float[Tensor, "B n k"],
    b: Float[Tensor, "B n k"],
    turns: Float[Tensor, "B C k k"],
    unlike: Float[Tensor, "n n"] | None,
) -> Float[Tensor, "B C"]:
    """Of b turned by each matrix: the sum over the atoms of a of the squared distance to the nearest like atom."""
    n, k, count = b.shape[1], b.shape[2], turns.shape[1]
    found = [a.new_empty(0, count)]
    rows = rows_that_fit(count * n * n, a.device, on_host=IN_CACHE)
    for p, q, some in zip(a.split(rows), b.split(rows), turns.split(rows), strict=True):
        turned = torch.bmm(q, some.transpose(1, 2).flatten(2)).unflatten(2, (count, k))
        # The atoms of b come first: the least over them is taken along whole lines of memory.
        cost = torch.bmm(_right(turned).flatten(1, 2), _left(p).mT).unflatten(1, (n, count))
        found.append((cost if unlike is None else cost + unlike[:, None]).amin(1).sum(2))
    return torch.cat(found)


def _left(a: Float[Tensor, "*S k"]) -> Float[Tensor, "*S l"]:
    square = a.square().sum(-1, keepdim=True)
    return torch.cat([-2 * a, square, torch.ones_like(square)], -1)


def _right(b: Float[Tensor, "*S k"]) -> Float[Tensor, "*S l"]:
    square = b.square().sum(-1, keepdim=True)
    return torch.cat([b, torch.ones_like(square), square], -1)


def refine(
    a: Float[Tensor, "M n k"],
    b: Float[Tensor, "M n k"],
    rotation: Float[Tensor, "M k k"],
    unlike: Float[Tensor, "n n"] | None,
    max_rounds: int = 30,
) -> tuple[Int[Tensor, "M n"], Float[Tensor, "M k k"], Float[Tensor, "M"]]:
    """Labels and rotation improved in turn until the labels stay: a local minimum of |b[labels] R - a|.

    Returns the labels, the rotations and the distances. Neither half-step can increase the distance.
    """
    labels = assign(-overlap_cost(a, b @ rotation, unlike))
    moving = torch.arange(len(a), device=a.device)
    for _ in range(max_rounds):
        turn = kabsch(a[moving], _pick(b[moving], labels[moving]))
        improved = assign(-overlap_cost(a[moving], b[moving] @ turn, unlike))
        changed = (improved != labels[moving]).any(1)
        labels[moving] = improved
        moving = moving[changed]
        if len(moving) == 0:
            break
    rotation = kabsch(a, _pick(b, labels))
    return labels, rotation, (_pick(b, labels) @ rotation - a).flatten(1).norm(dim=1)


def _pick(b: Float[Tensor, "M n k"], labels: Int[Tensor, "M n"]) -> Float[Tensor, "M n k"]:
    return b.gather(1, labels[:, :, None].expand_as(b))


def global_rotations(count: int, k: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "C k k"]:
    """A fixed set of orthogonal matrices spread over O(k): the identity first, then Haar-random ones."""
    normal = random.normal(random.fold(38, torch.arange(count - 1)), k * k).reshape(-1, k, k)
    q, r = torch.linalg.qr(normal)
    haar = q * torch.sign(torch.diagonal(r, dim1=1, dim2=2))[:, None]
    return torch.cat([torch.eye(k, dtype=haar.dtype)[None], haar]).to(device, dtype)


# --- frames: a pair of atoms and the centroid fix an orientation ---------------------------------------------


def frames(u: Float[Tensor, "*S 3"], v: Float[Tensor, "*S 3"]) -> Float[Tensor, "*S 3 3"]:
    """Right-handed orthonormal frames (as rows): the first axis along u, the second in the plane of u and v.

    Where u and v are parallel the second axis is some direction across u.
    """
    e1 = torch.nn.functional.normalize(u, dim=-1)
    across = v - (v * e1).sum(-1, keepdim=True) * e1
    spare = torch.nn.functional.one_hot(e1.abs().argmin(-1), 3).to(u.dtype)
    spare = spare - (spare * e1).sum(-1, keepdim=True) * e1
    parallel = across.norm(dim=-1, keepdim=True) <= 1e-6 * v.norm(dim=-1, keepdim=True)
    e2 = torch.nn.functional.normalize(torch.where(parallel, spare, across), dim=-1)
    return torch.stack([e1, e2, torch.linalg.cross(e1, e2)], -2)


def choose_frame(p: Float[Tensor, "B n 3"], kinds: Int[Tensor, "n"]) -> tuple[Int[Tensor, "B"], Int[Tensor, "B"]]:
    """Atoms (i, j) that few other pairs could be mistaken for: rare radii, not in line with the centroid."""
    radius = p.norm(dim=2)
    size = radius.square().mean(1).sqrt()[:, None]
    tolerance = 0.02 * size[:, :, None]
    alike = ((radius[:, :, None] - radius[:, None, :]).abs() < tolerance) & (kinds[:, None] == kinds)
    crowd = alike.sum(2) + torch.where(radius > 0.3 * size, 0.0, 1e6) - 1e-3 * radius / size
    i = crowd.argmin(1)
    here = torch.arange(len(p), device=p.device)
    separation = torch.cdist(p, p)
    to_i = separation[here, i]  # [B n]: how far each j is from i
    shell = alike[here, i]  # [B n]: which k look like i
    pairs = (separation[:, None] - to_i[:, :, None, None]).abs() < tolerance[..., None]  # [B j k l]
    pairs = pairs & shell[:, None, :, None] & alike[:, :, None, :]
    axis = torch.nn.functional.normalize(p[here, i], dim=1)
    sine = torch.linalg.cross(axis[:, None].expand_as(p), p).norm(dim=2) / size
    crowd = pairs.sum((2, 3)) + torch.where(sine > 0.3, 0.0, 1e6) - sine
    return i, crowd.argmin(1)


def frame_matches(
    a: Float[Tensor, "B n 3"],
    b: Float[Tensor, "B n 3"],
    i: Int[Tensor, "B"],
    j: Int[Tensor, "B"],
    kinds: Int[Tensor, "n"],
) -> Float[Tensor, "B n n"]:
    """How badly each ordered pair (k, l) of b fits the pair (i, j) of a: the largest error of three lengths."""
    here = torch.arange(len(a), device=a.device)
    radius = b.norm(dim=2)
    first = (radius - a[here, i].norm(dim=1)[:, None]).abs()
    second = (radius - a[here, j].norm(dim=1)[:, None]).abs()
    first = torch.where(kinds == kinds[i][:, None], first, torch.inf)
    second = torch.where(kinds == kinds[j][:, None], second, torch.inf)
    third = (torch.cdist(b, b) - (a[here, i] - a[here, j]).norm(dim=1)[:, None, None]).abs()
    error = torch.maximum(torch.maximum(first[:, :, None], second[:, None, :]), third)
    return error + torch.diag(error.new_full((error.shape[1],), torch.inf))


def frame_rotations(
    a: Float[Tensor, "B n 3"],
    b: Float[Tensor, "B n 3"],
    i: Int[Tensor, "B"],
    j: Int[Tensor, "B"],
    pairs: Int[Tensor, "B K"],
    mirror: bool,
) -> Float[Tensor, "B C 3 3"]:
    """The R that take the frames of b at ``pairs`` (k n + l) onto the frame of a at (i, j), with mirror images."""
    n = a.shape[1]
    here = torch.arange(len(a), device=a.device)
    target = frames(a[here, i], a[here, j])[:, None]
    k, l = pairs // n, pairs % n
    source = frames(b[here[:, None], k], b[here[:, None], l])
    turns = [source.mT @ target]
    if mirror:
        turns.append(source.mT @ (target * target.new_tensor([1.0, 1.0, -1.0])[:, None]))
    return torch.cat(turns, 1)
