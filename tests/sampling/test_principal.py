"""Covariance directions against NumPy's dense eigenvectors, and against a covariance known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torchscape.errors import TorchscapeError
from torchscape.sampling import principal, principal_directions


def samples(s: int, d: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    scale = 1.0 / torch.arange(1, d + 1, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=torch.float64)).Q
    return (torch.randn(s, d, generator=g, dtype=torch.float64) * scale) @ turn + 5.0


@pytest.mark.parametrize(("s", "d", "limit"), [(30, 80, 2000), (200, 40, 2000), (150, 120, 20)])
def test_leading_eigenpairs_are_those_of_the_dense_covariance(monkeypatch, device, s, d, limit):
    """From the Gram matrix, from the covariance itself, and by iteration."""
    monkeypatch.setattr(principal, "_GRAM", limit)
    x = samples(s, d)
    found = principal_directions(x.to(device), 4, tol=1e-14)
    values, vectors = np.linalg.eigh(np.cov(x.numpy().T))
    np.testing.assert_allclose(found.variances.cpu().numpy(), values[::-1][:4], rtol=1e-9)
    overlap = np.abs(found.directions.cpu().numpy() @ vectors[:, ::-1][:, :4])
    np.testing.assert_allclose(overlap, np.eye(4), atol=1e-5)
    assert found.total_variance == pytest.approx(values.sum(), rel=1e-10)
    np.testing.assert_allclose(found.explained.cpu().numpy(), values[::-1][:4] / values.sum(), rtol=1e-9)


def test_a_covariance_known_in_closed_form():
    """Points at +-c_k sqrt(D) e_k have the covariance diag(c_k^2), but for the factor n / (n - 1)."""
    d = 3000
    c = torch.arange(d, 0, -1, dtype=torch.float64)
    few = torch.arange(25)
    x = torch.zeros(50, d, dtype=torch.float64)
    x[few, few], x[few + 25, few] = c[few], -c[few]
    found = principal_directions(x, 3)
    torch.testing.assert_close(found.variances, 2 * c[:3].square() / 49, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.directions, torch.eye(d, dtype=torch.float64)[:3], rtol=0, atol=1e-9)


def test_what_has_no_directions_is_refused():
    with pytest.raises(TorchscapeError, match="at most 1 directions"):
        principal_directions(torch.randn(2, 5), 2)
    with pytest.raises(TorchscapeError, match="all samples are the same"):
        principal_directions(torch.ones(4, 5), 1)
