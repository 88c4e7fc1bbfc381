"""A landscape in words."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["described"]


def described(summary: dict[str, Any]) -> str:
    """The summary of a landscape for people: a name and what it is in every line."""
    lowest, saddles = summary["lowest_energy"], summary["ts_energies"]
    share = f"{summary['connected_fraction']:.1%}"
    lines = {
        "potential": f"{summary['kind']}, {summary['ndim']} coordinates, {summary['fingerprint'][:12]}",
        "minima": summary["n_minima"],
        "transition states": f"{summary['n_transition_states']}, joining {summary['n_edges']} pairs of minima",
        "components": f"{summary['n_components']}, the largest with {share} of all minima",
    }
    hit = summary["coverage"]["minima"]
    if hit["n_hits"] and (others := hit["n_known"] - hit["n_found"]):
        lines["minima without a hit"] = f"{others}, known only as ends of downhill paths"
    if len(counts := summary["counts_by_index"]) > 2:
        lines["by index 0, 1, 2 ..."] = ", ".join(map(str, counts))
    if lowest is not None:
        lines["energies of minima"] = f"{lowest:.10g} to {summary['energies'][-1]:.10g}"
    if saddles:
        lines["energies of transition states"] = f"{saddles[0]:.10g} to {saddles[-1]:.10g}"
    for name, of in (("minima", "minima"), ("transition states", "transition_states")):
        lines[f"coverage of {name}"] = _covered(summary["coverage"][of], name)
    if summary["properties"]:
        lines["properties"] = ", ".join(summary["properties"])
    lines["work"] = (
        f"{summary['n_tasks']} tasks, {summary['n_evaluations']} evaluations, {len(summary['runs'])} runs"
    )
    lines["complete"] = "yes" if summary["complete"] else "no: the same command continues"
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines.items())


def _covered(kind: dict[str, Any], of: str) -> str:
    """Coverage and richness in words; limits of a whole number are read outwards, and what is known is certain."""
    if not kind["n_hits"]:
        return "unknown: no search has ended in any"
    low, high = kind["coverage_interval"]
    least, most = (max(limit, kind["n_known"]) for limit in kind["richness_interval"])
    said = (
        f"{kind['coverage']:.1%} ({low:.1%} to {high:.1%}) of searches end in {of} already known; "
        f"at least {math.ceil(kind['at_least'] - 1e-9)} in all ({math.floor(least)} to {math.ceil(most)})"
    )
    if kind["is_growing"]:
        said += f", still growing: as many searches again would find {kind['expected_new']:.0f} more"
    return said
