"""Rates, free energies and reduced networks of groups: PyGT's numbers, dense linear algebra, enumeration."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from connected import connected_network
from hypothesis import given, settings
from hypothesis import strategies as st
from landscapes import networks

from torchscape import Network, analysis
from torchscape.errors import TorchscapeError

GROUPS = [[k for k in range(30) if k not in (16, 18, 22, 27, 28)], [18, 27, 28], [16], [22]]

# PyGT 0.3.0 of the chain below with these communities: mfpt.community_MFPT_matrix and stats.compute_rates (which
# takes no pair of single minima: NaN).
PASSAGE = [
    [0.0, 59.20563195566433, 172.5320371870223, 102.29574536240716],
    [700.7638111062305, 0.0, 815.9311739243144, 633.1274068398749],
    [6825.440633137296, 6827.281590724021, 0.0, 6804.442004031237],
    [4084.5877604700045, 3973.8612427969, 4133.825423188565, 0.0],
]
NAN = math.nan
STEADY = [
    [NAN, 0.027537728583970925, 0.006475412544778571, 0.012391233481814402],
    [0.002225978873856879, NAN, 0.005586328336507836, 0.010551926554327512],
    [0.00017361702362932773, 0.0018529273813909946, NAN, NAN],
    [0.0002920361803988575, 0.0030765285942075376, NAN, NAN],
]
NON_STEADY = [
    [NAN, 0.027537728583970925, 0.006475412544778571, 0.012391233481814402],
    [0.0017750518505247484, NAN, 0.0013662773852307828, 0.0017674441554105867],
    [8.128016701803613e-05, 0.00014135255367464975, NAN, NAN],
    [0.00019723804050042417, 0.0002672452116951103, NAN, NAN],
]
EXACT = [
    [NAN, 0.024967117449103342, 0.006475412544778572, 0.012391233481814397],
    [0.001652242963878827, NAN, 0.0013662773852307936, 0.0017674441554105973],
    [0.00014651971420059906, 0.00014647139175199127, NAN, NAN],
    [0.0002449993686200832, 0.0002516475377013648, NAN, NAN],
]
LOCAL = [
    [-0.0026916320778850723, 0.027537728583970928, 0.006475412544778571, 0.012391233481814402],
    [0.0022259788738568788, -0.027537728583970956, 0.0, 0.0],
    [0.00017361702362932773, 0.0, -0.006475412544778571, 0.0],
    [0.0002920361803988575, 0.0, 0.0, -0.012391233481814397],
]


@pytest.fixture(scope="module")
def chain() -> analysis.Rates:
    return analysis.rates(connected_network(30, 40), 1.0)


@pytest.mark.parametrize("as_labels", [True, False])
def test_rates_between_communities_are_those_of_pygt(chain, as_labels):
    labels = torch.zeros(30, dtype=torch.int64)
    for k, members in enumerate(GROUPS):
        labels[members] = k
    found = analysis.community_rates(chain, labels if as_labels else GROUPS)
    for ours, theirs in (
        (found.log_k_steady_state, STEADY),
        (found.log_k_non_steady_state, NON_STEADY),
        (found.log_k, EXACT),
    ):
        known = ~torch.tensor(theirs, dtype=torch.float64).isnan()
        wanted = torch.tensor(theirs, dtype=torch.float64)[known]
        # PyGT inverts and subtracts: of thirty minima its own numbers have eleven to twelve digits
        torch.testing.assert_close(ours.exp()[known], wanted, rtol=1e-11, atol=0)
    assert bool(found.log_k.diagonal().isnan().all())
    torch.testing.assert_close(found.log_occupation.exp().sum(), torch.tensor(1.0, dtype=torch.float64))


def test_each_entry_is_a_rate_constant_and_fluxes_balance(chain):
    """p_I k_JI = p_J k_IJ holds of steady-state rates (the reactive flux has no direction), of no others."""
    sets = [[0, 1], [7, 8, 9], [20]]
    found = analysis.community_rates(chain, sets)
    one = analysis.rate_constants(chain, sets[1], sets[2])
    assert float(found.log_k_non_steady_state[1, 2]) == pytest.approx(one.log_k_non_steady_state, abs=1e-12)
    assert float(found.log_mfpt[1, 2]) == pytest.approx(one.log_mfpt, abs=1e-12)
    flux = found.log_k_steady_state + found.log_occupation
    off = ~torch.eye(3, dtype=torch.bool)
    # logarithms of sums of some hundred terms, each within an ulp
    torch.testing.assert_close(flux[off], flux.T[off], rtol=0, atol=1e-12)


def test_a_reduced_network_has_the_passage_times_of_pygt(chain):
    small = analysis.reduced_network(chain, GROUPS)
    # to the digits of PyGT's times, which are differences of others some hundred times as long
    torch.testing.assert_close(
        small.passage_times, torch.tensor(PASSAGE, dtype=torch.float64), rtol=1e-11, atol=1e-11
    )
    torch.testing.assert_close(
        small.local_equilibrium, torch.tensor(LOCAL, dtype=torch.float64), rtol=1e-12, atol=1e-16
    )
    assert small.is_markovian
    for target in range(4):
        times = analysis.mean_first_passage_times(small.chain(), target)
        # through the rates, an inverse of a matrix of these times: its condition takes three digits
        torch.testing.assert_close(times, small.passage_times[target], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_a_reduced_network_is_that_of_hummer_and_szabo(seed):
    """R = P 1^T - D_P [1_C^T (p 1^T - K)^-1 D_p 1_C]^-1, by dense inversion."""
    chain = analysis.rates(connected_network(24, 50, seed, barrier=2.0), 1.5)
    label = torch.as_tensor(np.random.default_rng(seed).integers(0, 4, 24))
    small = analysis.reduced_network(chain, label)
    k, p = chain.matrix().to_dense().numpy(), chain.log_occupation.exp().numpy()
    into = np.eye(4)[label.numpy()]
    weight = into.T @ p
    inside = into.T @ np.linalg.inv(np.outer(p, np.ones(24)) - k) @ np.diag(p) @ into
    wanted = np.outer(weight, np.ones(4)) - np.diag(weight) @ np.linalg.inv(inside)
    # two dense inverses, one of a matrix that p 1^T keeps from being singular, leave eight digits of the largest
    np.testing.assert_allclose(small.rates.numpy(), wanted, rtol=1e-7, atol=1e-9 * np.abs(wanted).max())


def test_every_minimum_its_own_group_changes_nothing():
    chain = analysis.rates(connected_network(8, 6, barrier=2.0), 1.0)
    small = analysis.reduced_network(chain, torch.arange(8))
    wanted = chain.matrix().to_dense()
    # back from passage times by an inverse, which small rates beside large ones lose digits in
    torch.testing.assert_close(small.rates, wanted, rtol=1e-8, atol=1e-10 * float(wanted.abs().max()))
    torch.testing.assert_close(small.local_equilibrium, wanted, rtol=1e-12, atol=1e-15)


def test_groups_without_an_inside_are_refused_as_a_markov_chain():
    """A group of the two ends of a chain of five: what enters at one end does not leave at the other."""
    edges = [(0, 1), (1, 2), (2, 3), (3, 4)]
    chain = analysis.rates(Network.of([0.0] * 5, edges, [1.0, 4.0, 1.0, 4.0]), 1.0)
    small = analysis.reduced_network(chain, [[0, 3], [1], [2, 4]])
    assert not small.is_markovian
    with pytest.raises(TorchscapeError, match="negative"):
        small.chain()


def test_free_energies_of_groups_and_of_the_transition_states_between():
    """F_JK - F_J = -T ln(k_JK h / T) from sums over all pairs, and F_J that of thermodynamics."""
    network, t = connected_network(40, 80, 3), 0.7
    label = torch.as_tensor(np.random.default_rng(0).integers(0, 5, 40))
    found = analysis.free_energy_groups(network, t, label, planck=2.0)
    chain = analysis.rates(network, t)
    p, k = chain.log_occupation.exp(), chain.matrix().to_dense()
    thermo = analysis.group_free_energy(network, t, found.label)
    # another order of the same sums
    torch.testing.assert_close(found.free_energy, thermo, rtol=0, atol=1e-12)
    assert found.free_energy.tolist() == sorted(found.free_energy.tolist())
    for (a, b), barrier in zip(found.edges.T.tolist(), found.barriers.T.tolist(), strict=True):
        in_a, in_b = found.label == a, found.label == b
        flux = float((k[in_b][:, in_a] * p[in_a]).sum())
        for group, height in zip((in_a, in_b), barrier, strict=True):
            assert height == pytest.approx(-t * math.log(flux / float(p[group].sum()) * 2.0 / t), abs=1e-11)
    assert int(found.n_transition_states.sum()) == int(
        (found.label[network.edges[0]] != found.label[network.edges[1]]).sum()
    )
    for group, one in enumerate(found.representative.tolist()):
        members = (found.label == group).nonzero().reshape(-1)
        assert int(found.label[one]) == group
        assert float(p[one]) == float(p[members].max())
    torch.testing.assert_close(found.rates.log_occupation.exp().sum(), torch.tensor(1.0, dtype=torch.float64))


def sweeps(network: Network, t: float, threshold: float) -> list[set[int]]:
    """Regrouping as it is described: in each sweep, all pairs of groups by the free energies of the last one."""
    chain = analysis.rates(network, t)
    p, k = chain.log_occupation.exp().numpy(), chain.matrix().to_dense().numpy()
    groups = [{a} for a in range(network.n_minima)]
    while True:
        join = []
        for x, a in enumerate(groups):
            for y in range(x):
                b = groups[y]
                flux = sum(k[j, i] * p[i] for i in a for j in b)
                if flux > 0:
                    rates = [flux / sum(p[i] for i in side) for side in (a, b)]
                    if max(-t * math.log(rate / t) for rate in rates) <= threshold:
                        join.append((x, y))
        if not join:
            return groups
        merged = {x: {x} for x in range(len(groups))}
        for x, y in join:
            union = merged[x] | merged[y]
            for z in union:
                merged[z] = union
        unique = {frozenset(part) for part in merged.values()}
        groups = [set().union(*(groups[z] for z in part)) for part in unique]


@settings(deadline=None, max_examples=40)
@given(networks(distinct=True), st.floats(0.2, 1.0), st.floats(0.0, 3.0))
def test_regrouping_is_what_it_says(network, temperature, threshold):
    found = analysis.regroup(network, temperature, threshold)
    wanted = sweeps(network, temperature, threshold)
    ours = [set((found.label == g).nonzero().reshape(-1).tolist()) for g in range(len(found))]
    assert sorted(map(sorted, ours)) == sorted(map(sorted, wanted))
    assert bool((found.barriers.amax(0) > threshold).all())


def test_regrouping_again_lumps_what_only_a_sum_of_transition_states_joins():
    """Two pairs of two: both paths from pair to pair together are lower than each of them."""
    edges = [(0, 1), (2, 3), (0, 2), (1, 3)]
    network = Network.of([0.0] * 4, edges, [0.1, 0.1, 1.5, 1.5])
    single = float(analysis.regroup(network, 0.5, -10.0).barriers.amax(0)[1])
    found = analysis.regroup(network, 0.5, single - 1e-3)
    assert (len(found), found.n_rounds) == (2, 1)
    again = analysis.regroup(network, 0.5, single + 1e-9)
    assert len(again) == 1


def test_sets_that_are_to_stay_apart_do():
    network = connected_network(40, 80, 3)
    together = analysis.regroup(network, 1.0, 1e3)
    assert len(together) == 1
    found = analysis.regroup(network, 1.0, 1e3, apart=[[0, 1], [5]])
    assert len(found) == 2
    assert int(found.label[0]) == int(found.label[1]) != int(found.label[5])


def test_the_tree_of_free_energies_has_their_barriers():
    network = connected_network(60, 150, 1)
    found = analysis.regroup(network, 0.5, 0.6)
    tree = analysis.merge_tree(found.network(network))
    torch.testing.assert_close(tree.energy, found.free_energy)
    assert 1 < len(found) < 60
    assert set(found.network(network).ids.tolist()) == set(network.ids[found.representative].tolist())


def test_groups_that_cannot_be():
    chain = analysis.rates(connected_network(6, 3), 1.0)
    with pytest.raises(TorchscapeError, match="two of the groups"):
        analysis.community_rates(chain, [[0, 1], [1, 2]])
    with pytest.raises(TorchscapeError, match="two of them"):
        analysis.community_rates(chain, [[0, 1]])
    with pytest.raises(TorchscapeError, match="one whole number for each"):
        analysis.community_rates(chain, torch.tensor([0, 1]))
    with pytest.raises(TorchscapeError, match="in none of the groups"):
        analysis.reduced_network(chain, [[0, 1], [2, 3]])
    with pytest.raises(TorchscapeError, match="two groups"):
        analysis.reduced_network(chain, torch.zeros(6, dtype=torch.int64))
    apart = analysis.rates(Network.of([0.0, 0.1, 0.2], [(0, 1)], [1.0]), 1.0)
    with pytest.raises(TorchscapeError, match="no path"):
        analysis.reduced_network(apart, [[0, 1], [2]])


def test_pygt_says_the_same_here_and_now(chain):
    pygt = pytest.importorskip("PyGT", reason="pip install PyGT to compare with it")
    k, pi = chain.matrix().to_dense().numpy(), chain.log_occupation.exp().numpy()
    tau = (-chain.log_escape_rates).exp().numpy()
    communities = {g: np.isin(np.arange(30), members) for g, members in enumerate(GROUPS)}
    _, times = pygt.mfpt.community_MFPT_matrix(communities, (k - np.diag(np.diag(k))) * tau, tau, pi)
    # other BLAS libraries may round PyGT's inverses otherwise
    np.testing.assert_allclose(times, PASSAGE, rtol=1e-10, atol=1e-10)
