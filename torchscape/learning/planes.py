"""The loss over a plane: grids in batches, kept on disk as they grow; and how well a plane shows its points."""

from __future__ import annotations

import dataclasses
import hashlib
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from torchscape.brief import brief
from torchscape.errors import DatabaseError, FingerprintMismatch, TorchscapeError
from torchscape.learning.directions import Plane
from torchscape.memory import MANY_LARGE, rows_that_fit
from torchscape.outputs import whole_file
from torchscape.potentials.base import Potential
from torchscape.progress import progress_bar
from torchscape.types import Float, Tensor
from torchscape.validation import COUNT, FINITE

__all__ = ["PlaneSurface", "Projected", "plane_surface", "project", "zoom_series"]

_SAVE_SECONDS = 10.0


@brief
@dataclasses.dataclass(frozen=True)
class PlaneSurface:
    """U over a rectangle of a plane.

    Attributes:
        plane: which.
        a, b: the grid, in units of the axes of the plane [I], [J].
        energy: U at every (a_i, b_j) [J I].
    """

    plane: Plane
    a: Float[Tensor, "I"]
    b: Float[Tensor, "J"]
    energy: Float[Tensor, "J I"]

    @property
    def labels(self) -> tuple[str, str]:
        """What the axes are."""
        return self.plane.labels


@brief
@dataclasses.dataclass(frozen=True)
class Projected:
    """Points beside their projections into a plane.

    Attributes:
        coordinates: (a, b) of the nearest point of the plane [S 2].
        distance: from the point to the plane [S].
        energy: U at the point itself [S].
        in_plane: U at its projection, which is what a picture of the plane shows [S].
        explained: share of the variance of the points that lies in the plane: |P (x - mean)|^2 / |x - mean|^2.
    """

    coordinates: Float[Tensor, "S 2"]
    distance: Float[Tensor, "S"]
    energy: Float[Tensor, "S"]
    in_plane: Float[Tensor, "S"]
    explained: float


def project(potential: Potential, plane: Plane, x: Float[Tensor, "S D"]) -> Projected:
    """What a plane shows of points: where they fall, how far they are, their true loss and that in the plane.

    Example:
        >>> from torchscape.potentials import Quadratic
        >>> plane = Plane(torch.zeros(3).double(), torch.eye(3)[:2].double())
        >>> found = project(Quadratic([2.0, 2.0, 2.0]), plane, torch.tensor([[1.0, 0.0, 0.5]]).double())
        >>> found.energy.item(), found.in_plane.item(), found.distance.item()
        (1.25, 1.0, 0.5)
    """
    coordinates = plane.coordinates(x)
    parts = []
    with torch.no_grad():
        for at, inside in zip(*(t.split(_rows(plane)) for t in (x, coordinates)), strict=True):
            flat = plane.points(inside)
            parts.append((potential.energy(at), potential.energy(flat), (at - flat).norm(dim=1)))
    energy, in_plane, distance = (torch.cat(part) for part in zip(*parts, strict=True))
    spread = x - x.mean(0)
    within = plane.points(coordinates)
    within = within - within.mean(0)
    total = float(spread.square().sum())
    explained = float(within.square().sum()) / total if total > 0 else 1.0
    return Projected(coordinates, distance, energy, in_plane, explained)


def plane_surface(
    potential: Potential,
    plane: Plane,
    window: tuple[float, float, float, float],
    *,
    n: int | tuple[int, int] = 51,
    file: str | Path | None = None,
    batch: int | None = None,
    progress: bool = False,
) -> PlaneSurface:
    """U on a grid over a rectangle of a plane, in batches; with a file, continued where it was interrupted.

    Args:
        potential: U.
        plane: where (see :func:`principal_plane`, :func:`three_point_plane` and their neighbours).
        window: (lowest a, highest a, lowest b, highest b).
        n: grid points along both, or along each axis.
        file: an .npz file that is written every ten seconds and whenever the evaluation ends, by Ctrl-C too; if it
            is there, what it holds is not evaluated again.
        batch: points at once; by default what memory holds.
        progress: show a progress bar.

    Raises:
        FingerprintMismatch: if the file belongs to another potential, plane or grid.
        DatabaseError: if the file cannot be read.

    Example:
        >>> from torchscape.potentials import Quadratic
        >>> plane = Plane(torch.zeros(3).double(), torch.eye(3)[:2].double())
        >>> plane_surface(Quadratic([2.0, 4.0, 8.0]), plane, (-1.0, 1.0, 0.0, 1.0), n=(3, 2)).energy.tolist()
        [[1.0, 0.0, 1.0], [3.0, 2.0, 3.0]]
    """
    COUNT.or_none.check("plane_surface", batch=batch)
    shape = (n, n) if isinstance(n, int) else n
    COUNT.or_several.check("plane_surface", n=shape)
    FINITE.or_several.check("plane_surface", window=window)
    if len(shape) != 2 or len(window) != 4:
        raise TorchscapeError("a grid needs two numbers of points, and a window (low a, high a, low b, high b)")
    if min(shape) < 2 or not (window[0] < window[1] and window[2] < window[3]):
        raise TorchscapeError("a grid needs two points or more along each axis, and ends in ascending order")
    like = plane.origin
    a = torch.linspace(window[0], window[1], shape[0], dtype=like.dtype, device=like.device)
    b = torch.linspace(window[2], window[3], shape[1], dtype=like.dtype, device=like.device)
    grid = torch.cartesian_prod(b, a).flip(1)
    record = None if file is None else _Record(Path(file), _digest(potential, plane, grid))
    energy, done = like.new_zeros(len(grid)), torch.zeros(len(grid), dtype=torch.bool)
    if record is not None and (stored := record.read()) is not None:
        energy, done = stored[0].to(like), stored[1]
    left = (~done).nonzero()[:, 0]
    saved = time.monotonic()
    try:
        with (
            torch.no_grad(),
            progress_bar(show=progress, total=len(grid), unit=" points", initial=len(grid) - len(left)) as bar,
        ):
            for part in left.split(batch or _rows(plane)):
                rows = part.to(grid.device)
                energy[rows] = potential.energy(plane.points(grid[rows]))
                done[part] = True
                bar.update(len(part))
                if record is not None and time.monotonic() - saved > _SAVE_SECONDS:
                    record.write(energy, done)
                    saved = time.monotonic()
    finally:
        if record is not None and len(left):
            record.write(energy, done)
    return PlaneSurface(plane, a, b, energy.reshape(shape[1], shape[0]))


def zoom_series(
    potential: Potential,
    plane: Plane,
    half_widths: Sequence[float],
    *,
    centre: tuple[float, float] = (0.0, 0.0),
    n: int = 51,
    file: str | Path | None = None,
    batch: int | None = None,
    progress: bool = False,
) -> tuple[PlaneSurface, ...]:
    """The same plane through ever smaller windows: the large funnel first, then its rough bottom.

    Args:
        potential, plane, n, batch, progress: as for :func:`plane_surface`.
        half_widths: of the square windows, in units of the axes.
        centre: (a, b) of all of them.
        file: one .npz file for each window: ``map.npz`` makes ``map-0.npz``, ``map-1.npz``, ...

    Example:
        >>> from torchscape.potentials import Quadratic
        >>> plane = Plane(torch.zeros(2).double(), torch.eye(2).double())
        >>> [s.energy.max().item() for s in zoom_series(Quadratic([1.0, 1.0]), plane, [2.0, 1.0], n=3)]
        [4.0, 1.0]
    """
    COUNT.check("zoom_series", n=n)
    COUNT.or_none.check("zoom_series", batch=batch)
    series = []
    for k, half in enumerate(half_widths):
        window = (centre[0] - half, centre[0] + half, centre[1] - half, centre[1] + half)
        name = None if file is None else Path(file).with_name(f"{Path(file).stem}-{k}{Path(file).suffix}")
        series.append(plane_surface(potential, plane, window, n=n, file=name, batch=batch, progress=progress))
    return tuple(series)


def _rows(plane: Plane) -> int:
    return rows_that_fit(len(plane.origin), plane.origin.device, on_host=MANY_LARGE)


def _digest(potential: Potential, plane: Plane, grid: Float[Tensor, "P 2"]) -> str:
    """Which potential, plane and grid: what is in a file can be used for nothing else."""
    parts = hashlib.sha256(potential.fingerprint().encode())
    for tensor in (plane.origin, plane.axes, grid):
        parts.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return parts.hexdigest()


@dataclasses.dataclass(frozen=True)
class _Record:
    """A partly evaluated grid on disk; replaced as a whole, so that no crash leaves half a file."""

    path: Path
    digest: str

    def read(self) -> tuple[Tensor, Tensor] | None:
        if not self.path.exists():
            return None
        try:
            with np.load(self.path, allow_pickle=False) as stored:
                digest, energy, done = (stored[name] for name in ("digest", "energy", "done"))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DatabaseError(f"{self.path} is no grid of a plane ({error}): move it away") from error
        if str(digest) != self.digest:
            raise FingerprintMismatch(
                f"{self.path} belongs to another potential, plane or grid: move it away, or name another file"
            )
        return torch.as_tensor(energy), torch.as_tensor(done)

    def write(self, energy: Float[Tensor, "P"], done: Tensor) -> None:
        with whole_file(self.path) as beside, beside.open("wb") as stream:
            np.savez(stream, digest=np.array(self.digest), energy=energy.cpu().numpy(), done=done.numpy())
