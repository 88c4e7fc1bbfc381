"""Lowest eigenpairs against dense decompositions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from saddles.known import Form

from torchscape.potentials import LennardJones, Potential
from torchscape.saddles import eigen
from torchscape.saddles.decomposition import dense_spectrum
from torchscape.saddles.eigen import lowest_eigenpairs, orthonormalised
from torchscape.saddles.projector import Projector


def random_form(d: int, seed: int, low=-1.0, high=100.0) -> Form:
    generator = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))
    values = low + (high - low) * torch.rand(d, generator=generator, dtype=torch.float64)
    h = (q * values) @ q.T
    return Form(0.5 * (h + h.T))


@settings(max_examples=15, deadline=None)
@given(st.integers(3, 60), st.integers(1, 4), st.integers(0, 10**6))
def test_lowest_pairs_are_those_of_the_dense_matrix(d, k, seed):
    u = random_form(d, seed)
    k = min(k, d)
    found = lowest_eigenpairs(u, torch.zeros(2, d, dtype=torch.float64), k, tol=1e-9, seed=seed)
    exact = torch.linalg.eigvalsh(u.h)
    assert torch.allclose(found.values[0], exact[:k], atol=1e-6)
    assert torch.allclose(found.values[1], exact[:k], atol=1e-6)
    product = torch.einsum("bkd,de->bke", found.vectors, u.h)
    residual = (product - found.values[:, :, None] * found.vectors).norm(dim=2)
    assert torch.allclose(residual, found.residuals, atol=1e-8)
    gram = found.vectors @ found.vectors.mT
    assert torch.allclose(gram, torch.eye(k, dtype=torch.float64).expand(2, k, k), atol=1e-10)


def test_an_exact_eigenvector_of_a_higher_mode_does_not_pass_for_the_lowest():
    """A warm start can be stationary for Rayleigh-Ritz without being lowest: its residual is zero at once."""
    u = random_form(40, 3)
    exact, vectors = torch.linalg.eigh(u.h)
    guess = vectors[:, 5].reshape(1, 1, 40)
    found = lowest_eigenpairs(u, torch.zeros(1, 40, dtype=torch.float64), 1, guess=guess, tol=1e-8)
    assert found.values[0, 0] == pytest.approx(float(exact[0]), abs=1e-6)


def test_a_warm_start_saves_products():
    u = random_form(300, 4, low=-1.0, high=1000.0)
    x = torch.zeros(1, 300, dtype=torch.float64)
    cold = lowest_eigenpairs(u, x, 1, tol=1e-6)
    warm = lowest_eigenpairs(u, x, 1, guess=cold.vectors, tol=1e-6)
    assert warm.values[0, 0] == pytest.approx(float(torch.linalg.eigvalsh(u.h)[0]), abs=1e-4)
    assert int(warm.n_hvps) < 0.5 * int(cold.n_hvps)


@pytest.mark.parametrize("max_dim", [None, 90])
def test_large_spaces_and_restarted_ones_find_known_lowest_values_in_lots_of_any_size(max_dim, monkeypatch):
    """More than fifty vectors: Ritz pairs are looked at now and then only, and 90 vectors restart on the way."""
    generator = torch.Generator().manual_seed(6)
    low = torch.tensor([[-1.0], [0.5], [-40.0]], dtype=torch.float64)
    values = low + (3e3 - low) * torch.rand(3, 700, generator=generator, dtype=torch.float64)
    normal = torch.randn(3, 700, generator=generator, dtype=torch.float64)
    normal /= normal.norm(dim=1, keepdim=True)

    class Several(Potential):
        """Known curvatures along reflected axes, so that a product is cheap; the first coordinate of a row tells
        which."""

        ndim = 700

        def energy(self, x):
            which = x.detach()[:, 0].round().long()
            n = normal[which]
            reflected = x - 2 * (x * n).sum(1, keepdim=True) * n
            return 0.5 * (values[which] * reflected**2).sum(1)

    x = torch.zeros(3, 700, dtype=torch.float64)
    x[:, 0] = torch.arange(3)
    # scale times 1e-9 is an eigenvalue to 3e-6, and better: it errs as the square of the residual
    found = lowest_eigenpairs(Several(), x, 2, tol=1e-9, max_dim=max_dim, projector=Projector(None, None))
    assert int(found.n_hvps.min()) > 3 * 50
    assert torch.allclose(found.values, values.sort(1).values[:, :2], rtol=0, atol=1e-6)
    monkeypatch.setattr(eigen, "_SPACES_BYTES", 1)
    apart = lowest_eigenpairs(Several(), x, 2, tol=1e-9, max_dim=max_dim, projector=Projector(None, None))
    assert torch.allclose(apart.values, found.values, rtol=0, atol=1e-9)
    assert torch.equal(apart.n_hvps, found.n_hvps)


def test_what_is_not_converged_says_so():
    u = random_form(400, 5, low=0.0, high=1e4)
    found = lowest_eigenpairs(u, torch.zeros(1, 400, dtype=torch.float64), 1, tol=1e-12, max_hvps=20)
    assert float(found.residuals[0, 0]) > 1e-3


def test_rotations_and_translations_of_a_cluster_are_left_out():
    u = LennardJones(5)
    x = u.sample(3, seed=1)
    projector = Projector.at(u, x)
    found = lowest_eigenpairs(u, x, 2, tol=1e-10)
    values, vectors, finite = dense_spectrum(u.hessian(x), projector)
    assert bool(finite.all())
    assert torch.allclose(found.values, values[:, :2], rtol=1e-6, atol=1e-5 * float(values.abs().max()))
    overlap = torch.einsum("bkd,bzd->bkz", vectors[:, :-6], projector.zero)
    assert overlap.abs().max() < 1e-8


def test_nan_hessians_are_named_and_harm_no_other_row():
    h = torch.eye(3, dtype=torch.float64).repeat(2, 1, 1)
    h[0, 1, 1] = torch.nan
    values, _, finite = dense_spectrum(h, Projector(None, None))
    assert finite.tolist() == [False, True]
    assert values[1].tolist() == [1.0, 1.0, 1.0]


def test_vectors_that_add_nothing_are_zero_and_marked():
    basis = torch.eye(4, dtype=torch.float64)[None, :2]
    new = torch.tensor([[[1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0], [0.0, 1.0, 1.0, 0.0]]], dtype=torch.float64)
    out, valid = orthonormalised(new, basis, Projector(None, None))
    assert valid.tolist() == [[False, True, False]]
    assert out[0, 1].tolist() == [0.0, 0.0, 1.0, 0.0]
    assert out[0, 0].abs().max() == 0
