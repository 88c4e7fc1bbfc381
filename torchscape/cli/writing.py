"""What the command line writes beside landscapes: pictures, and other programs' formats."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.outputs import Kind, begins_with, expect_replaceable, head, whole_file

__all__ = ["FORMATS", "picture_kind", "save_picture"]

_PICTURES = {
    "avif": lambda path: head(path)[4:8] == b"ftyp",
    "eps": begins_with(b"%!PS"),
    "gif": begins_with(b"GIF8"),
    "jpeg": begins_with(b"\xff\xd8\xff"),
    "jpg": begins_with(b"\xff\xd8\xff"),
    "pdf": begins_with(b"%PDF"),
    "pgf": begins_with(b"%% Creator: Matplotlib"),
    "png": begins_with(b"\x89PNG"),
    "ps": begins_with(b"%!PS"),
    "svg": lambda path: b"<svg" in head(path),
    "svgz": begins_with(b"\x1f\x8b"),
    "tif": begins_with(b"II*\x00", b"MM\x00*"),
    "tiff": begins_with(b"II*\x00", b"MM\x00*"),
    "webp": begins_with(b"RIFF"),
}


def picture_kind(output: Path) -> Kind:
    """What a picture of this name may replace. May it be written there?

    Raises:
        TorchscapeError: if it has no ending of a picture, or something else is there.
    """
    import matplotlib.backend_bases

    known = matplotlib.backend_bases.FigureCanvasBase.get_supported_filetypes()
    ending = output.suffix[1:].lower()
    if ending not in known:
        raise TorchscapeError(f"{output.name}: give the picture one of the endings {', '.join(sorted(known))}")
    kind = _PICTURES.get(ending, lambda path: False)  # raw pixels have no mark: nothing is replaced by them
    expect_replaceable(output, kind)
    return kind


def save_picture(figure: Any, output: Path, kind: Kind) -> None:
    """The picture appears when it is whole."""
    with whole_file(output, kind) as beside:
        figure.savefig(beside, dpi=200, bbox_inches="tight", format=output.suffix[1:].lower())


def _pyg(network: Network, output: Path, coords: bool) -> list[Path]:
    expect_replaceable(output, _is_pyg)  # before the seconds that the import takes
    import torch

    from torchscape.export import to_pyg

    data = to_pyg(network, coords=coords)
    from torch_geometric.data import Data

    saved = io.BytesIO()  # of a full disk torch.save says that it met an internal error
    torch.save(Data.from_dict(data.to_dict()), saved)  # plain Data: readable without torchscape
    with whole_file(output, _is_pyg) as beside:
        beside.write_bytes(saved.getbuffer())
    return [output]


def _is_pyg(path: Path) -> bool:
    """Whether a file holds a ``Data`` of PyTorch Geometric, not the weights of a model."""
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            return any(b"torch_geometric.data" in archive.read(name) for name in pickles)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return False


def _graphml(network: Network, output: Path, coords: bool) -> list[Path]:
    from torchscape.export import write_graphml

    return [write_graphml(network, output)]


def _csv(network: Network, output: Path, coords: bool) -> list[Path]:
    from torchscape.export import to_csv

    return list(to_csv(network, output, coords=coords))


def _pathsample(network: Network, output: Path, coords: bool) -> list[Path]:
    from torchscape.export import write_pathsample

    return write_pathsample(network, output)


FORMATS = {"pyg": _pyg, "graphml": _graphml, "csv": _csv, "pathsample": _pathsample}
"""Functions of (network, output, whether with coordinates) that return the paths written."""
