"""Finite temperature: Langevin and Hamiltonian samplers over thousands of chains, and what to believe of them."""

from torchscape.sampling.adaptive import AdaptiveLangevin
from torchscape.sampling.chains import Chains, Sampler
from torchscape.sampling.covariance import CCAdL, NoiseMemory, SplitBatch
from torchscape.sampling.diagnostics import (
    Diagnosis,
    SamplingWarning,
    autocorrelation,
    autocorrelation_time,
    bulk_ess,
    configurational_temperature,
    diagnose,
    effective_sample_size,
    r_hat,
)
from torchscape.sampling.ensemble import EnsembleQuasiNewton
from torchscape.sampling.hamiltonian import HMC
from torchscape.sampling.langevin import ABOBA, BAOA, BAOAB, GLA1, GLA2, OBABO, SGLD, Splitting
from torchscape.sampling.sample import Samples, sample
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
    "CCAdL",
    "Chains",
    "Diagnosis",
    "EnsembleQuasiNewton",
    "HarmonicMixture",
    "Ladder",
    "NoiseMemory",
    "ParallelTempering",
    "Sampler",
    "Samples",
    "SamplingWarning",
    "SplitBatch",
    "Splitting",
    "Superposition",
    "WeightedSamples",
    "autocorrelation",
    "autocorrelation_time",
    "bulk_ess",
    "configurational_temperature",
    "diagnose",
    "effective_sample_size",
    "r_hat",
    "reweight",
    "sample",
]
