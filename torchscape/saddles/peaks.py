"""Maxima along relaxed paths: where the search for transition states starts."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.saddles.band import Path
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["Peaks", "cubic_maximum", "find_peaks"]


@dataclasses.dataclass(frozen=True)
class Peaks:
    """Local maxima along paths.

    Attributes:
        owner: which path each lies on.
        x: interpolated position.
        tangent: unit tangent of the path there.
        energy: interpolated energy.
    """

    owner: Int[Tensor, "C"]
    x: Float[Tensor, "C D"]
    tangent: Float[Tensor, "C D"]
    energy: Float[Tensor, "C"]

    @classmethod
    def cat(cls, parts: list[Peaks]) -> Peaks:
        return cls(
            **{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in dataclasses.fields(cls)}
        )

    def __len__(self) -> int:
        return len(self.owner)


def cubic_maximum(
    e0: Float[Tensor, "*S"], e1: Float[Tensor, "*S"], m0: Float[Tensor, "*S"], m1: Float[Tensor, "*S"]
) -> tuple[Float[Tensor, "*S"], Float[Tensor, "*S"]]:
    """Position u in (0, 1) and height of the maximum of the cubic with end values e and end slopes m.

    Where the cubic has no maximum inside, the higher end's neighbourhood: u = 1/4 or 3/4.

    Example:
        >>> zero, one = torch.tensor([0.0]), torch.tensor([1.0])
        >>> [v.item() for v in cubic_maximum(zero, zero, one, -one)]
        [0.5, 0.25]
    """
    rise = e1 - e0
    a, b, c = 3 * (m0 + m1 - 2 * rise), 2 * (3 * rise - 2 * m0 - m1), m0
    root = (b * b - 4 * a * c).clamp(min=0.0).sqrt()
    q = -0.5 * (b + torch.where(b < 0, -root, root))
    u = torch.where(rise > 0, 0.75, 0.25).to(e0.dtype)
    found = torch.zeros_like(u, dtype=torch.bool)
    for candidate in (q / a, c / q):
        inside = (candidate > 0) & (candidate < 1) & (2 * a * candidate + b < 0)
        u, found = torch.where(inside, candidate, u), found | inside
    height = e0 + m0 * u + (3 * rise - 2 * m0 - m1) * u**2 + (m0 + m1 - 2 * rise) * u**3
    return u, torch.where(found, height, torch.maximum(e0, e1))


def find_peaks(path: Path) -> Peaks:
    """All interior maxima of every path: segments that are entered uphill and left downhill.

    The slopes make the energy a cubic between images (Henkelman & Jónsson 2000, doi 10.1063/1.1323224,
    appendix), so that a barrier narrower than the spacing is not missed. The ends are taken for minima.
    """
    x, energy, n = path.x, path.energy, path.n_images
    number = torch.arange(x.shape[1] - 1, device=x.device)
    chord = x[:, 1:] - x[:, :-1]
    m0 = (path.grad[:, :-1] * chord).sum(2)
    m1 = (path.grad[:, 1:] * chord).sum(2)
    starts, stops = number == 0, number == n[:, None] - 2
    uphill: Bool[Tensor, "P J"] = (m0 > 0) | starts
    downhill: Bool[Tensor, "P J"] = (m1 < 0) | stops
    peaked = uphill & downhill & (number < n[:, None] - 1) & (chord.norm(dim=2) > 0)
    peaked &= torch.isfinite(m0) & torch.isfinite(m1)
    # an image whose slopes along both of its chords are uphill before and downhill after is a peak itself
    at_image = torch.zeros_like(peaked)
    at_image[:, :-1] = (m1[:, :-1] >= 0) & (m0[:, 1:] <= 0) & (number[1:] < n[:, None] - 1)
    # Both kinds in one question. An image that is a peak ends its segment, and there is another segment after it.
    kind, owner, i = torch.nonzero(torch.stack([peaked, at_image]), as_tuple=True)
    at, ahead = kind == 1, x[owner, i + 1]
    u, height = cubic_maximum(energy[owner, i], energy[owner, i + 1], m0[owner, i], m1[owner, i])
    position = torch.where(at[:, None], ahead, x[owner, i] + u[:, None] * chord[owner, i])
    beyond = x[owner, (i + 2).clamp(max=x.shape[1] - 1)]
    tangent = torch.where(at[:, None], beyond - x[owner, i], chord[owner, i])
    height = torch.where(at, energy[owner, i + 1], height)
    tangent = tangent / tangent.norm(dim=1, keepdim=True)
    order = owner.argsort(stable=True)
    return Peaks(owner[order], position[order], tangent[order], height[order])
