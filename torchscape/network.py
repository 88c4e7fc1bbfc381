"""``Network``: minima and the transition states between them, as immutable arrays.

All of :mod:`torchscape.analysis`, :mod:`torchscape.plots` and :mod:`torchscape.export` are functions of this.
"""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from torchscape.brief import MOST_CHARACTERS, brief, span
from torchscape.errors import TorchscapeError
from torchscape.numerics import lowest_of_level
from torchscape.rearrangements import Rearrangements
from torchscape.sparse import links
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["Network"]


@brief
@dataclasses.dataclass(frozen=True)
class Network:
    """N minima and E transition states (edges; parallel edges allowed, self-loops not).

    Units: energies in the potential's own unit, k_B = 1, unit mass. Minima are numbered 0..N-1 in the order
    of these arrays; a :class:`~torchscape.landscape.Landscape` hands them out by ascending energy.

    Which of two energies is lower, and by how much, is asked of :attr:`levels` and :attr:`ts_levels`, in which
    energies that differ by no more than ``resolution`` are equal: rounding errors are no energy gaps.

    Attributes:
        energy: energies of the minima.
        log_det: ln of the product of the non-zero Hessian eigenvalues of each minimum.
        log_degeneracy: ln of the number of distinct symmetric images of each minimum. Logarithms, because a
            layer of H hidden units already has 2^H H! images.
        edges: column e holds the two minima that transition state e connects.
        ts_energy: energies of the transition states.
        ts_log_det: ln of the product of the *positive* Hessian eigenvalues of each transition state.
        ts_log_degeneracy: ln of the number of distinct symmetric images of each transition state.
        n_modes: number of vibrational (non-zero) modes kappa of each minimum; -1 where unknown.
        ts_n_modes: number of positive-curvature modes of each transition state (kappa - 1); -1 where unknown.
        hits, ts_hits: searches that ended in each point (1 where unknown): quenches for a minimum, candidates or
            paths for a transition state. 0 for a minimum known only as the end of a downhill path.
        n_degenerate_rearrangements: transition states whose two ends are images of one minimum; they are kept
            in the database but are no edges.
        loose_ts_hits: searches that ended in each transition state that is no edge: degenerate rearrangements,
            and those one side of which leaves the box.
        coords, ts_coords: coordinates, when small enough to carry along.
        ts_path: integrated paths over the transition states: arc length and energy at I points, from the minimum
            ``edges[0]`` to ``edges[1]``; NaN where a path was not integrated.
        ids, ts_ids: the database's ids of the minima and transition states.
        n_flat: of each minimum, flat directions that no declared symmetry explains: with any, it stands for a
            continuous family. None where there are none.
        properties: named per-minimum quantities (test accuracy, AUC, ...), each [N].
        ts_properties: named quantities of the transition states, each [E].
        energy_tol: energies closer than this are equal, in the potential's unit. None: a thousand rounding errors
            of double precision; say more where the energies were computed in less. A landscape hands over the
            window by which it tells its points apart.
        rearrangements: the degenerate rearrangements themselves, where they are known one by one.

    Example:
        >>> import torch
        >>> net = Network.of(energy=[0.0, 0.5, 0.7], edges=[(0, 1), (1, 2)], ts_energy=[1.0, 1.2])
        >>> net.n_minima, net.n_edges, net.components().tolist()
        (3, 2, [0, 0, 0])
    """

    energy: Float[Tensor, "N"]
    log_det: Float[Tensor, "N"]
    log_degeneracy: Float[Tensor, "N"]
    edges: Int[Tensor, "2 E"]
    ts_energy: Float[Tensor, "E"]
    ts_log_det: Float[Tensor, "E"]
    ts_log_degeneracy: Float[Tensor, "E"]
    n_modes: Int[Tensor, "N"]
    ts_n_modes: Int[Tensor, "E"]
    hits: Int[Tensor, "N"]
    ts_hits: Int[Tensor, "E"]
    ids: Int[Tensor, "N"]
    ts_ids: Int[Tensor, "E"]
    n_degenerate_rearrangements: int = 0
    loose_ts_hits: Int[Tensor, "F"] | None = None
    coords: Float[Tensor, "N D"] | None = None
    ts_coords: Float[Tensor, "E D"] | None = None
    ts_path: Float[Tensor, "E I 2"] | None = None
    n_flat: Int[Tensor, "N"] | None = None
    properties: Mapping[str, Float[Tensor, "N"]] = dataclasses.field(default_factory=dict)
    ts_properties: Mapping[str, Float[Tensor, "E"]] = dataclasses.field(default_factory=dict)
    energy_tol: float | None = None
    rearrangements: Rearrangements | None = None

    def __repr__(self) -> str:
        told = [f"{self.n_minima} minim{'um' if self.n_minima == 1 else 'a'} from {span(self.energy)}"]
        if self.n_edges:
            told.append(f"{self.n_edges} transition state{'s' * (self.n_edges > 1)} from {span(self.ts_energy)}")
        n = self.n_components
        told.append("connected" if n == 1 else f"{n} components")
        names = ", ".join([*list(self.properties)[:6], *["..."] * (len(self.properties) > 6)])
        text = f"Network({', '.join(told)}{f'; {names}' if names else ''})"
        return (text if self.n_minima else "Network(no minima)")[:MOST_CHARACTERS]

    @classmethod
    def of(
        cls,
        energy,
        edges,
        ts_energy,
        *,
        log_det=None,
        ts_log_det=None,
        log_degeneracy=None,
        ts_log_degeneracy=None,
        n_modes: int | Tensor | None = None,
        ts_n_modes: int | Tensor | None = None,
        dtype: torch.dtype = torch.float64,
        **rest,
    ) -> Network:
        """A network from lists or tensors; ``edges`` as E pairs or a [2, E] tensor.

        What is not given is neutral: log_det 0, one image per point, ``n_modes`` 1, one hit. ``ts_n_modes``
        follows ``n_modes`` (one less). All columns are made on the device of ``energy``.

        Raises:
            TorchscapeError: on inconsistent lengths, self-loops, or edges to minima that do not exist.
        """

        device = energy.device if isinstance(energy, Tensor) else None

        def floats(values, n: int, default: float = 0.0):
            if values is None:
                return torch.full((n,), default, dtype=dtype, device=device)
            return torch.as_tensor(values, dtype=dtype, device=device).reshape(-1)

        def ints(values, n: int, default: int = 1):
            if values is None or isinstance(values, int):
                value = default if values is None else values
                return torch.full((n,), value, dtype=torch.int64, device=device)
            return torch.as_tensor(values, dtype=torch.int64, device=device).reshape(-1)

        e, t = (_energies(name, values, floats) for name, values in (("energy", energy), ("ts_energy", ts_energy)))
        n, m = len(e), len(t)
        pairs = torch.as_tensor(edges, dtype=torch.int64, device=device)
        if pairs.numel() % 2:
            raise TorchscapeError(
                f"edges are pairs of minima, not {pairs.numel()} numbers: give E pairs, or [2, E]"
            )
        if pairs.ndim != 2 or (pairs.shape[0] != 2 or not isinstance(edges, Tensor)):
            pairs = pairs.reshape(-1, 2).T
        if rest.get("rearrangements") is not None:
            rest.setdefault("n_degenerate_rearrangements", len(rest["rearrangements"]))
        modes = ints(n_modes, n)
        if ts_n_modes is None:
            ts_n_modes = modes[pairs[0]] - 1 if m and n else torch.zeros(m, dtype=torch.int64, device=device)
            ts_n_modes = ts_n_modes.clamp(min=-1)
        network = cls(
            energy=e,
            log_det=floats(log_det, n),
            log_degeneracy=floats(log_degeneracy, n),
            edges=pairs.contiguous(),
            ts_energy=t,
            ts_log_det=floats(ts_log_det, m),
            ts_log_degeneracy=floats(ts_log_degeneracy, m),
            n_modes=modes,
            ts_n_modes=ints(ts_n_modes, m),
            hits=ints(rest.pop("hits", None), n),
            ts_hits=ints(rest.pop("ts_hits", None), m),
            ids=ints(rest.pop("ids", torch.arange(n)), n),
            ts_ids=ints(rest.pop("ts_ids", torch.arange(m)), m),
            **rest,
        )
        return network.validated()

    def validated(self) -> Network:
        """Itself, after a check that lengths agree and edges join two different existing minima."""
        n, m = self.n_minima, self.n_edges
        for name in ("log_det", "log_degeneracy", "n_modes", "hits", "ids"):
            _expect_length(name, getattr(self, name), n, "minima")
        for name in ("ts_log_det", "ts_log_degeneracy", "ts_n_modes", "ts_hits", "ts_ids"):
            _expect_length(name, getattr(self, name), m, "transition states")
        if self.n_flat is not None:
            _expect_length("n_flat", self.n_flat, n, "minima")
        _expect_length("edges", self.edges.T, m, "transition states")
        for name, values in self.properties.items():
            _expect_length(f"property {name!r}", values, n, "minima")
        for name, values in self.ts_properties.items():
            _expect_length(f"property {name!r}", values, m, "transition states")
        if self.ts_path is not None:
            _expect_length("ts_path", self.ts_path, m, "transition states")
        if m and (int(self.edges.min()) < 0 or int(self.edges.max()) >= n):
            raise TorchscapeError(
                f"an edge names a minimum outside 0..{n - 1}: edges are 0-based positions, not ids"
            )
        if m and bool((self.edges[0] == self.edges[1]).any()):
            raise TorchscapeError(
                "an edge joins a minimum to itself: degenerate rearrangements are no edges, but go into "
                "rearrangements"
            )
        around = self.rearrangements
        if around is not None:
            _expect_length("rearrangements", around.minimum, self.n_degenerate_rearrangements, "of them")
            if len(around) and not 0 <= int(around.minimum.min()) <= int(around.minimum.max()) < n:
                raise TorchscapeError(f"a rearrangement is one of a minimum outside 0..{n - 1}: give positions")
        return self

    @property
    def n_minima(self) -> int:
        return len(self.energy)

    @property
    def n_edges(self) -> int:
        return len(self.ts_energy)

    @property
    def n_components(self) -> int:
        """Connected components, single minima included."""
        return int(self.components().max()) + 1 if self.n_minima else 0

    @property
    def connected_fraction(self) -> float:
        """Share of the minima that are connected with the lowest one, itself included; 0 where there is none."""
        return float(self.connected_to(self.global_minimum).double().mean()) if self.n_minima else 0.0

    @property
    def n_connected_pairs(self) -> int:
        """Pairs of minima that at least one transition state joins: parallel edges count once."""
        return self.edges.sort(0).values.unique(dim=1).shape[1]

    @property
    def all_ts_hits(self) -> Int[Tensor, "K"]:
        """Searches that ended in each transition state, those that are no edges last."""
        return self.ts_hits if self.loose_ts_hits is None else torch.cat([self.ts_hits, self.loose_ts_hits])

    @property
    def global_minimum(self) -> int:
        """Position of the lowest minimum; of several that are equally low, the first."""
        return int(self.levels.argmin())

    @property
    def resolution(self) -> float:
        """Energies that differ by no more than this are equal: ``energy_tol``, or a thousand rounding errors.

        Rounding is relative to the largest energy of a minimum or the median energy of the transition states: a
        landscape that sums terms of 10 to a minimum of 0 knows the 0 to the rounding errors of 10.
        """
        if self.energy_tol is not None:
            return self.energy_tol
        minima, saddles = (e[e.isfinite()].abs() for e in (self.energy.detach(), self.ts_energy.detach()))
        largest = float(minima.max()) if len(minima) else 0.0
        typical = float(saddles.median()) if len(saddles) else 0.0
        return 1e3 * torch.finfo(torch.float64).eps * max(largest, typical)

    @cached_property
    def levels(self) -> Float[Tensor, "N"]:
        """Energies of the minima, with those that are equal within :attr:`resolution` set to the lowest of them.

        Points form a level if their energies lie together within the resolution and apart from all others. A dense
        spectrum, whose steps are all below the resolution while it is wider as a whole, is left as it is. Order is
        kept, among minima and transition states alike.

        Example:
            >>> net = Network.of([0.0, 1e-13, 0.5], [(0, 1), (1, 2)], [1.0, 2.0])
            >>> net.levels.tolist()
            [0.0, 0.0, 0.5]
        """
        return self._all_levels[: self.n_minima]

    @property
    def ts_levels(self) -> Float[Tensor, "E"]:
        """The same for the energies of the transition states."""
        return self._all_levels[self.n_minima :]

    @cached_property
    def _all_levels(self) -> Tensor:
        together = torch.cat([self.energy, self.ts_energy])
        lowest = lowest_of_level(together.detach().cpu().numpy(), self.resolution)
        return together[torch.as_tensor(lowest, device=together.device)]

    def components(self) -> Int[Tensor, "N"]:
        """Label of each minimum's connected component, 0 for the largest, then by descending size."""
        from scipy.sparse.csgraph import connected_components

        n = self.n_minima
        i, j = self.edges.cpu().numpy()
        graph = links(True, i, j, n)
        labels = torch.as_tensor(connected_components(graph, directed=False)[1]).long()
        if n == 0:
            return labels
        order = labels.bincount().argsort(descending=True, stable=True)
        return order.argsort()[labels].to(self.energy.device)

    def connected_to(self, minimum: int) -> Bool[Tensor, "N"]:
        """Which minima some path of transition states joins to the one at position ``minimum``, itself included.

        Example:
            >>> net = Network.of([0.0, 1.0, 2.0, 3.0], [(0, 3), (1, 2)], [4.0, 4.0])
            >>> net.connected_to(3).tolist()
            [True, False, False, True]
        """
        component = self.components()
        return component == component[minimum]

    def component_of(self, minimum: int) -> Network:
        """The network of the minima that are connected to the one at position ``minimum``."""
        return self.subset(torch.nonzero(self.connected_to(minimum))[:, 0])

    def largest_component(self) -> Network:
        """The network of the largest connected component; of several that are equally large, one of them."""
        return self.subset(torch.nonzero(self.components() == 0)[:, 0])

    def position_of(self, ids: Int[Tensor, "K"] | Sequence[int]) -> Int[Tensor, "K"]:
        """Positions of the minima with these database ids.

        Raises:
            TorchscapeError: if an id is not in the network.

        Example:
            >>> Network.of([0.0, 1.0], [(0, 1)], [2.0], ids=[7, 3]).position_of([3, 7]).tolist()
            [1, 0]
        """
        wanted = torch.as_tensor(ids, dtype=torch.int64, device=self.ids.device)
        order = self.ids.argsort()
        place = torch.searchsorted(self.ids[order], wanted).clamp(max=max(self.n_minima - 1, 0))
        position = order[place] if self.n_minima else place
        missing = wanted[self.ids[position] != wanted] if self.n_minima else wanted
        if len(missing):
            raise TorchscapeError(f"no minimum of this network has the id {int(missing[0])}: see network.ids")
        return position

    def subset(self, keep: Int[Tensor, "K"]) -> Network:
        """The network induced on the minima at positions ``keep``, in that order."""
        position = torch.full((self.n_minima,), -1, dtype=torch.int64, device=self.edges.device)
        position[keep] = torch.arange(len(keep), device=self.edges.device)
        edges = position[self.edges]
        inside = (edges >= 0).all(0)
        minima = {name: getattr(self, name)[keep] for name in _MIN_COLUMNS if getattr(self, name) is not None}
        properties = {name: values[keep] for name, values in self.properties.items()}
        if self.rearrangements is not None:
            minima["rearrangements"] = self.rearrangements.of_minima(keep)
            minima["n_degenerate_rearrangements"] = len(minima["rearrangements"])
        return dataclasses.replace(
            self.only_edges(inside), edges=edges[:, inside], properties=properties, **minima
        )  # with the resolution of the whole, which ``only_edges`` hands on

    def only_edges(self, keep: Int[Tensor, "K"] | Bool[Tensor, "E"]) -> Network:
        """All minima, with only the transition states at ``keep``."""
        ts = {name: getattr(self, name)[keep] for name in _TS_COLUMNS if getattr(self, name) is not None}
        properties = {name: values[keep] for name, values in self.ts_properties.items()}
        tol = self.resolution
        return dataclasses.replace(self, edges=self.edges[:, keep], ts_properties=properties, energy_tol=tol, **ts)

    def to(self, device: torch.device | str) -> Network:
        others = ("edges", "loose_ts_hits", "rearrangements")
        columns = {name: getattr(self, name) for name in (*_MIN_COLUMNS, *_TS_COLUMNS, *others)}
        moved = {name: value.to(device) for name, value in columns.items() if value is not None}
        for group in ("properties", "ts_properties"):
            moved[group] = {name: values.to(device) for name, values in getattr(self, group).items()}
        return dataclasses.replace(self, **moved)


_MIN_COLUMNS = ("energy", "log_det", "log_degeneracy", "n_modes", "n_flat", "hits", "ids", "coords")
_TS_COLUMNS = (
    "ts_energy",
    "ts_log_det",
    "ts_log_degeneracy",
    "ts_n_modes",
    "ts_hits",
    "ts_ids",
    "ts_coords",
    "ts_path",
)


def _energies(name: str, values: Any, floats: Callable[..., Tensor]) -> Float[Tensor, "K"]:
    of = "minimum" if name == "energy" else "transition state"
    if values is None or isinstance(values, numbers.Number):
        raise TorchscapeError(f"{name}={values!r}: give a list or a tensor with one number for each {of}")
    try:
        return floats(values, 0)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TorchscapeError(
            f"{name} holds something else than numbers ({error}): give one for each {of}"
        ) from error


def _expect_length(name: str, values: Tensor, n: int, of: str) -> None:
    if len(values) != n:
        raise TorchscapeError(f"{name} has {len(values)} entries for {n} {of}: give one for each")
