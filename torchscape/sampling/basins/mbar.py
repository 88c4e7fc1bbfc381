"""Volumes of basins from the walks that are there, by the multistate Bennett acceptance ratio."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

import numpy as np
import torch

from torchscape.errors import MissingExtra
from torchscape.sampling.basins.errors import student
from torchscape.sampling.basins.volume import BasinVolumes
from torchscape.types import Float, Tensor

__all__ = ["mbar_volumes"]


def mbar_volumes(volumes: BasinVolumes) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
    """ln v and its standard error from the same walks by the multistate Bennett acceptance ratio (pymbar 4).

    No quadrature: every sample counts at every force constant. The error is that of independent ladders (the
    estimating equations linearised, summed over each ladder), so that neither autocorrelation nor the exchange of
    walkers between force constants makes it too small, as the formula for independent samples would, widened as
    Student's law is for so many ladders; that of the reference is added in squares.

    Raises:
        MissingExtra: without pymbar.

    Reference: Shirts & Chodera, J. Chem. Phys. 129, 124105 (2008), doi 10.1063/1.2978177.
    """

    from scipy.optimize import OptimizeWarning

    mbar = _pymbar()
    square, force_constant = volumes.walks.square.cpu().double(), volumes.force_constant.cpu().double()
    _, n, w, k = square.shape
    near = _integrated(force_constant, volumes.mean_square.cpu().double())
    values, errors = [], []
    for i in range(n):  # one small self-consistent problem each, in numpy
        samples = square[:, i].permute(2, 1, 0).reshape(k, w, -1)  # by force constant, ladder, time
        energy = 0.5 * force_constant[i][:, None] * samples.reshape(1, -1)
        with warnings.catch_warnings(), _quiet():
            # pymbar hands SciPy's root finder options that it has not got.
            warnings.filterwarnings("ignore", message="Unknown solver options", category=OptimizeWarning)
            solved = mbar(energy.numpy(), np.full(k, energy.shape[1] // k), initial_f_k=near[i].numpy())
        f = torch.as_tensor(np.array(solved.f_k))
        values.append(f[-1] - f[0])
        errors.append(_error(energy, f, w))
    value, error = (torch.stack(part).to(volumes.log_volume) for part in (values, errors))
    missing = torch.where(volumes.is_found, 0.0, torch.nan)
    total = (error.square() + volumes.reference_error.square()).sqrt()
    return volumes.log_reference + value + missing, total + missing


def _integrated(force_constant: Float[Tensor, "N K"], square: Float[Tensor, "N K"]) -> Float[Tensor, "N K"]:
    """f_k - f_1 by the trapezoidal rule of d f / d k = <r^2> / 2: a start for the equations, and close to their
    solution, so that they take a tenth of the iterations."""
    pieces = 0.25 * force_constant.diff(dim=1) * (square[:, 1:] + square[:, :-1])
    return torch.nn.functional.pad(pieces.cumsum(1), (1, 0)).nan_to_num(0.0)


def _error(energy: Float[Tensor, "K M"], f: Float[Tensor, "K"], n_ladders: int) -> Float[Tensor, ""]:
    """Standard error of f_K - f_1: sum_n w_kn = 1 for all k, linearised in f, its noise taken ladder by ladder."""
    k, m = energy.shape
    each = m // k
    weight = f[:, None] - energy
    weight = (weight - weight.logsumexp(0)).exp() / each
    by_ladder = weight.reshape(k, k, n_ladders, -1).sum((1, 3))
    by_ladder = by_ladder - by_ladder.mean(1, keepdim=True)
    slope = torch.eye(k, dtype=f.dtype) - each * weight @ weight.T
    contrast = torch.zeros_like(f)
    contrast[0], contrast[-1] = -1.0, 1.0
    # Adding a constant to f changes nothing: the pseudo-inverse leaves that direction out.
    answer = contrast @ torch.linalg.pinv(slope, rtol=1e-10) @ by_ladder
    error = (answer.square().sum() * n_ladders / (n_ladders - 1)).sqrt()
    return error * student(torch.tensor(n_ladders - 1.0, dtype=f.dtype))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """pymbar tells its log that JAX is absent, and of every solver that it leaves for the next."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _pymbar():
    try:
        with warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore", DeprecationWarning)
            from pymbar import MBAR
    except ImportError as error:
        raise MissingExtra.of("pymbar", "volumes") from error
    return MBAR
