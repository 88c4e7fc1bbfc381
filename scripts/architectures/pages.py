"""The pages: words around the figures that a run has written, and nothing that is not among these."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchscape.outputs import whole_file

if TYPE_CHECKING:
    from architectures.entry import Entry

__all__ = ["index", "page", "read", "write_index"]


def page(entry: Entry, facts: dict[str, Any]) -> str:
    """The page of one architecture, from its figures alone."""
    sources = "\n\n\n".join(inspect.getsource(one).rstrip() for one in entry.shown)
    code = f"{_imports(entry.given, sources)}\n\n\n{sources}\n\n\npotential = tsc.ModulePotential(**given())"
    strategies = ", ".join(map(_short, entry.strategies(facts["run"] == "quick")))
    parts = [
        f"# {entry.title}",
        entry.about,
        f"Written by `scripts/gallery {entry.name}`, a {facts['run']} run, from the figures in "
        f"[{entry.name}.json]({entry.name}.json). {facts['cpu_seconds']:.0f} s of CPU, of which "
        f"{facts['exploration_cpu_seconds']:.0f} s explored, the rest checked.",
        "## The model",
        f"```python\n{code}\n```",
        f"{facts['parameters']} parameters, l2 = {facts['l2']:g}. What the package knows of its symmetry "
        f"(`potential.symmetry.describe()`):",
        "\n".join(f"- {one}" for one in facts["symmetry"].split("; ")),
        "## What was found",
        " ".join([*_sentences(facts), entry.remarks(facts["own"])]).strip(),
        _table(facts),
        f"![Disconnectivity graph]({entry.name}_tree.png)",
        "Disconnectivity graph: minima are numbered by ascending energy.",
        f"![{entry.caption}]({entry.name}_{entry.second}.png)",
        entry.caption,
        "## Checked by other methods",
        _quenches(facts),
        _newton(facts),
        "## Settings",
        f"`strategies=[{strategies}]`, seed 0, torch {facts['torch']}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _imports(function: Any, sources: str) -> str:
    """What a script imports, as far as these sources need it: the page's code runs as it stands."""
    names = {node.id for node in ast.walk(ast.parse(sources)) if isinstance(node, ast.Name)} | {"tsc"}
    lines = []
    for node in ast.parse(inspect.getsource(inspect.getmodule(function))).body:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        node.names = [alias for alias in node.names if (alias.asname or alias.name) in names]
        if node.names:
            lines.append(ast.unparse(node))
    return "\n".join(lines)


def _sentences(facts: dict[str, Any]) -> list[str]:
    seen, energies = facts["coverage"]["minima"], facts["energies"]
    low, high = (100 * limit for limit in seen["coverage_interval"])
    barriers = [value for value in facts["barriers"] if value is not None]
    told = [
        f'The exploration ended with the status "{facts["status"]}": {_n(facts["minima"], "minimum", "minima")} '
        f"and {_n(facts['transition_states'], 'transition state')}, of which {facts['degenerate_rearrangements']} "
        f"lead from a minimum to an image of itself; {_n(facts['components'], 'component')}.",
        f"Losses of the minima reach from {energies[0]:.6f} to {energies[-1]:.6f}.",
    ]
    if barriers:
        told.append(
            f"The lowest barrier to a lower minimum is {min(barriers):.2e}, the highest {max(barriers):.2e} "
            f"(over the lowest known path)."
        )
    told.append(
        f"Of {seen['n_hits']} quenches, {100 * seen['coverage']:.1f} % are estimated to end in known minima "
        f"({low:.1f} to {high:.1f} %); hits imply at least {seen['richness']:.0f} minima"
        + (": the count still grows." if seen["is_growing"] else ", and as many quenches again would find none.")
    )
    if facts["families"]:
        told.append(f"{facts['families']} of the minima are continuous families that no known symmetry explains.")
    return told


def _table(facts: dict[str, Any], most: int = 12) -> str:
    lines = [
        "| minimum | loss | barrier to a lower one | quenches | ln images |",
        "| --- | --- | --- | --- | --- |",
    ]
    columns = zip(facts["energies"], facts["barriers"], facts["hits"], facts["log_images"], strict=True)
    for number, (energy, barrier, hits, images) in enumerate(list(columns)[:most]):
        height = "-" if barrier is None else f"{barrier:.2e}"
        lines.append(f"| {number} | {energy:.9f} | {height} | {hits} | {images:.2f} |")
    more = facts["minima"] - most
    return "\n".join(lines) + (f"\n\nAnd {more} more." if more > 0 else "")


def _quenches(facts: dict[str, Any]) -> str:
    found = facts["quenches"]
    missing = found["not_in_the_landscape"]
    told = (
        f"**{found['n']} quenches by SciPy's L-BFGS-B** from normal starts of widths 0.3 to 3, with the loss and "
        f"its gradient by torch alone, each finished by Newton's method: {found['ended_in_minima']} ended in a "
        f"minimum, {found['ended_in_saddles']} at a saddle, {found['not_converged']} did not converge. Of the "
        f"{found['ended_in_minima']}, {found['known']} are in the landscape by loss and spectrum of the Hessian "
        f"({found['known_by_matching']} by the landscape's own matching); they reached "
        f"{_n(found['minima_they_reached'], 'different minimum', 'different minima')}."
    )
    if not missing:
        return f"{told} None is missing."
    shown = ", ".join(f"{energy:.6f}" for energy in missing)
    return f"{told} **Missing in the landscape: {len(missing)}**, at {shown}."


def _newton(facts: dict[str, Any]) -> str:
    found = facts["newton"]
    told = ["**Newton's method on dense Hessians** from every point, index and flat directions by NumPy:"]
    for name, of in (("minima", "minima"), ("transition_states", "transition states")):
        one = found[name]
        if one["n"]:
            flat, other = one["flat_directions"], one["with_other_flat_directions_than_known"]
            told_flat = (
                "there are no flat directions"
                if flat == [0] and not other
                else f"{flat[0]} to {flat[-1]} directions are flat, at all but {other} points those of symmetry"
            )
            told.append(
                f"{one['n']} {of} end at RMS gradients up to {one['worst_residual']:.0e}, having moved by "
                f"{one['furthest_moved']:.0e} at most and changed their loss by "
                f"{one['largest_energy_difference']:.0e}; {one['of_another_index']} have another index; "
                f"{told_flat}."
            )
    alike, equal = found["pairs_that_look_alike"], found["of_which_with_equal_outputs"]
    told.append(
        "No two minima share loss and spectrum, so that images count once."
        if alike == 0
        else f"{_n(alike, 'pair')} of minima share loss and spectrum, {equal} of them the outputs, too: "
        f"images by a symmetry that is not known."
    )
    return " ".join(told)


def _short(strategy: Any) -> str:
    """A strategy with the settings that are not the usual ones."""
    told = [
        f"{field.name}={getattr(strategy, field.name)!r}"
        for field in dataclasses.fields(strategy)
        if field.default is dataclasses.MISSING or getattr(strategy, field.name) != field.default
        if field.default_factory is dataclasses.MISSING
    ]
    return f"{type(strategy).__name__}({', '.join(told)})"


def _n(count: int, one: str, several: str | None = None) -> str:
    return f"{count} {one if count == 1 else several or one + 's'}"


def index(entries: dict[str, Entry], facts: dict[str, dict[str, Any]]) -> str:
    """The index: a picture and a few sentences for each architecture that was run."""
    parts = [
        "# Gallery",
        "Real architectures, explored and not only evaluated: small enough for two cores and minutes, each from "
        "its module to the network of its minima. `scripts/gallery NAME` explores one anew, checks it by two "
        "other methods, and writes its page, pictures and figures here; `scripts/gallery --list` says which there "
        "are.",
    ]
    for name, entry in entries.items():
        if name not in facts:
            continue
        found = facts[name]
        missing = len(found["quenches"]["not_in_the_landscape"])
        parts += [
            f"## [{entry.title}]({name}.md)",
            f"![{entry.caption}]({name}_{entry.second}.png)",
            " ".join(
                [
                    f"{found['parameters']} parameters.",
                    *_sentences(found)[:3],
                    f"Of {found['quenches']['n']} independent quenches, {found['quenches']['ended_in_minima']} "
                    f"ended in a minimum; {_n(missing, 'minimum', 'minima')} of theirs "
                    f"{'is' if missing == 1 else 'are'} not in the landscape.",
                    entry.remarks(found["own"]),
                ]
            ).strip(),
        ]
    return "\n\n".join(parts) + "\n"


def read(out: Path) -> dict[str, dict[str, Any]]:
    """The figures that are in a folder, by architecture."""
    from architectures.registry import ENTRIES

    files = {name: out / f"{name}.json" for name in ENTRIES}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.is_file()}


def write_index(out: Path) -> None:
    """README.md, from the figures that are there."""
    from architectures.registry import ENTRIES

    with whole_file(out / "README.md") as beside:
        beside.write_text(index(ENTRIES, read(out)))
