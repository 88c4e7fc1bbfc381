"""Graph transformation against linear solves, 60-digit arithmetic, closed forms and PyGT."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from connected import connected_network
from hypothesis import given, settings
from hypothesis import strategies as st

from torchscape.analysis.kinetics import elimination
from torchscape.analysis.kinetics.passage import (
    log_committors,
    log_mean_first_passage_times,
    mean_first_passage_times,
)
from torchscape.analysis.kinetics.rate_theory import Rates, rates
from torchscape.analysis.kinetics.transformation import graph_transformation
from torchscape.errors import TorchscapeError
from torchscape.network import Network

METHODS = ["auto", "sparse", "dense"]


def multiprecision_times(chain: Rates, target: list[int], digits: int = 60) -> list[float]:
    """ln of mean first-passage times by LU in many digits, from the same conductances and populations."""
    n = chain.n_minima
    with mpmath.workdps(digits):
        matrix = mpmath.zeros(n)
        for (i, j), log_c in zip(chain.edges.T.tolist(), chain.log_conductance.tolist(), strict=True):
            c = mpmath.exp(mpmath.mpf(log_c))
            matrix[i, i] += c
            matrix[j, j] += c
            matrix[i, j] -= c
            matrix[j, i] -= c
        inside = [a for a in range(n) if a not in target]
        small = mpmath.matrix([[matrix[a, b] for b in inside] for a in inside])
        right = mpmath.matrix([mpmath.exp(mpmath.mpf(float(chain.log_occupation[a]))) for a in inside])
        solution = mpmath.lu_solve(small, right)
        result = [-math.inf] * n
        for a, value in zip(inside, solution, strict=True):
            result[a] = float(mpmath.log(value))
        return result


def linear_solve(chain: Rates, target: list[int]) -> np.ndarray:
    """Mean first-passage times from K^T T = -1 by LAPACK: right where K is well conditioned."""
    k = chain.matrix().to_dense().numpy()
    inside = np.setdiff1d(np.arange(len(k)), target)
    times = np.zeros(len(k))
    times[inside] = np.linalg.solve(k[np.ix_(inside, inside)].T, -np.ones(len(inside)))
    return times


@pytest.fixture(params=["linear", "logarithmic"])
def arithmetic(request, monkeypatch) -> str:
    """Runs a test in both arithmetics, whichever the data would have chosen."""
    monkeypatch.setattr(elimination, "_LINEAR_SPAN", math.inf if request.param == "linear" else -1.0)
    return request.param


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "n_extra"), [(2, 0), (40, 0), (40, 60), (300, 900)])
def test_passage_times_against_a_linear_solve(n, n_extra, method, arithmetic, device):
    chain = rates(connected_network(n, n_extra, seed=n, barrier=2.0).to(device), 2.0)
    target = [0] if n < 3 else [0, n // 2, n - 1]
    times = mean_first_passage_times(chain, target, method=method)
    expected = torch.as_tensor(
        linear_solve(rates(connected_network(n, n_extra, seed=n, barrier=2.0), 2.0), target)
    )
    torch.testing.assert_close(times.cpu(), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("temperature", [0.5, 0.02, 0.005])
def test_passage_times_where_rates_span_hundreds_of_orders_of_magnitude(temperature, method):
    """At T = 0.005 they span more than five hundred: every logarithm still has all its digits."""
    chain = rates(connected_network(16, 12, seed=5, barrier=2.0), temperature)
    assert float(np.ptp(chain.log_conductance.numpy())) > (1200 if temperature == 0.005 else 10)
    ours = log_mean_first_passage_times(chain, [3, 7], method=method)
    # Digits beyond the span, so that LU can afford its cancellation.
    exact = multiprecision_times(chain, [3, 7], digits=60 + int(6 / temperature))
    scale = max(1.0, 10 / temperature)
    assert ours.tolist() == pytest.approx(exact, rel=0, abs=1e-15 * scale + 1e-13)


def test_both_arithmetics_agree_on_a_dense_core(monkeypatch):
    """300 minima of mean degree 12: sparse rounds, then several panels and bands of the dense core."""
    from torchscape.analysis.kinetics import dense_elimination

    monkeypatch.setattr(dense_elimination, "_BAND", 100)
    chain = rates(connected_network(300, 1500, seed=2, barrier=2.0), 0.3)
    plain = log_mean_first_passage_times(chain, 0)
    monkeypatch.setattr(elimination, "_LINEAR_SPAN", -1.0)
    torch.testing.assert_close(log_mean_first_passage_times(chain, 0), plain, rtol=1e-13, atol=1e-13)


def test_products_that_underflow_in_a_panel_are_summed_exactly():
    """Rows scaled to their maxima would lose every term of these sums: the terms lie 1000 e-folds below."""
    from torchscape.analysis.kinetics.dense_elimination import _log_matmul

    a = torch.tensor([[0.0, -1000.0], [0.0, -torch.inf]], dtype=torch.float64)
    b = torch.tensor([[-1000.0, -torch.inf], [0.0, 0.0]], dtype=torch.float64)
    result = _log_matmul(a, b)
    expected = torch.logsumexp(a[:, :, None] + b[None], 1)
    assert torch.equal(torch.isneginf(result), torch.isneginf(expected))
    torch.testing.assert_close(result, expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize("temperature", [1.0, 0.05, 0.002])
def test_long_chain_has_its_closed_form(temperature):
    """On a chain, T_{0<-n} = sum_i (1 / c_i) sum_{k > i} p_k: 3000 minima, in few rounds, to all digits."""
    rng = np.random.default_rng(0)
    n = 3000
    energy = rng.random(n)
    edges = torch.stack([torch.arange(n - 1), torch.arange(1, n)])
    ts = np.maximum(energy[1:], energy[:-1]) + rng.random(n - 1)
    chain = rates(Network.of(energy, edges, ts), temperature)
    ours = log_mean_first_passage_times(chain, 0)
    beyond = np.logaddexp.accumulate(chain.log_occupation.numpy()[::-1])[::-1][1:]
    closed = np.logaddexp.accumulate(beyond - chain.log_conductance.numpy())
    assert ours[1:].numpy() == pytest.approx(closed, rel=1e-12, abs=1e-11)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 25), st.integers(0, 30), st.floats(-100, 100))
def test_relabelling_and_energy_shifts_change_nothing(seed, n, n_extra, shift):
    network = connected_network(n, n_extra, seed, barrier=2.0)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    moved = Network.of(
        network.energy[order] + shift,
        order.argsort()[network.edges],
        network.ts_energy + shift,
        log_det=network.log_det[order],
        ts_log_det=network.ts_log_det,
        log_degeneracy=network.log_degeneracy[order],
        ts_log_degeneracy=network.ts_log_degeneracy,
        n_modes=5,
    )
    ours = log_mean_first_passage_times(rates(network, 0.7), 1)
    theirs = log_mean_first_passage_times(rates(moved, 0.7), int(order.argsort()[1]))
    torch.testing.assert_close(theirs, ours[order], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_transformation_keeps_passage_times_and_detailed_balance(method, arithmetic):
    chain = rates(connected_network(60, 80, seed=1, barrier=2.0), 1.0)
    keep = torch.tensor([5, 41, 2, 17, 33])
    small = graph_transformation(chain, keep, method=method)
    assert small.minima.tolist() == keep.tolist()
    assert float(small.log_occupation.exp().sum()) == pytest.approx(1.0, rel=1e-12)
    for place, minimum in enumerate(keep.tolist()):
        before = log_mean_first_passage_times(chain, minimum)[keep]
        torch.testing.assert_close(log_mean_first_passage_times(small, place), before, rtol=1e-12, atol=1e-12)
    before = log_committors(chain, 5, 33)[keep]
    torch.testing.assert_close(log_committors(small, 0, 4), before, rtol=1e-11, atol=1e-12)


def test_transformation_in_two_steps_is_one_step():
    chain = rates(connected_network(60, 80, seed=4, barrier=2.0), 1.0)
    half = graph_transformation(chain, torch.arange(0, 60, 2))
    twice = graph_transformation(half, torch.tensor([0, 3, 6]))
    once = graph_transformation(chain, torch.tensor([0, 6, 12]))
    assert twice.minima.tolist() == [0, 6, 12]
    assert torch.equal(once.edges, twice.edges)
    torch.testing.assert_close(twice.log_rates, once.log_rates, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(twice.log_occupation, once.log_occupation, rtol=1e-12, atol=1e-12)


def test_transformation_against_pygt():
    """PyGT (Swinburne & Wales) eliminates branching probabilities and waiting times instead of conductances."""
    pygt = pytest.importorskip("PyGT", reason="pip install PyGT to compare with it")
    chain = rates(connected_network(50, 60, seed=9, barrier=2.0), 1.0)
    tau = (-chain.log_escape_rates).exp().numpy()
    k = chain.matrix().to_dense().numpy()
    branching = (k - np.diag(np.diag(k))) * tau
    keep = np.array([1, 8, 30, 44])
    remove = ~np.isin(np.arange(50), keep)
    their_b, their_tau = pygt.GT.blockGT(remove, branching, tau, block=1)
    their_b = np.asarray(their_b.todense() if hasattr(their_b, "todense") else their_b)
    ours = graph_transformation(chain, torch.as_tensor(keep))
    # PyGT keeps self-loops; without them the waiting time is tau / (1 - P_xx).
    free = their_tau / (1 - np.diag(their_b))
    np.testing.assert_allclose((-ours.log_escape_rates).exp().numpy(), free, rtol=1e-10)
    off = ours.matrix().to_dense().numpy()
    theirs = their_b / their_tau
    np.testing.assert_allclose(off - np.diag(np.diag(off)), theirs - np.diag(np.diag(theirs)), rtol=1e-10)


def test_keeping_everything_changes_nothing():
    chain = rates(connected_network(10, 5, seed=0, barrier=2.0), 1.0)
    same = graph_transformation(chain, torch.arange(10))
    assert torch.equal(same.edges, chain.edges)
    torch.testing.assert_close(same.log_conductance, chain.log_conductance, rtol=1e-13, atol=1e-13)


def test_unreachable_minima_are_dropped():
    network = Network.of([0.0, 0.1, 0.2, 0.3, 0.4], [(0, 1), (1, 2), (3, 4)], [1.0, 1.0, 1.0])
    small = graph_transformation(rates(network, 1.0), torch.tensor([0, 2]))
    alone = graph_transformation(rates(network.subset(torch.arange(3)), 1.0), torch.tensor([0, 2]))
    torch.testing.assert_close(small.log_rates, alone.log_rates)
    torch.testing.assert_close(small.log_occupation, alone.log_occupation)


@pytest.mark.parametrize(("method", "temperature"), [("dense", 1.0), ("auto", 0.002)])
def test_a_core_that_does_not_fit_is_refused(method, temperature, monkeypatch):
    """At T = 0.002 rates leave the range of float64, where nothing is solved iteratively."""
    monkeypatch.setattr(elimination, "_MOST_ENTRIES", 100)
    with pytest.raises(TorchscapeError, match="dense core"):
        mean_first_passage_times(rates(connected_network(100, 600), temperature), 0, method=method)


def test_bad_arguments():
    chain = rates(connected_network(5, 0, seed=0, barrier=2.0), 1.0)
    with pytest.raises(TorchscapeError, match="at least one"):
        graph_transformation(chain, torch.empty(0, dtype=torch.int64))
    with pytest.raises(TorchscapeError, match="each once"):
        graph_transformation(chain, torch.tensor([1, 1]))
    with pytest.raises(TorchscapeError, match=r"outside 0..4"):
        graph_transformation(chain, torch.tensor([5]))
    with pytest.raises(TorchscapeError, match="method"):
        graph_transformation(chain, torch.tensor([1]), method="best")
