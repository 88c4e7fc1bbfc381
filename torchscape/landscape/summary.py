"""A landscape in numbers and in words."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from torchscape.landscape import rows
from torchscape.landscape.matching import Matching
from torchscape.landscape.store import Store
from torchscape.network import Network
from torchscape.saddles.characterisation import MOST_FLAT
from torchscape.types import Int, Tensor

__all__ = [
    "NO_MINIMUM",
    "UP_TO_FAMILIES",
    "describe_families",
    "describe_invariances",
    "describe_unfinished",
    "explain_no_minima",
    "in_words",
    "summarise",
    "words",
]

_UNFINISHED = "unfinished "
"""Before the kind of work of rows that were still running when a round was cut short."""

NO_MINIMUM = "no minimum found"
"""Status of a run that had nothing left to do, and has found no minimum at all."""

UP_TO_FAMILIES = "complete up to families"
"""Status of a run that had nothing left to do, in a landscape whose minima are no points."""


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
        "SELECT energy, hits, conflicts FROM transition_state "
        f"WHERE {rows.IS_TRANSITION_STATE} ORDER BY energy, id"
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
        "counts_by_index": rows.counts_by_index(store),
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


def in_words(summary: dict[str, Any]) -> str:
    """The summary of a landscape for people: a name and what it is in every line."""
    lines = words(summary)
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines.items())


def words(summary: dict[str, Any]) -> dict[str, str]:
    """The same, line by line: names, and what they are."""
    lowest, saddles = summary["lowest_energy"], summary["ts_energies"]
    share, pairs = f"{summary['connected_fraction']:.1%}", summary["n_connected_pairs"]
    lines = {
        "potential": f"{summary['kind']}, {summary['ndim']} coordinates, {summary['fingerprint'][:12]}",
        "minima": summary["n_minima"],
        "transition states": f"{summary['n_transition_states']}, joining {pairs} pairs of minima",
        "components": f"{summary['n_components']}, that of the lowest minimum with {share} of all minima",
    }
    if not summary["n_minima"] and (why := explain_no_minima(summary["refused"])):
        lines["why no minima"] = why
    if summary["n_families"]:
        lines["families"] = _families(summary)
    if summary["invariances"]:
        lines["undeclared"] = describe_invariances(summary["invariances"])
    hit = summary["coverage"]["minima"]
    if hit["n_hits"] and not summary["unfinished"] and (others := hit["n_known"] - hit["n_found"]):
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
    done = {"task": summary["n_tasks"], "evaluation": summary["n_evaluations"], "run": len(summary["runs"])}
    lines["work"] = ", ".join(f"{n} {name}{'' if n == 1 else 's'}" for name, n in done.items())
    if summary["unfinished"]:
        lines["unfinished round"] = (
            f"{describe_unfinished(summary['unfinished'])}; its minima are numbered when it ends"
        )
    if summary["lacks_log"]:
        lines["log missing"] = (
            "what was found last is not in this file, but was in the log beside it (its name with -wal); "
            "copy landscapes by 'torchscape copy'"
        )
    lines["complete"] = _completeness(summary)
    return {name: printable(value) for name, value in lines.items()}


def printable(value: object) -> str:
    """As text in which nothing commands a terminal: names in a file of a stranger are the stranger's.

    Example:
        >>> printable("accuracy\\x1b[2J")
        'accuracy?[2J'
    """
    return "".join(character if character.isprintable() else "?" for character in str(value))


def _families(summary: dict[str, Any]) -> str:
    """How many of the minima are no points, and along how many directions U is flat there."""
    told = describe_families(summary["flat_directions"])
    if n := summary["n_unjoined_families"]:
        told += f"; {n} of them have the energy of another, and no path that joins them was found"
    return told


def describe_unfinished(kept: Mapping[str, int]) -> str:
    """What is in the file of a round that was cut short, in words.

    Example:
        >>> describe_unfinished({"quenches": 16, "unfinished quenches": 32})
        '16 quenches have ended and are kept, 32 quenches go on from where they are'
        >>> describe_unfinished({"quenches": 1})
        '1 quench has ended and is kept'
    """
    going = {what: n for what, n in kept.items() if what.startswith(_UNFINISHED)}
    ended = {what: n for what, n in kept.items() if what not in going}
    rest = {what.removeprefix(_UNFINISHED): n for what, n in going.items()}
    parts = []
    if ended:
        verb = "has ended and is" if list(ended.values()) == [1] else "have ended and are"
        parts.append(f"{_count(ended)} {verb} kept")
    if rest:
        verb = "goes on from where it is" if list(rest.values()) == [1] else "go on from where they are"
        parts.append(f"{_count(rest)} {verb}")
    return ", ".join(parts)


def _count(kinds: Mapping[str, int]) -> str:
    """How many of each kind; kinds are plurals such as "quenches", "probes of log-determinants"."""

    def one(what: str) -> str:
        noun, of, rest = what.partition(" of ")
        return (noun.removesuffix("es") if noun.endswith("ches") else noun.removesuffix("s")) + of + rest

    return ", ".join(f"{n} {one(what) if n == 1 else what}" for what, n in kinds.items())


def describe_families(flat_directions: list[int]) -> str:
    """Families in words.

    Example:
        >>> describe_families([1, 0, 3])
        '2 of 3 minima are continuous families, with 1 to 3 flat directions that no declared symmetry explains'
        >>> describe_families([32])
        'the minimum is a continuous family, with 32 or more flat directions that no declared symmetry explains'
    """
    flat = sorted(n for n in flat_directions if n)
    known = len(flat_directions)
    span = f"{flat[0]}" if flat[0] == flat[-1] else f"{flat[0]} to {flat[-1]}"
    which = (
        "the minimum is a continuous family"
        if known == 1
        else f"{len(flat)} of {known} minima are continuous families"
    )
    if known > 1 and len(flat) == known:
        which = f"all {known} minima are continuous families"
    span += " or more" if flat[-1] == MOST_FLAT else ""  # where spectra end before they are positive
    return f"{which}, with {span} flat direction{'s' * (flat[-1] > 1)} that no declared symmetry explains"


def describe_invariances(found: Mapping[str, Any]) -> str:
    """Undeclared invariances in words, with the way to declare them.

    Example:
        >>> describe_invariances({"periods": [2.0, None]})
        'U(x + p e_i) = U(x), with p = 2 for coordinate 0: declare periods=[2, None]'
    """
    told, remedy = [], []
    if directions := found.get("directions"):
        shown = ", ".join(
            "(" + ", ".join(f"{value:.4g}" for value in v[:8]) + ", ..." * (len(v) > 8) + ")"
            for v in directions[:3]
        )
        told.append(f"U(x + t v) = U(x) for all t, a zero mode, with v = {shown}")
    if periods := found.get("periods"):
        by_size: dict[str, list[int]] = {}
        for i, period in enumerate(periods):
            if period is not None:
                by_size.setdefault(_as_period(period), []).append(i)
        parts = [f"p = {size} for {_coordinates(which, len(periods))}" for size, which in by_size.items()]
        told.append(f"U(x + p e_i) = U(x), with {', '.join(parts)}")
        same = len(by_size) == 1 and None not in periods
        listed = (
            f"{periods[0]:.10g}"
            if same
            else "[" + ", ".join("None" if p is None else f"{p:.10g}" for p in periods) + "]"
        )
        remedy.append(f"periods={listed}")
    if directions:
        remedy.append("symmetry=Translations(ndim, directions=[v])")
    return f"{'; '.join(told)}: declare {' and '.join(remedy)}"


def _as_period(period: float) -> str:
    turns = period / math.pi
    if abs(turns - round(turns)) < 1e-9 and round(turns):
        return "pi" if round(turns) == 1 else f"{round(turns)} pi"
    return f"{period:.10g}"


def _coordinates(which: list[int], of: int) -> str:
    if len(which) == of:
        return f"each of {of} coordinates"
    return f"coordinate{'s' * (len(which) > 1)} {', '.join(map(str, which[:8]))}{', ...' * (len(which) > 8)}"


def _completeness(summary: dict[str, Any]) -> str:
    if summary["complete"]:
        return "yes"
    runs = summary["runs"]
    if runs and runs[-1]["status"] == UP_TO_FAMILIES:
        return "up to families: nothing is left to try, but what was found are no isolated minima"
    if runs and runs[-1]["status"] == NO_MINIMUM:
        return "no: nothing is left to try, and no minimum was found"
    return "no: the same command continues"


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


_REMEDIES = {
    "not finite": "look for NaN or infinite numbers in potential.energy_and_grad(potential.sample(4))",
    "not converged": "loosen tol, or give the optimiser more max_evaluations",
    "falls for ever": "no minimum at finite coordinates: regularise (l2=...), or bound what runs away",
    "flat in every direction": "no isolated minimum: leave out what U does not depend on, or regularise (l2=...)",
    "on a kink": "the gradient jumps where they stopped (ReLU, |x|): use smooth functions in their place "
    "(softplus, GELU, tanh, sqrt(x^2 + eps^2))",
    "falls apart": "parts of the cluster drift out of reach of each other: give it a container=",
    "wrong index": "they are saddles, on which symmetry keeps the starts: break it, or start elsewhere",
    "degeneracy not finite": "mend log_degeneracy of the symmetry: every point has a finite number of images",
    "on the wall of the box": "widen the bounds, or keep such points with Bounds(..., keep_walls=True)",
}


def explain_no_minima(refusals: Mapping[str, int]) -> str:
    """Why no quench has ended in a minimum, and what to do about it; empty if none was tried.

    Example:
        >>> explain_no_minima({"minimum: on the wall of the box": 8})
        'none of 8 quenches ended in a minimum (8 on the wall of the box): widen the bounds, or keep ...'
    """
    kind = "minimum: "
    reasons = {name.removeprefix(kind): n for name, n in refusals.items() if name.startswith(kind)}
    if not reasons:
        return ""
    told = ", ".join(f"{n} {reason}" for reason, n in reasons.items())
    commonest = max(reasons, key=lambda reason: reasons[reason])
    return f"none of {sum(reasons.values())} quenches ended in a minimum ({told}): {_REMEDIES[commonest]}"
