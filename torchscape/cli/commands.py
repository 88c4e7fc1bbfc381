"""One function per command; each returns the exit code. What goes wrong is an exception with advice."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchscape.errors import TorchscapeError
from torchscape.landscape import Landscape

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from torchscape.learning import CheckpointReport
    from torchscape.network import Network
    from torchscape.plots.table import Plot
    from torchscape.problems import Published

__all__ = ["analyse", "checkpoints", "copy", "explore", "export", "info", "merge", "plot", "problems"]

_COMPILE: dict[str, Any] = {"auto": "auto", "on": True, "off": False}


def explore(arguments: argparse.Namespace) -> int:
    """Run the chosen strategies on a potential, into a landscape file."""
    from torchscape.cli.spec import choose

    device, executor = arguments.device, arguments.executor
    if device is not None and device.endswith(":all"):
        if executor is not None:
            raise TorchscapeError(f"--device {device} says who runs the searches: leave --executor {executor} out")
        device, executor = f"{device.removesuffix(':all')}:0", device
    chosen = choose(arguments.spec, device=device, dtype=arguments.dtype)
    if arguments.precision is not None:
        chosen.potential.precision = arguments.precision
    from torchscape.cli.numbered import forget, joined, with_ids
    from torchscape.cli.strategies import chosen_strategies, tables_of
    from torchscape.explore import Budget, TensorBoard, integrate_paths
    from torchscape.explore import explore as run

    budget = Budget(
        seconds=arguments.max_time,
        quenches=arguments.max_quenches,
        evaluations=arguments.max_evaluations,
        energy=arguments.target_energy,
    )
    asked = chosen_strategies(arguments, chosen.suggested)  # before a file is made
    strategies = [one.strategy for one in asked]
    on_round = None if arguments.tensorboard is None else TensorBoard(arguments.tensorboard)
    notes = {"options": _said(arguments), "strategy": tables_of(asked)}
    with _near(arguments) as path, Landscape.open(path, chosen.potential) as landscape:
        try:
            report = run(
                landscape,
                chosen.potential,
                executor=executor,
                compile=None if arguments.compile is None else _COMPILE[arguments.compile],
                strategies=(known := with_ids(landscape, strategies)),
                seed=arguments.seed,
                budget=budget,
                progress=not arguments.quiet,
                on_round=on_round,
                notes=notes,
            )
            if report.status == "budget: energy" or not report.status.startswith(("interrupted", "budget")):
                forget(landscape, strategies)
            interrupted = report.status == "interrupted"
            if arguments.paths and report.status not in ("interrupted", "budget: seconds"):
                integrate_paths(landscape, chosen.potential, progress=not arguments.quiet)
        except KeyboardInterrupt:
            interrupted = True
        if not (arguments.quiet or interrupted):
            told = [landscape.describe(), *joined(landscape, known, arguments.seed)]
            print("\n".join(told + [report.compiled] * bool(report.compiled)))
    if interrupted:
        # Its file is closed by now; only then is there time for words.
        if not arguments.quiet:
            with _reading(arguments.db) as landscape:
                print(landscape.describe())
        raise KeyboardInterrupt(
            f"everything found so far is in {arguments.db}; the same command continues from there"
        )
    return 0


def _said(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options that say what was explored, and how it was computed."""
    names = ("db", "device", "dtype", "precision", "compile", "executor", "paths")
    said = {name: getattr(arguments, name) for name in names}
    return {"spec": arguments.spec, **{name: value for name, value in said.items() if value}}


def info(arguments: argparse.Namespace) -> int:
    """Say what is in a landscape file, or in what another program has left."""
    from torchscape.cli import others

    if others.is_foreign(arguments.db):
        summary = others.summary(others.read(arguments))
        print(_json(summary) if arguments.json else others.in_words(summary))
        return 0
    _expect_no_modes(arguments)
    with _reading(arguments.db) as landscape:
        if arguments.toml is not None:
            from torchscape.cli.config import written

            print(written(landscape, arguments.toml), end="")
        else:
            print(_json(landscape.summary()) if arguments.json else landscape.describe())
    return 0


def copy(arguments: argparse.Namespace) -> int:
    """Copy a landscape file, whether or not it is being written."""
    with _reading(arguments.db) as landscape:
        print(landscape.copy(arguments.output))
    return 0


def merge(arguments: argparse.Namespace) -> int:
    """Make one landscape file of several, and of what other programs have left."""
    from torchscape.cli import others
    from torchscape.cli.spec import choose
    from torchscape.landscape import import_network
    from torchscape.landscape import merge as merged_into
    from torchscape.landscape.files import expect_new

    output = expect_new(arguments.output)
    potential = choose(arguments.spec).potential
    with Landscape.in_memory(potential) as landscape:
        for path in arguments.db:
            if others.is_foreign(path):
                print(f"{path}: {import_network(landscape, others.read_network(path)).describe()}")
                continue
            with _reading(path) as other:
                told = merged_into(landscape, other)
            new = {"minima": told.n_minima, "transition states": told.n_transition_states, "higher": told.n_higher}
            counts = ", ".join(f"{n} {kind}" for kind, n in new.items() if n) or "nothing"
            refused = f"; refused: {told.n_refused}" if told.n_refused else ""
            print(f"{path}: new: {counts}; known: {told.n_known}{refused}")
        print(landscape.copy(output))
    return 0


def checkpoints(arguments: argparse.Namespace) -> int:
    """Put checkpoints into a landscape, and say what they are to each other."""
    from torchscape.cli.spec import choose
    from torchscape.cli.writing import picture_kind, save_picture
    from torchscape.explore import Budget
    from torchscape.learning import compare_checkpoints
    from torchscape.learning.checkpoints import checkpoint_points
    from torchscape.potentials import ModulePotential

    potential = choose(arguments.spec).potential
    if not isinstance(potential, ModulePotential):
        raise TorchscapeError(f"{arguments.spec} is no ModulePotential: checkpoints are those of its module")
    points = checkpoint_points(potential, arguments.files)  # before a file is made
    data = None if arguments.held_out is None else _held_out(arguments.held_out)
    tree = None if arguments.tree is None else (Path(arguments.tree), picture_kind(Path(arguments.tree)))
    budget = Budget(seconds=arguments.max_time or None)
    with Landscape.open(arguments.db, potential) as landscape:
        report = compare_checkpoints(
            landscape,
            potential,
            points,
            strategies=() if arguments.max_time == 0 else None,
            budget=budget,
            held_out=data,
            tolerance=arguments.tolerance,
            seed=arguments.seed,
            progress=not arguments.quiet,
        )
    print(_json(report.as_dict()) if arguments.json else report.describe())
    if tree is not None:
        save_picture(_tree_of(report), *tree)
    if report.exploration is not None and report.exploration.status == "interrupted":
        raise KeyboardInterrupt(f"what was found is in {arguments.db}; the same command continues from there")
    return 0


def _held_out(spec: str) -> tuple[Tensor, ...]:
    """Tensors that a file names: inputs and targets."""
    from torch import Tensor

    from torchscape.cli.spec import named_in_file

    if ".py:" not in spec:
        raise TorchscapeError(f"--held-out {spec}: write FILE.py:NAME, where NAME is (inputs, targets)")
    found = named_in_file(spec)
    if not (isinstance(found, tuple | list) and len(found) > 1 and all(isinstance(one, Tensor) for one in found)):
        raise TorchscapeError(
            f"{spec} is a {type(found).__name__}: let it be a tuple of tensors, (inputs, targets)"
        )
    return tuple(found)


def _tree_of(report: CheckpointReport) -> Figure:
    """The disconnectivity graph of the minima of checkpoints, with their names."""
    import matplotlib

    matplotlib.use("Agg")
    from torchscape import plots

    names = {k: ", ".join(group) for k, group in enumerate(report.same)}
    return plots.disconnectivity(report.network(), labels=names).figure


def plot(arguments: argparse.Namespace) -> int:
    """Draw a picture of a landscape."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import torch

    from torchscape import plots
    from torchscape.cli.writing import picture_kind, save_picture
    from torchscape.plots.table import of_kind

    chosen = of_kind(arguments.kind)
    options = _plot_options(chosen, arguments)
    draw = getattr(plots, chosen.name)
    output = Path(arguments.output)
    replaceable = picture_kind(output)
    # The command line numbers minima by energy everywhere; a database id would be a second numbering. Only a dinfo
    # numbers them as the folder does that it belongs to.
    network = _network(arguments, by_energy=arguments.dinfo is None)
    numbered = dataclasses.replace(network, ids=torch.arange(network.n_minima))
    figure = draw(numbered, **options).figure
    save_picture(figure, output, replaceable)
    plt.close(figure)
    print(output)
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Write a landscape in another program's format."""
    from torchscape.cli.writing import FORMATS

    wanted = arguments.coords or arguments.format == "pathsample"
    network = _network(arguments, coords=wanted, by_energy=False)
    sets = {"in_A": arguments.to_minima, "in_B": arguments.from_minima}
    network = _in_sets(network, {name: members for name, members in sets.items() if members is not None})
    for path in FORMATS[arguments.format](network, Path(arguments.output), arguments.coords):
        print(path)
    return 0


def _in_sets(network: Network, sets: dict[str, list[int]]) -> Network:
    """With the members of end states marked by properties; minima are numbered by energy here."""
    import torch

    order, properties = network.energy.argsort(stable=True), dict(network.properties)
    for name, members in sets.items():
        if missing := [k for k in members if k >= network.n_minima]:
            raise TorchscapeError(
                f"there is no minimum {missing[0]}; the highest of them is {network.n_minima - 1}"
            )
        properties[name] = torch.zeros_like(network.energy).index_fill_(0, order[members], 1.0)
    return dataclasses.replace(network, properties=properties)


def analyse(arguments: argparse.Namespace) -> int:
    """Say what the network of a landscape says: thermodynamics, topology, graph, and rates between two sets."""
    from torchscape.cli import analysis

    result = analysis.analysed(
        _network(arguments),
        arguments.temperature,
        a=arguments.to_minima,
        b=arguments.from_minima,
        n_random=arguments.random,
        seed=arguments.seed,
        progress=True,
    )
    print(_json(result) if arguments.json else analysis.describe(result))
    return 0


def problems(arguments: argparse.Namespace) -> int:
    """List the ready-made problems, or say what is published of one."""
    from torchscape import problems as room

    described = room.describe()
    if arguments.name is not None:
        figures = room.published(arguments.name)
        described = {arguments.name: described[arguments.name]}
    if arguments.json:
        print(_json([_listed(name, text, room.published(name)) for name, text in described.items()]))
        return 0
    width = max(map(len, described))
    for name, description in described.items():
        print(f"{name:<{width}}  {description}")
    if arguments.name is not None:
        print("\n".join(map(_figure, figures)) or "no figures are published")
    return 0


# --- files in and out -------------------------------------------------------------------------------------


@contextmanager
def _near(arguments: argparse.Namespace) -> Iterator[Path]:
    """The file to write: on a disk of this machine's own, where that is asked for or called for."""
    from torchscape.landscape.filesystems import is_shared, kind_of
    from torchscape.landscape.scratch import default_scratch, on_scratch

    path, folder = Path(arguments.db), arguments.scratch
    if folder == "none" or (folder is None and not is_shared(kind := kind_of(path))):
        yield path
        return
    where = Path(folder) if folder else default_scratch()
    if not arguments.quiet:
        why = "" if folder is not None else f" ({path} is on a file system that machines share, {kind})"
        print(f"working in {where}, copied back to {path} every minute{why}", flush=True)
    with on_scratch(path, where) as near:
        yield near


@contextmanager
def _reading(path: str) -> Iterator[Landscape]:
    with Landscape.open(path, create=False) as landscape:
        yield landscape


def _network(arguments: argparse.Namespace, *, coords: bool = False, by_energy: bool = True) -> Network:
    """The network of a landscape file, or of what another program has left."""
    from torchscape.cli import others

    if others.is_foreign(arguments.db):
        return others.read(arguments, by_energy=by_energy)
    _expect_no_modes(arguments)
    with _reading(arguments.db) as landscape:
        return landscape.network(coords=coords)


def _expect_no_modes(arguments: argparse.Namespace) -> None:
    if arguments.modes is not None:
        raise TorchscapeError(f"--modes: {arguments.db} is a landscape, which knows its modes: leave it out")


def _plot_options(plot: Plot, arguments: argparse.Namespace) -> dict[str, Any]:
    """The options given, as the arguments that this plot takes.

    Raises:
        TorchscapeError: for an option that it does not take, or one that it needs and has not got.
    """
    from torchscape.plots.table import declared_options

    said = {option.flag: getattr(arguments, option.name) for option in declared_options()}
    said = {flag: value for flag, value in said.items() if value is not None}
    for option in plot.needs:
        if option.flag not in said:
            raise TorchscapeError(f"plot {plot.kind} needs {option.missing}")
    takes = {option.flag: option for option in plot.options}
    asked: dict[str, Any] = {}
    for flag, value in said.items():
        if flag not in takes:
            raise TorchscapeError(f"plot {plot.kind} takes no --{flag}: leave it out")
        asked |= takes[flag].given(plot.kind, value)
    return asked


def _listed(name: str, description: str, published: Iterable[Published]) -> dict[str, Any]:
    figures = [dataclasses.asdict(one) for one in published]
    return {"name": name, "description": description, "published": figures}


def _figure(one: Published) -> str:
    """A published figure in words."""
    value = " to ".join(map(str, one.value)) if isinstance(one.value, tuple) else one.value
    lines = [f"  {one.what}: {value}", one.setting, one.remark, one.source]
    return "\n      ".join(filter(None, lines))


# --- telling ----------------------------------------------------------------------------------------------


def _json(value: Any) -> str:
    return json.dumps(_plain(value), indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    """NaN and infinity as null: JSON has no word for them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
