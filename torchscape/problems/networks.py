"""Small neural networks on real and on computed data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from torchscape import random
from torchscape.errors import MissingExtra, TorchscapeError, UnknownName
from torchscape.potentials.losses import AUCLoss
from torchscape.potentials.module.potential import ModulePotential
from torchscape.problems.problem import Known, Problem
from torchscape.problems.trimers import trimer_data
from torchscape.types import Float, Int, Tensor

__all__ = ["choose_loss", "digits", "digits_data", "tanh_network", "trimer_network"]

_DISTANCES = ("r12", "r13", "r23")
_SHOWN = 2000  # trimers beyond which computing them shows a progress bar


def digits(
    hidden: int = 10,
    n_train: int = 1000,
    l2: float = 1e-3,
    loss: str = "cross-entropy",
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Problem:
    """Handwritten digits, 8 x 8 pixels: a tanh network with one hidden layer, 64-h-10.

    The 1797 images that scikit-learn ships are scaled to [0, 1] and split by a permutation that depends on
    ``seed`` alone: the first ``n_train`` are the data, the others are ``Problem.test``. The energy is the mean
    cross-entropy plus l2 times the sum of the squares of all parameters; with ``loss`` "auc" or "auc-hinge", a
    smooth bound of one minus the area under the ROC curve takes the place of the cross-entropy.

    Raises:
        MissingExtra: without scikit-learn.
        UnknownName: for another loss.
        TorchscapeError: if ``n_train`` does not leave a test set.
    """
    images, labels = digits_data()
    if not 1 <= n_train < len(labels):
        raise TorchscapeError(f"n_train={n_train} of {len(labels)} images: choose 1 to {len(labels) - 1}")
    order = random.permutation(random.fold(seed, torch.arange(1)), len(labels))[0]
    x, y = images[order].to(device, dtype), labels[order].to(device)
    net = tanh_network(64, hidden, 10, seed)
    data = (x[:n_train], y[:n_train])
    return Problem(
        name="digits",
        potential=ModulePotential(net, data, choose_loss(loss), l2, dtype=dtype, device=device),
        description=f"64-{hidden}-10 tanh network on {n_train} handwritten digits, {loss}, l2 = {l2:g}",
        source="E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998), "
        "doi 10.24432/C50P49, as shipped by scikit-learn",
        suggested={"walkers": 32, "hops": 5, "temperature": 0.02, "step": 0.5, "neighbours": 8},
        test=(x[n_train:], y[n_train:]),
    )


def digits_data() -> tuple[Float[Tensor, "n 64"], Int[Tensor, "n"]]:
    """The 1797 images of digits that scikit-learn ships, scaled to [0, 1], and their labels.

    Raises:
        MissingExtra: without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtra.of("scikit-learn", "demo") from error
    images, labels = load_digits(return_X_y=True)
    return torch.as_tensor(images) / 16, torch.as_tensor(labels)


def trimer_network(
    hidden: int = 3,
    n_train: int = 500,
    l2: float = 1e-4,
    n_test: int = 500,
    distances: str = "r12+r13+r23",
    steps: int | None = None,
    biases: bool = True,
    loss: str = "cross-entropy",
    seed: int = 0,
    data: str | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Problem:
    """Which isomer will a trimer relax to? A tanh network, k-h-4, on k of its distances.

    The classes are the triangle (0) and the linear chain with atom 1, 2 or 3 in the middle. Without a file the
    data are the first rows of the database of :func:`~torchscape.problems.trimers.trimer_database`, which is
    computed once and kept; with one, they are read from the arrays ``distances`` [n 3] and ``label`` [n] (and,
    for ``steps``, ``trajectory`` [n s 3]) of an .npz file. The energy is the mean ``loss`` (as for :func:`digits`)
    plus l2 times the sum of the squares of all parameters, or of the weights alone with ``biases=false``.

    ``distances`` names the inputs, joined by "+". They are those at the start, or ``steps`` steps before the end
    of the descent, where the fate is easier to tell.

    Raises:
        UnknownName: for another loss or distance.
        TorchscapeError: if the file is missing, has no such arrays, or too few rows; for steps that are not kept.
    """
    n = n_train + n_test
    if data is None:
        inputs, labels = trimer_data(n, seed, steps, progress=n > _SHOWN)
    else:
        inputs, labels = _read(Path(data), n, steps)
    chosen = _chosen(distances)
    x, y = inputs[:, chosen].to(device, dtype), labels.to(device)
    net = tanh_network(len(chosen), hidden, 4, seed)
    train = (x[:n_train], y[:n_train])
    return Problem(
        name="trimer-network",
        potential=ModulePotential(
            net,
            train,
            choose_loss(loss),
            l2,
            regularise=None if biases else "*weight",
            dtype=dtype,
            device=device,
        ),
        description=f"{len(chosen)}-{hidden}-4 tanh network on {n_train} trimers, {loss}, l2 = {l2:g}"
        + (" on the weights" if not biases else "")
        + (f", {steps} steps from convergence" if steps is not None else ""),
        source="A. J. Ballard et al., Phys. Chem. Chem. Phys. 19, 12585 (2017), doi 10.1039/c7cp01108c, III",
        known=Known(note="published counts (162 minima and more) depend on unpublished l2 and normalisation"),
        suggested={
            **{"walkers": 64, "hops": 10, "temperature": 0.02, "step": 0.5, "neighbours": 8},
            **{"strategy": ("basin-hopping", "connect", "climb"), "searches": 16},
        },
        test=(x[n_train:n], y[n_train:n]) if n_test else None,
    )


def _chosen(distances: str) -> list[int]:
    """The columns of a sum of names such as r12+r23."""
    columns = []
    for name in distances.split("+"):
        if name.strip() not in _DISTANCES:
            raise UnknownName.of("distance", name.strip(), list(_DISTANCES))
        columns.append(_DISTANCES.index(name.strip()))
    if len(set(columns)) < len(columns):
        raise TorchscapeError(f"distances={distances} names one of them twice: leave it out")
    return columns


def _read(path: Path, n: int, steps: int | None) -> tuple[Float[Tensor, "n 3"], Int[Tensor, "n"]]:
    if not path.is_file():
        raise TorchscapeError(f"there is no file {path}: leave data out to compute the trimers instead")
    kind = "distances" if steps is None else "trajectory"
    with np.load(path, allow_pickle=False) as arrays:
        if not {kind, "label"} <= set(arrays.files):
            shape = "[n 3]" if steps is None else "[n s 3]"
            raise TorchscapeError(f"{path} holds {', '.join(arrays.files)}: it needs {kind} {shape} and label [n]")
        inputs, labels = arrays[kind][:n], arrays["label"][:n]
    if len(labels) < n:
        raise TorchscapeError(f"{path} has {len(labels)} rows for n_train + n_test = {n}: ask for fewer")
    if steps is not None:
        if not 0 <= steps < inputs.shape[1]:
            raise TorchscapeError(
                f"steps={steps}: {path} has the last {inputs.shape[1] - 1} steps; ask for 0 to them"
            )
        inputs = inputs[:, steps]
    return torch.as_tensor(inputs, dtype=torch.float64), torch.as_tensor(labels.astype(np.int64))


_LOSSES: dict[str, Callable[[], Callable[..., Tensor]]] = {
    "cross-entropy": lambda: torch.nn.functional.cross_entropy,
    "auc": AUCLoss,
    "auc-hinge": lambda: AUCLoss("squared-hinge"),
}


def choose_loss(name: str) -> Callable[..., Tensor]:
    """The loss of that name, on outputs and class indices.

    Example:
        >>> choose_loss("auc-hinge").surrogate
        'squared-hinge'
    """
    if name not in _LOSSES:
        raise UnknownName.of("loss", name, list(_LOSSES))
    return _LOSSES[name]()


def tanh_network(n_in: int, hidden: int, n_out: int, seed: int) -> torch.nn.Module:
    """One hidden tanh layer, initialised from ``seed`` without touching the global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.nn.Sequential(torch.nn.Linear(n_in, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, n_out))
