"""What can be said on the command line. Nothing here imports torch."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torchscape.cli import around_options, kinds, plot_values, texts
from torchscape.plots.table import Option, declared_options, drawn_from_the_shell

__all__ = ["build_parser"]


def build_parser() -> argparse.ArgumentParser:
    """The parser; ``arguments.run`` is the function that carries the command out."""
    parser = argparse.ArgumentParser(
        prog="torchscape", description=texts.ABOUT, epilog=texts.AFTER_MAIN, formatter_class=_Formatter
    )
    parser.add_argument("--version", action="version", version=f"torchscape {_version()}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    _explore(commands)
    _info(commands)
    _copy(commands)
    _merge(commands)
    _checkpoints(commands)
    _plot(commands)
    _export(commands)
    _analyse(commands)
    listing = _command(commands, "problems", "list the ready-made problems, or say what is published of one")
    listing.add_argument("name", metavar="NAME", nargs="?", help="one problem, with its published figures")
    listing.add_argument("--json", action="store_true", help="machine-readable")
    around_options.add(lambda name, summary, **options: _command(commands, name, summary, **options))
    return parser


def _explore(commands) -> None:
    parser = _command(
        commands, "explore", "find minima and the transition states between them", epilog=texts.AFTER_EXPLORE
    )
    parser.add_argument(
        "spec", metavar="SPEC", nargs="?", help="what to explore: FILE.py:NAME, or the name of a problem"
    )
    parser.add_argument("--db", metavar="FILE", help="landscape file; made, or continued")
    parser.add_argument(
        "--config",
        metavar="FILE.toml",
        help="every option by its name, and strategies as tables; what is said here as well comes first",
    )
    parser.add_argument(
        "--scratch",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="work on a copy in a folder of this machine's own, and copy it back every minute and at the end "
        "(default: on NFS, Lustre and the like, in the temporary folder; 'none' never does)",
    )
    _quiet(parser, "no progress bars and no summary")
    parser.add_argument(
        "--tensorboard", metavar="FOLDER", help="write scalars of every round for TensorBoard into this folder"
    )
    parser.add_argument(
        "--paths",
        action="store_true",
        help="at the end, integrate the paths over the transition states (for profiles)",
    )

    _how_to_compute(parser.add_argument_group("how to compute"))
    _budget(
        parser.add_argument_group("budget", "Stop, with everything saved, when the first of these is used up.")
    )
    _strategies(parser.add_argument_group("strategies", "Defaults come from the problem, where it suggests any."))
    parser.set_defaults(tables=[])  # of a configuration file


def _how_to_compute(where: argparse._ArgumentGroup) -> None:
    where.add_argument(
        "--seed", type=kinds.seed, default=0, metavar="N", help="same seed, same result (default: 0)"
    )
    where.add_argument(
        "--device",
        metavar="NAME",
        help="cpu, cuda, cuda:1 ..., or cuda:all for a worker on each (default: as the potential is built)",
    )
    where.add_argument(
        "--dtype", choices=["float32", "float64"], help="precision (default: as the potential is built)"
    )
    where.add_argument(
        "--precision",
        choices=["double", "mixed"],
        help="mixed searches in float32 and ends in float64, which is faster (default: double)",
    )
    where.add_argument(
        "--compile",
        choices=["auto", "on", "off"],
        help="gradients by compiled code: on from the first one (compiling takes 10 to 60 s the first time), auto "
        "where they have taken a minute; the same to rounding (default: off)",
    )
    where.add_argument(
        "--executor",
        metavar="WHO",
        help="who runs the searches: in-process (default), processes (one for each core), processes:N, ray (the "
        "cluster of RAY_ADDRESS, or all cores of this machine), ray:ADDRESS, ray:ADDRESS,threads=4,gpus=1",
    )


def _budget(budget: argparse._ArgumentGroup) -> None:
    budget.add_argument(
        "--max-time", type=kinds.positive(float), metavar="SECONDS", help="wall time of this command"
    )
    budget.add_argument("--max-quenches", type=kinds.positive(int), metavar="N", help="local minimisations")
    budget.add_argument(
        "--max-evaluations", type=kinds.positive(int), metavar="N", help="energy-and-gradient calls"
    )
    budget.add_argument(
        "--target-energy",
        type=kinds.finite,
        metavar="E",
        help="a minimum as low as this is known, as --target-energy=-44.326801",
    )


def _strategies(how: argparse._ArgumentGroup) -> None:
    how.add_argument(
        "--strategy",
        type=kinds.words,
        metavar="LIST",
        help="which, in this order: basin-hopping (find minima), tempered-basin-hopping (the same on ladders of "
        "temperatures), connect (transition states between them), lower-barriers (lower ones between minima that "
        "are connected), climb (transition states around each of them), stationary (stationary points of every "
        "index), or FILE.py:NAME, your own (default: basin-hopping,connect). Of chosen minima, 0 the lowest: "
        "connect-pair:I,J (join two of them), shortcut:A,B (better paths from B to A, 0+3,7 for sets), untrap:A "
        "(ways out of what seem to be traps, towards A), climb-from:I,J,K (transition states around these)",
    )
    how.add_argument(
        "--move",
        type=kinds.words,
        metavar="LIST",
        help="basin-hopping: gaussian, uniform, per-layer, restart; of clusters angular, exchange, seeding, "
        "compress, symmetrise, group-rotation; or FILE.py:NAME, your own; several with their weights, as "
        "gaussian:0.9,restart:0.1 (default: gaussian)",
    )
    how.add_argument(
        "--set",
        action="append",
        metavar="NAME.FIELD=VALUE",
        help="any other setting of a strategy or move, as connect.attempts=3, connect.band.max_images=40 or "
        "per-layer.floor=0.1; may be said again and again",
    )
    how.add_argument(
        "--walkers",
        type=kinds.positive(int),
        metavar="N",
        help="basin-hopping: walkers at once (default: 512 up to 10 coordinates, 256 up to 100, 64 beyond)",
    )
    how.add_argument(
        "--hops",
        type=kinds.positive(int, zero=True),
        metavar="N",
        help="basin-hopping: hops per walker, 0 for none (default: 50, or as many as make 3200 of all walkers)",
    )
    how.add_argument(
        "--temperature",
        type=kinds.temperatures,
        metavar="T[,T...]",
        help="basin-hopping: Metropolis temperature, or one for each walker, in units of the energy (default: 1); "
        "tempered-basin-hopping: those of a ladder",
    )
    how.add_argument(
        "--step",
        type=kinds.positive(float),
        metavar="LENGTH",
        help="basin-hopping: first step size, adapted from there, in units of the potential's own length scale "
        "(default: 0.5)",
    )
    how.add_argument(
        "--tol",
        type=kinds.positive(float),
        metavar="RMS",
        help="all: RMS gradient at which a quench or a search has converged, in the potential's own units "
        "(default: 1e-8, in float32 3e-4, of its energy scale). New minima are polished beyond it, until a Newton "
        "step would gain nothing that tells two of them apart",
    )
    how.add_argument(
        "--neighbours",
        type=kinds.positive(int),
        metavar="K",
        help="connect, lower-barriers: nearest neighbours to try (default: 8)",
    )
    how.add_argument(
        "--searches", type=kinds.positive(int), metavar="N", help="climb: searches from each minimum (default: 50)"
    )
    how.add_argument(
        "--starts", type=kinds.positive(int), metavar="N", help="stationary: searches in all (default: 5000)"
    )


def _info(commands) -> None:
    parser = _command(commands, "info", "say what is in a landscape file")
    _landscape_or_other(parser)
    parser.add_argument("--json", action="store_true", help="everything, as one JSON object")
    parser.add_argument(
        "--toml",
        nargs="?",
        const=-1,
        type=kinds.positive(int),
        metavar="RUN",
        help="the settings of a run (default: the last), for 'torchscape explore --config'",
    )


def _landscape_or_other(parser: argparse.ArgumentParser) -> None:
    """What is looked at: a landscape of ours, or what another program has left."""
    parser.add_argument(
        "db", metavar="DB", help="landscape file; or a folder of PATHSAMPLE or topsearch, or a database of pele"
    )
    parser.add_argument(
        "--modes",
        type=kinds.positive(int, zero=True),
        metavar="K",
        help="vibrational modes of each minimum, where such a folder does not say: 3 N - 6 for N atoms",
    )


def _copy(commands) -> None:
    parser = _command(commands, "copy", "copy a landscape file, also while it is written", epilog=texts.AFTER_COPY)
    parser.add_argument("db", metavar="SRC", help="landscape file")
    parser.add_argument("output", metavar="DST", help="the copy, which must not exist yet")


def _merge(commands) -> None:
    parser = _command(
        commands, "merge", "make one landscape file of several of the same potential", epilog=texts.AFTER_MERGE
    )
    parser.add_argument("spec", metavar="SPEC", help="the potential, as for 'torchscape explore'")
    parser.add_argument(
        "db",
        metavar="DB",
        nargs="+",
        help="landscape files, or folders of PATHSAMPLE or topsearch, databases of pele",
    )
    parser.add_argument(
        "--output", "-o", metavar="FILE", required=True, help="the result, which must not exist yet"
    )


def _checkpoints(commands) -> None:
    parser = _command(
        commands, "checkpoints", "say what trained models are to each other", epilog=texts.AFTER_CHECKPOINTS
    )
    parser.add_argument("spec", metavar="SPEC", help="the potential, as for 'torchscape explore'")
    parser.add_argument("files", metavar="FILE", nargs="+", help="two or more checkpoints of its model")
    parser.add_argument("--db", metavar="DB", required=True, help="landscape file; made, or continued")
    parser.add_argument(
        "--max-time",
        type=kinds.positive(float, zero=True),
        metavar="SECONDS",
        help="of the search for transition states (0: none)",
    )
    parser.add_argument(
        "--held-out",
        metavar="FILE.py:NAME",
        help="(inputs, targets) that were not trained on: how well the minima and the paths between them do there",
    )
    parser.add_argument(
        "--tolerance",
        type=kinds.positive(float, zero=True),
        metavar="E",
        help="ways that rise no more than this above the higher of two minima are valleys (default: a hundredth "
        "of its loss)",
    )
    parser.add_argument(
        "--tree", metavar="OUT", help="draw the disconnectivity graph of just these: .png, .pdf ..."
    )
    parser.add_argument(
        "--seed", type=kinds.seed, default=0, metavar="N", help="same seed, same result (default: 0)"
    )
    _quiet(parser, "no progress bars")
    parser.add_argument("--json", action="store_true", help="machine-readable")


def _plot(commands) -> None:
    parser = _command(commands, "plot", "draw a picture of a landscape", epilog=texts.AFTER_PLOT)
    _landscape_or_other(parser)
    drawn = ", ".join(drawn_from_the_shell())
    parser.add_argument("kind", metavar="KIND", help=f"one of {drawn}")
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="picture file: .png, .pdf, .svg ...")
    for option in declared_options():
        _plot_option(parser, option)


def _plot_option(parser: argparse.ArgumentParser, option: Option) -> None:
    """An option as a plot declares it; what was not said is None."""
    if not option.value:
        parser.add_argument(f"--{option.flag}", action="store_const", const=True, help=option.help)
        return
    read: dict[str, Callable[[str], Any]] = {
        "count": kinds.positive(int),
        "positive": kinds.positive(float),
        "temperatures": kinds.temperatures,
        "two minima": kinds.two_minima,
        "minima": kinds.minima,
        "text": str,
        **plot_values.KINDS,
    }
    parser.add_argument(f"--{option.flag}", type=read[option.value], metavar=option.metavar, help=option.help)


def _export(commands) -> None:
    parser = _command(
        commands, "export", "write a landscape in another program's format", epilog=texts.AFTER_EXPORT
    )
    _landscape_or_other(parser)
    parser.add_argument(
        "--format", required=True, choices=["pyg", "graphml", "csv", "pathsample"], help="see below"
    )
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="file or folder to write")
    parser.add_argument("--coords", action="store_true", help="pyg, csv: the coordinates too")
    _end_states(parser, "pathsample: min.B, these minima (0 the lowest),", "pathsample: min.A, these")


def _end_states(parser: argparse.ArgumentParser, start: str, to: str) -> None:
    """Reactants and products, which PATHSAMPLE calls B and A."""
    parser.add_argument("--from", dest="from_minima", type=kinds.minima, metavar="I[,I...]", help=start)
    parser.add_argument("--to", dest="to_minima", type=kinds.minima, metavar="J[,J...]", help=to)


def _analyse(commands) -> None:
    parser = _command(commands, "analyse", "say what the network of a landscape says", epilog=texts.AFTER_ANALYSE)
    _landscape_or_other(parser)
    parser.add_argument(
        "--temperature",
        type=kinds.temperatures,
        metavar="T[,T...]",
        help="temperatures in units of the energy (k_B = 1), or LOW:HIGH:N for N of them on a logarithmic scale "
        "(default: 13 around the peaks of the heat capacity)",
    )
    _end_states(
        parser,
        "rates from these minima, 0 the lowest (default: min.B of a folder),",
        "to these, and back (default: min.A)",
    )
    parser.add_argument(
        "--random", type=kinds.positive(int, zero=True, most=10**6), default=10, metavar="N",
        help="random graphs of equal degrees to compare with (default: 10)",
    )  # fmt: skip
    parser.add_argument("--seed", type=kinds.seed, default=0, metavar="N", help="of random graphs and communities")
    parser.add_argument("--json", action="store_true", help="everything, as one JSON object")


def _quiet(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help=what)


def _command(
    commands, name: str, summary: str, epilog: str | None = None, of: str = "commands"
) -> argparse.ArgumentParser:
    """A subcommand whose ``run`` is the function of that name in a module of :mod:`torchscape.cli`."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=epilog,
        formatter_class=_Formatter,
    )
    parser.add_argument("--debug", action="store_true", help="on an error, show where in the code it arose")
    parser.add_argument(
        "-v", "--verbose", action="count", default=0, help="say on stderr what happens; -vv says more"
    )

    def run(arguments: argparse.Namespace) -> int:
        module = import_module(f"torchscape.cli.{of}")  # late: it imports torch
        return getattr(module, name.replace("-", "_"))(arguments)

    parser.set_defaults(run=run)
    return parser


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Examples as they are written, and a column for options that is wide enough for them."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)


def _version() -> str:
    try:
        return version("torchscape")
    except PackageNotFoundError:  # run from its source
        return "(not installed)"
