"""What a landscape file shows: the ``Network`` and the summary. Reading only; no potential is needed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from torchscape.landscape import rows
from torchscape.landscape.matching import Matching
from torchscape.landscape.paths import read_paths
from torchscape.landscape.store import Store
from torchscape.network import Network
from torchscape.types import Float, Int, Tensor

__all__ = [
    "counts_by_index",
    "higher_saddle_ids",
    "minimum_ids",
    "read_network",
    "read_properties",
    "summarise",
    "transition_state_ids",
]

_COORDS_AUTO = 10_000_000  # numbers (80 MB) that coords="auto" still carries along

_IS_MINIMUM = "COALESCE(idx, 0) = 0 AND COALESCE(family, id) = id"
_IS_TRANSITION_STATE = (
    "COALESCE(minus, -1) NOT IN (SELECT id FROM minimum WHERE idx > 0) "
    "AND COALESCE(plus, -1) NOT IN (SELECT id FROM minimum WHERE idx > 0)"
)


def minimum_ids(store: Store) -> Int[Tensor, "N"]:
    """Ids of the minima by ascending energy, the earlier found first where energies are equal."""
    found = store.execute(f"SELECT id FROM minimum WHERE {_IS_MINIMUM} ORDER BY energy, id")
    return rows.ints([row[0] for row in found])


def transition_state_ids(store: Store) -> Int[Tensor, "E"]:
    """Ids of the transition states by ascending energy, degenerate rearrangements included."""
    found = store.execute(f"SELECT id FROM transition_state WHERE {_IS_TRANSITION_STATE} ORDER BY energy, id")
    return rows.ints([row[0] for row in found])


def higher_saddle_ids(store: Store) -> Int[Tensor, "K"]:
    """Ids of the stationary points of index 2 and more by ascending energy."""
    return rows.ints([row[0] for row in store.execute("SELECT id FROM higher_saddle ORDER BY energy, id")])


def counts_by_index(store: Store) -> list[int]:
    """Numbers of stationary points of index 0, 1, 2, ..., up to the highest there is."""
    ((n_minima,),) = store.execute(f"SELECT COUNT(*) FROM minimum WHERE {_IS_MINIMUM}")
    ((n_saddles,),) = store.execute(f"SELECT COUNT(*) FROM transition_state WHERE {_IS_TRANSITION_STATE}")
    higher = dict(store.execute("SELECT idx, COUNT(*) FROM higher_saddle GROUP BY idx"))
    return [n_minima, n_saddles, *(higher.get(k, 0) for k in range(2, max(higher, default=1) + 1))]


def read_network(store: Store, *, coords: bool | Literal["auto"] = "auto") -> Network:
    """The network of the last commit; see :meth:`torchscape.landscape.Landscape.network`."""
    with store.snapshot():
        (ndim,) = store.execute("SELECT value FROM meta WHERE key = 'ndim'")[0]
        minima = _Columns(
            store.execute(
                "SELECT id, energy, log_det, log_degeneracy, COALESCE(n_zero, 0), hits, COALESCE(n_flat, 0) "
                f"FROM minimum WHERE {_IS_MINIMUM} ORDER BY energy, id"
            ),
            7,
        )
        saddles = _Columns(
            store.execute(
                "SELECT id, energy, log_det, log_degeneracy, COALESCE(n_zero, 0), hits, minus, plus, lowest "
                f"FROM transition_state WHERE minus != plus AND {_IS_TRANSITION_STATE} ORDER BY energy, id"
            ),
            9,
        )
        loose = store.execute(
            "SELECT hits, COALESCE(minus = plus, 0) FROM transition_state "
            f"WHERE COALESCE(minus = plus, 1) AND {_IS_TRANSITION_STATE} ORDER BY energy, id"
        )
        ids = minima.ints(0)
        if coords == "auto":
            coords = (len(ids) + len(saddles)) * ndim <= _COORDS_AUTO
        return Network(
            energy=minima.floats(1),
            log_det=minima.floats(2),
            log_degeneracy=minima.floats(3),
            edges=rows.positions(ids, torch.stack([saddles.ints(6), saddles.ints(7)])),
            ts_energy=saddles.floats(1),
            # a transition state's log_det runs over its negative eigenvalue too
            ts_log_det=saddles.floats(2) - saddles.floats(8).abs().log(),
            ts_log_degeneracy=saddles.floats(3),
            n_modes=ndim - minima.ints(4),
            ts_n_modes=ndim - 1 - saddles.ints(4),
            hits=minima.ints(5),
            n_flat=minima.ints(6) if any(minima.ints(6).tolist()) else None,
            ts_hits=saddles.ints(5),
            ids=ids,
            ts_ids=saddles.ints(0),
            n_degenerate_rearrangements=sum(row[1] for row in loose),
            loose_ts_hits=torch.tensor([row[0] for row in loose], dtype=torch.int64),
            coords=rows.coordinates(store, "minimum", ids, ndim) if coords else None,
            ts_coords=rows.coordinates(store, "transition_state", saddles.ints(0), ndim) if coords else None,
            ts_path=read_paths(store, saddles.ints(0)),
            properties=read_properties(store, ids),
            energy_tol=_energy_tol(store, minima.floats(1), saddles.floats(1)),
        ).validated()


_SHARE_OF_RANGE = 1e-6
"""Of the range of energies: the matching may be set for a unit in which all energies here are tiny."""


def _energy_tol(store: Store, minima: Float[Tensor, "N"], saddles: Float[Tensor, "E"]) -> float:
    """Within which energies of this landscape are equal: the window by which it tells points apart.

    As points must also be close to be one, that window may be wider than all differences in energy; it is cut to a
    millionth of the range from the lowest minimum to the transition states (to the probe of the potential while
    there are none), so that no unit of the energy makes different minima equal.
    """
    if len(minima) == 0:
        return 0.0
    found = dict(store.execute("SELECT key, value FROM meta WHERE key IN ('matching', 'dtype', 'probe_energy')"))
    above = saddles if len(saddles) else torch.frombuffer(bytearray(found["probe_energy"]), dtype=torch.float64)
    above = above[above.isfinite()]
    tol = float(json.loads(found["matching"])["energy_tol"])
    size = float(minima.abs().max())
    if len(above):
        tol = min(tol, _SHARE_OF_RANGE * float(torch.cat([minima, above]).max() - minima.min()))
        size = max(size, float(above.abs().median()) if len(saddles) else 0.0)
    return tol + 1e3 * torch.finfo(getattr(torch, found["dtype"])).eps * size


def read_properties(store: Store, ids: Int[Tensor, "N"]) -> dict[str, Float[Tensor, "N"]]:
    """Every named property at the minima ``ids``; NaN where it was not given."""
    found = store.execute("SELECT name, minimum, value FROM property ORDER BY name, minimum")
    names = sorted({row[0] for row in found})
    properties = {name: torch.full((len(ids),), torch.nan, dtype=torch.float64) for name in names}
    for name in names:
        own = _Columns([row for row in found if row[0] == name], 3)
        position = rows.positions(ids, own.ints(1))
        kept = position >= 0
        properties[name][position[kept]] = own.floats(2)[kept]
    return properties


def summarise(
    store: Store,
    network: Network,
    runs: Sequence[Mapping[str, Any]],
    refused: Mapping[str, int],
    invariances: Mapping[str, Any],
) -> dict[str, Any]:
    """Plain numbers for people and for JSON; see :meth:`torchscape.landscape.Landscape.summary`."""
    from torchscape.analysis import coverage  # needed here only, and slow to import

    meta = dict(store.execute("SELECT key, value FROM meta WHERE key IN ('fingerprint', 'kind', 'ndim')"))
    saddles = store.execute(
        f"SELECT energy, hits, conflicts FROM transition_state WHERE {_IS_TRANSITION_STATE} ORDER BY energy, id"
    )
    n_tasks, n_evaluations = store.execute("SELECT COUNT(*), COALESCE(SUM(n_evaluations), 0) FROM task")[0]
    ((n_leaving,),) = store.execute("SELECT COUNT(*) FROM transition_state WHERE minus IS NULL OR plus IS NULL")
    pairs = network.edges.sort(0).values.unique(dim=1).T.tolist() if network.n_edges else []
    energies = network.energy.tolist()
    flat = rows.column(store, "minimum", "COALESCE(n_flat, 0)", network.ids).long()
    return {
        "n_minima": network.n_minima,
        "n_families": int((flat > 0).sum()),
        "flat_directions": flat.tolist(),
        "n_unjoined_families": _unjoined(store, network, flat),
        "invariances": dict(invariances),
        "n_transition_states": len(saddles),
        "counts_by_index": counts_by_index(store),
        "n_connected_pairs": len(pairs),
        "n_components": network.n_components,
        "connected_fraction": network.connected_fraction,
        "n_leaving_the_box": n_leaving,
        "n_degenerate_rearrangements": network.n_degenerate_rearrangements,
        "lowest_energy": energies[0] if energies else None,
        "energies": energies,
        "ts_energies": [row[0] for row in saddles],
        "connections": pairs,
        "database_ids": network.ids.tolist(),
        "hits": network.hits.tolist(),
        "ts_hits": [row[1] for row in saddles],
        "coverage": coverage(network).summary(),
        "n_inconsistent_ends": sum(row[2] for row in saddles),
        "n_turned_out_saddles": store.execute("SELECT COUNT(*) FROM minimum WHERE idx > 0")[0][0],
        "refused": dict(refused),
        "properties": sorted(network.properties),
        "n_tasks": n_tasks,
        "n_evaluations": n_evaluations,
        "runs": list(runs),
        "complete": bool(runs) and runs[-1]["status"] == "complete",
        **meta,
    }


def _unjoined(store: Store, network: Network, flat: Int[Tensor, "N"]) -> int:
    """Families that share their energy with another of as many flat directions: no walk has joined them."""
    matching = Matching(**json.loads(store.execute("SELECT value FROM meta WHERE key = 'matching'")[0][0]))
    flat, energy = flat[flat > 0], network.energy[flat > 0]
    order = energy.argsort(stable=True)
    order = order[flat[order].argsort(stable=True)]  # by flat directions, and by energy among those of as many
    flat, energy = flat[order], energy[order]
    window = matching.window(energy, energy.dtype)
    near, alike = energy.diff(), flat.diff() == 0
    with_next, with_last = alike & (near <= window[:-1]), alike & (near <= window[1:])
    none = torch.zeros(1, dtype=torch.bool)
    return int((torch.cat([with_next, none]) | torch.cat([none, with_last])).sum())


class _Columns:
    """The rows of a query, column by column as tensors."""

    def __init__(self, found: list[tuple[Any, ...]], n_columns: int) -> None:
        self._n = len(found)
        self._columns = list(zip(*found, strict=True)) if found else [()] * n_columns

    def __len__(self) -> int:
        return self._n

    def floats(self, column: int) -> Float[Tensor, "N"]:
        return rows.floats(self._columns[column])

    def ints(self, column: int) -> Int[Tensor, "N"]:
        return rows.ints(self._columns[column])
