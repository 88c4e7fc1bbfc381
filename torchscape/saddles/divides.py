"""How close a downhill path comes to a divide, from which two paths would lead to two minima."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from torchscape.points import StationaryPoints
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["Course", "Ends", "to_divides"]


def to_divides(values: Float[Tensor, "B K"], slope: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
    """Distances |g_k / mu_k| to divides beside the path, along modes of negative curvature that it runs across
    (|g_k| < |g| / 2); infinite along all others.

    Along such a mode paths part. They do so where the slope g_k vanishes, which on the quadratic model is the
    distance |g_k / mu_k| away. A slope of no more than rounding belongs to a path that symmetry keeps on the
    divide: its end is the saddle that the divide leads to, on neither side.

    Example:
        >>> to_divides(torch.tensor([[-2.0, 5.0]]), torch.tensor([[0.1, 1.0]])).tolist()
        [[0.05..., inf]]
    """
    size, least = slope.norm(dim=1, keepdim=True), torch.finfo(slope.dtype).eps ** 0.5
    across = (values < 0) & (slope.abs() < 0.5 * size) & (slope.abs() > least * size)
    return torch.where(across, slope.abs() / values.abs(), torch.inf)


@dataclasses.dataclass(frozen=True)
class Course:
    """How far a path may have strayed to the side, and in how many times that it has passed a divide.

    Attributes:
        error: sum of the errors of the steps across the path, each grown as the most negative curvature across
            the path has let it grow since.
        room: the least distance to a divide, in units of the error there or of the error allowed per step,
            whichever is larger.
        nearest: where that was.
    """

    error: Float[Tensor, "B"]
    room: Float[Tensor, "B"]
    nearest: Float[Tensor, "B D"]

    @classmethod
    def init(cls, x: Float[Tensor, "B D"]) -> Course:
        """Of paths that begin here."""
        return cls(x.new_zeros(len(x)), x.new_full((len(x),), torch.inf), x.clone())

    def after(
        self,
        values: Float[Tensor, "B K"],
        slope: Float[Tensor, "B K"],
        time: Float[Tensor, "B 1"],
        error: Float[Tensor, "B K"],
        moved: Bool[Tensor, "B"],
    ) -> Course:
        """After a step of the given time on the quadratic model, whose error is known by its components."""
        square = slope.square().sum(1, keepdim=True).clamp(min=torch.finfo(slope.dtype).tiny)
        aside = error - (error * slope).sum(1, keepdim=True) / square * slope
        across = (values < 0) & (slope.abs() < 0.5 * square.sqrt())
        rate = torch.where(across, -values, 0.0).amax(1)
        growth = torch.exp((rate * torch.where(torch.isinf(time), 0.0, time)[:, 0]).clamp(max=50.0))
        total = self.error * growth + torch.nan_to_num(aside.norm(dim=1), nan=torch.inf)
        return dataclasses.replace(self, error=torch.where(moved, total, self.error))

    def seen(
        self, x: Float[Tensor, "B D"], distance: Float[Tensor, "B"], least: float, known: Bool[Tensor, "B"]
    ) -> Course:
        """At x, that far from a divide, where the curvature is ``known``; errors below ``least`` count as that."""
        room = distance / self.error.clamp(min=least)
        closer = known & (room < self.room)
        nearest = torch.where(closer[:, None], x, self.nearest)
        return dataclasses.replace(self, room=torch.where(closer, room, self.room), nearest=nearest)


@dataclasses.dataclass(frozen=True)
class Ends:
    """Where paths have ended, and their course."""

    points: StationaryPoints
    course: Course

    @classmethod
    def cat(cls, parts: Sequence[Ends]) -> Ends:
        names = [field.name for field in dataclasses.fields(Course)]
        course = Course(*(torch.cat([getattr(part.course, name) for part in parts]) for name in names))
        return cls(StationaryPoints.cat([part.points for part in parts]), course)

    def __getitem__(self, rows: Int[Tensor, "K"]) -> Ends:
        course = self.course
        return Ends(self.points[rows], Course(course.error[rows], course.room[rows], course.nearest[rows]))
