"""Handwritten digits of MNIST, wherever the user keeps them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch

from torchscape import random
from torchscape.errors import TorchscapeError
from torchscape.potentials.module.potential import ModulePotential
from torchscape.problems.networks import choose_loss, tanh_network
from torchscape.problems.problem import Problem
from torchscape.types import Int, Tensor

__all__ = ["mnist", "mnist_data"]

MNIST_SOURCE = "Y. LeCun et al., Proc. IEEE 86, 2278 (1998), doi 10.1109/5.726791"
_PLACES = ("data", "MNIST", "~/data", "~/datasets")
_INSIDE = ("", "raw", "MNIST/raw")  # the last is how torchvision lays it out
_SETS = ("train", "t10k")
_MAGIC = {"images": 2051, "labels": 2049}


def mnist(
    hidden: int = 10,
    n_train: int = 1000,
    n_test: int = 9000,
    l2: float = 1e-2,
    loss: str = "cross-entropy",
    seed: int = 0,
    data: str | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Problem:
    """Handwritten digits, 28 x 28 pixels (MNIST, which you must have): a tanh network, 784-h-10.

    All images that ``data`` holds are scaled to [0, 1] and split by a permutation that depends on ``seed`` alone:
    ``n_train`` to train, the next ``n_test`` (or as many as there are) for ``Problem.test``. The energy is the
    mean ``loss`` (as for the problem ``digits``) plus l2 times the sum of the squares of all parameters. See
    :func:`mnist_data` for what ``data`` may be.

    Raises:
        TorchscapeError: if no images are found, or too few.
        UnknownName: for another loss.
    """
    images, labels = mnist_data(data)
    if not 1 <= n_train < len(labels):
        raise TorchscapeError(f"n_train={n_train} of {len(labels)} images: choose 1 to {len(labels) - 1}")
    order = random.permutation(random.fold(seed, torch.arange(1)), len(labels))[0][: n_train + n_test]
    x = (images[order].flatten(1).to(torch.float64) / 255).to(device, dtype)
    y = labels[order].to(device)
    train = (x[:n_train], y[:n_train])
    net = tanh_network(784, hidden, 10, seed)
    return Problem(
        name="mnist",
        potential=ModulePotential(net, train, choose_loss(loss), l2, dtype=dtype, device=device),
        description=f"784-{hidden}-10 tanh network on {n_train} images of MNIST, {loss}, l2 = {l2:g}",
        source=f"A. J. Ballard et al., Phys. Chem. Chem. Phys. 19, 12585 (2017), doi 10.1039/c7cp01108c, V; "
        f"images: {MNIST_SOURCE}",
        suggested={"walkers": 32, "hops": 5, "temperature": 0.02, "step": 0.5, "neighbours": 8},
        test=(x[n_train:], y[n_train:]) if n_test else None,
    )


def mnist_data(place: str | Path | None = None) -> tuple[Tensor, Int[Tensor, "n"]]:
    """The images [n 28 28] (bytes) and labels [n] of MNIST, read from what the user has.

    Args:
        place: an .npz file with arrays ``images`` [n 28 28] and ``labels`` [n]; or a folder with the IDX files
            ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the same for ``t10k``, gzipped or not,
            either set or both, in it or in its ``raw`` or ``MNIST/raw`` (as torchvision leaves them). None looks
            in ``data``, ``MNIST``, ``~/data`` and ``~/datasets``.

    Raises:
        TorchscapeError: if there is nothing, saying what to download; or if a file is not what it should be.
    """
    if place is not None and Path(place).expanduser().is_file():
        return _read_npz(Path(place).expanduser())
    for folder in [place] if place is not None else _PLACES:
        for inside in _INSIDE:
            found = _read_folder(Path(folder).expanduser() / inside)
            if found is not None:
                return found
    looked = f"in {place}" if place is not None else f"in any of {', '.join(_PLACES)}"
    raise TorchscapeError(
        f"there are no MNIST files {looked}. Download train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz "
        "from https://ossci-datasets.s3.amazonaws.com/mnist/ into the folder data, or run "
        "torchvision.datasets.MNIST('data', download=True), or name a folder or .npz file with data=..."
    )


def _read_folder(folder: Path) -> tuple[Tensor, Tensor] | None:
    """The sets that a folder holds, training set first; None if it holds none."""
    parts = []
    for which in _SETS:
        paths = [_existing(folder / f"{which}-{kind}-idx{d}-ubyte") for kind, d in (("images", 3), ("labels", 1))]
        if all(paths):
            arrays = [_read_idx(path, kind) for path, kind in zip(paths, _MAGIC, strict=True) if path]
            parts.append(_checked(arrays[0], arrays[1], folder))
        elif any(paths):
            raise TorchscapeError(f"{folder} holds only one of the images and labels of the set {which}: add both")
    if not parts:
        return None
    images, labels = (torch.cat(column) for column in zip(*parts, strict=True))
    return images, labels


def _existing(path: Path) -> Path | None:
    """The file, plain or gzipped (some distributions write a dot before idx)."""
    dotted = path.with_name(path.name.replace("-idx", ".idx"))
    names = (path, dotted, path.with_name(path.name + ".gz"), dotted.with_name(dotted.name + ".gz"))
    return next((name for name in names if name.is_file()), None)


def _read_idx(path: Path, kind: str) -> np.ndarray:
    """An IDX file of bytes: magic number, sizes (big-endian 32-bit integers), values."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as stream:
        content = stream.read()
    n_sizes = 3 if kind == "images" else 1
    header = np.frombuffer(content[: 4 * (1 + n_sizes)], dtype=">i4")
    sizes = [int(size) for size in header[1:]]
    body = np.frombuffer(content, dtype=np.uint8, offset=min(len(content), 4 * (1 + n_sizes)))
    if len(header) != 1 + n_sizes or header[0] != _MAGIC[kind] or len(body) != np.prod(sizes):
        raise TorchscapeError(f"{path} is no complete IDX file of {kind}: download it again")
    return body.reshape(sizes)


def _read_npz(path: Path) -> tuple[Tensor, Tensor]:
    if path.suffix != ".npz":
        raise TorchscapeError(f"{path} is no .npz file: name one with arrays images and labels, or a folder")
    with np.load(path, allow_pickle=False) as arrays:
        if not {"images", "labels"} <= set(arrays.files):
            raise TorchscapeError(
                f"{path} holds {', '.join(arrays.files)}: it needs images [n 28 28] and labels [n]"
            )
        return _checked(arrays["images"], arrays["labels"], path)


def _checked(images: np.ndarray, labels: np.ndarray, path: Path) -> tuple[Tensor, Tensor]:
    if images.ndim == 2 and images.shape[1] == 784:
        images = images.reshape(-1, 28, 28)
    if images.shape[1:] != (28, 28) or images.dtype != np.uint8 or labels.shape != images.shape[:1]:
        raise TorchscapeError(
            f"{path}: images must be bytes [n 28 28] with as many labels, not {images.dtype} {list(images.shape)} "
            f"and {list(labels.shape)}"
        )
    return torch.as_tensor(images.copy()), torch.as_tensor(labels.astype(np.int64))
