"""The fits of degree laws beside those of the package ``powerlaw``."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from torchscape.analysis.graph.degree_laws import fit_degree_law


def drawn(law: str, n: int = 400) -> torch.Tensor:
    """Degrees with a heavy or a light tail."""
    rng = np.random.default_rng(7)
    return torch.as_tensor(rng.zipf(2.5, n) if law == "power law" else rng.geometric(0.3, n))


@pytest.mark.parametrize("law", ["power law", "exponential"])
@pytest.mark.parametrize("k_min", [1, 2])
def test_fits_and_their_comparison_are_those_of_the_library(law, k_min):
    powerlaw = pytest.importorskip("powerlaw", minversion="2.0")
    degree = drawn(law)
    ours = fit_degree_law(degree, k_min=k_min, n_bootstrap=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = powerlaw.Fit(degree.numpy(), discrete=True, estimate_discrete=False, xmin=k_min, verbose=0)
        ratio, p_value = theirs.distribution_compare("power_law", "exponential")
    assert ours.exponent == pytest.approx(theirs.power_law.alpha, rel=1e-3)
    assert ours.rate == pytest.approx(theirs.exponential.Lambda, rel=1e-3)
    assert ours.log_likelihood_ratio == pytest.approx(ratio, rel=1e-3)
    assert ours.p_value == pytest.approx(p_value, rel=1e-2, abs=1e-12)
    assert ours.favours == law
