"""Rates, passage times, committors, fluxes against closed forms, linear solves, PyGT, a published network."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from connected import connected_network

from torchscape.analysis import kinetics
from torchscape.analysis.kinetics.rate_theory import Rates, rates
from torchscape.analysis.thermodynamics.superposition import occupation
from torchscape.errors import TorchscapeError
from torchscape.export import read_pathsample, read_pathsample_sets
from torchscape.network import Network

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "pathsample_9comm"


@pytest.fixture(scope="module")
def published() -> Network:
    """994 minima, 4320 transition states: the nine-community network of the Wales group's public examples."""
    if not DATA.exists():
        pytest.skip(f"{DATA} is not there: the published network is not distributed with the package")
    return read_pathsample(DATA)


def test_two_state_rate_constants(device):
    """k = (o_b / o_s) / 2 pi exp[(ln mu_b - ln mu_s) / 2 - dE / T], summed over parallel transition states."""
    network = Network.of(
        [0.0, 0.5],
        [(0, 1), (1, 0)],
        [2.0, 3.0],
        log_det=[1.0, 2.0],
        ts_log_det=[0.3, 0.4],
        log_degeneracy=[-math.log(6), -math.log(2)],
        ts_log_degeneracy=[-math.log(1), -math.log(3)],
        n_modes=3,
    ).to(device)
    t = 0.7

    def k(order_b, order_s, mu_b, mu_s, barrier):
        return order_b / order_s / (2 * math.pi) * math.exp((mu_b - mu_s) / 2 - barrier / t)

    up = k(6, 1, 1.0, 0.3, 2.0) + k(6, 3, 1.0, 0.4, 3.0)
    down = k(2, 1, 2.0, 0.3, 1.5) + k(2, 3, 2.0, 0.4, 2.5)
    chain = rates(network, t)
    assert chain.log_rates.exp().flatten().tolist() == pytest.approx([up, down], rel=1e-13)
    for a, b, rate in ((1, 0, up), (0, 1, down)):
        result = kinetics.rate_constants(chain, a, b)
        logs = [result.log_k, result.log_k_mfpt, result.log_k_steady_state, result.log_k_non_steady_state]
        assert logs == pytest.approx([math.log(rate)] * 4, abs=1e-13)
        assert result.mfpt == pytest.approx(1 / rate, rel=1e-12)


@pytest.mark.parametrize("temperature", [5.0, 0.3, 0.01])
def test_detailed_balance_to_rounding(temperature):
    """Also where minima have different numbers of modes: p from thermodynamics, k from the rates."""
    network = connected_network(30, 40)
    n_modes = torch.randint(3, 7, (30,), generator=torch.Generator().manual_seed(0))
    network = Network.of(
        network.energy, network.edges, network.ts_energy, log_det=network.log_det, n_modes=n_modes, ts_n_modes=4
    )
    chain = rates(network, temperature)
    torch.testing.assert_close(chain.log_occupation.exp(), occupation(network, temperature))
    forth, back = chain.log_rates
    i, j = chain.edges
    balance = forth + chain.log_occupation[i] - back - chain.log_occupation[j]
    scale = float(chain.log_conductance.abs().max())
    assert float(balance.abs().max()) <= 4 * np.finfo(float).eps * scale
    k = chain.matrix().to_dense()
    torch.testing.assert_close(
        k.sum(0), torch.zeros(30, dtype=torch.float64), rtol=0, atol=1e-13 * float(k.abs().max())
    )


@pytest.mark.parametrize("method", ["auto", "sparse"])
def test_published_network_to_nine_digits(published, method):
    """A = {144}, B = {4} (numbered from one), T = 1. A float64 linear solve fails this in the seventh digit."""
    chain = rates(published, 1.0)
    there = float(kinetics.mean_first_passage_times(chain, 143, method=method)[3])
    back = float(kinetics.mean_first_passage_times(chain, 3, method=method)[143])
    assert (there, back) == pytest.approx((7.520218829e11, 3.096648467e11), rel=5e-10)
    # From a plain elimination in 80-bit arithmetic, written for this test alone.
    assert (there, back) == pytest.approx((7.5202188284846277e11, 3.0966484663098435e11), rel=1e-13)


def test_published_network_in_three_lines(published):
    """As in docs/analysis.md: the end states come from the files min.A and min.B."""
    a, b = read_pathsample_sets(DATA)
    chain = rates(published, 1.0)
    times = kinetics.rate_constants(chain, a, b).mfpt, kinetics.rate_constants(chain, b, a).mfpt
    assert (a.tolist(), b.tolist()) == ([143], [3])
    assert times == pytest.approx((7.520218829e11, 3.096648467e11), rel=5e-10)


def test_published_network_flux_balances(published):
    chain = rates(published, 1.0)
    flux = kinetics.net_flux(chain, 143, 3)
    assert flux.residual < 1e-12
    i, j = flux.edges
    out = torch.zeros(994, dtype=torch.float64)
    out.index_add_(0, i, flux.fraction).index_add_(0, j, -flux.fraction)
    assert float(out[3]) == pytest.approx(1.0, rel=1e-9)
    assert float(out[143]) == pytest.approx(-1.0, rel=1e-9)
    result = kinetics.rate_constants(chain, 143, 3)
    # One minimum in each set: all rate constants except the steady-state one are 1 / MFPT.
    assert [result.log_k, result.log_k_mfpt] == pytest.approx([-math.log(7.520218829e11)] * 2, abs=1e-9)
    assert flux.log_total == pytest.approx(result.log_k_steady_state + float(chain.log_occupation[3]), abs=1e-12)


def committor_by_solve(chain: Rates, a: list[int], b: list[int]) -> np.ndarray:
    k = chain.matrix().to_dense().numpy().T
    inside = np.setdiff1d(np.arange(len(k)), [*a, *b])
    q = np.zeros(len(k))
    q[a] = 1.0
    q[inside] = np.linalg.solve(k[np.ix_(inside, inside)], -k[np.ix_(inside, a)].sum(1))
    return q


def test_committors_against_a_linear_solve(device):
    chain = rates(connected_network(30, 40), 1.0)
    a, b = [0, 4], [7, 20, 21]
    ours = kinetics.committors(rates(connected_network(30, 40).to(device), 1.0), a, b).cpu()
    torch.testing.assert_close(ours, torch.as_tensor(committor_by_solve(chain, a, b)), rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(ours + kinetics.committors(chain, b, a), torch.ones(30, dtype=torch.float64))


def test_small_committors_keep_their_digits():
    """A gambler's ruin uphill by 100 T a step: q_k = (sum_{i<k} 1/c_i) / (sum_i 1/c_i), down to e^-900."""
    edges = [(k, k + 1) for k in range(9)]
    network = Network.of([0.0] * 10, edges, [10.0 + 10.0 * k for k in range(9)])
    ours = kinetics.log_committors(rates(network, 0.1), 9, 0)
    resistance = np.logaddexp.accumulate([100.0 * k for k in range(9)])
    assert ours[1:].tolist() == pytest.approx((resistance - resistance[-1]).tolist(), abs=1e-12)


def test_net_flux_is_conserved_and_carries_the_steady_state_rate():
    chain = rates(connected_network(30, 40), 0.5)
    a, b = [0, 4], [7, 20]
    flux = kinetics.net_flux(chain, a, b)
    q = committor_by_solve(chain, a, b)
    i, j = chain.edges.numpy()
    direct = chain.log_conductance.exp().numpy() * (q[j] - q[i])
    np.testing.assert_allclose(flux.fraction.numpy() * math.exp(flux.log_total), direct, rtol=1e-8, atol=1e-18)
    inside = np.setdiff1d(np.arange(30), [*a, *b])
    out = np.bincount(i, flux.fraction, 30) - np.bincount(j, flux.fraction, 30)
    assert np.abs(out[inside]).max() < 1e-14
    assert out[b].sum() == pytest.approx(1.0, rel=1e-12)
    log_pb = float(chain.log_occupation[b].logsumexp(0))
    assert flux.log_total == pytest.approx(
        kinetics.rate_constants(chain, a, b).log_k_steady_state + log_pb, abs=1e-12
    )


def test_slow_flux_through_a_fast_intermediate():
    """Exchange inside the intermediate is 1e13 times faster than passage through it; the net flux is exact."""
    network = Network.of(
        [0.0, 0.0, 0.0, 0.0, 0.0],
        [(0, 1), (1, 2), (2, 3), (1, 3), (3, 4)],
        [30.0, 0.0, 0.0, 0.0, 30.0],
    )
    flux = kinetics.net_flux(rates(network, 1.0), 4, 0)
    wanted = {(0, 1): 1.0, (1, 2): 1 / 3, (1, 3): 2 / 3, (2, 3): 1 / 3, (3, 4): 1.0}
    found = {tuple(e): f for e, f in zip(flux.edges.T.tolist(), flux.fraction.tolist(), strict=True)}
    assert found == pytest.approx(wanted, rel=1e-9)


def test_rate_constants_against_pygt():
    """All four definitions against PyGT (Swinburne & Wales 2020, doi 10.1021/acs.jctc.9b01211)."""
    pygt = pytest.importorskip("PyGT", reason="pip install PyGT to compare with it")
    chain = rates(connected_network(30, 40), 1.0)
    a, b = np.array([0, 4, 5]), np.array([7, 20])
    k = chain.matrix().to_dense().numpy()
    tau = (-chain.log_escape_rates).exp().numpy()
    in_a, in_b = np.isin(np.arange(30), a), np.isin(np.arange(30), b)
    branching = (k - np.diag(np.diag(k))) * tau
    pi = chain.log_occupation.exp().numpy()
    theirs = pygt.stats.compute_rates(in_a, in_b, branching, tau, pi, MFPTonly=False)
    for way, to, start in (("AB", a, b), ("BA", b, a)):
        ours = kinetics.rate_constants(chain, to.tolist(), start.tolist())
        got = [ours.mfpt, ours.k, *np.exp([ours.log_k_mfpt, ours.log_k_steady_state, ours.log_k_non_steady_state])]
        names = [f"MFPT{way}", f"kF{way}", f"k*{way}", f"kSS{way}", f"kNSS{way}"]
        wanted = [
            float(np.ravel(theirs[name].values if hasattr(theirs[name], "values") else theirs[name])[0])
            for name in names
        ]
        assert got == pytest.approx(wanted, rel=1e-9)


def test_definitions_agree_for_a_metastable_reactant():
    """B relaxes in 1, leaves in e^20: then all definitions of the rate constant are one number."""
    network = Network.of(
        [0.0, 0.2, 0.1, 0.0, 0.3],
        [(0, 1), (1, 2), (0, 2), (2, 3), (3, 4)],
        [1.0, 1.0, 1.2, 22.0, 1.0],
    )
    result = kinetics.rate_constants(rates(network, 1.0), [3, 4], [0, 1, 2])
    logs = [result.log_k, result.log_k_mfpt, result.log_k_steady_state, result.log_k_non_steady_state]
    assert max(logs) - min(logs) < 1e-7
    assert result.log_k_mfpt <= result.log_k + 1e-15


def test_disconnected_sets():
    network = Network.of([0.0, 0.1, 0.2, 0.3], [(0, 1), (2, 3)], [1.0, 1.0])
    chain = rates(network, 1.0)
    times = kinetics.mean_first_passage_times(chain, 0)
    assert times[0] == 0
    assert torch.isinf(times).tolist() == [False, False, True, True]
    q = kinetics.committors(chain, 0, 1)
    assert torch.isnan(q).tolist() == [False, False, True, True]
    assert kinetics.committors(chain, 0, 2).tolist() == pytest.approx([1.0, 1.0, 0.0, 0.0])
    result = kinetics.rate_constants(chain, 0, 2)
    assert (result.k, result.mfpt) == (0.0, math.inf)
    assert result.log_k_steady_state == result.log_k_non_steady_state == result.log_k_mfpt == -math.inf
    partly = kinetics.rate_constants(chain, 0, [1, 2])
    assert partly.mfpt == math.inf
    assert partly.k > 0
    with pytest.raises(TorchscapeError, match="no path"):
        kinetics.net_flux(chain, 0, 2)


def test_bad_arguments():
    chain = rates(connected_network(30, 40), 1.0)
    with pytest.raises(TorchscapeError, match="both sets"):
        kinetics.rate_constants(chain, [0, 1], [1, 2])
    with pytest.raises(TorchscapeError, match="outside"):
        kinetics.mean_first_passage_times(chain, -1)
    with pytest.raises(TorchscapeError, match="positive"):
        rates(connected_network(30, 40), 0.0)
    network = Network.of([0.0, 1.0], [(0, 1)], [2.0], ts_log_det=[math.nan])
    with pytest.raises(TorchscapeError, match="ts_log_det is NaN for 1 of 1"):
        rates(network, 1.0)


def test_no_transition_states():
    chain = rates(Network.of([0.0, 1.0], [], []), 1.0)
    assert chain.matrix().to_dense().tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert kinetics.mean_first_passage_times(chain, 0).tolist() == [0.0, math.inf]


def test_single_precision_networks_are_handled_in_double():
    network = Network.of([1000.0, 1000.5], [(0, 1)], [1001.0], dtype=torch.float32)
    chain = rates(network, 0.01)
    assert float(chain.log_rates[0, 0] + math.log(2 * math.pi)) == pytest.approx(-100.0, rel=1e-12)


def test_passage_times_of_five_thousand_minima_balance():
    """With 2.5 x 10^4 random transition states, which is as bad for elimination as it gets."""
    chain = rates(connected_network(5_000, 20_001), 1.0)
    log_t = kinetics.log_mean_first_passage_times(chain, 0)
    log_p, (i, j), c = chain.log_occupation, chain.edges, chain.log_conductance.exp()
    t = log_t.exp()
    left = torch.zeros_like(t).index_add_(0, i, c * (t[i] - t[j])).index_add_(0, j, c * (t[j] - t[i]))
    scale = torch.zeros_like(t).index_add_(0, i, c * t[i]).index_add_(0, j, c * t[j])
    assert float(((left - log_p.exp()) / scale)[1:].abs().max()) < 1e-12  # the balance that defines them
