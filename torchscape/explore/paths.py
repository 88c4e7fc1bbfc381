"""The paths over transition states that are known already, integrated and stored."""

from __future__ import annotations

import torch

from torchscape import stopwatch
from torchscape.interrupts import interruptible
from torchscape.landscape import Landscape
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.progress import progress_bar
from torchscape.saddles.downhill_paths import Descent
from torchscape.saddles.pathway import pathways
from torchscape.types import Int, Tensor

__all__ = ["integrate_paths"]

_AT_ONCE = 64  # transition states between commits


def integrate_paths(
    landscape: Landscape,
    potential: Potential,
    ids: Int[Tensor, "K"] | None = None,
    *,
    n_points: int = 65,
    options: Descent | None = None,
    progress: bool = True,
) -> int:
    """Integrate the steepest-descent paths over transition states, and store the energy along them.

    ``landscape.network()`` then carries them, and ``plots.profile`` draws them. A path is stored if it ends in the
    two minima that the transition state is known to join; others are left out. What is stored is not done again,
    and every 64 are committed, so that an interrupted call (Ctrl-C, SIGTERM, SIGHUP) goes on where it stopped.

    Args:
        landscape: where the transition states are.
        potential: whose landscape it is.
        ids: which of them; by default all that have no path yet and whose two ends are known.
        n_points: points along each path, an odd number.
        options: steps and tolerances of the integration.
        progress: show a bar.

    Returns:
        How many paths were stored.

    Example:
        >>> import torchscape as tsc
        >>> surface = tsc.FunctionPotential(lambda x: (x[0]**2 - 1)**2 + x[1]**2, 2)
        >>> with tsc.Landscape.in_memory(surface) as landscape:
        ...     strategies = [tsc.BasinHopping(walkers=8, hops=0), tsc.ConnectMinima()]
        ...     report = tsc.explore(landscape, surface, strategies=strategies, progress=False)
        ...     n_paths = integrate_paths(landscape, surface, n_points=5, progress=False)
        ...     path = landscape.network().ts_path
        >>> n_paths, path[0, :, 0].round(decimals=3).tolist()
        (1, [0.0, 0.5, 1.0, 1.5, 2.0])
    """
    wanted = _without_path(landscape) if ids is None else ids.cpu()
    n_stored = 0
    with interruptible(), progress_bar(show=progress, desc="paths", unit=" paths", total=len(wanted)) as bar:
        for chunk in wanted.split(_AT_ONCE):
            stopwatch.check()
            n_stored += _integrate(landscape, potential, chunk, n_points, options)
            landscape.fold()
            bar.update(len(chunk))
    return n_stored


def _without_path(landscape: Landscape) -> Int[Tensor, "K"]:
    ids, known = landscape.transition_state_ids(), landscape.paths()
    inside = (landscape.ends(ids) >= 0).all(1)
    return ids[inside] if known is None else ids[inside & known[:, 0, 0].isnan()]


def _integrate(
    landscape: Landscape, potential: Potential, ids: Int[Tensor, "K"], n_points: int, options: Descent | None
) -> int:
    found = pathways(potential, landscape.transition_states(ids), n_points=n_points, options=options)
    arc, energy = found.arc.cpu(), found.energy.cpu()
    reached = torch.stack([_ids_of(landscape, found.minus), _ids_of(landscape, found.plus)], 1)
    ends = landscape.ends(ids)
    turned = (reached == ends.flip(1)).all(1) & ~(reached == ends).all(1)
    arc = torch.where(turned[:, None], arc[:, -1:] - arc.flip(1), arc)
    energy = torch.where(turned[:, None], energy.flip(1), energy)
    good = turned | (reached == ends).all(1)
    landscape.set_paths(ids[good], arc[good], energy[good])
    return int(good.sum())


def _ids_of(landscape: Landscape, points: StationaryPoints) -> Int[Tensor, "K"]:
    """Ids of the minima that paths ended in; -1 where they did not converge or the minimum is not known."""
    return torch.where(points.converged.cpu(), landscape.find(points), -1)
