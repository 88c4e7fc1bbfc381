"""Hyperparameters of a Gaussian process fitted to Schwefel's function, or to a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from torchscape import random
from torchscape.errors import TorchscapeError, UnknownName
from torchscape.potentials.gaussian_process import GaussianProcessPotential
from torchscape.potentials.kernels import Kernel, Matern, SquaredExponential
from torchscape.potentials.separable import Schwefel
from torchscape.problems.problem import Known, Problem
from torchscape.types import Float, Tensor

__all__ = ["gp"]

_HALF_SIDE = 500.0


def gp(
    kernel: str = "matern",
    nu: float | int = 2.5,
    ndim: int = 2,
    n: int = 60,
    n_test: int = 500,
    noise: float | int = 0.0,
    noisy_test: bool = False,
    seed: int = 1,
    data: str | None = None,
    low: float | int | None = -_HALF_SIDE,
    high: float | int | None = _HALF_SIDE,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Problem:
    """Gaussian-process hyperparameters: length scale per input, signal and noise, Matern of any real nu.

    The data are ``n`` uniform points of Schwefel's function in ``ndim`` dimensions, from ``seed`` alone, with
    normal ``noise`` in units of the standard deviation of the values (without it, some minima lie on the wall
    where the noise is least), and ``n_test`` further ones, with the same noise if ``noisy_test``, for
    ``Problem.test``; or the rows of the CSV file ``data`` (one line of names; the inputs, then the output),
    nothing held back. Inputs are scaled so that ``low`` and ``high`` become 0 and 1 (``none``: the lowest and
    highest of each column), outputs to mean 0 and variance 1. ``kernel`` is "matern" or "squared-exponential",
    which has no ``nu``.

    Raises:
        UnknownName: for another kernel.
        TorchscapeError: if the file is missing, is no such table, or has inputs outside ``low`` and ``high``.
    """
    x, y = _schwefel(n + n_test, ndim, seed) if data is None else _read(Path(data))
    if data is not None:
        n = len(x)
    elif noise:
        m = n + n_test if noisy_test else n
        y[:m] += noise * y[:n].std() * random.normal(random.fold(seed, torch.arange(m), 1), 1)[:, 0]
    train_x, train_y = x[:n], y[:n]
    if n < 2 or not train_y.std() > 0:
        raise TorchscapeError("a Gaussian process needs two points or more, and outputs that are not all equal")
    scaled = _scaled(x, train_x, low, high)
    standard = (y - train_y.mean()) / train_y.std(correction=0)
    potential = GaussianProcessPotential(scaled[:n], standard[:n], _kernel(kernel, nu), dtype=dtype, device=device)
    shown = f"Matern kernel with nu = {nu:g}" if kernel == "matern" else "squared-exponential kernel"
    of = f"Schwefel's function in {ndim} dimensions" if data is None else Path(data).name
    return Problem(
        name="gp",
        potential=potential,
        description=f"hyperparameters of a Gaussian process on {n} points of {of}, {shown}",
        source="M. P. Niroomand et al., Digital Discovery 3, 637 (2024), doi 10.1039/d3dd00204g, section 6",
        known=Known(
            note="as nu changes, minima appear and vanish by folds, or through the walls of the box, mostly that "
            "of the noise; those that sit on a wall are no stationary points and are not counted"
        ),
        suggested={"walkers": 64, "hops": 5, "temperature": 2.0, "step": 1.0, "neighbours": 8},
        test=(scaled[n:].to(device, dtype), standard[n:].to(device, dtype)) if len(x) > n else None,
    )


def _kernel(name: str, nu: float | int) -> Kernel:
    if name == "matern":
        return Matern(nu)
    if name == SquaredExponential.name:
        return SquaredExponential()
    raise UnknownName.of("kernel", name, ["matern", SquaredExponential.name])


def _schwefel(n: int, ndim: int, seed: int) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n"]]:
    x = _HALF_SIDE * (2 * random.uniform(random.fold(seed, torch.arange(n)), ndim) - 1)
    return x, Schwefel(ndim).energy(x)


def _read(path: Path) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n"]]:
    if not path.is_file():
        raise TorchscapeError(f"there is no file {path}: leave data out for Schwefel's function instead")
    try:
        table = torch.as_tensor(np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2))
    except ValueError as error:
        raise TorchscapeError(f"{path} is no table of numbers below a line of names ({error})") from error
    if table.shape[1] < 2:
        raise TorchscapeError(f"{path} has one column: it needs the inputs and, last, the output")
    return table[:, :-1], table[:, -1]


def _scaled(x: Float[Tensor, "n d"], train: Float[Tensor, "m d"], low, high) -> Float[Tensor, "n d"]:
    if low is not None and high is not None and not bool(((train >= low) & (train <= high)).all()):
        raise TorchscapeError(
            f"inputs lie between {float(train.min()):g} and {float(train.max()):g}, beyond low={low:g} and "
            f"high={high:g}: give other limits, or low=none,high=none for those of each column"
        )
    bottom = train.amin(0) if low is None else float(low)
    top = train.amax(0) if high is None else float(high)
    return (x - bottom) / (top - bottom)
