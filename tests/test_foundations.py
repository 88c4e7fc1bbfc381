"""The foundations: points, network, random numbers, bounds, errors."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from scipy import stats
from torch.testing import assert_close

from torchscape import Bounds, Network, StationaryPoints, Status, random
from torchscape.errors import FingerprintMismatch, MissingExtra, PotentialError, TorchscapeError, UnknownName

SEEDS = st.integers(0, 2**63 - 1)


# --- random -----------------------------------------------------------------------------------------------


def splitmix64(state: int, n: int) -> list[int]:
    """SplitMix64 in exact integers (Steele, Lea & Flood 2014, figure 13)."""
    mask, out = (1 << 64) - 1, []
    for _ in range(n):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        out.append(z ^ (z >> 31))
    return out


def test_mixing_is_splitmix64_with_its_published_stream():
    """From seed 1234567 the generator gives the five numbers that its reference implementations agree on."""
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert splitmix64(1234567, 5) == published
    golden = 0x9E3779B97F4A7C15 - (1 << 64)
    counter = torch.arange(1, 6) * golden + 1234567
    for copies in (1, 1000):  # few numbers go another way than many
        mixed = random._mix_(counter.repeat(copies))
        assert [int(bits) % (1 << 64) for bits in mixed[-5:]] == published


@given(SEEDS, st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_rows_draw_alone(seed, n):
    """What a row draws depends on its key only: not on the batch, nor on how many numbers are asked for."""
    keys = random.fold(seed, torch.arange(6))
    for draw in (random.uniform, random.normal, random.permutation):
        whole = draw(keys, n)
        assert torch.equal(torch.cat([draw(keys[2:3], n), draw(keys[4:], n)]), whole[[2, 4, 5]])
    assert torch.equal(random.uniform(keys, n + 3)[:, :n], random.uniform(keys, n))
    assert torch.equal(random.permutation(keys, n).sort(1).values, torch.arange(n).expand(6, n))


def test_numbers_have_the_distributions_they_claim():
    """Kolmogorov-Smirnov against SciPy, across keys (one number each) and along one key."""
    across = random.fold(11, torch.arange(20000))
    along = random.fold(11, torch.arange(1))
    for keys, n in ((across, 1), (along, 20000)):
        assert stats.kstest(random.uniform(keys, n).flatten().numpy(), "uniform").pvalue > 1e-3
        assert stats.kstest(random.normal(keys, n).flatten().numpy(), "norm").pvalue > 1e-3
    pairs = random.normal(across, 2)
    assert abs(torch.corrcoef(pairs.T)[0, 1].item()) < 4 / math.sqrt(len(across))
    neighbours = random.uniform(across, 1).flatten()
    assert abs(torch.corrcoef(torch.stack([neighbours[1:], neighbours[:-1]]))[0, 1].item()) < 4 / math.sqrt(20000)


def test_permutations_are_equally_likely():
    counts = torch.bincount(
        (random.permutation(random.fold(5, torch.arange(24000)), 4) * torch.tensor([64, 16, 4, 1])).sum(1)
    )
    observed = counts[counts > 0]
    assert len(observed) == 24
    assert stats.chisquare(observed.numpy()).pvalue > 1e-3


def test_keys_do_not_collide_or_depend_on_the_shape_of_the_batch(device):
    steps, rows = torch.arange(300, device=device)[:, None], torch.arange(300, device=device)
    keys = random.fold(0, steps, rows)
    assert keys.shape == (300, 300)
    assert keys.unique().numel() == 90000
    assert keys[7, 9] == random.fold(0, 7, 9)
    assert random.fold(0, 7, 9) != random.fold(0, 9, 7)
    assert keys.device.type == device.type


def test_uniform_never_touches_its_ends():
    u = random.uniform(random.fold(1, torch.arange(1000)), 1000)
    assert u.min().item() > 0.0
    assert u.max().item() < 1.0


# --- bounds -----------------------------------------------------------------------------------------------

BOX = [(-1.0, 2.0), (0.0, math.inf), (-math.inf, math.inf)]


@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3))
def test_clamp_is_the_projection_onto_the_box(x):
    box, point = Bounds.of(BOX), torch.tensor([x], dtype=torch.float64)
    nearest = np.clip(point.numpy(), box.lower.numpy(), box.upper.numpy())
    assert np.array_equal(box.clamp(point).numpy(), nearest)


def test_projected_gradient_vanishes_exactly_at_a_constrained_minimum():
    """min (x - 5)^2 + (y + 3)^2 + z^2 in the box sits at (2, 0, 0), against two walls."""
    box, at = Bounds.of(BOX), torch.tensor([[2.0, 0.0, 0.0], [2.0, 1.0, 0.0]], dtype=torch.float64)
    grad = 2 * (at - torch.tensor([5.0, -3.0, 0.0], dtype=torch.float64))
    assert box.project_grad(at, grad).tolist() == [[0.0, 0.0, 0.0], [0.0, 8.0, 0.0]]
    assert box.active_set(at, -grad).any().item() is False
    assert box.interior(at).tolist() == [False, False]
    assert box.interior(torch.tensor([[1.9, 0.2, 9.0]], dtype=torch.float64), margin=0.05).tolist() == [False]
    assert box.interior(torch.tensor([[1.8, 0.2, 9.0]], dtype=torch.float64), margin=0.05).tolist() == [True]


def test_bounds_follow_dtype_and_device_and_copy_nothing_twice(dtype, device):
    box = Bounds.of(BOX, dtype=dtype, device=device)
    assert (box.lower.dtype, box.lower.device.type) == (dtype, device.type)
    again = Bounds.of(box, dtype=torch.float64)
    assert_close(again.upper, Bounds.of(BOX).upper)


@pytest.mark.parametrize("pairs", [[(0.0, 0.0)], [(1.0, 0.0)], [(0.0, math.nan)], [1.0, 2.0], [(0.0, 1.0, 2.0)]])
def test_bounds_that_are_no_box_are_refused(pairs):
    with pytest.raises(PotentialError, match=r"low < high|\(low, high\)"):
        Bounds.of(pairs)


# --- points -----------------------------------------------------------------------------------------------


def points(n: int, d: int = 2) -> StationaryPoints:
    x = torch.arange(n * d, dtype=torch.float64).reshape(n, d)
    return StationaryPoints.of(x, x.sum(1), status=torch.arange(n) % 3)


def test_splitting_and_joining_points_changes_nothing():
    whole = points(5)
    again = StationaryPoints.cat([whole[:2], whole[torch.tensor([2])], whole[torch.arange(5) > 2]])
    for name in ("x", "energy", "status", "index", "log_det", "n_zero", "n_evaluations", "grad_rms"):
        assert_close(getattr(again, name), getattr(whole, name), rtol=0, atol=0, equal_nan=True)
    assert again.eigenvalues is None
    assert len(StationaryPoints.cat([StationaryPoints.empty(2), whole])) == 5


def test_spectra_survive_only_when_every_part_has_them():
    spectrum = torch.ones(2, 2, dtype=torch.float64)
    known = points(2).replace(eigenvalues=spectrum)
    assert torch.equal(StationaryPoints.cat([known, known]).eigenvalues, torch.cat([spectrum, spectrum]))
    assert StationaryPoints.cat([known, points(2)]).eigenvalues is None
    assert torch.equal(known[:1].eigenvalues, spectrum[:1])


def test_what_was_not_computed_says_so(dtype, device):
    batch = StationaryPoints.of(
        torch.zeros(2, 3, dtype=dtype, device=device), torch.zeros(2, dtype=dtype, device=device)
    )
    assert batch.index.tolist() == batch.n_zero.tolist() == [-1, -1]
    assert batch.grad_rms.isnan().all()
    assert batch.log_det.isnan().all()
    assert batch.log_det.dtype == dtype
    assert batch.log_det.device.type == device.type
    assert not batch.converged.any()


def test_every_status_has_advice_of_its_own():
    assert len({status.message for status in Status}) == len(Status)
    assert points(3).converged.tolist() == [False, True, False]


def test_points_are_frozen_and_their_shapes_checked():
    with pytest.raises(AttributeError):
        points(2).energy = torch.zeros(2)  # type: ignore[misc]
    with pytest.raises(TypeCheckError):
        StationaryPoints.of(torch.zeros(2, 3), torch.zeros(3))


# --- network ----------------------------------------------------------------------------------------------


@st.composite
def networks(draw) -> Network:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, m = int(rng.integers(2, 12)), int(rng.integers(0, 12))
    first = rng.integers(0, n, m)
    second = (first + rng.integers(1, n, m)) % n
    return Network.of(
        energy=rng.normal(size=n),
        edges=torch.from_numpy(np.stack([first, second])),
        ts_energy=rng.normal(size=m) + 5,
        n_modes=4,
        properties={"accuracy": torch.from_numpy(rng.random(n))},
    )


@given(networks())
@settings(deadline=None)
def test_components_are_those_of_networkx_largest_first(network):
    import networkx

    graph = networkx.MultiGraph(network.edges.T.tolist())
    graph.add_nodes_from(range(network.n_minima))
    labels = network.components()
    sizes = labels.bincount().tolist()
    assert sizes == sorted((len(part) for part in networkx.connected_components(graph)), reverse=True)
    for part in networkx.connected_components(graph):
        assert labels[list(part)].unique().numel() == 1


@given(networks(), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_relabelling_minima_changes_names_only(network, seed):
    order = torch.from_numpy(np.random.default_rng(seed).permutation(network.n_minima))
    again = network.subset(order)
    assert torch.equal(again.energy, network.energy[order])
    assert torch.equal(again.properties["accuracy"], network.properties["accuracy"][order])
    assert torch.equal(again.ids[again.edges], network.ids[network.edges])
    assert again.components().bincount().tolist() == network.components().bincount().tolist()
    assert again.ids[again.global_minimum] == network.ids[network.global_minimum]


@given(networks())
@settings(deadline=None)
def test_a_subset_keeps_exactly_the_edges_inside_it(network):
    keep = torch.arange(0, network.n_minima, 2)
    inside = torch.isin(network.edges, keep).all(0)
    smaller = network.subset(keep).validated()
    assert torch.equal(smaller.ts_energy, network.ts_energy[inside])
    assert torch.equal(smaller.ts_ids, network.ts_ids[inside])
    assert torch.equal(smaller.ids[smaller.edges], network.ids[network.edges[:, inside]])


def test_edges_are_pairs_or_two_rows_and_never_confused():
    """Two edges given as a 2 x 2 tensor are rows of ends; the same numbers as a list are pairs."""
    square = [[0, 1], [1, 2]]
    as_pairs = Network.of([0.0, 1.0, 2.0], square, [5.0, 6.0])
    as_rows = Network.of([0.0, 1.0, 2.0], torch.tensor(square), [5.0, 6.0])
    assert as_pairs.edges.T.tolist() == square
    assert as_rows.edges.tolist() == square


def test_modes_of_transition_states_are_one_fewer():
    network = Network.of([0.0, 1.0], [(0, 1)], [2.0], n_modes=12)
    assert (network.n_modes.tolist(), network.ts_n_modes.tolist()) == ([12, 12], [11])


INCONSISTENT = [
    ("[0.0, 1.0], [(0, 0)], [2.0]", "joins a minimum to itself"),
    ("[0.0, 1.0], [(0, 2)], [2.0]", "outside 0..1"),
    ("[0.0, 1.0], [(0, 1)], []", "edges has 1 entries for 0 transition states"),
    ("[0.0], [], [], log_det=[1.0, 2.0]", "log_det has 2 entries for 1 minima: give one for each"),
    ("[0.0], [], [], properties={'auc': torch.zeros(2)}", "property 'auc' has 2 entries"),
]


def test_inconsistent_networks_are_refused():
    """In a process of its own: here, the shape checks of the tests would speak first."""
    lines = ["import torch", "from torchscape import Network", "from torchscape.errors import TorchscapeError"]
    for arguments, _ in INCONSISTENT:
        lines += ["try:", f"    Network.of({arguments})", "except TorchscapeError as error:", "    print(error)"]
    run = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    for said, (arguments, message) in zip(run.stdout.splitlines(), INCONSISTENT, strict=True):
        assert message in said, arguments


def test_an_empty_network_is_a_network():
    empty = Network.of([], [], [])
    assert (empty.n_minima, empty.n_edges, empty.components().tolist()) == (0, 0, [])


# --- errors -----------------------------------------------------------------------------------------------


def test_errors_name_the_remedy():
    assert "did you mean 'himmelblau'?" in str(UnknownName.of("problem", "himelblau", ["himmelblau", "digits"]))
    assert "did you mean" not in str(UnknownName.of("problem", "zzz", ["himmelblau", "digits"]))
    assert "pip install 'torchscape[rates]'" in str(MissingExtra.of("pymbar", "rates"))
    assert issubclass(FingerprintMismatch, TorchscapeError)
    assert isinstance(MissingExtra.of("ray", "cluster"), ImportError)


def test_a_network_answers_for_itself():
    """Two components, parallel transition states, ids of a database in another order."""
    net = Network.of(
        [0.0, 0.5, 1.0, 2.0, 2.5], [(0, 3), (3, 0), (1, 2), (2, 4), (4, 1)], [3.0, 3.5, 4.0, 5.0, 6.0],
        ids=[40, 10, 30, 20, 50],
    )  # fmt: skip
    assert (net.n_edges, net.n_connected_pairs, net.n_components) == (5, 4, 2)
    assert net.connected_to(3).tolist() == [True, False, False, True, False]
    assert net.component_of(0).ids.tolist() == [40, 20]
    assert net.largest_component().ids.tolist() == [10, 30, 50]
    assert net.connected_fraction == 0.4  # of the lowest minimum, which is not in the largest component
    assert net.position_of([20, 40, 20]).tolist() == [3, 0, 3]
    with pytest.raises(TorchscapeError, match="no minimum of this network has the id 41"):
        net.position_of([40, 41])
    none = Network.of([], [], [])
    assert (none.n_connected_pairs, none.n_components, none.connected_fraction) == (0, 0, 0.0)
    assert none.position_of([]).tolist() == []
