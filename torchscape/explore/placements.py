"""Where moves of clusters put atoms: around an axis, on the surface of others, about a bond."""

from __future__ import annotations

import math

import torch

from torchscape import random
from torchscape.devices import asking_is_free
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["directions", "filled", "grown", "repeated", "turned"]

_TRIES = 16
_CLOSEST = 0.7  # of the pair distance: what is nearer counts as an overlap


def repeated(
    q: Float[Tensor, "B n 3"], axis: Float[Tensor, "B 3"], order: Int[Tensor, "B"], distance: float, most: int
) -> tuple[Float[Tensor, "B n 3"], Int[Tensor, "B"]]:
    """Sites that are symmetric about the axis, the innermost first, and how many of the n there are; ``most`` is
    the highest of the orders."""
    b, n, _ = q.shape
    rows = torch.arange(b, device=q.device)
    along = (q * axis[:, None]).sum(2, keepdim=True)
    across = (q - along * axis[:, None]).norm(dim=2)
    inward = q.norm(dim=2).argsort(1)
    sites, count = torch.full_like(q, torch.inf), torch.zeros(b, dtype=torch.int64, device=q.device)
    copy = torch.arange(most, device=q.device)
    angle = 2 * math.pi * copy / order[:, None]
    copies = turned(q[:, :, None].expand(-1, -1, most, -1).flatten(1, 2), axis, angle.repeat(1, n))
    copies = copies.reshape(b, n, most, 3)
    for number in range(n):
        atom = inward[:, number]
        single = 2 * across[rows, atom] * torch.sin(math.pi / order) < _CLOSEST * distance
        ring = copies[rows, atom]
        on_axis = along[rows, atom] * axis
        new = torch.where(single[:, None, None] & (copy == 0)[:, None], on_axis[:, None], ring)
        wanted = torch.where(single, 1, order)
        room = torch.cdist(new[:, :1], sites.nan_to_num(posinf=1e6)).amin((1, 2)) > _CLOSEST * distance
        takes = room & (count + wanted <= n)
        place = count[:, None] + copy
        used = takes[:, None] & (copy < wanted[:, None])
        place = torch.where(used, place, n)  # one more column takes what is not used
        wide = torch.cat([sites, sites[:, :1]], 1)
        wide.scatter_(1, place[:, :, None].expand(-1, -1, 3), new)
        sites = wide[:, :n]
        count = count + torch.where(takes, wanted, 0)
    return sites, count


def filled(
    sites: Float[Tensor, "B n k"], count: Int[Tensor, "B"], distance: float, key: Int[Tensor, "B"]
) -> Float[Tensor, "B n k"]:
    """The sites, with those from number ``count`` on placed on the surface of the others."""
    n = sites.shape[1]
    taken = torch.arange(n, device=sites.device) < count[:, None]
    first = int(count.amin()) if asking_is_free(count) and len(count) else 0  # before, nothing is missing
    for number in range(first, n):
        spot = _roomiest(sites, taken, distance, random.fold(key, number))
        missing = ~taken[:, number]
        sites = sites.clone()
        sites[:, number] = torch.where(missing[:, None], spot, sites[:, number])
        taken = taken.clone()
        taken[:, number] = True
    return sites


def grown(core: Float[Tensor, "B m k"], n: int, distance: float, key: Int[Tensor, "B"]) -> Float[Tensor, "B n k"]:
    """The core, and atoms on its surface up to n."""
    rest = core.new_full((len(core), n - core.shape[1], core.shape[2]), torch.inf)
    count = torch.full((len(core),), core.shape[1], device=core.device)
    return filled(torch.cat([core, rest], 1), count, distance, key)


def _roomiest(
    sites: Float[Tensor, "B n k"], taken: Bool[Tensor, "B n"], distance: float, key: Int[Tensor, "B"]
) -> Float[Tensor, "B k"]:
    """Of 16 spots half a pair distance outside the atoms that are there, the one farthest from all of them."""
    there = torch.where(taken[..., None], sites, torch.zeros_like(sites))
    radius = there.norm(dim=2).amax(1) + 0.5 * distance
    spots = radius[:, None, None] * directions(key, _TRIES, there)
    room = torch.cdist(spots, there).masked_fill(~taken[:, None], torch.inf).amin(2)
    best: Float[Tensor, "B k"] = spots[torch.arange(len(spots), device=spots.device), room.argmax(1)]
    return best


def turned(p: Float[Tensor, "B n 3"], axis: Float[Tensor, "B 3"], angle: Float[Tensor, "B *m"]) -> Tensor:
    """Rodrigues' rotation about axes through the origin, by one angle for each row or for each atom."""
    axis = axis[:, None].expand_as(p)
    angle = angle[..., None] if angle.ndim == 2 else angle[:, None, None]
    along = (p * axis).sum(2, keepdim=True) * axis
    found: Tensor = along + (p - along) * angle.cos() + torch.linalg.cross(axis, p) * angle.sin()
    return found


def directions(key: Int[Tensor, "B"], n: int, like: Float[Tensor, "B m k"]) -> Float[Tensor, "B n k"]:
    """``n`` uniform unit vectors for each key."""
    k = like.shape[2]
    draws = random.normal(key, n * k, like.dtype).reshape(len(key), n, k)
    return torch.nn.functional.normalize(draws, dim=2)
