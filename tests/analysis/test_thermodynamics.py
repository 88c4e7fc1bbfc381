"""Thermodynamics of the harmonic superposition against closed forms, autograd and mpmath."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchscape.analysis.thermodynamics import capacity as hc
from torchscape.analysis.thermodynamics import peaks
from torchscape.analysis.thermodynamics import superposition as thermo
from torchscape.errors import TorchscapeError
from torchscape.network import Network


def two_state(kappa: int = 4, ratio: float = 50.0) -> Network:
    return Network.of([0.0, 1.0], [], [], log_det=[0.0, -2 * math.log(ratio)], n_modes=kappa)


def three_state() -> Network:
    return Network.of(
        [0.3, 0.0, 1.1], [], [], log_det=[-3.0, 1.0, -9.0], log_degeneracy=[0.5, 0.0, 2.0], n_modes=6
    )


def mixed(n: int = 40, seed: int = 0) -> Network:
    g = torch.Generator().manual_seed(seed)
    return Network.of(
        torch.rand(n, generator=g, dtype=torch.float64) * 3 - 7,
        [],
        [],
        log_det=torch.randn(n, generator=g, dtype=torch.float64) * 5,
        log_degeneracy=torch.rand(n, generator=g, dtype=torch.float64) * 3,
        n_modes=torch.randint(3, 9, (n,), generator=g),
    )


def exact(network: Network, t: float, momenta: bool = False) -> tuple[float, float, float]:
    """ln Z, <U> and C_V from 60-digit derivatives of ln Z(beta)."""
    with mpmath.workdps(60):
        columns = [network.energy, network.log_det, network.log_degeneracy, network.n_modes]
        rows = list(zip(*[c.tolist() for c in columns], strict=True))
        top = max(r[3] for r in rows) if momenta else 0

        def log_z(beta):
            return mpmath.log(
                mpmath.fsum(
                    mpmath.exp(g - beta * mpmath.mpf(e) - mpmath.mpf(d) / 2) * beta ** (-mpmath.mpf(k + top) / 2)
                    for e, d, g, k in rows
                )
            )

        beta = 1 / mpmath.mpf(t)
        return (
            float(log_z(beta)),
            float(-mpmath.diff(log_z, beta)),
            float(beta**2 * mpmath.diff(log_z, beta, 2)),
        )


def test_published_two_state_values():
    value = hc.heat_capacity(two_state(), [0.1, 0.2]).value
    assert value.tolist() == pytest.approx([2.2259725705, 6.7123927446], abs=6e-11)
    [peak] = peaks.heat_capacity_peaks(two_state())
    assert peak.temperature == pytest.approx(0.20835750, abs=6e-9)
    assert peak.value == pytest.approx(6.75866374, abs=6e-9)
    assert (peak.losing().tolist(), peak.gaining().tolist()) == ([0], [1])


def test_two_state_closed_form(device):
    """Schottky anomaly: C = kappa/2 + (dE/T)^2 r e^-x / (1 + r e^-x)^2, to 1e-12 relative at every temperature."""
    t = torch.logspace(-2.5, 2, 60, dtype=torch.float64, device=device)
    x = 50 * torch.exp(-1 / t)
    closed = 2 + x / (1 + x) ** 2 / t**2
    result = hc.heat_capacity(two_state().to(device), t)
    torch.testing.assert_close(result.value, closed, rtol=1e-12, atol=0)
    torch.testing.assert_close(result.mean_energy, 2 * t + x / (1 + x), rtol=1e-12, atol=0)
    log_z = thermo.log_partition(two_state().to(device), t)
    # ln Z passes through zero, where only an absolute error means anything
    torch.testing.assert_close(log_z, 2 * t.log() + x.log1p(), rtol=1e-12, atol=1e-14)
    p = x / (1 + x)
    torch.testing.assert_close(thermo.occupation(two_state().to(device), t)[:, 1], p, rtol=1e-12, atol=0)
    entropy = -p * p.log() + x.log1p() / (1 + x)
    torch.testing.assert_close(thermo.shannon_entropy(two_state().to(device), t), entropy, rtol=1e-12, atol=0)


def test_energies_far_from_zero_cost_no_digits(device):
    """In float32: what all minima share (energy, curvatures, modes) must not enter before the differences do."""
    g = torch.Generator().manual_seed(3)
    steps = (
        torch.randint(0, 4096, (2, 30), generator=g, dtype=torch.float64) / 2048
    )  # exact in float32, shifted too

    def made(energy: float, log_det: float, modes: int, dtype: torch.dtype) -> Network:
        made = Network.of(steps[0] + energy, [], [], log_det=steps[1] + log_det, n_modes=modes, dtype=dtype)
        return made.to(device)

    t, far, near = (
        [1 / 64, 1 / 8, 1.0],
        made(-4000.0, 2000.0, 900, torch.float32),
        made(0.0, 0.0, 0, torch.float64),
    )
    for quantity in (
        thermo.occupation,
        thermo.shannon_entropy,
        lambda n, t: hc.heat_capacity_contributions(n, t).value,
    ):
        found, exact_value = quantity(far, t), quantity(near, t)
        assert found.dtype == torch.float32
        # single precision: energy gaps of 6e-8 relative, times up to a hundred in the exponent; and it underflows
        torch.testing.assert_close(found.double(), exact_value, rtol=3e-5, atol=1e-30)


@pytest.mark.parametrize("t", [0.05, 0.3, 1.0, 20.0])
@pytest.mark.parametrize("momenta", [False, True])
@pytest.mark.parametrize("make", [two_state, three_state, mixed])
def test_against_multiprecision(make, momenta, t):
    network = make()
    log_z, energy, capacity = exact(network, t, momenta)
    result = hc.heat_capacity(network, t, momenta=momenta)
    assert float(thermo.log_partition(network, t, momenta=momenta)) == pytest.approx(log_z, rel=1e-12)
    assert float(result.mean_energy) == pytest.approx(energy, rel=1e-12)
    assert float(thermo.mean_energy(network, t, momenta=momenta)) == pytest.approx(energy, rel=1e-12)
    assert float(result.value) == pytest.approx(capacity, rel=1e-12)


def test_autograd_identities():
    """<E> = T^2 dlnZ/dT, C = d<E>/dT, g = dp/dT and dC/dT, each by differentiating the previous one."""
    network = mixed()
    t = torch.logspace(-1, 1, 9, dtype=torch.float64).requires_grad_()

    def grad(y):
        return torch.autograd.grad(y.sum(), t, retain_graph=True)[0]

    result = hc.heat_capacity(network, t)
    torch.testing.assert_close(t**2 * grad(thermo.log_partition(network, t)), result.mean_energy)
    torch.testing.assert_close(grad(thermo.mean_energy(network, t)), result.value)
    torch.testing.assert_close(grad(result.value), hc.slope(network, t))
    parts = hc.heat_capacity_contributions(network, t)
    p = thermo.occupation(network, t)
    for a in range(0, network.n_minima, 7):
        torch.testing.assert_close(grad(p[:, a]), parts.derivative[:, a])


def test_momenta_add_a_constant_and_move_no_population():
    network, t = mixed(), torch.logspace(-1, 1, 9, dtype=torch.float64)
    plain, kinetic = (hc.heat_capacity(network, t, momenta=m) for m in (False, True))
    torch.testing.assert_close(kinetic.value - plain.value, torch.full_like(t, 4.0))
    by_minimum = thermo.log_partition_by_minimum(network, t, momenta=True).softmax(1)
    torch.testing.assert_close(by_minimum, thermo.occupation(network, t))


def test_contributions_sum_to_the_heat_capacity():
    network, t = mixed(), torch.logspace(-1, 1, 9, dtype=torch.float64)
    result, parts = hc.heat_capacity(network, t), hc.heat_capacity_contributions(network, t)
    assert bool((parts.value >= 0).all())
    torch.testing.assert_close(parts.value.sum(1) + result.baseline, result.value)
    torch.testing.assert_close(parts.value.where(parts.derivative > 0, 0.0).sum(1), result.gaining)
    torch.testing.assert_close(parts.value.where(parts.derivative < 0, 0.0).sum(1), result.losing)
    torch.testing.assert_close(parts.derivative.sum(1), torch.zeros_like(t), atol=1e-14, rtol=0)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3,), (2, 3)])
def test_results_have_the_shape_of_the_temperatures(shape):
    """A single number gives results without an axis of temperatures."""
    network = mixed()
    count = math.prod(shape)
    flat = torch.logspace(-1, 1, count, dtype=torch.float64)
    t = float(flat) if shape == () else flat.reshape(shape)
    label = torch.arange(network.n_minima) % 4
    by_minimum = (*shape, network.n_minima)
    sizes = {
        "log_partition_by_minimum": by_minimum, "log_occupation": by_minimum, "occupation": by_minimum,
        "free_energy": by_minimum, "log_partition": shape, "mean_energy": shape, "shannon_entropy": shape,
    }  # fmt: skip
    for name, size in sizes.items():
        function = getattr(thermo, name)
        assert function(network, t).shape == size
        assert torch.equal(function(network, t).reshape(count, *size[len(shape) :]), function(network, flat))
    assert thermo.group_free_energy(network, t, label).shape == (*shape, 4)
    result, every = hc.heat_capacity(network, t), hc.heat_capacity(network, flat)
    for name in ("temperatures", "value", "baseline", "gaining", "losing", "mean_energy"):
        assert torch.equal(getattr(result, name), getattr(every, name).reshape(shape))
    parts, all_parts = hc.heat_capacity_contributions(network, t), hc.heat_capacity_contributions(network, flat)
    assert torch.equal(parts.derivative, all_parts.derivative.reshape(by_minimum))
    if count:
        assert torch.equal(parts.gaining(count - 1), all_parts.gaining(count - 1))
    partial = hc.partial_heat_capacities(network, t, [1, 40])
    assert partial.shape == (2, *shape)
    torch.testing.assert_close(partial[1], result.value)


def test_chunks_change_nothing(monkeypatch):
    network, t = mixed(), torch.logspace(-1, 1, 50, dtype=torch.float64)
    whole = hc.heat_capacity(network, t).value, thermo.occupation(network, t)
    monkeypatch.setattr(thermo, "_CHUNK_ENTRIES", 3 * network.n_minima)
    assert torch.equal(whole[0], hc.heat_capacity(network, t).value)
    assert torch.equal(whole[1], thermo.occupation(network, t))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 30),
    st.floats(-1e3, 1e3),
    st.floats(-500, 500),
    st.floats(0.05, 50),
)
def test_invariances(seed, n, shift, log_det_shift, t):
    """Shifting all energies or all log_dets moves no population; relabelling minima permutes the answer."""
    network = mixed(n, seed)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    moved = Network.of(
        network.energy[order] + shift,
        [],
        [],
        log_det=network.log_det[order] + log_det_shift,
        log_degeneracy=network.log_degeneracy[order],
        n_modes=network.n_modes[order],
    )
    rtol = 1e-11 * (1 + abs(shift)) / min(t, 1.0)
    torch.testing.assert_close(
        thermo.occupation(moved, t), thermo.occupation(network, t)[order], rtol=rtol, atol=1e-14
    )
    torch.testing.assert_close(
        hc.heat_capacity(moved, t).value, hc.heat_capacity(network, t).value, rtol=10 * rtol, atol=1e-13
    )


def test_degenerate_images_equal_copies():
    """A minimum with g images is g minima."""
    single = Network.of([0.0, 0.4], [], [], log_degeneracy=[0.0, math.log(3)], n_modes=2)
    copies = Network.of([0.0, 0.4, 0.4, 0.4], [], [], n_modes=2)
    t = torch.tensor([0.1, 1.0], dtype=torch.float64)
    torch.testing.assert_close(hc.heat_capacity(single, t).value, hc.heat_capacity(copies, t).value)
    groups = torch.tensor([0, 1, 1, 1])
    torch.testing.assert_close(thermo.free_energy(single, t), thermo.group_free_energy(copies, t, groups))


def test_group_free_energy_is_that_of_the_group_by_itself():
    network, t = mixed(), torch.tensor([0.02, 0.2, 3.0], dtype=torch.float64)
    label = torch.arange(network.n_minima) % 3
    groups = thermo.group_free_energy(network, t, label)
    for k in range(3):
        alone = network.subset((label == k).nonzero()[:, 0])
        torch.testing.assert_close(groups[:, k], -t * thermo.log_partition(alone, t), rtol=1e-13, atol=0)
    single = thermo.group_free_energy(network, t, torch.arange(network.n_minima))
    torch.testing.assert_close(single, thermo.free_energy(network, t), rtol=1e-13, atol=0)


def test_group_free_energy_of_everything_is_the_total():
    network, t = mixed(), torch.tensor([0.2, 3.0], dtype=torch.float64)
    zero = torch.zeros(network.n_minima, dtype=torch.int64)
    total = thermo.group_free_energy(network, t, zero)[:, 0]
    torch.testing.assert_close(total, -t * thermo.log_partition(network, t))
    zero[0], zero[1] = -1, 2
    groups = thermo.group_free_energy(network, t, zero)
    assert groups.shape == (2, 3)
    assert bool(torch.isposinf(groups[:, 1]).all())
    with pytest.raises(TorchscapeError, match="labels"):
        thermo.group_free_energy(network, t, torch.full_like(zero, -1))


def test_partial_sums_converge_to_the_whole():
    network, t = mixed(), torch.logspace(-1, 1, 9, dtype=torch.float64)
    part = hc.partial_heat_capacities(network, t, [1, 20, 40])
    torch.testing.assert_close(part[2], hc.heat_capacity(network, t).value)
    lowest = int(network.n_modes[network.global_minimum])
    torch.testing.assert_close(part[0], torch.full_like(t, lowest / 2))
    assert bool((part[1] - part[2]).abs().max() > 1e-3)
    twenty = network.subset((network.energy <= network.energy.sort().values[19]).nonzero()[:, 0])
    exact_values = [exact(twenty, temperature, False)[2] for temperature in t.tolist()]
    assert part[1].tolist() == pytest.approx(exact_values, rel=1e-12)
    with pytest.raises(TorchscapeError, match="between 1 and 40"):
        hc.partial_heat_capacities(network, t, [41])


@pytest.mark.parametrize("gain", [-3.0, 1e-9, 0.005, 0.5, 5.0, 60.0, 2000.0])
def test_peak_is_a_root_to_rounding(gain):
    """The two-state peak solves (x - 2) = (x + 2) r e^-x exactly; 2000 is a needle, 0.005 wider than the range."""
    network = Network.of([0.0, 1.0], [], [], log_degeneracy=[0.0, gain], n_modes=2)
    with mpmath.workdps(40):
        start = mpmath.mpf(gain) if gain > 3 else 2.5
        x = mpmath.findroot(lambda x: (x - 2) - (x + 2) * mpmath.exp(gain - x), start)
    [peak] = peaks.heat_capacity_peaks(network)
    assert peak.temperature == pytest.approx(float(1 / x), rel=2e-14)


def test_a_peak_of_many_minima_of_equal_energy_lies_within_the_default_range():
    """Their number is an entropy that no single minimum has: with 10^5 of them the peak lies below gap / 11."""
    for n in (10, 100_000):
        with mpmath.workdps(40):
            gain = mpmath.log(n)
            x = mpmath.findroot(lambda x, g=gain: (x - 2) - (x + 2) * mpmath.exp(g - x), max(gain, 2.5))
        [peak] = peaks.heat_capacity_peaks(Network.of([0.0] + [1.0] * n, [], [], n_modes=2))
        assert peak.temperature == pytest.approx(float(1 / x), rel=1e-13)


def test_three_scales_give_three_peaks():
    """Well separated two-state transitions: a peak each, at the pairwise temperatures, exchanging those minima."""
    network = Network.of([0.0, 1.0, 101.0, 10101.0], [], [], log_degeneracy=[0.0, 6.0, 12.0, 18.0], n_modes=2)
    found = peaks.heat_capacity_peaks(network)
    assert [(p.losing(0.95).tolist(), p.gaining(0.95).tolist()) for p in found] == [
        ([0], [1]),
        ([1], [2]),
        ([2], [3]),
    ]
    levels, gains = [0, 1, 101, 10101], [0, 6, 12, 18]
    with mpmath.workdps(40):

        def log_z(beta):
            return mpmath.log(mpmath.fsum(mpmath.exp(g - beta * e) for e, g in zip(levels, gains, strict=True)))

        def slope_in_beta(beta):
            return 2 * mpmath.diff(log_z, beta, 2) + beta * mpmath.diff(log_z, beta, 3)

        starts = [1 / mpmath.mpf(p.temperature) for p in found]
        exact_tops = [1 / mpmath.findroot(slope_in_beta, (b, b * mpmath.mpf("1.0001"))) for b in starts]
    assert [p.temperature for p in found] == pytest.approx([float(t) for t in exact_tops], rel=1e-14)


def test_peaks_are_the_maxima_of_a_dense_scan():
    network = mixed(15, 3)
    found = peaks.heat_capacity_peaks(network, t_min=0.02, t_max=5.0)
    t = torch.logspace(math.log10(0.02), math.log10(5), 20001, dtype=torch.float64)
    c = hc.heat_capacity(network, t).value
    top = ((c[1:-1] > c[:-2]) & (c[1:-1] > c[2:])).nonzero()[:, 0] + 1
    assert len(found) == len(top) > 0
    assert [p.temperature for p in found] == pytest.approx(t[top].tolist(), rel=3e-4)


def test_crossings_are_where_the_most_populated_minimum_changes():
    energy, noise = mixed(60, 1).energy, mixed(60, 2).log_degeneracy
    network = Network.of(energy, [], [], log_degeneracy=8 * (energy - energy.min()).sqrt() + noise, n_modes=3)
    crossings = peaks.crossing_temperatures(network)
    t = torch.logspace(-3, 2, 100_001, dtype=torch.float64)
    top = thermo.log_occupation(network, t).argmax(1)
    change = (top[1:] != top[:-1]).nonzero()[:, 0]
    seen = crossings[(crossings > 1e-3) & (crossings < 1e2)]
    assert len(seen) == len(change) > 1
    torch.testing.assert_close(seen, t[change], rtol=2e-4, atol=0)


def test_flat_heat_capacity_has_no_peak():
    assert peaks.heat_capacity_peaks(Network.of([1.0, 1.0, 1.0], [], [], log_degeneracy=[0.0, 1.0, 2.0])) == []
    assert peaks.heat_capacity_peaks(Network.of([1.0], [], [])) == []
    with pytest.raises(TorchscapeError, match="empty"):
        peaks.heat_capacity_peaks(two_state(), t_min=1.0, t_max=0.5)


def test_lpphe_fills_missing_modes():
    network = Network.of([0.0, 0.0], [], [], log_det=[1.0, 2.0], n_modes=torch.tensor([5, 3]))
    assert thermo.lpphe(network).tolist() == [1.0, 2.0]
    filled = thermo.lpphe(network, zero_mode_curvature=0.02)
    assert filled.tolist() == pytest.approx([1.0, 2.0 + 2 * math.log(0.02)])
    with pytest.raises(TorchscapeError, match="positive"):
        thermo.lpphe(network, zero_mode_curvature=0.0)


def test_extreme_temperatures_stay_finite():
    network = mixed()
    t = torch.tensor([1e-6, 1e6], dtype=torch.float64)
    assert bool(torch.isfinite(hc.heat_capacity(network, t).value).all())
    assert float(thermo.occupation(network, t)[0, network.global_minimum]) == 1.0


def test_dtype_follows_the_network(dtype):
    network = Network.of([0.0, 1.0], [], [], dtype=dtype)
    assert hc.heat_capacity(network, 0.5).value.dtype == dtype
    assert thermo.occupation(network, [0.5]).dtype == dtype


@pytest.mark.parametrize("t", [0.0, -1.0, math.nan, math.inf])
def test_bad_temperatures(t):
    with pytest.raises(TorchscapeError, match="positive and finite"):
        hc.heat_capacity(two_state(), [1.0, t])


def test_missing_curvature_and_empty_networks():
    network = Network.of([0.0, 1.0], [], [], log_det=[0.0, math.nan])
    with pytest.raises(TorchscapeError, match="log_det is NaN for 1 of 2"):
        thermo.occupation(network, 1.0)
    with pytest.raises(TorchscapeError, match="no minima"):
        thermo.log_partition(Network.of([], [], []), 1.0)
