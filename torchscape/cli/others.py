"""What other programs have left (PATHSAMPLE, pele, topsearch), in the place of a landscape file."""

from __future__ import annotations

import argparse
from typing import Any

from torchscape.export import is_foreign, read_network
from torchscape.network import Network

__all__ = ["in_words", "is_foreign", "read", "read_network", "summary"]


def read(arguments: argparse.Namespace, *, by_energy: bool = True) -> Network:
    """The network at ``arguments.db``, its minima by ascending energy as a landscape's are, or as in the files."""
    network = read_network(arguments.db, n_modes=arguments.modes)
    return network.subset(network.energy.argsort(stable=True)) if by_energy else network


def summary(network: Network) -> dict[str, Any]:
    """Counts, energies and connectivity, under the names that a landscape's summary has for them.

    ``n_modes`` is the number of vibrational modes, None where it is unknown, and a list where minima differ.
    """
    modes = network.n_modes.unique().tolist()
    around = network.rearrangements
    others = [] if around is None else around.energy.tolist()
    return {
        "ndim": None if network.coords is None else network.coords.shape[1],
        "n_modes": (modes[0] if modes[0] >= 0 else None) if len(modes) == 1 else network.n_modes.tolist(),
        "n_minima": network.n_minima,
        "n_transition_states": network.n_edges + network.n_degenerate_rearrangements,
        "n_degenerate_rearrangements": network.n_degenerate_rearrangements,
        "n_connected_pairs": network.n_connected_pairs,
        "n_components": network.n_components,
        "connected_fraction": network.connected_fraction,
        "lowest_energy": float(network.energy.min()),
        "energies": network.energy.tolist(),
        "ts_energies": sorted([*network.ts_energy.tolist(), *others]),
        "connections": network.edges.sort(0).values.unique(dim=1).T.tolist(),
        "database_ids": network.ids.tolist(),
        "n_without_curvature": int(network.log_det.isnan().sum()),
        "properties": sorted(network.properties),
        "n_in_A": _members(network, "in_A"),
        "n_in_B": _members(network, "in_B"),
    }


def _members(network: Network, name: str) -> int | None:
    return int((network.properties[name] > 0.5).sum()) if name in network.properties else None


def in_words(told: dict[str, Any]) -> str:
    """The summary for people."""
    modes = told["n_modes"]
    share, energies, saddles = f"{told['connected_fraction']:.1%}", told["energies"], told["ts_energies"]
    pairs, around = told["n_connected_pairs"], told["n_degenerate_rearrangements"]
    lines = {
        "coordinates": "none: they cannot be explored from" if told["ndim"] is None else told["ndim"],
        "vibrational modes": "unknown: give --modes (3 N - 6 for N atoms) for heat capacities and free energies"
        if modes is None
        else f"{min(modes)} to {max(modes)}"
        if isinstance(modes, list)
        else modes,
        "minima": told["n_minima"],
        "transition states": f"{told['n_transition_states']}, joining {pairs} pairs of minima; {around} of them "
        "degenerate rearrangements",
        "components": f"{told['n_components']}, that of the lowest minimum with {share} of all minima",
        "energies of minima": f"{energies[0]:.10g} to {energies[-1]:.10g}",
    }
    if saddles:
        lines["energies of transition states"] = f"{saddles[0]:.10g} to {saddles[-1]:.10g}"
    if n := told["n_without_curvature"]:
        lines["curvature"] = f"unknown of {n} minima: populations and rates need it"
    for name in ("A", "B"):
        if (n := told[f"n_in_{name}"]) is not None:
            lines[f"end state {name}"] = f"{n} {'minimum' if n == 1 else 'minima'}"
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines.items())
