"""The forces of a doubly-nudged elastic band, for many bands at once."""

from __future__ import annotations

import torch

from torchscape.types import Bool, Float, Tensor

__all__ = ["improved_tangent", "nudged_force"]


def improved_tangent(x: Float[Tensor, "P I D"], energy: Float[Tensor, "P I"]) -> Float[Tensor, "P I D"]:
    """Unit tangents at all images: towards the higher neighbour, a weighted mean of both at an extremum.

    Henkelman & Jónsson 2000, doi 10.1063/1.1323224, eqs 8-11. The ends get one-sided differences.

    Example:
        >>> x = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [2.0, 1.0]]])
        >>> improved_tangent(x, torch.tensor([[0.0, 1.0, 2.0]]))[0, 1].tolist()
        [0.70..., 0.70...]
    """
    ahead = torch.cat([x[:, 1:] - x[:, :-1], torch.zeros_like(x[:, :1])], 1)
    behind = torch.cat([torch.zeros_like(x[:, :1]), x[:, 1:] - x[:, :-1]], 1)
    rise = torch.cat([energy[:, 1:] - energy[:, :-1], torch.zeros_like(energy[:, :1])], 1)
    fall = torch.cat([torch.zeros_like(energy[:, :1]), energy[:, 1:] - energy[:, :-1]], 1)
    big = torch.maximum(rise.abs(), fall.abs())[..., None]
    small = torch.minimum(rise.abs(), fall.abs())[..., None]
    uphill, downhill = ((rise > 0) & (fall > 0))[..., None], ((rise < 0) & (fall < 0))[..., None]
    higher_ahead = (rise + fall > 0)[..., None]
    mixed = torch.where(higher_ahead, big * ahead + small * behind, small * ahead + big * behind)
    level = (big == 0).squeeze(-1)[..., None]
    mixed = torch.where(level, ahead + behind, mixed)
    tangent = torch.where(uphill, ahead, torch.where(downhill, behind, mixed))
    tangent[:, 0], tangent[:, -1] = ahead[:, 0], behind[:, -1]
    length: Tensor = tangent.norm(dim=2, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny ** 0.5)
    return tangent / length


def nudged_force(
    x: Float[Tensor, "P I D"],
    energy: Float[Tensor, "P I"],
    grad: Float[Tensor, "P I D"],
    spring: Float[Tensor, "P"],
    interior: Bool[Tensor, "P I"],
) -> tuple[Float[Tensor, "P I D"], Float[Tensor, "P I D"]]:
    """The doubly nudged force on each interior image, and the true force across the path alone.

    F = -g_perp + k (|x_+ - x| - |x - x_-|) t + (s_perp - (s_perp . n) n),  n = g_perp / |g_perp|

    with s the full spring force k (x_+ - 2 x + x_-): the part of s across the path that does not fight the
    true force straightens the path without cutting its corners.
    """
    t = improved_tangent(x, energy)
    across = grad - (grad * t).sum(2, keepdim=True) * t
    ahead = torch.zeros_like(x)
    behind = torch.zeros_like(x)
    ahead[:, :-1] = x[:, 1:] - x[:, :-1]
    behind[:, 1:] = ahead[:, :-1]
    k = spring[:, None, None]
    pull = ahead - behind
    pull_across = pull - (pull * t).sum(2, keepdim=True) * t
    n = across / across.norm(dim=2, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny ** 0.5)
    doubly = pull_across - (pull_across * n).sum(2, keepdim=True) * n
    along = (ahead.norm(dim=2, keepdim=True) - behind.norm(dim=2, keepdim=True)) * t
    inside = interior[..., None]
    zero = torch.zeros_like(x)
    force = torch.where(inside, -across + k * (along + doubly), zero)
    return force, torch.where(inside, -across, zero)
