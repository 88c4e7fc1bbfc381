"""What ``torchscape analyse`` says of a network: one plain mapping for JSON, and the same in words."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch

from torchscape import analysis
from torchscape.errors import TorchscapeError
from torchscape.network import Network

__all__ = ["analysed", "describe"]


def analysed(
    network: Network,
    temperatures: Sequence[float] | None = None,
    *,
    a: Sequence[int] | None = None,
    b: Sequence[int] | None = None,
    n_random: int = 10,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Thermodynamics, topology, graph and (between two sets of minima) kinetics as plain numbers and lists.

    Args:
        network: as a landscape hands it out, so that minimum 0 is the lowest.
        temperatures: in units of the energy; by default 13 around the peaks of the heat capacity.
        a, b: positions of products and reactants, for rates A <- B and back; by default those with the properties
            ``in_A`` and ``in_B``, which come from PATHSAMPLE's ``min.A`` and ``min.B``.
        n_random: random graphs to compare with.
        seed: of these, and of the search for communities.
        progress: show progress bars of what takes more than two seconds of the rates.

    Raises:
        TorchscapeError: without minima, with unknown curvatures, or if only one of the two sets is given.
    """
    if network.n_minima == 0:
        raise TorchscapeError("the landscape has no minima: explore it first")
    if (a is None) != (b is None):
        raise TorchscapeError("rates need two sets of minima: give both --from and --to")
    for option, minima in (("--from", b), ("--to", a)):
        if missing := [k for k in minima or () if not 0 <= k < network.n_minima]:
            raise TorchscapeError(
                f"{option} {missing[0]}: there is no such minimum; the highest of them is {network.n_minima - 1}"
            )
    if a is None and {"in_A", "in_B"} <= network.properties.keys():
        a, b = (torch.nonzero(network.properties[name] > 0.5)[:, 0].tolist() for name in ("in_A", "in_B"))
        a, b = (a, b) if a and b and not set(a) & set(b) else (None, None)
    knows_modes = not bool((network.n_modes < 0).any())
    peaks = analysis.heat_capacity_peaks(network) if knows_modes else []
    grid = list(temperatures) if temperatures is not None else _around(network, peaks)
    return {
        **_thermodynamics(network, grid),
        **_frustration(network, grid),
        "peaks": [_peak(peak) for peak in peaks],
        "topology": _topology(network),
        "graph": _graph(network, n_random, seed) if network.n_edges else None,
        "communities": _communities(network, grid, seed) if network.n_edges else None,
        "kinetics": None if a is None or b is None else [_kinetics(network, t, a, b, progress) for t in grid],
    }


def _around(network: Network, peaks: Sequence[analysis.Peak]) -> list[float]:
    at = [peak.temperature for peak in peaks]
    spread = analysis.energy_scale(network)
    low, high = (at[0] / 4, at[-1] * 4) if at else (spread / 50, spread * 2)
    return torch.logspace(math.log10(low), math.log10(high), 13, dtype=torch.float64).tolist()


def _thermodynamics(network: Network, t: list[float]) -> dict[str, Any]:
    absolute = ("log_partition", "mean_energy", "heat_capacity", "heat_capacity_emptying", "heat_capacity_filling")
    known: dict[str, Any] = dict.fromkeys(absolute)  # None where the number of modes is unknown
    if not bool((network.n_modes < 0).any()):
        capacity = analysis.heat_capacity(network, t)
        found = (capacity.mean_energy, capacity.value, capacity.losing, capacity.gaining)
        columns = (analysis.log_partition(network, t), *found)
        known = {name: column.tolist() for name, column in zip(absolute, columns, strict=True)}
    return {
        "temperatures": t,
        **known,
        "shannon_entropy": analysis.shannon_entropy(network, t).tolist(),
        "occupation": analysis.occupation(network, t).tolist(),
    }


def _frustration(network: Network, t: list[float]) -> dict[str, Any]:
    """Of the minima that a path joins to the lowest one."""
    joined = network.component_of(network.global_minimum)
    found = analysis.frustration(joined, t) if joined.n_minima > 1 else None
    return {
        "frustration": None if found is None else found.value.tolist(),
        "frustration_normalised": None if found is None else found.normalised.tolist(),
        "frustration_n_minima": joined.n_minima,
    }


def _peak(peak: analysis.Peak) -> dict[str, Any]:
    return {
        "temperature": peak.temperature,
        "heat_capacity": peak.value,
        "emptying": peak.losing().tolist(),
        "filling": peak.gaining().tolist(),
    }


def _topology(network: Network) -> dict[str, Any]:
    funnels = analysis.funnels(network)
    return {
        **analysis.landscape_summary(network),
        "funnel_barrier": funnels.barrier,
        "funnel_bottoms": funnels.bottom.tolist(),
        "funnel_sizes": funnels.size.tolist(),
        "funnel_depths": funnels.depth.tolist(),
    }


def _graph(network: Network, n_random: int, seed: int) -> dict[str, Any]:
    found = analysis.graph_statistics(network, n_random=n_random, seed=seed)
    out: dict[str, Any] = {
        name: getattr(found, name) for name in ("n_nodes", "n_connected_pairs", "mean_degree", "is_sampled")
    }
    for name in ("path_length", "diameter", "clustering", "transitivity", "assortativity"):
        beside = getattr(found, name)
        out[name] = {"value": beside.value, "error": beside.error, "random": beside.mean, "random_sd": beside.sd}
    out["small_world"] = dict(zip(("sigma", "sd"), found.small_world, strict=True))
    hubs = analysis.hubs(network, 5)
    out["hubs"] = {"minima": hubs.minima.tolist(), "degree": hubs.degree.tolist()}
    out["degree_energy_correlation"] = hubs.correlation
    out["degree_law"] = _degree_law(network, seed)
    return out


def _degree_law(network: Network, seed: int) -> dict[str, Any] | None:
    try:
        law = analysis.degree_law(network, n_bootstrap=100, seed=seed)
    except TorchscapeError:  # all degrees alike fit any law
        return None
    return law.summary()


_PLAIN, _WEIGHTED = 50_000, 200_000
"""Minima up to which communities are looked for, and minima times temperatures: a thousand take a second."""


def _communities(network: Network, t: list[float], seed: int) -> dict[str, Any] | None:
    """By edges alone, and at each temperature by rates (modularity) and by free-energy barriers (lumping); None of
    what would take more than minutes.
    """
    if network.n_minima > _PLAIN:
        return None
    plain = analysis.communities(network, seed=seed)
    rows = []
    known = not bool(network.ts_log_det.isnan().any()) and network.n_minima * len(t) <= _WEIGHTED
    for temperature in t if known else []:
        weighted = analysis.communities(network, temperature=temperature, seed=seed)
        lumped = analysis.kinetic_lumping(network, temperature)
        row = {"temperature": temperature, "n_communities": len(weighted), "modularity": weighted.modularity}
        rows.append({**row, "n_kinetic_states": len(lumped)})
    return {
        "n_communities": len(plain),
        "modularity": plain.modularity,
        "sizes": plain.size.tolist(),
        "at_temperatures": rows,
    }


def _kinetics(
    network: Network, temperature: float, a: Sequence[int], b: Sequence[int], progress: bool
) -> dict[str, Any]:
    """Rate constants both ways, and the fastest path from b to a."""
    chain = analysis.rates(network, temperature)
    out: dict[str, Any] = {"temperature": temperature, "from": list(b), "to": list(a)}
    for name, (to, start) in {"forward": (a, b), "backward": (b, a)}.items():
        found = analysis.rate_constants(chain, list(to), list(start), progress=progress)
        out[name] = {**dataclasses.asdict(found), "mfpt": found.mfpt, "k": found.k}
    joined = math.isfinite(out["forward"]["log_k"])
    path = analysis.fastest_path(network, temperature, list(a), list(b)) if joined else None
    out["fastest_path"] = None if path is None else path.minima.tolist()
    out["fastest_path_highest"] = None if path is None else path.highest_energy
    return out


# --- in words ---------------------------------------------------------------------------------------------


def describe(result: dict[str, Any]) -> str:
    """The result for people: a line per temperature, then what does not depend on it."""
    parts = [_table(result)]
    if result["heat_capacity"] is None:
        parts.append(
            "The number of vibrational modes is unknown: --modes K (3 N - 6 for N atoms) adds heat capacities and "
            "mean energies."
        )
    if result["peaks"]:
        parts.append("\n".join(_told_peak(peak) for peak in result["peaks"]))
    parts.append(_told_topology(result["topology"]))
    if result["graph"]:
        parts.append(_told_graph(result["graph"], result["communities"]))
    if result["kinetics"]:
        parts.append("\n".join(_told_kinetics(row) for row in result["kinetics"]))
    return "\n\n".join(parts)


def _table(result: dict[str, Any]) -> str:
    columns: dict[str, list] = {
        "temperature": result["temperatures"],
        "heat capacity": result["heat_capacity"],
        "mean energy": result["mean_energy"],
        "entropy": result["shannon_entropy"],
        "lowest minimum": [row[0] for row in result["occupation"]],
    }
    if result["frustration"] is not None:
        columns["frustration"] = result["frustration"]
        columns["normalised"] = result["frustration_normalised"]
    columns = {name: column for name, column in columns.items() if column is not None}
    rows = ["".join(f"{name:>15}" for name in columns)]
    rows += ["".join(f"{value:15.7g}" for value in row) for row in zip(*columns.values(), strict=True)]
    return "\n".join(rows)


def _told_peak(peak: dict[str, Any]) -> str:
    sides = [_few(peak[name]) for name in ("emptying", "filling")]
    return (
        f"peak of the heat capacity at T = {peak['temperature']:.6g}: {peak['heat_capacity']:.6g}; "
        f"empties {sides[0]}, fills {sides[1]}"
    )


def _told_topology(topology: dict[str, Any]) -> str:
    sizes = ", ".join(f"{size} from minimum {k}" for k, size in _funnels(topology)[:5])
    return (
        f"{topology['n_minima']} minima, {topology['n_transition_states']} transition states, "
        f"{_count(topology['n_components'], 'component')}\n"
        f"{_count(topology['n_funnels'], 'funnel')} behind barriers of {topology['funnel_barrier']:.4g}: {sizes}"
        + (" ..." if topology["n_funnels"] > 5 else "")
        + f"\nmedian barrier {topology['median_uphill_barrier']:.4g} uphill, "
        f"{topology['median_downhill_barrier']:.4g} downhill"
    )


def _funnels(topology: dict[str, Any]) -> list[tuple[int, int]]:
    return list(zip(topology["funnel_bottoms"], topology["funnel_sizes"], strict=True))


def _told_graph(graph: dict[str, Any], communities: dict[str, Any] | None) -> str:
    def beside(name: str) -> str:
        part = graph[name]
        random = f" (random graphs {part['random']:.4g} ± {part['random_sd']:.2g})"
        return f"{part['value']:.4g}" + (random if math.isfinite(part["random_sd"]) else "")

    lines = [
        f"mean degree {graph['mean_degree']:.4g}, diameter {graph['diameter']['value']:.0f}",
        f"mean shortest path {beside('path_length')}",
        f"clustering {beside('clustering')}, assortativity {beside('assortativity')}",
    ]
    sigma = graph["small_world"]
    if math.isfinite(sigma["sigma"]):
        lines.append(f"small-world coefficient {sigma['sigma']:.4g} ± {sigma['sd']:.2g}")
    if law := graph["degree_law"]:
        lines.append(
            f"degrees from {law['k_min']}: {law['favours']} (log-likelihood ratio of power law and exponential "
            f"{law['log_likelihood_ratio']:+.2f}, p = {law['p_value']:.2g})"
        )
    if communities is None:
        lines.append("communities: left out, they would take long (analysis.communities finds them)")
        return "\n".join(lines)
    n = communities["n_communities"]
    lines.append(f"{_count(n, 'community')} by modularity ({communities['modularity']:.4f})")
    for row in communities["at_temperatures"]:
        weighted, states = (
            _count(row["n_communities"], "community"),
            _count(row["n_kinetic_states"], "kinetic state"),
        )
        lines.append(f"  by rates at T = {row['temperature']:.6g}: {weighted} ({row['modularity']:.4f}), {states}")
    return "\n".join(lines)


def _told_kinetics(row: dict[str, Any]) -> str:
    ways = [
        f"{_few(row[start])} to {_few(row[end])}: mean first-passage time {_power(row[way]['log_mfpt'])}, "
        f"rate constant {_power(row[way]['log_k'])}"
        for way, start, end in (("forward", "from", "to"), ("backward", "to", "from"))
    ]
    path = (
        "no path joins the two sets"
        if row["fastest_path"] is None
        else f"fastest path {_few(row['fastest_path'], 12)}"
    )
    return f"T = {row['temperature']:.6g}\n  " + "\n  ".join([*ways, path])


def _few(minima: Sequence[int], most: int = 5) -> str:
    names = ", ".join(str(k) for k in minima[:most])
    kind = "minimum" if len(minima) == 1 else "minima"
    return f"{kind} {names}" + (f", ... ({len(minima)} in all)" if len(minima) > most else "")


def _count(n: int, name: str) -> str:
    plural = f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"
    return f"{n} {name if n == 1 else plural}"


def _power(log: float) -> str:
    """A number from its logarithm, however large or small."""
    if not math.isfinite(log):
        return "infinite" if log > 0 else "0"
    exponent = math.floor(log / math.log(10))
    return f"{math.exp(log - exponent * math.log(10)):.9f}e{exponent:+03d}"
