"""Finite temperature: Langevin and Hamiltonian samplers over thousands of chains, and what to believe of them."""

from typing import TYPE_CHECKING

from torchscape.deprecation import old_names
from torchscape.sampling import basins
from torchscape.sampling.adaptive import AdaptiveLangevin
from torchscape.sampling.autocorrelation_times import (
    AutocorrelationTime,
    autocorrelation,
    autocorrelation_time,
    effective_sample_size,
    integrated_autocorrelation,
)
from torchscape.sampling.bandwidth import LogSumSlope, log_sum_slope
from torchscape.sampling.chains import Chains, Sampler
from torchscape.sampling.covariance import CCAdL, NoiseMemory, SplitBatch
from torchscape.sampling.diagnostics import (
    Diagnosis,
    SamplingWarning,
    bulk_ess,
    configurational_temperature,
    diagnose,
    r_hat,
)
from torchscape.sampling.diffusion_maps import DiffusionMap, diffusion_map
from torchscape.sampling.drawing import Samples, sample
from torchscape.sampling.ensemble import EnsembleQuasiNewton
from torchscape.sampling.free_energies import FreeEnergy, free_energy_profile
from torchscape.sampling.hamiltonian import HMC
from torchscape.sampling.kernels import FixedBandwidth, VariableBandwidth
from torchscape.sampling.langevin import ABOBA, BAOA, BAOAB, GLA1, GLA2, OBABO, SGLD, Splitting
from torchscape.sampling.neighbours import Neighbours, nearest_neighbours
from torchscape.sampling.principal import PrincipalDirections, principal_directions
from torchscape.sampling.superposition import HarmonicMixture, Superposition, WeightedSamples, reweight
from torchscape.sampling.tempering import Ladder, ParallelTempering

__all__ = [
    "ABOBA",
    "BAOA",
    "BAOAB",
    "GLA1",
    "GLA2",
    "HMC",
    "OBABO",
    "SGLD",
    "AdaptiveLangevin",
    "AutocorrelationTime",
    "CCAdL",
    "Chains",
    "Diagnosis",
    "DiffusionMap",
    "EnsembleQuasiNewton",
    "FixedBandwidth",
    "FreeEnergy",
    "HarmonicMixture",
    "Ladder",
    "LogSumSlope",
    "Neighbours",
    "NoiseMemory",
    "ParallelTempering",
    "PrincipalDirections",
    "Sampler",
    "Samples",
    "SamplingWarning",
    "SplitBatch",
    "Splitting",
    "Superposition",
    "VariableBandwidth",
    "WeightedSamples",
    "autocorrelation",
    "autocorrelation_time",
    "basins",
    "bulk_ess",
    "configurational_temperature",
    "diagnose",
    "diffusion_map",
    "effective_sample_size",
    "free_energy_profile",
    "integrated_autocorrelation",
    "log_sum_slope",
    "nearest_neighbours",
    "principal_directions",
    "r_hat",
    "reweight",
    "sample",
]

if not TYPE_CHECKING:  # which type checkers would take for any name at all
    _RENAMED = {
        "Gaussian": "torchscape.sampling.FixedBandwidth",
        "free_energy": "torchscape.sampling.free_energy_profile",
    }
    __getattr__ = old_names(__name__, _RENAMED, until="0.2")
