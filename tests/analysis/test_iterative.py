"""Iterative graph transformation against elimination, 60-digit arithmetic and its own bound of the error."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from connected import connected_network
from test_graph_transformation import multiprecision_times

from torchscape import Network, analysis
from torchscape.analysis.kinetics import elimination, iterative, refinement, sampled_elimination
from torchscape.analysis.kinetics.refinement import Balance
from torchscape.analysis.kinetics.sampled_elimination import SampledElimination
from torchscape.analysis.kinetics.transformation import as_arrays
from torchscape.errors import TorchscapeError


@pytest.fixture
def sampled(monkeypatch):
    """Small networks are eliminated with sampled fill, too, and not by their dense tail."""
    monkeypatch.setattr(sampled_elimination, "_TAIL", 20)


@pytest.mark.usefixtures("sampled")
@pytest.mark.parametrize("temperature", [2.0, 0.3, 0.1])
def test_answers_are_those_of_elimination(temperature):
    """Passage times, committors both ways, all rate constants, and transformed networks."""
    chain = analysis.rates(connected_network(400, 1600, seed=1, barrier=2.0), temperature)
    a, b = [3, 50], [7, 8, 9]
    for ask in (
        lambda method: analysis.log_mean_first_passage_times(chain, a, method=method),
        lambda method: analysis.log_committors(chain, a, b, method=method),
        lambda method: analysis.log_committors(chain, b, a, method=method),
        lambda method: torch.tensor(list(vars(analysis.rate_constants(chain, a, b, method=method)).values())),
    ):
        # logarithms, so that 1e-9 is a relative error: ten times less than what is guaranteed
        torch.testing.assert_close(ask("iterative"), ask("auto"), rtol=1e-10, atol=1e-9)
    keep = torch.tensor([5, 399, 17, 200])
    ours = analysis.graph_transformation(chain, keep, method="iterative")
    exact = analysis.graph_transformation(chain, keep)
    assert torch.equal(ours.edges, exact.edges)
    # as above
    torch.testing.assert_close(ours.log_rates, exact.log_rates, rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(ours.log_occupation, exact.log_occupation, rtol=1e-10, atol=1e-9)


@pytest.mark.usefixtures("sampled")
@pytest.mark.parametrize(("temperature", "escapes"), [(0.3, 1e5), (0.07, 1e20)])
def test_the_bound_holds_however_often_minima_are_left(temperature, escapes):
    """Up to 10^20 times on the way, with rates over 72 orders of magnitude: 60 digits and more say the same."""
    chain = analysis.rates(connected_network(60, 100, seed=2, barrier=2.0), temperature)
    i, j, log_c, log_p = as_arrays(chain)
    free = np.ones(60, dtype=bool)
    free[[4, 9]] = False
    balance = Balance.of(i, j, np.exp(log_c - log_c.max()), free)
    u, bound = balance.solve(np.exp(log_p - log_c.max())[:, None], np.zeros((60, 1)))
    exact = np.array(multiprecision_times(chain, [4, 9], digits=60 + int(6 / temperature)))
    error = np.abs(np.expm1(np.log(u[free, 0]) - exact[free])).max()
    assert float((chain.log_escape_rates.numpy()[free] + exact[free]).max()) > math.log(escapes)
    # Conductances themselves are known to the rounding of their logarithms.
    assert error < bound + 100 * np.finfo(float).eps * float(np.abs(log_c).max())
    assert bound < iterative.GUARANTEE


@pytest.mark.usefixtures("sampled")
def test_a_bound_is_not_trusted_blindly(monkeypatch):
    """Without refinement the error is large, and the bound says so: elimination answers instead."""
    monkeypatch.setattr(refinement, "_REFINEMENTS", 2)
    monkeypatch.setattr(refinement, "_STEPS", 1)
    chain = analysis.rates(connected_network(300, 900, seed=1, barrier=2.0), 0.3)
    i, j, log_c, log_p = as_arrays(chain)
    free = np.arange(300) > 0
    f = np.exp(log_p - log_c.max())[:, None]
    u, bound = Balance.of(i, j, np.exp(log_c - log_c.max()), free).solve(f, np.zeros_like(f))
    exact = analysis.log_mean_first_passage_times(chain, 0)
    true = np.abs(u[free, 0] / np.exp(exact.numpy()[free]) - 1).max()
    assert true > 1e-6
    assert bound > true
    ours = analysis.log_mean_first_passage_times(chain, 0, method="iterative")
    torch.testing.assert_close(ours, exact, rtol=1e-12, atol=1e-12)


def test_sampled_fill_has_the_right_mean():
    """A star of six: the tree that replaces it is the clique w_i w_j / s on average, and its sum exactly."""
    c = np.array([0.1, 0.5, 1.0, 2.0, 4.0, 8.0])
    hub, rim = np.zeros(6, dtype=np.int64), np.arange(1, 7)
    total = np.zeros((7, 7))
    for seed in range(4000):
        graph = sampled_elimination._Sampled(7, hub, rim, c, np.zeros(7))
        graph.random = np.random.default_rng(seed)
        key, value = graph._fill(np.zeros(6, dtype=np.int64), np.array([6]), rim, c, np.array([c.sum()]))
        np.add.at(total, tuple(np.divmod(key, 7)), value)
    wanted = np.outer(c, c) / c.sum()
    np.fill_diagonal(wanted, 0.0)
    # the rarest edges come up some hundred times in 4000 trees: one standard error is up to a tenth
    np.testing.assert_allclose(total[1:, 1:] / 4000, wanted, rtol=0.15, atol=0.002)
    np.testing.assert_allclose(total, total.T)


@pytest.mark.usefixtures("sampled")
def test_rough_factors_are_symmetric_and_close():
    """As a preconditioner must be; its spectrum against the network's own matrix, by dense eigenvalues."""
    chain = analysis.rates(connected_network(900, 3600, seed=3, barrier=2.0), 0.5)
    i, j, log_c, _ = as_arrays(chain)
    c, ground = np.exp(log_c), np.zeros(900)
    ground[0] = 1.0
    rough = SampledElimination.of(900, i, j, c, ground)
    assert len(rough.blocks) > 1
    inverse = rough.solve(np.eye(900))
    # what rounding makes of 900 triangular solves of a grounded network
    np.testing.assert_allclose(inverse, inverse.T, rtol=1e-9, atol=1e-9 * np.abs(inverse).max())
    matrix = np.diag(ground + np.bincount(i, c, 900) + np.bincount(j, c, 900))
    np.add.at(matrix, (i, j), -c)
    np.add.at(matrix, (j, i), -c)
    spectrum = np.linalg.eigvals(inverse @ matrix).real
    assert 0.05 < spectrum.min() < spectrum.max() < 20


@pytest.mark.usefixtures("sampled")
def test_sets_that_nothing_reaches():
    """Two components; and minima whose only way leads to B, from which A has no committor at all."""
    edges = [(k, k + 1) for k in range(39)] + [(k, k + 1) for k in range(40, 79)]
    chain = analysis.rates(Network.of([0.1 * (k % 7) for k in range(80)], edges, [2.0] * 78), 0.5)
    for method in ("auto", "iterative"):
        times = analysis.mean_first_passage_times(chain, 5, method=method)
        assert torch.isinf(times).tolist() == [False] * 40 + [True] * 40
        q = analysis.committors(chain, 5, [20, 60], method=method)
        assert q[:5].tolist() == pytest.approx([1.0] * 5)
        assert q[21:].tolist() == [0.0] * 59
    ours, exact = (analysis.committors(chain, 5, 20, method=m)[:40] for m in ("iterative", "auto"))
    torch.testing.assert_close(ours, exact)


@pytest.mark.usefixtures("sampled")
def test_a_large_core_is_solved_iteratively_and_balances(monkeypatch):
    """By itself, without an elimination; what comes out obeys the equations that define it."""
    monkeypatch.setattr(iterative, "_AT_ONCE", 10_000)
    monkeypatch.setattr(elimination, "_MOST_ENTRIES", 10_000)
    monkeypatch.setattr(elimination, "_FILL", 1.0)
    chain = analysis.rates(connected_network(2000, 8000, seed=4), 1.0)
    t = analysis.log_mean_first_passage_times(chain, 0).exp()
    (i, j), c, p = chain.edges, chain.log_conductance.exp(), chain.log_occupation.exp()
    left = torch.zeros_like(t).index_add_(0, i, c * (t[i] - t[j])).index_add_(0, j, c * (t[j] - t[i]))
    scale = torch.zeros_like(t).index_add_(0, i, c * t[i]).index_add_(0, j, c * t[j])
    assert float(((left - p) / scale)[1:].abs().max()) < 1e-14  # rounding of t itself


def test_what_would_not_fit_is_refused_beforehand(monkeypatch):
    """With what to do about it; what fits is not."""
    monkeypatch.setattr(iterative, "available_memory", lambda device: 2_000_000)
    chain = analysis.rates(connected_network(500, 2000, seed=4), 1.0)
    with pytest.raises(
        TorchscapeError, match=r"200 minima may all be joined .* need some .*: keep fewer minima, or"
    ):
        analysis.graph_transformation(chain, torch.arange(200), method="iterative")
    assert analysis.graph_transformation(chain, torch.arange(5), method="iterative").n_minima == 5
    monkeypatch.setattr(iterative, "available_memory", lambda device: 500_000)
    with pytest.raises(TorchscapeError, match=r"need some .* GB may be used.*: leave out transition states"):
        analysis.mean_first_passage_times(chain, 0, method="iterative")


def test_what_no_iteration_solves():
    chain = analysis.rates(connected_network(30, 40, barrier=2.0), 0.003)
    with pytest.raises(TorchscapeError, match="raise the temperature"):
        analysis.mean_first_passage_times(chain, 0, method="iterative")
    assert bool(analysis.log_mean_first_passage_times(chain, 0).isfinite()[1:].all())


def test_progress_is_shown_where_it_takes_long(monkeypatch, capsys):
    from torchscape.analysis.kinetics import elimination as module

    for where in (module, iterative):
        monkeypatch.setattr(where, "DELAY", 0.0)
    monkeypatch.setenv("TORCHSCAPE_PROGRESS", "lines")
    chain = analysis.rates(connected_network(1500, 6000, seed=4), 1.0)
    analysis.mean_first_passage_times(chain, 0, method="iterative", progress=True)
    said = capsys.readouterr().err
    assert "prepare: 100%" in said
    assert "solve: 100%" in said
    analysis.mean_first_passage_times(chain, 0, method="dense", progress=True)
    assert "1499 dense minima: 100%" in capsys.readouterr().err
    analysis.mean_first_passage_times(chain, 0, method="iterative")
    assert capsys.readouterr().err == ""
