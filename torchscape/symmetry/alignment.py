"""The closest symmetric image, by assignment of one group of units after another."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from torchscape import random
from torchscape.symmetry.action import Action
from torchscape.symmetry.modules.spaces import Rotation
from torchscape.types import Bool, Float, Tensor

__all__ = ["closest_image", "known_order"]

_SWEEPS = 100


def closest_image(
    actions: Sequence[Action | Rotation],
    reference: Float[Tensor, "A D"],
    x: Float[Tensor, "B D"],
    *,
    restarts: int,
) -> Float[Tensor, "B D"]:
    """The image of every x under permutations and signs that lies closest to its reference.

    One group of units: a linear assignment, exact. Several: the groups are matched in turn, each exactly with the
    others held, until nothing changes (weight matching: Ainsworth, Hayase & Srinivasa 2023,
    doi 10.48550/arXiv.2209.04836). As this finds a local optimum, it is started from the point itself, from
    greedy matchings from both ends of the network, and ``restarts`` times from a random image; the closest wins.

    Args:
        actions: the groups.
        reference: one row for each x, or one row for all.
        x: the rows to be moved.
        restarts: random starts beyond the systematic ones; the same for every row, so that none notices another.
    """
    if not actions or len(x) == 0:
        return x
    if is_decoupled(actions):
        for action in actions:
            x = _matched(action, reference, x)
        return x
    best = _sweep(actions, reference, _start(actions, reference, x, 0))
    error = (best - reference).norm(dim=1)
    # An image that fits to rounding is the closest there is.
    todo = torch.nonzero(~(error <= 64.0 * torch.finfo(x.dtype).eps * (1.0 + best.norm(dim=1))))[:, 0]
    if len(todo) == 0:
        return best
    a = reference if len(reference) == 1 else reference[todo]
    starts = [_start(actions, a, x[todo], k) for k in range(1, 3 + restarts)]
    again = a if len(a) == 1 else a.repeat(len(starts), 1)
    y = torch.cat([best[todo][None], _sweep(actions, again, torch.cat(starts)).unflatten(0, (len(starts), -1))])
    winner = (y - a).norm(dim=2).nan_to_num(nan=torch.inf).argmin(0)
    return best.index_copy(0, todo, y[winner, torch.arange(len(todo), device=x.device)])


def is_decoupled(actions: Sequence[Action | Rotation]) -> bool:
    """Whether no coordinate belongs to units of two groups, so that each is matched exactly by itself."""
    return all(not bundle.others for action in actions for bundle in action.bundles)


def known_order(
    actions: Sequence[Action | Rotation], *, backward: bool = False
) -> list[tuple[Action | Rotation, frozenset[int]]]:
    """The groups in an order in which each has as many coordinates as can be shared with earlier ones only."""
    left = list(actions)[::-1] if backward else list(actions)
    known: frozenset[int] = frozenset()
    order = []
    while left:
        # Of those of which nothing is known, units before what they hold: their sizes put them in order.
        action = max(
            left,
            key=lambda one: (
                sum(b.coordinates.shape[2] for b in one.bundles if b.others <= known) > 0,
                bool(one.inner),
            ),
        )
        left.remove(action)
        order.append((action, known))
        known = known | {action.number}
    return order


def _start(
    actions: Sequence[Action | Rotation], a: Float[Tensor, "A D"], x: Float[Tensor, "B D"], which: int
) -> Float[Tensor, "B D"]:
    if which in (0, 1):
        for action, known in known_order(actions, backward=which == 1):
            x = _matched(action, a, x, known)
    elif which > 2:
        for action in actions:
            key = random.fold(which, torch.tensor([action.number], device=x.device)).expand(len(x))
            x = action.image(x, key, spread=0.0)
    return x


def _matched(
    action: Action | Rotation,
    a: Float[Tensor, "A D"],
    x: Float[Tensor, "B D"],
    known: frozenset[int] | None = None,
) -> Float[Tensor, "B D"]:
    """The best element of one group, and where its units hold copies of another, the best of these after it."""
    x = action.closest(a, x, known)
    for one in action.inner:
        x = one.closest(a, x, None if known is None else known | {action.number})
    return x


def _sweep(
    actions: Sequence[Action | Rotation], a: Float[Tensor, "A D"], x: Float[Tensor, "B D"]
) -> Float[Tensor, "B D"]:
    """Match the groups in turn until no row comes closer; a move that does not help is not made."""
    x = x.clone()
    error = (x - a).norm(dim=1)
    rows = torch.arange(len(x), device=x.device)
    for sweep in range(_SWEEPS):
        before = error[rows]
        for action in actions if sweep % 2 == 0 else actions[::-1]:  # from the input on, and back from the output
            one = a if len(a) == 1 else a[rows]
            y = _matched(action, one, x[rows])
            new = (y - one).norm(dim=1)
            closer: Bool[Tensor, "R"] = new < error[rows]
            x[rows[closer]] = y[closer]
            error[rows[closer]] = new[closer]
        rows = rows[error[rows] < before * (1.0 - 1e-12)]
        if len(rows) == 0:
            break
    return x
