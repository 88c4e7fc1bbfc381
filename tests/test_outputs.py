"""What is written is whole or not there, and takes the place of nothing but its like."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from torchscape.cli import main, writing
from torchscape.errors import TorchscapeError
from torchscape.export import to_csv, write_graphml, write_pathsample
from torchscape.landscape import Landscape
from torchscape.network import Network
from torchscape.outputs import begins_with, whole_file, whole_files
from torchscape.points import StationaryPoints, Status
from torchscape.potentials import FunctionPotential

NETWORK = Network.of(
    energy=[0.0, 0.5], edges=[(0, 1)], ts_energy=[1.0], log_det=[0.0, 0.0], ts_log_det=[0.0],
    coords=torch.tensor([[0.0], [1.0]], dtype=torch.float64), ts_coords=torch.tensor([[0.5]], dtype=torch.float64),
)  # fmt: skip
FORMS = {"pyg": "n.pt", "graphml": "n.graphml", "csv": "tables", "pathsample": "path"}


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def db(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("db") / "m.db"
    bowl = FunctionPotential(lambda x: (x**2).sum(), 1, check=False)
    with Landscape.open(path, bowl) as landscape:
        x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
        given = {"index": torch.zeros(2, dtype=torch.int64), "log_det": torch.zeros(2, dtype=torch.float64)}
        landscape.add_minima(
            StationaryPoints.of(x, x[:, 0] ** 2, status=torch.full((2,), int(Status.CONVERGED)), **given)
        )
    return path


# --- one file ---------------------------------------------------------------------------------------------


def test_a_file_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "new" / "a.txt"

    def half(error: BaseException) -> None:
        with whole_file(path) as beside:
            beside.write_text("half")
            raise error

    with pytest.raises(KeyboardInterrupt):
        half(KeyboardInterrupt())
    assert everything(tmp_path) == {}
    path.write_text("before")
    path.chmod(0o640)
    with pytest.raises(OSError, match="full"):
        half(OSError(errno.ENOSPC, "full"))
    assert everything(tmp_path) == {"new/a.txt": b"before"}
    with whole_file(path) as beside:
        beside.write_text("after")
        assert path.read_text() == "before"
    assert everything(tmp_path) == {"new/a.txt": b"after"}
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_link_is_followed_and_a_device_written_to(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "a.txt")
    with whole_file(tmp_path / "link") as beside:
        beside.write_text("a")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "a.txt").read_text() == "a"
    with whole_file("/dev/null") as beside:
        beside.write_text("a")
    assert not Path("/dev/null").is_file()


def test_a_file_of_another_kind_is_not_replaced(tmp_path, db):
    there = tmp_path / "a.png"
    for content, fine in ((b"\x89PNG...", True), (b"", True), (b"import torch", False)):
        there.write_bytes(content)
        if fine:
            with whole_file(there, begins_with(b"\x89PNG")) as beside:
                beside.write_bytes(b"\x89PNG new")
            assert there.read_bytes() == b"\x89PNG new"
        else:
            with (
                pytest.raises(TorchscapeError, match="of another kind"),
                whole_file(there, begins_with(b"\x89PNG")),
            ):
                pass
            assert there.read_bytes() == content
    before = db.read_bytes()
    with pytest.raises(TorchscapeError, match="is a landscape"), whole_file(db):
        pass
    with pytest.raises(TorchscapeError, match="is a folder"), whole_file(tmp_path):
        pass
    assert db.read_bytes() == before


# --- files that belong together ---------------------------------------------------------------------------

ANY = {"a": lambda path: True, "b": lambda path: True}


@pytest.mark.parametrize("there", [False, True])
def test_files_appear_together(tmp_path, there):
    folder = tmp_path / "out"
    if there:
        folder.mkdir()
        (folder / "b").write_text("old")
        (folder / "other").write_text("stays")
    before = everything(folder)

    def half() -> None:
        with whole_files(folder, ANY) as beside:
            (beside / "a").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert folder.exists() == there
    assert everything(tmp_path) == {f"out/{name}": content for name, content in before.items()}
    with whole_files(folder, ANY) as beside:
        (beside / "a").write_text("1")
        (beside / "b").write_text("2")
        shown = {name: content for name, content in everything(folder).items() if not name.startswith(".")}
        assert shown == before
    assert everything(folder) == {**before, "a": b"1", "b": b"2"}
    assert folder.stat().st_mode & 0o777 == 0o777 & ~umask()
    with whole_files(folder, ANY) as beside:
        (beside / "a").write_text("3")
    assert "b" not in everything(folder)  # it belonged to the files before


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_an_export_that_fails_midway_changes_nothing(tmp_path, monkeypatch):
    """The disk is full at the second file, or at the graph."""
    to_csv(NETWORK, tmp_path / "tables")
    write_pathsample(NETWORK, tmp_path / "path", a=[0], b=[1])
    write_graphml(NETWORK, tmp_path / "n.graphml")
    before = everything(tmp_path)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr("torchscape.export.tables.zip", full, raising=False)
    monkeypatch.setattr("torchscape.export.pathsample_writing.integer", full)
    monkeypatch.setattr("torchscape.export.graphml._rows", full)
    for write, name in ((to_csv, "tables"), (write_pathsample, "path"), (write_graphml, "n.graphml")):
        for place in (name, f"new {name}"):
            with pytest.raises(OSError, match="no space left"):
                write(NETWORK, tmp_path / place)
    assert everything(tmp_path) == before


def test_coordinates_of_an_earlier_export_do_not_stay_behind(tmp_path):
    write_pathsample(NETWORK, tmp_path)
    assert {"points.min", "points.ts"} < set(os.listdir(tmp_path))
    write_pathsample(dataclasses.replace(NETWORK, coords=None, ts_coords=None), tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["dinfo", "min.data", "pathdata", "ts.data"]


# --- the command line -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_an_export_replaces_its_like_and_nothing_else(db, tmp_path, capsys, form):
    target = tmp_path / FORMS[form]
    words = ["export", str(db), "--format", form, "-o"]
    for _ in range(2):
        assert main([*words, str(target)]) == 0, capsys.readouterr().err
    assert not list(tmp_path.rglob(".part*"))
    before = db.read_bytes()
    assert main([*words, str(db)]) == 2
    assert db.read_bytes() == before
    for name, content in everything(tmp_path).items():
        if name.rpartition("/")[2] in ("points.min", "points.ts"):
            continue
        (tmp_path / name).write_text("Thoughts about my model")
        if name.rpartition("/")[2] in ("pathdata", "dinfo"):  # one's own inputs of other programs stay
            assert main([*words, str(target)]) == 0
            assert (tmp_path / name).read_text() == "Thoughts about my model"
            (tmp_path / name).write_bytes(content)
            continue
        assert main([*words, str(target)]) == 2
        assert "of another kind" in capsys.readouterr().err.splitlines()[-1]
        assert (tmp_path / name).read_text() == "Thoughts about my model"
        (tmp_path / name).write_bytes(content)


def test_weights_of_a_model_are_no_graph(db, tmp_path, capsys):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "model.pt")
    np.savez(tmp_path / "data.pt.npz", x=np.zeros(2))
    for path in tmp_path.iterdir():
        before = path.read_bytes()
        assert main(["export", str(db), "--format", "pyg", "-o", str(path)]) == 2
        assert "of another kind" in capsys.readouterr().err
        assert path.read_bytes() == before
    assert main(["export", str(db), "--format", "pyg", "-o", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("form", ["pyg", "graphml"])
def test_a_full_disk_is_said_in_one_line(db, form, capsys):
    assert main(["export", str(db), "--format", form, "-o", "/dev/full"]) == 2
    assert capsys.readouterr().err.strip() == "torchscape: [Errno 28] No space left on device"


def test_a_picture_replaces_a_picture_of_its_kind(db, tmp_path, capsys, monkeypatch):
    png, words = tmp_path / "p.png", ["plot", str(db), "disconnectivity", "-o"]
    for _ in range(2):
        assert main([*words, str(png)]) == 0
    picture = png.read_bytes()
    notes = tmp_path / "notes.png"
    notes.write_text("notes")
    raw = tmp_path / "pixels.raw"
    raw.write_bytes(b"abc")
    for path in (notes, raw):
        before = path.read_bytes()
        assert main([*words, str(path)]) == 2
        assert "of another kind" in capsys.readouterr().err
        assert path.read_bytes() == before

    def interrupted(figure, path, **_):
        Path(path).write_bytes(b"\x89PNG half")
        raise KeyboardInterrupt

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", interrupted)
    assert main([*words, str(png)]) == 130
    assert png.read_bytes() == picture
    assert not list(tmp_path.glob(".part*"))


def test_every_format_of_pictures_knows_its_own(tmp_path):
    """What matplotlib writes is recognised as of its kind: else a second plot would be refused."""
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(1, 1))
    known = figure.canvas.get_supported_filetypes()
    for ending in sorted(writing._PICTURES.keys() & known.keys() - {"pgf"}):  # which asks TeX
        path = tmp_path / f"p.{ending}"
        figure.savefig(path)
        assert writing._PICTURES[ending](path), ending
    plt.close(figure)
    assert known.keys() - writing._PICTURES.keys() <= {"raw", "rgba"}
