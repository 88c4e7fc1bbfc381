"""The lowest known path between two minima, point by point."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.landscape import Landscape
from torchscape.memory import SOME_LARGE, rows_that_fit
from torchscape.potentials.base import Potential
from torchscape.saddles.downhill_paths import Descent
from torchscape.saddles.pathway import stops
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT

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
    """The same for P pairs of minima; the descents from each transition state are followed once, all together."""
    from torchscape.analysis import minimax_path

    COUNT.check("lowest_ways", most=most)
    network = landscape.network(coords=False)
    ids = landscape.represented(pairs.reshape(-1)).reshape(-1, 2)
    place = network.position_of(ids.reshape(-1)).reshape(-1, 2).tolist()
    routes = [minimax_path(network, i, j) for i, j in place]
    needed = torch.cat([route.transition_states for route in routes]).unique()
    ts = landscape.transition_states(network.ts_ids[needed]) if len(needed) else None
    found = [] if ts is None else stops(potential, ts, most=most, options=options)
    legs = dict(zip(needed.tolist(), found, strict=True))
    tops = {} if ts is None else dict(zip(needed.tolist(), ts.x, strict=True))
    ways = []
    for route in routes:
        minima = network.ids[route.minima]
        x = landscape.minima(minima).x
        way, at_minima, at_tops = _Chain(potential, x[0]), [0], []
        for k, edge in enumerate(route.transition_states.tolist()):
            forward = bool(network.edges[0, edge] == route.minima[k])
            leg = legs[edge] if forward else legs[edge].flip(0)
            top = int((leg == tops[edge]).all(1).nonzero()[0])
            way.go(leg[:top])
            at_tops.append(way.go(leg[top : top + 1]))
            way.go(leg[top + 1 :])
            at_minima.append(way.go(x[k + 1 : k + 2]))
        points = torch.stack(way.points)
        arc = torch.cat([points.new_zeros(1), points.diff(dim=0).norm(dim=1)]).cumsum(0)
        edges = tuple(network.ts_ids[route.transition_states].tolist())
        energy = _energies(potential, points)
        ways.append(Way(points, arc, energy, tuple(minima.tolist()), edges, tuple(at_minima), tuple(at_tops)))
    return ways


class _Chain:
    """Points one after the other, each in the image closest to the one before it.

    Where a descent ended before its minimum, the gap is filled with points of the straight line.
    """

    def __init__(self, potential: Potential, first: Float[Tensor, "D"]) -> None:
        self.potential = potential
        self.points = [first]
        self.longest = 0.0  # step of the descents so far

    def go(self, leg: Float[Tensor, "M D"]) -> int:
        """Go on along these points; the number of the last one."""
        for number, point in enumerate(leg):
            here = self.points[-1]
            there = self.potential.symmetry.align(here[None], point[None])[0]
            length = float((there - here).norm())
            if number:
                self.longest = max(self.longest, length)
            elif self.longest and length > 2 * self.longest:
                n = int(length / self.longest) + 1
                self.points += [here + (there - here) * (k / n) for k in range(1, n)]
            self.points.append(there)
        return len(self.points) - 1


def _energies(potential: Potential, x: Float[Tensor, "M D"]) -> Float[Tensor, "M"]:
    rows = rows_that_fit(x.shape[1], x.device, on_host=SOME_LARGE)
    with torch.no_grad():
        return torch.cat([potential.energy(part) for part in x.split(rows)])
