"""Spaces that only linear maps meet: closest images by SciPy, volumes of families by direct integration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.linalg
import torch
from neural_cases import case
from scipy.stats import ortho_group
from torch import nn

import torchscape as tsc
from torchscape import analysis, random
from torchscape.potentials.contract import check_contract
from torchscape.saddles import characterise
from torchscape.symmetry.modules.spaces import log_volume_of_rotations


class LowRank(nn.Module):
    """x -> B A x of rank r, as in LoRA."""

    def __init__(self, n: int, r: int, m: int) -> None:
        super().__init__()
        self.A, self.B = nn.Parameter(torch.randn(r, n)), nn.Parameter(torch.randn(m, r))

    def forward(self, x):
        return x @ self.A.T @ self.B.T


class Heads(nn.Module):
    """Self-attention by itself: what it reads and writes is data."""

    def __init__(self, width: int = 6, heads: int = 3) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True, bias=False)

    def forward(self, x):
        return self.attention(x, x, x)[0]


class Experts(nn.Module):
    """A gate over experts whose hidden units are each expert's own."""

    def __init__(self, experts: int = 3, hidden: int = 2) -> None:
        super().__init__()
        self.gate = nn.Linear(3, experts)
        self.into, self.out = (
            nn.Parameter(torch.randn(experts, 3, hidden)),
            nn.Parameter(torch.randn(experts, hidden, 2)),
        )

    def forward(self, x):
        hidden = torch.tanh(torch.einsum("bi,eih->beh", x, self.into))
        return torch.einsum("beh,eho,be->bo", hidden, self.out, torch.softmax(self.gate(x), 1))


class ListOfExperts(nn.Module):
    """The same with a module for each expert, in two lists."""

    def __init__(self, experts: int = 3, hidden: int = 2) -> None:
        super().__init__()
        self.gate = nn.Linear(3, experts)
        self.into = nn.ModuleList([nn.Linear(3, hidden) for _ in range(experts)])
        self.out = nn.ModuleList([nn.Linear(hidden, 2) for _ in range(experts)])

    def forward(self, x):
        weight = torch.softmax(self.gate(x), 1)
        made = [out(torch.tanh(into(x))) for into, out in zip(self.into, self.out, strict=True)]
        return sum(weight[:, k : k + 1] * y for k, y in enumerate(made))


class ListOfHeads(nn.Module):
    """Attention with a module for each head, as it is taught."""

    def __init__(self, heads: int = 3) -> None:
        super().__init__()
        self.heads = nn.ModuleList([self.Head() for _ in range(heads)])
        self.out = nn.Linear(2 * heads, 6)

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(6, 2, bias=False) for _ in range(3))

        def forward(self, x):
            return torch.softmax(self.q(x) @ self.k(x).mT, -1) @ self.v(x)

    def forward(self, x):
        return self.out(torch.cat([head(x) for head in self.heads], -1))


torch.manual_seed(0)
LORA = case(LowRank(5, 3, 4), torch.randn(7, 5))
HEADS = case(Heads(), torch.randn(2, 4, 6))
EXPERTS = case(Experts(), torch.randn(7, 3))
LIST_OF_EXPERTS = case(ListOfExperts(), torch.randn(7, 3))
LIST_OF_HEADS = case(ListOfHeads(), torch.randn(2, 4, 6))
ALL = {
    "lora": LORA,
    "heads": HEADS,
    "experts": EXPERTS,
    "experts in lists": LIST_OF_EXPERTS,
    "head modules": LIST_OF_HEADS,
}


def rotations_only(one):
    """As with regularisation: what changes the norm is dropped."""
    return one.symmetry.verified(
        lambda x: one.outputs(x).flatten(1).square().sum(1) + x.square().sum(1), one.points(3, seed=3)
    )


def factors(one, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    parts = one.layout.unflatten(x)
    return parts["A"].numpy(), parts["B"].numpy()


class TestBottleneck:
    def test_the_distance_is_that_of_procrustes(self):
        symmetry = rotations_only(LORA)
        assert symmetry.describe() == "A: rotations of 3 dimensions"
        a, b = LORA.points(2, 1), LORA.points(2, 2)
        for one, other, found in zip(a, b, symmetry.distance(a, b).tolist(), strict=True):
            stacked = [np.concatenate([A.T, B]) for A, B in (factors(LORA, one), factors(LORA, other))]
            turn, _ = scipy.linalg.orthogonal_procrustes(stacked[1], stacked[0])
            assert found == pytest.approx(np.linalg.norm(stacked[1] @ turn - stacked[0]), rel=1e-12)

    def test_without_regularisation_it_is_that_of_balanced_factors(self):
        """B A = U S V^T has the least norm as (U S^1/2) (S^1/2 V^T)."""

        def balanced(x):
            A, B = factors(LORA, x)
            u, s, vt = np.linalg.svd(B @ A)
            return np.concatenate([vt[:3].T, u[:, :3]]) * np.sqrt(s[:3])

        assert LORA.symmetry.describe() == "A: invertible maps of 3 dimensions"
        a, b = LORA.points(2, 1), LORA.points(2, 2)
        image = LORA.symmetry.random_image(b, torch.arange(2))
        assert torch.allclose(LORA.outputs(image), LORA.outputs(b), rtol=1e-9)
        for other in (b, image):
            for one, two, found in zip(a, b, LORA.symmetry.distance(a, other).tolist(), strict=True):
                turn, _ = scipy.linalg.orthogonal_procrustes(balanced(two), balanced(one))
                assert found == pytest.approx(np.linalg.norm(balanced(two) @ turn - balanced(one)), rel=1e-9)

    def test_an_aligned_image_has_the_maps_of_its_reference(self):
        a, b = LORA.points(4, 1), LORA.points(4, 2)
        assert torch.allclose(LORA.symmetry.align(a, a), a, rtol=1e-10)
        assert torch.allclose(LORA.outputs(LORA.symmetry.align(a, b)), LORA.outputs(b), rtol=1e-9)

    def test_axes_that_only_one_factor_has_are_nothing(self):
        """A of rank three with B of rank one, and its image of rank one, are one function and one point."""
        x = LORA.points(1, 3)
        A, B = (torch.from_numpy(f) for f in factors(LORA, x[0]))
        B[:, 1:] = 0.0
        x = LORA.layout.flatten({"A": A, "B": B})[None]
        A[1:] = 0.0
        y = LORA.layout.flatten({"A": A, "B": B})[None]
        assert torch.allclose(LORA.outputs(x), LORA.outputs(y))
        assert LORA.symmetry.distance(x, y).item() < 1e-7

    @pytest.mark.parametrize(("regularised", "expected"), [(True, 3), (False, 9)])
    def test_zero_modes(self, regularised, expected):
        """r (r - 1) / 2 of them, or r^2; outputs do not change along any."""
        symmetry = rotations_only(LORA) if regularised else LORA.symmetry
        x = LORA.points(2, 5)
        modes = symmetry.zero_modes(x)
        assert (modes.norm(dim=2) > 0.5).sum(1).tolist() == [expected] * 2
        for mode in modes.unbind(1):
            change = LORA.outputs(x + 1e-5 * mode) - LORA.outputs(x - 1e-5 * mode)
            assert change.abs().max() < 1e-8

    def test_a_space_in_which_nothing_lives_has_none(self):
        """A minimum may do without a layer: what a quench leaves of its weights is noise, not a direction."""
        x = HEADS.points(1, 5)
        x[0, 72:] *= 1e-9  # values and outputs
        symmetry = rotations_only(HEADS)
        assert (symmetry.zero_modes(x).norm(dim=2) > 0.5).sum().item() == 3
        x[0, 72:] = 0.0
        assert symmetry.log_degeneracy(x).isfinite()
        near = torch.cat([x[:, :72], 1e-9 * HEADS.points(1, 6)[:, 72:]], 1)
        assert symmetry.log_degeneracy(near).item() == pytest.approx(symmetry.log_degeneracy(x).item())

    def test_heads_that_are_all_dead_are_alike(self):
        """What counts is the 6! 2^6 images of the units that follow, whatever noise is left of the heads."""
        net = nn.Sequential(Heads(), nn.Tanh(), nn.Flatten(), nn.Linear(18, 3))
        potential = tsc.ModulePotential(
            net, (torch.randn(9, 3, 6), torch.arange(9) % 3), nn.functional.cross_entropy, l2=0.1
        )
        x = potential.flatten(net)[None]
        x[:, : 4 * 36] = 0.0
        noise = 1e-9 * random.normal(torch.arange(1), 4 * 36)
        for left in (0.0, noise):
            x[:, : 4 * 36] = left
            expected = math.log(math.factorial(6) * 2**6)
            assert potential.symmetry.log_degeneracy(x).item() == pytest.approx(expected, abs=1e-12)
            assert (potential.symmetry.zero_modes(x) == 0).all()

    def test_axes_that_are_zero_have_none(self):
        x = LORA.points(1, 5)
        A, B = (torch.from_numpy(f) for f in factors(LORA, x[0]))
        A[1:], B[:, 1:] = 0.0, 0.0
        x = LORA.layout.flatten({"A": A, "B": B})[None]
        assert (rotations_only(LORA).zero_modes(x).norm(dim=2) > 0.5).sum().item() == 2

    def test_axes_that_a_quench_leaves_short_have_none(self):
        """|B A - M|^2 / 20 + l2 (|A|^2 + |B|^2) with 20 l2 just above the second singular value of M: one axis
        lives (Srebro & Jaakkola 2003, doi 10.5555/3041838.3041929), the second is held at nought by a curvature
        of 1e-4 only, and quenches leave it as long as 1e-3. NumPy counts the flat directions at the minimum."""
        torch.manual_seed(0)
        left, _ = torch.linalg.qr(torch.randn(4, 3, dtype=torch.float64))
        right, _ = torch.linalg.qr(torch.randn(5, 3, dtype=torch.float64))
        target = left * torch.tensor([3.0, 1.0, 0.5], dtype=torch.float64) @ right.T
        l2 = 1.001 / 20
        data = torch.eye(5, dtype=torch.float64), target.T.contiguous()
        potential = tsc.ModulePotential(LowRank(5, 3, 4), data, nn.functional.mse_loss, l2=l2)
        A, B = torch.zeros(3, 5, dtype=torch.float64), torch.zeros(4, 3, dtype=torch.float64)
        root = (3.0 - 20 * l2) ** 0.5
        A[0], B[:, 0] = root * right[:, 0], root * left[:, 0]
        lowest = potential.layout.flatten({"A": A, "B": B})[None]
        assert potential.energy_and_grad(lowest)[1].abs().max() < 1e-14
        spectrum = np.linalg.eigvalsh(potential.hessian(lowest)[0].numpy())
        n_flat = int((np.abs(spectrum) < 1e-10).sum())
        assert n_flat == 2
        short = torch.zeros(1, 27, dtype=torch.float64)
        short[0, 5:15] = 2e-4 * torch.randn(10, dtype=torch.float64)
        ends = torch.cat([tsc.relax(potential, potential.sample(8)).x, lowest, lowest + short])
        n_known = (potential.symmetry.zero_modes(ends).norm(dim=2) > 0.5).sum(1)
        assert n_known.tolist() == [n_flat] * 10
        volumes = potential.symmetry.log_degeneracy(ends)
        assert volumes.tolist() == pytest.approx([volumes[8].item()] * 10, abs=1e-3)


def head_matrices(one, x: torch.Tensor, n_heads: int) -> tuple[np.ndarray, np.ndarray]:
    """Of every head the queries and keys, and the values and outputs: [heads, dimensions, numbers]."""
    parts = {name: value.numpy() for name, value in one.layout.unflatten(x).items()}
    q, k, v = np.split(parts["attention.in_proj_weight"].reshape(3 * n_heads, -1, 6), 3)
    o = parts["attention.out_proj.weight"].T.reshape(n_heads, -1, 6)
    return np.concatenate([q, k], 2), np.concatenate([v, o], 2)


class TestHeads:
    def test_the_distance_is_the_least_over_heads_and_rotations_in_each(self):
        symmetry = rotations_only(HEADS)
        a, b = HEADS.points(1, 1), HEADS.points(1, 2)
        mine, its = head_matrices(HEADS, a[0], 3), head_matrices(HEADS, b[0], 3)

        def overlap(i, j):  # the best inner product of head i with head j: two Procrustes problems
            return sum(
                np.linalg.svd(m[i] @ t[j].T, compute_uv=False).sum() for m, t in zip(mine, its, strict=True)
            )

        best = max(sum(overlap(i, p[i]) for i in range(3)) for p in itertools.permutations(range(3)))
        expected = a.square().sum() + b.square().sum() - 2 * best
        assert symmetry.distance(a, b).item() == pytest.approx(expected.sqrt().item(), rel=1e-12)

    @pytest.mark.parametrize("name", ALL)
    def test_images_are_recognised_and_others_are_not(self, name):
        one = ALL[name]
        for symmetry in (one.symmetry, rotations_only(one)):
            x = one.points(50, 4)
            image = symmetry.random_image(x, random.fold(3, torch.arange(50)))
            size = x.norm(dim=1).max()
            assert (one.outputs(image) - one.outputs(x)).abs().max() < 1e-8 * one.outputs(x).abs().max()
            assert symmetry.distance(x, image).max() < 1e-8 * size
            assert (symmetry.distance(x, image.roll(1, 0)) > 0.1).all()
            assert torch.allclose(symmetry.invariants(x), symmetry.invariants(image), atol=1e-7)
            assert torch.allclose(symmetry.log_degeneracy(x), symmetry.log_degeneracy(image), atol=1e-6)
            apart = (symmetry.invariants(x) - symmetry.invariants(x.roll(1, 0))).norm(dim=1)
            assert (apart <= symmetry.distance(x, x.roll(1, 0)) + 1e-9).all()
            assert torch.allclose(symmetry.canonical(x), symmetry.canonical(image), atol=1e-5)

    def test_modules_in_lists_are_exchanged_whole(self):
        assert LIST_OF_EXPERTS.symmetry.describe() == (
            "into.0.weight: permutations and signs of 2 units in each of 3 copies; into.*: permutations of 3 units"
        )
        x = LIST_OF_EXPERTS.points(1)
        expected = math.factorial(3) * (2 * 4) ** 3
        assert LIST_OF_EXPERTS.symmetry.log_degeneracy(x).exp().item() == pytest.approx(expected)
        assert LIST_OF_HEADS.symmetry.describe() == (
            "heads.0.q.weight: invertible maps of 2 dimensions in each of 3 copies; "
            "heads.0.v.weight: invertible maps of 2 dimensions in each of 3 copies; "
            "heads.*: permutations of 3 units"
        )

    def test_layers_that_follow_each_other_are_no_siblings(self):
        one = case(
            nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)),
            torch.randn(5, 3),
        )
        assert [group.size for group in one.symmetry.groups] == [3, 3]

    def test_units_of_experts_are_their_own(self):
        """3! exchanges of experts, and in each 2! 2^2 images of its tanh units."""
        assert EXPERTS.symmetry.describe() == (
            "into: permutations of 3 units; into: permutations and signs of 2 units in each of 3 copies"
        )
        expected = math.factorial(3) * (2 * 4) ** 3
        assert EXPERTS.symmetry.log_degeneracy(EXPERTS.points(1)).exp().item() == pytest.approx(expected)
        a, b = EXPERTS.points(1, 1), EXPERTS.points(1, 2)
        mine, its = ([EXPERTS.layout.unflatten(x[0]) for x in (a, b)][k] for k in (0, 1))

        def overlap(i, j):
            gate = (mine["gate.weight"][i] * its["gate.weight"][j]).sum() + mine["gate.bias"][i] * its[
                "gate.bias"
            ][j]
            units = [torch.cat([z["into"][k].T, z["out"][k]], 1) for z, k in ((mine, i), (its, j))]
            table = (units[0] @ units[1].T).abs()
            return gate + max(table[0, 0] + table[1, 1], table[0, 1] + table[1, 0])

        best = max(sum(overlap(i, p[i]) for i in range(3)) for p in itertools.permutations(range(3)))
        expected = (a.square().sum() + b.square().sum() - 2 * best).sqrt()
        assert EXPERTS.symmetry.distance(a, b).item() == pytest.approx(expected.item(), rel=1e-12)


# --- volumes -------------------------------------------------------------------------------------------------


def log_partition(potential, x: torch.Tensor, t: float) -> float:
    """ln of the integral of exp(-U / T) in the harmonic approximation about the family of one minimum."""
    found = characterise(potential, tsc.relax(potential, x))
    network = tsc.Network.of(
        found.energy,
        [],
        [],
        log_det=found.log_det,
        log_degeneracy=potential.symmetry.log_degeneracy(found.x),
        n_modes=potential.ndim - found.n_zero,
    )
    return analysis.log_partition(network, t).item() + 0.5 * potential.ndim * math.log(2 * math.pi)


class Length(nn.Module):
    """x -> |a|^2 x, of two parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor([1.0, 0.5]))

    def forward(self, x):
        return x * (self.a @ self.a)


class Gram(nn.Module):
    """The inner products of two columns of n numbers."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.randn(n, 2))

    def forward(self, x):
        return x @ self.A.T @ self.A


def quadrature(lower: float, upper: float, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    points, weights = np.polynomial.legendre.leggauss(n)
    return 0.5 * (upper - lower) * points + 0.5 * (upper + lower), 0.5 * (upper - lower) * weights


class TestVolume:
    def test_of_two_parameters_on_a_circle(self):
        """U = (|a|^2 - 1)^2, integrated over the radius; half of O(2) leaves a vector alone."""
        potential = tsc.ModulePotential(Length(), (torch.ones(1, 1), torch.ones(1, 1)), nn.functional.mse_loss)
        assert potential.symmetry.describe() == "a: rotations of 2 dimensions"
        t = 1e-4
        r, w = quadrature(0.9, 1.1)
        exact = math.log((2 * math.pi * r * np.exp(-((r**2 - 1) ** 2) / t) * w).sum())
        assert log_partition(potential, potential.initial, t) == pytest.approx(exact, abs=1e-3)

    def test_of_a_low_rank_layer(self):
        """(b a - 1)^2 with a penalty: with u, v = (a +- b) / sqrt 2 the energy depends on |u| and |v| alone."""
        data = torch.ones(1, 1), torch.ones(1, 1)
        potential = tsc.ModulePotential(LowRank(1, 2, 1), data, nn.functional.mse_loss, l2=0.1)
        assert potential.symmetry.describe() == "A: rotations of 2 dimensions"
        t = 1e-4
        (u, wu), (v, wv) = quadrature(1.0, 1.7, 400), quadrature(0.0, 0.3, 400)
        u, v = u[:, None], v[None]
        energy = (0.5 * (u**2 - v**2) - 1) ** 2 + 0.1 * (u**2 + v**2)
        lowest = energy.min()
        density = (2 * math.pi) ** 2 * u * v * np.exp(-(energy - lowest) / t) * wu[:, None] * wv[None]
        exact = math.log(density.sum()) - lowest / t
        assert log_partition(potential, potential.initial, t) == pytest.approx(exact, abs=1e-3)

    @pytest.mark.parametrize(
        ("n", "volume"), [(2, 4 * math.pi), (3, 8 * math.pi**2), (4, 2 * math.pi**2 * 4 * math.pi)]
    )
    def test_of_two_vectors(self, n, volume):
        """X = Q R has the measure r11^(n - 1) r22^(n - 2) dR dQ (Muirhead 1982, theorem 2.1.13).

        Q goes over all pairs of vectors of length one at right angles: the sphere of n - 1 dimensions times that
        of n - 2. In more than two dimensions there are axes in which nothing lives.
        """
        target = torch.tensor([[2.0, 0.3], [0.3, 1.0]])
        potential = tsc.ModulePotential(
            Gram(n), (torch.eye(2), target), nn.functional.mse_loss, l2=0.05, reduction="whole"
        )
        assert potential.symmetry.describe() == f"A: rotations of {n} dimensions"
        x = tsc.relax(potential, potential.initial).x
        corner = torch.linalg.qr(x.reshape(n, 2)).R.abs()
        t = 2e-5
        axes = [
            quadrature(c - 0.06, c + 0.06, 80)
            for c in (corner[0, 0].item(), corner[0, 1].item(), corner[1, 1].item())
        ]
        grid = torch.cartesian_prod(*(torch.from_numpy(points) for points, _ in axes))
        weights = torch.cartesian_prod(*(torch.from_numpy(w) for _, w in axes)).prod(1)
        rows = torch.zeros(len(grid), n, 2, dtype=torch.float64)
        rows[:, 0], rows[:, 1, 1] = grid[:, :2], grid[:, 2]
        energy = potential.energy(rows.flatten(1))
        lowest = potential.energy(x).item()
        measure = volume * grid[:, 0] ** (n - 1) * grid[:, 2] ** (n - 2)
        exact = math.log((measure * torch.exp(-(energy - lowest) / t) * weights).sum()) - lowest / t
        # what is not harmonic at this temperature, in proportion to it
        assert log_partition(potential, potential.initial, t) == pytest.approx(exact, abs=1e-3)

    @pytest.mark.parametrize("n", [2, 3, 4])
    def test_the_volume_of_a_group_by_its_density(self, n):
        """The share of random rotations that are near 1 is a ball of generators over the volume of O(n)."""
        k, reach = n * (n - 1) // 2, {2: 0.3, 3: 0.7, 4: 1.2}[n]
        drawn = ortho_group.rvs(n, size=200_000, random_state=0)
        near = 0
        for part in np.split(drawn[np.linalg.det(drawn) > 0], range(1000, 100_000, 1000)):
            angles = np.abs(np.angle(np.linalg.eigvals(part)))
            near += int((np.sqrt((angles**2).sum(1) / 2) < reach).sum())
        ball = math.pi ** (k / 2) / math.gamma(k / 2 + 1) * reach**k
        # the measure at exp(Y) is 1 + tr(ad_Y^2) / 24 to second order, and -tr(ad_Y^2) = 2 (n - 2) |Y|^2
        ball *= 1 - (n - 2) / 12 * reach**2 * k / (k + 2)
        assert near / 200_000 == pytest.approx(ball / math.exp(log_volume_of_rotations(n)), rel=0.05)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.layer, self.out = kind(3, 3, batch_first=True), nn.Linear(3, 2)

    def forward(self, x):
        return self.out(self.layer(x)[0][:, -1])


CONTRACTS = {
    "lora": (lambda: LowRank(4, 2, 3), torch.randn(9, 4)),
    "heads": (lambda: nn.Sequential(Heads(), nn.Flatten(), nn.Linear(18, 3)), torch.randn(9, 3, 6)),
    "experts": (lambda: nn.Sequential(Experts(), nn.Linear(2, 3)), torch.randn(9, 3)),
    "lstm": (lambda: Recurrent(nn.LSTM), torch.randn(9, 4, 3)),
}


@pytest.mark.parametrize("l2", [0.0, 1e-2])
@pytest.mark.parametrize("name", CONTRACTS)
def test_potentials_keep_their_contract(name, l2):
    torch.manual_seed(0)
    make, x = CONTRACTS[name]
    potential = tsc.ModulePotential(make(), (x, torch.arange(9) % 2), nn.functional.cross_entropy, l2=l2)
    assert potential.symmetry.describe() != "none"
    check_contract(potential, smooth=True)


@pytest.mark.parametrize("name", ALL)
def test_the_same_answers_on_every_device(device, name):
    one = ALL[name]
    a, b = one.points(5, 1), one.points(5, 2)
    for symmetry in (one.symmetry, rotations_only(one)):
        there = symmetry.distance(a.to(device), b.to(device))
        assert there.device.type == device.type
        assert torch.allclose(there.cpu(), symmetry.distance(a, b), rtol=1e-9)
        for number in (symmetry.log_degeneracy, symmetry.invariants):
            assert torch.allclose(number(a.to(device)).cpu(), number(a), rtol=1e-8, atol=1e-8)
        zero = symmetry.zero_modes(a.to(device)).cpu()
        assert torch.allclose(zero.mT @ zero, symmetry.zero_modes(a).mT @ symmetry.zero_modes(a), atol=1e-8)
        key = random.fold(3, torch.arange(5, device=device))
        assert torch.allclose(symmetry.random_image(a.to(device), key).cpu(), symmetry.random_image(a, key.cpu()))


@pytest.mark.parametrize("name", ALL)
def test_single_precision(name):
    one = ALL[name]
    x = one.points(20, 3).float()
    symmetry = rotations_only(one)
    image = symmetry.random_image(x, random.fold(0, torch.arange(20)))
    assert image.dtype == torch.float32
    assert (symmetry.distance(x, image) < 1e-2).all()
    assert symmetry.zero_modes(x).dtype == torch.float32


@pytest.mark.parametrize("name", ALL)
def test_a_row_does_not_notice_its_neighbours(name):
    """Not even one that has run away."""
    one = ALL[name]
    x, y = one.points(4, 3), one.points(4, 4)
    x[1], y[2] = torch.nan, torch.inf
    for symmetry in (one.symmetry, rotations_only(one)):
        for f in (symmetry.distance, symmetry.align):
            alone = torch.cat([f(x[k : k + 1], y[k : k + 1]) for k in (0, 3)])
            assert torch.allclose(f(x, y)[[0, 3]], alone, rtol=1e-12, atol=1e-12)

        def flat(x, symmetry=symmetry):  # the span of the zero modes: a basis of it is as good as another
            return symmetry.zero_modes(x).mT @ symmetry.zero_modes(x)

        for g in (flat, symmetry.log_degeneracy, symmetry.invariants):
            alone = torch.cat([g(x[k : k + 1]) for k in (0, 3)])
            assert torch.allclose(g(x)[[0, 3]], alone, rtol=1e-10, atol=1e-10)


def test_spaces_of_too_many_directions_are_units():
    """Each point would need them all at once: 48 * 47 / 2 are more than 512."""
    one = case(LowRank(20, 48, 5), torch.randn(7, 20))
    assert one.symmetry.describe() == "A: permutations, signs and scales of 48 units"
    assert "rotations of 48 dimensions" in one.symmetry.notes[0]
    x = one.points(3)
    assert (one.symmetry.distance(x, one.symmetry.random_image(x, torch.arange(3))) < 1e-9).all()
