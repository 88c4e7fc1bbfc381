"""Explore one architecture, check what was found, and write its figures, pictures and page."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from PIL import Image

import torchscape as tsc
from architectures.bare import BareLoss
from architectures.checks import check_points, check_quenches
from architectures.entry import Entry, Explored
from architectures.pages import page, write_index
from torchscape import analysis, plots
from torchscape.outputs import whole_file

__all__ = ["carry_out"]

_MOST_BYTES = 150_000  # of a picture


def carry_out(entry: Entry, out: Path, *, quick: bool = False) -> Path:
    """Everything about one architecture; the path of its page."""
    began = time.process_time()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        given = entry.given()
    potential = tsc.ModulePotential(**given)
    loss = BareLoss(**{**given, **entry.bare})
    strategies = entry.strategies(quick)
    with tsc.Landscape.in_memory(potential) as landscape:
        report = tsc.explore(landscape, potential, strategies=strategies, seed=0, progress=False)
        explored_in = time.process_time() - began
        network = landscape.network()
        explored = Explored(potential, landscape, network, report, loss)
        points, looks = check_points(explored)
        facts = {
            "name": entry.name,
            "run": "quick" if quick else "full",
            **_found(explored, given, explored_in),
            "newton": points,
            "quenches": check_quenches(explored, looks, 10 if quick else entry.quenches),
            "own": entry.measures(explored),
            "strategies": [repr(one) for one in strategies],
            "torch": torch.__version__,
        }
        tree = plots.disconnectivity(network, unit="loss", labels="positions")
        _save(tree.figure, out / f"{entry.name}_tree.png")
        _save(entry.picture(explored), out / f"{entry.name}_{entry.second}.png")
    facts["cpu_seconds"] = round(time.process_time() - began, 1)
    path = out / f"{entry.name}.md"
    with whole_file(path.with_suffix(".json")) as numbers, whole_file(path) as words:
        numbers.write_text(json.dumps(facts, indent=1) + "\n")
        words.write_text(page(entry, json.loads(numbers.read_text())))
    write_index(out)
    return path


def _found(explored: Explored, given: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The landscape in numbers."""
    network, potential = explored.network, explored.potential
    seen, saddles = (
        {
            key: value
            for key, value in one.summary().items()
            if key in ("n_hits", "coverage", "coverage_interval", "richness", "is_growing")
        }
        for one in (analysis.coverage(network).minima, analysis.coverage(network).transition_states)
    )
    barrier = analysis.persistence(network)
    all_saddles = explored.landscape.transition_states().energy
    return {
        "parameters": potential.ndim,
        "samples": len(given["data"][0]),
        "l2": given["l2"],
        "symmetry": potential.symmetry.describe(),
        "status": explored.report.status,
        "exploration_cpu_seconds": round(seconds, 1),
        "minima": network.n_minima,
        "transition_states": explored.landscape.n_transition_states,
        "degenerate_rearrangements": network.n_degenerate_rearrangements,
        "components": network.n_components,
        "families": explored.landscape.n_families,
        "energies": [round(value, 9) for value in network.energy.tolist()],
        "transition_state_energies": sorted(round(value, 9) for value in all_saddles.tolist()),
        "barriers": [round(value, 9) if value < float("inf") else None for value in barrier.tolist()],
        "hits": network.hits.tolist(),
        "log_images": [round(value, 4) for value in network.log_degeneracy.tolist()],
        "coverage": {"minima": seen, "transition_states": saddles},
    }


def _save(figure: Figure, path: Path) -> None:
    """A picture small enough for a repository: in 256 colours, and as fine as that allows."""
    with whole_file(path) as beside:
        for dpi in (130, 100, 75):
            figure.savefig(beside, dpi=dpi, bbox_inches="tight", metadata={"Software": None})
            with Image.open(beside) as image:
                image.convert("RGB").quantize(256).save(beside, optimize=True)
            if beside.stat().st_size <= _MOST_BYTES:
                break
    plt.close(figure)
