"""The lowest known path between two minima, point by point."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from torchscape.landscape import Landscape
from torchscape.memory import SOME_LARGE, rows_that_fit
from torchscape.network import Network
from torchscape.potentials.base import Potential
from torchscape.saddles.downhill_paths import Descent
from torchscape.saddles.pathway import stops
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT

if TYPE_CHECKING:
    from torchscape.analysis import Route

__all__ = ["Way", "lowest_way", "lowest_ways"]


@dataclasses.dataclass(frozen=True)
class Way:
    """A path through coordinate space, from one minimum over transition states and minima to another.

    Consecutive points lie close together: what is known of each transition state was put into the image that
    continues the path.

    Attributes:
        x: M points of it [M D].
        arc: length along it, 0 at the first point, in the potential's coordinates [M].
        energy: U there [M].
        minima, transition_states: their ids in the landscape, in the order of the path.
        at_minima, at_transition_states: which of the points they are.

    ``x`` can be handed to whatever evaluates a model: ``held_out(potential, way.x, inputs, targets).accuracy``.
    """

    x: Float[Tensor, "M D"]
    arc: Float[Tensor, "M"]
    energy: Float[Tensor, "M"]
    minima: tuple[int, ...]
    transition_states: tuple[int, ...]
    at_minima: tuple[int, ...]
    at_transition_states: tuple[int, ...]

    @property
    def height(self) -> float:
        """The highest energy on the way."""
        return float(self.energy.max())

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        over = f"over {len(self.transition_states)} transition states, " if self.transition_states else ""
        return f"Way({len(self)} points, {over}length {float(self.arc[-1]):.4g}, height {self.height:.6g})"


def lowest_way(
    landscape: Landscape, potential: Potential, a: int, b: int, *, most: int = 32, options: Descent | None = None
) -> Way:
    """The lowest path that the network knows from minimum ``a`` to minimum ``b``, integrated point by point.

    Of all paths it is the one whose highest transition state is lowest (and then the second highest, and so on).
    From each transition state on it the steepest descents are followed again.

    Args:
        landscape: where the minima and transition states are.
        potential: whose landscape it is.
        a, b: ids of minima.
        most: points to each side of a transition state, about.
        options: steps and tolerances of the descents, as for :func:`integrate_paths`.

    Raises:
        TorchscapeError: where no path is known, or there is no such minimum.

    Example:
        >>> import torchscape as tsc
        >>> surface = tsc.FunctionPotential(lambda x: (x[0]**2 - 1)**2 + x[1]**2, 2)
        >>> with tsc.Landscape.in_memory(surface) as landscape:
        ...     strategies = [tsc.BasinHopping(walkers=8, hops=0), tsc.ConnectMinima()]
        ...     report = tsc.explore(landscape, surface, strategies=strategies, progress=False)
        ...     way = lowest_way(landscape, surface, 0, 1)
        >>> round(way.height, 6), round(float(way.arc[-1]), 3), way.minima
        (1.0, 2.0, (0, 1))
    """
    return lowest_ways(landscape, potential, torch.tensor([[a, b]]), most=most, options=options)[0]


def lowest_ways(
    landscape: Landscape,
    potential: Potential,
    pairs: Int[Tensor, "P 2"],
    *,
    most: int = 32,
    options: Descent | None = None,
) -> list[Way]:
    """The same for P pairs of minima: the descents from each transition state are followed once, all together, and
    the paths are put together side by side."""
    from torchscape.analysis import minimax_path

    COUNT.check("lowest_ways", most=most)
    network = landscape.network(coords=False)
    ids = landscape.represented(pairs.reshape(-1)).reshape(-1, 2)
    place = network.position_of(ids.reshape(-1)).reshape(-1, 2).tolist()
    routes = [minimax_path(network, i, j) for i, j in place]
    needed = torch.cat([route.transition_states for route in routes]).unique()
    legs = _legs(landscape, potential, network, needed, most, options)
    plans = [_plan(landscape, network, route, legs) for route in routes]
    ways = []
    for plan, x in zip(plans, _continued(potential, [plan.x for plan in plans]), strict=True):
        points, place = _filled(x, plan.joints)
        arc = torch.cat([points.new_zeros(1), points.diff(dim=0).norm(dim=1)]).cumsum(0)
        at_minima, at_tops = (tuple(place[k] for k in at) for at in (plan.at_minima, plan.at_tops))
        ways.append(Way(points, arc, _energies(potential, points), plan.minima, plan.edges, at_minima, at_tops))
    return ways


@dataclasses.dataclass(frozen=True)
class _Plan:
    """The points of a way, each leg in whatever image it was found."""

    x: list[Float[Tensor, "D"]]
    minima: tuple[int, ...]
    edges: tuple[int, ...]
    at_minima: list[int]
    at_tops: list[int]
    joints: list[int]  # numbers of the steps between a leg and a minimum


def _legs(
    landscape: Landscape,
    potential: Potential,
    network: Network,
    needed: Int[Tensor, "J"],
    most: int,
    options: Descent | None,
) -> dict[int, tuple[Float[Tensor, "M D"], int]]:
    """The descents from each transition state, from the first of its two minima to the second, and where it is."""
    if not len(needed):
        return {}
    found = stops(potential, landscape.transition_states(network.ts_ids[needed]), most=most, options=options)
    ends = landscape.minima(network.ids[network.edges[:, needed].flatten()]).x.chunk(2)
    reached = [torch.stack([leg[end] for leg, _ in found]) for end in (0, -1)]
    apart = potential.symmetry.distance
    straight = apart(ends[0], reached[0]) + apart(ends[1], reached[1])
    turned = (straight > apart(ends[0], reached[1]) + apart(ends[1], reached[0])).tolist()
    return {
        edge: (leg.flip(0), len(leg) - 1 - top) if turn else (leg, top)
        for edge, (leg, top), turn in zip(needed.tolist(), found, turned, strict=True)
    }


def _plan(
    landscape: Landscape, network: Network, route: Route, legs: dict[int, tuple[Float[Tensor, "M D"], int]]
) -> _Plan:
    minima, first = network.ids[route.minima], network.edges[0, route.transition_states]
    forward = (first == route.minima[:-1]).tolist()
    bottoms = landscape.minima(minima).x
    x, at_minima, at_tops, joints = [bottoms[0]], [0], [], []
    for k, edge in enumerate(route.transition_states.tolist()):
        leg, top = legs[edge]
        if not forward[k]:
            leg, top = leg.flip(0), len(leg) - 1 - top
        joints += [len(x) - 1, len(x) - 1 + len(leg)]
        at_tops.append(len(x) + top)
        x += [*leg, bottoms[k + 1]]
        at_minima.append(len(x) - 1)
    edges = tuple(network.ts_ids[route.transition_states].tolist())
    return _Plan(x, tuple(minima.tolist()), edges, at_minima, at_tops, joints)


def _continued(potential: Potential, paths: Sequence[list[Float[Tensor, "D"]]]) -> list[Float[Tensor, "M D"]]:
    """Each point in the image closest to the one before it; all paths go on side by side."""
    placed = [[path[0]] for path in paths]
    for k in range(1, max(map(len, paths), default=0)):
        going = [number for number, path in enumerate(paths) if len(path) > k]
        here = torch.stack([placed[number][-1] for number in going])
        there = potential.symmetry.align(here, torch.stack([paths[number][k] for number in going]))
        for number, point in zip(going, there, strict=True):
            placed[number].append(point)
    return [torch.stack(points) for points in placed]


def _filled(x: Float[Tensor, "M D"], joints: Sequence[int]) -> tuple[Float[Tensor, "L D"], list[int]]:
    """Where a descent ended before its minimum, the gap is filled with points of the straight line, no further
    apart than those of the descents; and where each of the old points stands now."""
    step = x.diff(dim=0)
    length = step.norm(dim=1).cpu()
    is_joint = torch.zeros(len(length), dtype=torch.bool)
    is_joint[list(joints)] = True
    usual = length[~is_joint].max() if bool((~is_joint).any()) else length.new_tensor(torch.inf)
    pieces = torch.where(is_joint & (length > 2 * usual), (length / usual).ceil(), 1.0).long()
    before = pieces.cumsum(0) - pieces
    segment = torch.arange(len(pieces)).repeat_interleave(pieces)
    share = (torch.arange(len(segment)) - before[segment]) / pieces[segment]
    segment, share = segment.to(x.device), share.to(x)
    filled = torch.cat([x[segment] + share[:, None] * step[segment], x[-1:]])
    return filled, [*before.tolist(), len(filled) - 1]


def _energies(potential: Potential, x: Float[Tensor, "M D"]) -> Float[Tensor, "M"]:
    rows = rows_that_fit(x.shape[1], x.device, on_host=SOME_LARGE)
    with torch.no_grad():
        return torch.cat([potential.energy(part) for part in x.split(rows)])
