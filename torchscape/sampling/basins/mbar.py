"""Volumes of basins from the walks that are there, by the multistate Bennett acceptance ratio."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import torch
from scipy.optimize import OptimizeWarning

from torchscape.errors import MissingExtra, TorchscapeError
from torchscape.sampling.basins.volume import BasinVolumes
from torchscape.sampling.diagnostics import effective_sample_size
from torchscape.types import Float, Tensor

__all__ = ["mbar_volumes"]


def mbar_volumes(volumes: BasinVolumes) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
    """ln v and its standard error from the same walks by the multistate Bennett acceptance ratio (pymbar 4).

    No quadrature: every sample counts at every spring constant. Samples are thinned to independent ones by the
    autocorrelation time of r^2 at the slowest spring; the asymptotic error of MBAR and that of the reference are
    added in squares.

    Raises:
        MissingExtra: without pymbar.
        TorchscapeError: if the samples are so correlated that none are left.

    Reference: Shirts & Chodera, J. Chem. Phys. 129, 124105 (2008), doi 10.1063/1.2978177.
    """
    mbar = _pymbar()
    square, spring = volumes.walks.square.cpu().double(), volumes.spring.cpu().double()
    s, n, w, k = square.shape
    size = effective_sample_size(square.permute(0, 2, 1, 3).contiguous())
    thin = (s * w / size.nan_to_num(1.0)).amax(1).ceil().long().clamp(min=1)
    if bool((thin > s // 2).any()):
        raise TorchscapeError(
            f"r^2 stays correlated over {int(thin.max())} of {s} steps, too long for MBAR: walk more steps"
        )
    values, errors = [], []
    for i in range(n):  # one small self-consistent problem each, in numpy
        kept = square[:: int(thin[i]), i].permute(2, 0, 1).reshape(k, -1)
        energy = 0.5 * spring[i][:, None] * kept.reshape(1, -1)
        with warnings.catch_warnings():
            # pymbar hands SciPy's root finder options that it has not got.
            warnings.filterwarnings("ignore", message="Unknown solver options", category=OptimizeWarning)
            solved = mbar(energy.numpy(), np.full(k, kept.shape[1])).compute_free_energy_differences()
        values.append(solved["Delta_f"][0, -1])
        errors.append(solved["dDelta_f"][0, -1])
    value, error = (torch.as_tensor(np.array(part)).to(volumes.log_volume) for part in (values, errors))
    missing = torch.where(volumes.is_found, 0.0, torch.nan)
    total = (error.square() + volumes.reference_error.square()).sqrt()
    return volumes.log_reference + value + missing, total + missing


def _pymbar():
    """pymbar's MBAR; on import it announces by its log that JAX is absent, which is no news here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            from pymbar import MBAR
    except ImportError as error:
        raise MissingExtra.of("pymbar", "volumes") from error
    finally:
        logging.disable(before)
    return MBAR
