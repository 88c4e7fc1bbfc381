"""Reports as files: what is asked for, gathered, drawn and written in one piece."""

from __future__ import annotations

import os
import tempfile
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torchscape.errors import TorchscapeError
from torchscape.landscape import Landscape
from torchscape.network import Network
from torchscape.outputs import expect_replaceable, head, whole_file
from torchscape.potentials import ModulePotential, Potential
from torchscape.report.gathering import gather
from torchscape.types import Float, Tensor
from torchscape.validation import COUNT

__all__ = ["open", "write"]

_MARK = b'<meta name="generator" content="torchscape report">'
_MOST = 10_000


def write(
    of: Landscape | Network,
    path: str | os.PathLike[str],
    potential: Potential | None = None,
    *,
    held_out: Sequence[Tensor] | None = None,
    temperatures: Sequence[float] | Float[Tensor, "T"] | None = None,
    lowest: int = _MOST,
    title: str | None = None,
    unit: str | None = None,
    seed: int = 0,
) -> Path:
    """Write a landscape as one HTML file that is looked at and clicked through in any browser.

    It needs no network and nothing beside it, and shows the disconnectivity tree, the network, a table of the
    minima, heat capacity and occupation at a temperature that can be moved, barriers, what hit counts say of the
    search, and the journal of a landscape. A minimum chosen in one of them is chosen in all; its superbasin and
    its lowest path to the global minimum light up.

    Args:
        of: a landscape, or a network from anywhere (``export.read_pathsample``, ``Network.of``).
        path: the file; an earlier report there is replaced, nothing else.
        potential: of which it is the landscape; that which a landscape was opened with is known. Of a classifier
            the report shows which classes each minimum takes for which, if the coordinates are known, too.
        held_out: (inputs, targets) to classify instead of the training data.
        temperatures: of the curves and the slider; chosen around the peaks of the heat capacity by default.
        lowest: show so many of the lowest minima (the others still connect them, and count in all sums).
        title: what stands above it; the name of the landscape file by default.
        unit: unit of the energy, for the labels.
        seed: of the drawing of the network.

    Returns:
        The path.

    Raises:
        MissingExtra: where Bokeh is not installed.
        TorchscapeError: for a network without minima, or where something else than a report has that name.

    Example:
        >>> import tempfile
        >>> net = Network.of([0.0, 0.2, 0.1], [(0, 1), (1, 2)], [1.0, 0.5])
        >>> with tempfile.TemporaryDirectory() as folder:  # doctest: +SKIP
        ...     write(net, f"{folder}/report.html").name
        'report.html'
    """
    path = Path(path)
    COUNT.check("report", lowest=lowest)
    expect_replaceable(path, _is_report)
    from torchscape.report.page import page

    network, potential = _network(of, potential, with_coords=held_out is not None)
    name = title or _name(of)
    content = gather(
        network, of if isinstance(of, Landscape) else None, potential, held_out=held_out,
        temperatures=temperatures, lowest=lowest, title=name, unit=unit, seed=seed,
    )  # fmt: skip
    text = page(content, _MARK.decode())
    with whole_file(path, _is_report) as beside:
        beside.write_text(text, encoding="utf-8")
    return path


def open(of: Landscape | Network, potential: Potential | None = None, **options: Any) -> Path:
    """Write a report into the folder of temporary files, and show it in the browser of this machine.

    Args:
        of, potential, options: as for :func:`write`.

    Returns:
        Where it is.
    """
    path = write(of, Path(tempfile.mkdtemp(prefix="torchscape-")) / "report.html", potential, **options)
    webbrowser.open(path.resolve().as_uri())
    return path


def _network(
    of: Landscape | Network, potential: Potential | None, *, with_coords: bool
) -> tuple[Network, Potential | None]:
    """The network, with coordinates where they are wanted, and whose it is."""
    if isinstance(of, Network):
        return of, potential
    if not isinstance(of, Landscape):
        raise TorchscapeError(
            f"report.write takes a landscape or a network, not a {type(of).__name__}: open a file with "
            "Landscape.open(path), read a PATHSAMPLE folder with export.read_pathsample(folder)"
        )
    if potential is not None:
        of.expect(potential)
    potential = potential or of.potential
    wanted = isinstance(potential, ModulePotential) or with_coords
    return of.network(coords=wanted), potential


def _name(of: Landscape | Network) -> str:
    path = of.path if isinstance(of, Landscape) else None
    return "Energy landscape" if path is None else path.name


def _is_report(path: Path) -> bool:
    return _MARK in head(path)
