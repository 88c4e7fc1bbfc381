"""Small neural networks on real and on computed data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from torchscape import random
from torchscape.errors import MissingExtra, TorchscapeError, UnknownName
from torchscape.potentials.clusters import Trimer
from torchscape.potentials.losses import AUCLoss
from torchscape.potentials.module import ModulePotential
from torchscape.problems.problem import Known, Problem
from torchscape.types import Float, Int, Tensor

__all__ = ["choose_loss", "digits", "digits_data", "isomer", "tanh_network", "trimer_data", "trimer_network"]


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
    loss: str = "cross-entropy",
    seed: int = 0,
    data: str | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Problem:
    """Which isomer will a trimer relax to? A 3-h-4 tanh network on its three initial distances.

    The classes are the triangle (0) and the linear chain with atom 1, 2 or 3 in the middle. Without a file the
    data are made on the spot, by :func:`trimer_data`; with one, they are read from the arrays ``distances``
    [n 3] and ``label`` [n] of an .npz file. The energy is the mean cross-entropy plus l2 times the sum of the
    squares of all parameters; ``loss`` may be "auc" or "auc-hinge" as for :func:`digits`.

    Raises:
        UnknownName: for another loss.
        TorchscapeError: if the file is missing, has no such arrays, or too few rows.
    """
    n = n_train + n_test
    inputs, labels = trimer_data(n, seed) if data is None else _read(Path(data), n)
    x, y = inputs.to(device, dtype), labels.to(device)
    # The counts hold for one published data set; another sample of trimers has its own landscape.
    net = tanh_network(3, hidden, 4, seed)
    train = (x[:n_train], y[:n_train])
    return Problem(
        name="trimer-network",
        potential=ModulePotential(net, train, choose_loss(loss), l2, dtype=dtype, device=device),
        description=f"3-{hidden}-4 tanh network on {n_train} trimers, {loss}, l2 = {l2:g}",
        source="A. J. Ballard et al., Phys. Chem. Chem. Phys. 19, 12585 (2017), doi 10.1039/c7cp01108c, III",
        known=Known(note="published counts (162 minima and more) depend on unpublished l2 and normalisation"),
        suggested={
            **{"walkers": 64, "hops": 10, "temperature": 0.02, "step": 0.5, "neighbours": 8},
            **{"strategy": ("basin-hopping", "connect", "climb"), "searches": 16},
        },
        test=(x[n_train:n], y[n_train:n]) if n_test else None,
    )


def trimer_data(n: int, seed: int = 0) -> tuple[Float[Tensor, "n 3"], Int[Tensor, "n"]]:
    """Random trimers (r_12, r_13, r_23 at the start) and what each relaxes to: 0 triangle, k chain about atom k.

    Atoms are drawn from a cube of side 2 sqrt(3), as published; the few that reach neither isomer are redrawn.

    Example:
        >>> inputs, labels = trimer_data(20)
        >>> inputs.shape, sorted(set(labels.tolist()) | {0, 1, 2, 3})
        (torch.Size([20, 3]), [0, 1, 2, 3])
    """
    from torchscape.optimise import LBFGS, relax

    potential = Trimer()
    inputs, labels = torch.empty(0, 3, dtype=torch.float64), torch.empty(0, dtype=torch.int64)
    batch = 0
    while len(labels) < n:
        starts = potential.sample(n, seed=int(random.fold(seed, batch)))
        # Short steps follow the slope, so that a start ends in the isomer it lies above.
        ends = relax(potential, starts, optimiser=LBFGS(memory=4, max_step=0.1), tol=1e-6, max_steps=2000)
        label = isomer(ends.x)
        keep = ends.converged & (label >= 0)
        inputs = torch.cat([inputs, Trimer.distances(starts)[keep]])
        labels = torch.cat([labels, label[keep]])
        batch += 1
    return inputs[:n], labels[:n]


def isomer(x: Float[Tensor, "B 9"]) -> Int[Tensor, "B"]:
    """0 for the equilateral triangle, k for the chain with atom k (1, 2, 3) in the middle, -1 for neither."""
    r = Trimer.distances(x)
    lengths, order = r.sort(1)
    triangle = lengths[:, 2] - lengths[:, 0] < 1e-2
    chain = (lengths[:, 2] - lengths[:, 0] - lengths[:, 1]).abs() < 1e-2
    bound = lengths[:, 2] < 3
    middle = torch.tensor([3, 2, 1], device=x.device)[order[:, 2]]  # the atom that the longest side does not touch
    label = torch.where(triangle, 0, torch.where(chain, middle, -1))
    return torch.where(bound, label, -1)


def _read(path: Path, n: int) -> tuple[Float[Tensor, "n 3"], Int[Tensor, "n"]]:
    if not path.is_file():
        raise TorchscapeError(f"there is no file {path}: leave data out to compute the trimers instead")
    with np.load(path, allow_pickle=False) as arrays:
        if not {"distances", "label"} <= set(arrays.files):
            raise TorchscapeError(
                f"{path} holds {', '.join(arrays.files)}: it needs distances [n 3] and label [n]"
            )
        inputs, labels = arrays["distances"][:n], arrays["label"][:n]
    if len(labels) < n:
        raise TorchscapeError(f"{path} has {len(labels)} rows for n_train + n_test = {n}: ask for fewer")
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
