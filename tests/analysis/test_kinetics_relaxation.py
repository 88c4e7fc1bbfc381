"""Time evolution and relaxation spectra against SciPy's matrix exponential and multiprecision."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import torch
from connected import connected_network

from torchscape.analysis.kinetics import relaxation
from torchscape.analysis.kinetics.passage import mean_first_passage_times
from torchscape.analysis.kinetics.rate_theory import Rates, rates
from torchscape.analysis.kinetics.relaxation import evolve, relaxation_spectrum
from torchscape.errors import TorchscapeError
from torchscape.network import Network


def exact_generator(chain: Rates) -> mpmath.matrix:
    k = mpmath.zeros(chain.n_minima)
    for (i, j), (forth, back) in zip(chain.edges.T.tolist(), chain.log_rates.T.tolist(), strict=True):
        for a, b, log_k in ((i, j, forth), (j, i, back)):
            k[b, a] += mpmath.exp(mpmath.mpf(log_k))
            k[a, a] -= mpmath.exp(mpmath.mpf(log_k))
    return k


def start_at(n: int, a: int) -> torch.Tensor:
    p = torch.zeros(n, dtype=torch.float64)
    p[a] = 1.0
    return p


def test_evolution_against_the_matrix_exponential():
    chain = rates(connected_network(20, 20), 1.0)
    k = chain.matrix().to_dense().numpy()
    times = [0.0, 0.3, 5.0, 100.0]
    ours = evolve(chain, start_at(20, 3), times)
    expected = np.stack([scipy.linalg.expm(k * t)[:, 3] for t in times])
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-10, atol=1e-14)


def test_series_and_squaring_agree(monkeypatch):
    chain = rates(connected_network(20, 20), 0.7)
    times = [0.0, 1e-6, 0.31, 7.7, 300.0, 301.5]
    series = evolve(chain, start_at(20, 1), times)
    monkeypatch.setattr(relaxation, "_LONG_SERIES", 0.0)
    torch.testing.assert_close(evolve(chain, start_at(20, 1), times), series, rtol=1e-11, atol=1e-16)


def test_stiff_evolution_against_multiprecision():
    """Two fast pairs, exchange between them e^-45 slower: p(t) must be right while the fast part is long over.

    SciPy's expm loses this: rates of 1e-20 vanish beside rates of one.
    """
    network = Network.of([0.0, 0.1, 0.2, 0.0], [(0, 1), (1, 2), (2, 3)], [0.5, 45.0, 0.6])
    chain = rates(network, 1.0)
    times = [1.0, 1e6, 1e18, 1e20, 1e21, 1e25]
    ours = evolve(chain, start_at(4, 0), times)
    with mpmath.workdps(80):
        values, vectors = mpmath.eig(exact_generator(chain))
        right = mpmath.lu_solve(vectors, mpmath.matrix([1, 0, 0, 0]))
        for row, t in zip(ours.tolist(), times, strict=True):
            decay = mpmath.matrix([mpmath.exp(v * mpmath.mpf(t)) * r for v, r in zip(values, right, strict=True)])
            exact = [float(mpmath.re(x)) for x in vectors * decay]
            assert row == pytest.approx(exact, rel=1e-10)


def test_evolution_ends_at_equilibrium_and_conserves_probability():
    chain = rates(connected_network(20, 20, barrier=5.0), 0.2)
    start = torch.rand(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    result = evolve(chain, start, torch.logspace(-3, 40, 12, dtype=torch.float64))
    torch.testing.assert_close(result.sum(1), start.sum().expand(12), rtol=1e-12, atol=0)
    torch.testing.assert_close(result[-1], start.sum() * chain.log_occupation.exp(), rtol=1e-10, atol=0)


def test_equilibrium_does_not_move():
    chain = rates(connected_network(20, 20, barrier=5.0), 0.2)
    p = chain.log_occupation.exp()
    torch.testing.assert_close(evolve(chain, p, [1.0, 1e10])[1], p, rtol=1e-11, atol=0)


def test_passage_time_is_the_integral_of_the_survival_probability():
    """T_Ab = int_0^inf sum of exp(K' t) e_b dt, K' the rate matrix without A, by matrix exponentials."""
    chain = rates(connected_network(6, 3), 2.0)
    k = chain.matrix().to_dense().numpy()[1:, 1:]
    survival = scipy.integrate.quad(
        lambda t: scipy.linalg.expm(k * t)[:, 3].sum(), 0, np.inf, epsabs=0, epsrel=1e-9
    )
    assert float(mean_first_passage_times(chain, 0)[4]) == pytest.approx(survival[0], rel=1e-8)


def test_evolution_without_edges_or_time():
    chain = rates(Network.of([0.0, 1.0], [], []), 1.0)
    assert evolve(chain, start_at(2, 1), [0.0, 5.0]).tolist() == [[0.0, 1.0], [0.0, 1.0]]
    assert evolve(rates(connected_network(20, 20), 1.0), start_at(20, 1), 0.0).tolist() == [
        start_at(20, 1).tolist()
    ]


def test_bad_evolution_arguments(monkeypatch):
    chain = rates(connected_network(20, 20), 1.0)
    with pytest.raises(TorchscapeError, match="not negative"):
        evolve(chain, start_at(20, 0), -1.0)
    with pytest.raises(TorchscapeError, match="non-negative probabilities"):
        evolve(chain, -start_at(20, 0), 1.0)
    monkeypatch.setattr(relaxation, "_DENSE_LIMIT", 10)
    with pytest.raises(TorchscapeError, match="graph_transformation"):
        evolve(chain, start_at(20, 0), 1e9)


def test_spectrum_against_the_eigenvalues_of_the_rate_matrix():
    chain = rates(connected_network(20, 20), 1.0)
    result = relaxation_spectrum(chain)
    k = chain.matrix().to_dense().numpy()
    expected = np.sort(-scipy.linalg.eigvals(k).real)
    np.testing.assert_allclose(result.rates[1:].numpy(), expected[1:], rtol=1e-9)
    assert result.rates[0] == 0
    v = result.modes.numpy()
    np.testing.assert_allclose(v.T @ v, np.eye(20), atol=1e-12)
    phi = v * chain.log_occupation.div(2).exp().numpy()[:, None]
    np.testing.assert_allclose(k @ phi, -phi * result.rates.numpy(), atol=1e-12)


@pytest.mark.parametrize("temperature", [0.3, 0.06])
def test_spectrum_over_many_orders_of_magnitude(temperature):
    """Relative accuracy of every single rate; at T = 0.06 they span more than seventy orders of magnitude."""
    chain = rates(connected_network(12, 8, seed=3, barrier=6.0), temperature)
    ours = relaxation_spectrum(chain).rates
    with mpmath.workdps(250):
        p = [mpmath.exp(mpmath.mpf(x)) for x in chain.log_occupation.tolist()]
        s = mpmath.zeros(len(p))
        for (a, b), log_c in zip(chain.edges.T.tolist(), chain.log_conductance.tolist(), strict=True):
            c = mpmath.exp(mpmath.mpf(log_c))
            s[a, a] += c / p[a]
            s[b, b] += c / p[b]
            s[a, b] -= c / mpmath.sqrt(p[a] * p[b])
            s[b, a] = s[a, b]
        exact = sorted(mpmath.eigsy(s, eigvals_only=True))
    span = float(mpmath.log10(exact[-1] / exact[1]))
    assert span > (15 if temperature > 0.1 else 70)
    assert ours[1:].log().tolist() == pytest.approx([float(mpmath.log(x)) for x in exact[1:]], abs=1e-11)


def test_one_stationary_mode_for_each_component():
    network = Network.of([0.0, 0.3, 0.1, 0.2, 0.5], [(0, 1), (2, 3)], [1.0, 1.0])
    chain = rates(network, 1.0)
    result = relaxation_spectrum(chain)
    assert result.rates[:3].tolist() == [0.0, 0.0, 0.0]
    pairs = chain.log_rates.exp().sum(0).sort().values
    torch.testing.assert_close(result.rates[3:], pairs, rtol=1e-12, atol=0)
    torch.testing.assert_close(result.modes.T @ result.modes, torch.eye(5, dtype=torch.float64))


def test_slowest_relaxation_of_two_funnels_is_the_sum_of_both_rates():
    network = Network.of([0.0, 0.2, 0.1, 0.4], [(0, 1), (1, 2), (2, 3)], [1.0, 40.0, 1.0])
    chain = rates(network, 1.0)
    slow = float(relaxation_spectrum(chain).rates[1])
    p = chain.log_occupation.exp()
    left = p[:2].sum()
    conductance = float(chain.log_conductance[1].exp())
    assert slow == pytest.approx(conductance / float(left * (1 - left)), rel=1e-9)


def test_spectrum_refuses_what_float64_cannot_hold():
    chain = rates(connected_network(20, 20, barrier=6.0), 0.001)
    with pytest.raises(TorchscapeError, match="raise the temperature"):
        relaxation_spectrum(chain)
    assert math.isfinite(float(rates(connected_network(20, 20), 1.0).log_occupation.sum()))
