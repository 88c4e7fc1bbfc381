"""Explorations of landscapes whose minima are no points: what is counted and what is said."""

from __future__ import annotations

import contextlib
import math
import sqlite3
import sys

import numpy as np
import pytest
import torch
from torch import nn

import torchscape as tsc
from torchscape.explore.curvatures import characterise_new
from torchscape.explore.families import merge_families
from torchscape.symmetry import Translations

HOPPING = tsc.BasinHopping(walkers=24, hops=2)
FLAT = "flat direction"


def explored(u: tsc.Potential, *strategies: tsc.Strategy):
    """The report and the landscape."""
    landscape = tsc.Landscape.in_memory(u)
    return tsc.explore(landscape, u, strategies=list(strategies) or [HOPPING], progress=False), landscape


def function(f, ndim: int, **more) -> tsc.FunctionPotential:
    return tsc.FunctionPotential(f, ndim, batched=True, **more)


def ring(x):
    return (x.square().sum(1) - 1) ** 2


def chain(x):
    """Five angles on a ring (XY model): minima are the uniform twists, U = -5 cos(2 pi k / 5), k = -1, 0, 1."""
    return -torch.cos(x - x.roll(-1, -1)).sum(-1)


class TestCounting:
    def test_a_ring_is_one_minimum_and_is_not_complete(self):
        with pytest.warns(UserWarning, match="1 flat direction that no declared symmetry explains.*regularise"):
            report, landscape = explored(function(ring, 2), HOPPING, tsc.ConnectMinima())
        assert (landscape.n_minima, report.n_families, report.flat_directions) == (1, 1, (1,))
        assert report.status == "complete up to families"
        assert not report.is_complete
        assert int(landscape.network().hits[0]) == 72  # every quench is a hit of the one
        assert FLAT in str(report)
        assert FLAT in landscape.describe()
        summary = landscape.summary()
        assert (summary["n_families"], summary["flat_directions"], summary["complete"]) == (1, [1], False)
        assert landscape.n_transition_states == 0

    def test_rings_of_different_energy(self):
        def f(x):
            r = x.norm(dim=1)
            return ((r - 1) * (r - 2)) ** 2 + 0.05 * r

        with pytest.warns(UserWarning, match="2 minima are continuous families"):
            report, _ = explored(function(f, 2))
        assert report.flat_directions == (1, 1)

    def test_a_sphere(self):
        with pytest.warns(UserWarning, match="3 flat directions"):
            report, _ = explored(function(ring, 4))
        assert report.flat_directions == (3,)

    def test_isolated_minima_beside_a_family(self):
        """U = (|x|^2 - 1)^2 ((x1 - 4)^2 + x2^2 + 0.1): a ring at zero and one point above it."""

        def f(x):
            return ring(x) / (1 + x.square().sum(1)) ** 2 * ((x - torch.tensor([4.0, 0.0])).square().sum(1) + 0.1)

        with pytest.warns(UserWarning, match="1 of 2 minima"):
            report, landscape = explored(function(f, 2), tsc.BasinHopping(walkers=32, hops=4, step=2.0))
        assert report.flat_directions == (1, 0)
        network = landscape.network()
        assert network.n_modes.tolist() == [1, 2]
        with pytest.warns(UserWarning, match="families with 0 to 1 flat directions"):
            tsc.analysis.heat_capacity(network, [0.1])
        with pytest.warns(UserWarning, match="families"):
            tsc.analysis.rates(network, 0.1)
        assert network.subset(torch.tensor([1])).n_flat.tolist() == [0]

    @pytest.mark.parametrize("ndim", [20, 510])
    def test_soft_is_not_flat_in_float32(self, ndim):
        """Curvatures of 1e-6 of the largest are rounding in float32, and no zero."""
        curvature = torch.logspace(-6, 0, ndim)
        u = function(lambda x: (curvature * (x.square() + x.square().square())).sum(1), ndim, dtype=torch.float32)
        report, landscape = explored(u, tsc.BasinHopping(walkers=1, hops=0))
        assert (report.status, report.flat_directions) == ("complete", (0,))
        assert landscape.minima().n_zero.tolist() == [0]

    def test_what_is_not_flat_is_said_nothing_of(self):
        report, landscape = explored(function(lambda x: ((x**2 - 1) ** 2).sum(1), 2))
        assert report.status == "complete"
        assert report.flat_directions == (0, 0, 0, 0)
        assert landscape.summary()["invariances"] == {}
        assert FLAT not in str(report) + landscape.describe()
        assert merge_families(landscape, landscape.potential) == 0


class TestModels:
    def model(self, which: str):
        torch.manual_seed(0)
        if which == "linear":
            x, y = torch.randn(40, 4), torch.randint(0, 3, (40,))
            return nn.Sequential(nn.Linear(4, 2, bias=False), nn.Linear(2, 3)), (x, y)

        class LoRA(nn.Module):
            def __init__(self):
                super().__init__()
                self.base = nn.Linear(6, 3).requires_grad_(False)
                self.a = nn.Parameter(torch.randn(2, 6))
                self.b = nn.Parameter(torch.zeros(3, 2))

            def forward(self, x):
                return self.base(x) + x @ self.a.T @ self.b.T

        return LoRA(), (torch.randn(40, 6), torch.randint(0, 3, (40,)))

    @pytest.mark.parametrize("which", ["linear", "lora"])
    def test_two_factors_are_one_minimum(self, which):
        """With l2 what is left is O(2), which is found: the one direction of its circle is a known zero mode."""
        module, data = self.model(which)
        u = tsc.ModulePotential(module, data, nn.functional.cross_entropy, l2=1e-2)
        report, landscape = explored(u, tsc.BasinHopping(walkers=8, hops=1, temperature=0.02))
        assert report.is_complete
        assert report.flat_directions == (0,)
        assert landscape.n_minima == 1
        assert landscape.network().n_modes.tolist() == [u.ndim - 1]

    @pytest.mark.parametrize("which", ["linear", "lora"])
    def test_where_nothing_is_declared_they_are_two_families(self, which):
        """The circles of the rotations and of the reflections, of one direction each."""
        module, data = self.model(which)
        u = tsc.ModulePotential(module, data, nn.functional.cross_entropy, l2=1e-2, symmetry=None)
        with pytest.warns(UserWarning, match="declare the symmetry"):
            report, landscape = explored(u, tsc.BasinHopping(walkers=8, hops=1, temperature=0.02))
        assert report.flat_directions == (1, 1)
        assert landscape.n_minima == 2

    def test_two_factors_of_504_coordinates(self):
        """Where no Hessian is formed to walk. Nothing is declared: O(2) has two circles of minima, det = 1 and -1,
        of equal energy, and each is one minimum."""
        g = torch.Generator().manual_seed(0)
        target = (torch.randn(126, 2, generator=g) @ torch.randn(2, 126, generator=g) / 10).double()

        def f(x):
            b, a = x.unflatten(1, (2, 126, 2)).unbind(1)
            return (b @ a.mT - target).square().sum((1, 2)) + 0.1 * x.square().sum(1)

        with pytest.warns(UserWarning, match="all 2 minima are continuous families, with 1 flat direction"):
            report, landscape = explored(function(f, 504), tsc.BasinHopping(walkers=4, hops=0))
        assert (report.n_quenches, report.flat_directions) == (4, (1, 1))
        x = landscape.minima().x.unflatten(1, (2, 126, 2))[:, 0]
        assert torch.det(x[0].mT @ x[1]) < 0
        assert int(landscape.network().hits.sum()) == 4
        assert landscape.summary()["n_unjoined_families"] == 2


class TestPeriods:
    def test_undeclared_they_are_found_and_said(self):
        with pytest.warns(UserWarning, match=r"p = 2 pi for each of 5 coordinates: declare periods=6.283185307"):
            _, landscape = explored(function(chain, 5), tsc.BasinHopping(walkers=32, hops=2))
        found = landscape.summary()["invariances"]
        assert found["periods"] == [2 * math.pi] * 5
        assert torch.allclose(torch.tensor(found["directions"]), torch.ones(1, 5))
        assert "undeclared" in landscape.describe()

    def test_declared_periods_leave_three_families_of_two_energies(self):
        u = function(chain, 5, periods=2 * math.pi)
        with pytest.warns(UserWarning, match="a zero mode, with v = "):
            report, landscape = explored(u, tsc.BasinHopping(walkers=64, hops=2))
        expected = [-5.0, -5 * math.cos(0.4 * math.pi), -5 * math.cos(0.4 * math.pi)]
        assert torch.allclose(landscape.network().energy, torch.tensor(expected, dtype=torch.float64), atol=1e-10)
        assert report.flat_directions == (1, 1, 1)

    def test_with_the_zero_mode_declared_the_network_is_complete(self):
        """Saddles have one angle turned against the others: U = -1.5 between -5 and -1.545."""
        u = function(chain, 5, symmetry=Translations(5, periods=2 * math.pi, directions=[[1.0] * 5]))
        report, landscape = explored(u, tsc.BasinHopping(walkers=64, hops=2), tsc.ConnectMinima())
        assert report.is_complete
        assert landscape.n_minima == 3
        network = landscape.network()
        assert network.n_modes.tolist() == [4, 4, 4]
        assert int(network.components().max()) == 0
        assert torch.allclose(network.ts_energy, torch.full_like(network.ts_energy, -1.5), atol=1e-9)
        assert landscape.summary()["invariances"] == {}

    def test_a_period_without_a_family(self):
        report, landscape = explored(function(lambda x: (2 * x[:, 0]).cos() + x[:, 1] ** 2, 2))
        assert landscape.summary()["invariances"] == {"periods": [math.pi, None]}
        assert report.is_complete


class TestFile:
    def test_a_merged_minimum_stays_in_the_file(self, tmp_path):
        u = function(ring, 2)
        with tsc.Landscape.open(tmp_path / "ring.tscape", u) as landscape:
            with pytest.warns(UserWarning, match=FLAT):
                tsc.explore(landscape, u, strategies=[HOPPING], progress=False)
            assert landscape.find(landscape.minima(torch.tensor([0, 1, 5]))).tolist() == [0, 0, 0]
        with contextlib.closing(sqlite3.connect(tmp_path / "ring.tscape")) as file:
            rows = file.execute("SELECT id, family, hits FROM minimum").fetchall()
        assert len(rows) > 1
        assert {family for _, family, _ in rows} == {0}
        assert [hits for i, _, hits in rows if i] == [0] * (len(rows) - 1)
        with tsc.Landscape.open(tmp_path / "ring.tscape") as landscape:
            assert landscape.n_minima == 1
            assert landscape.flat_directions().tolist() == [1]

    def test_transition_states_follow_their_ends(self):
        """Minima 0 and 1 are joined afterwards: the saddle between them ends in one minimum."""
        u = function(lambda x: ((x**2 - 1) ** 2).sum(1), 2)
        landscape = tsc.Landscape.in_memory(u)
        x = torch.tensor([[-1.0, 1.0], [1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
        converged = torch.full((3,), int(tsc.Status.CONVERGED))
        landscape.add_minima(tsc.StationaryPoints.of(x, u.energy(x), status=converged))
        top = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
        saddles = tsc.StationaryPoints.of(
            top, u.energy(top), status=converged[:2], index=torch.ones(2, dtype=torch.int64)
        )
        landscape.add_transition_states(saddles, torch.tensor([0, 1]), torch.tensor([1, 2]))
        landscape.set_families(torch.tensor([1]), torch.tensor([0]))
        assert landscape.ends(torch.tensor([0, 1])).tolist() == [[0, 0], [0, 2]]
        assert landscape.n_minima == 2
        assert landscape.network().n_degenerate_rearrangements == 1
        assert landscape.network().hits.tolist() == [2, 1]
        again = landscape.add_minima(tsc.StationaryPoints.of(x, u.energy(x), status=converged))
        assert again.tolist() == [0, 0, 2]

    def test_what_a_killed_run_left_is_compared_by_the_next(self, monkeypatch):
        u = function(ring, 2)
        landscape = tsc.Landscape.in_memory(u)
        with monkeypatch.context() as killed:
            killed.setattr(sys.modules["torchscape.explore.curvatures"], "merge_families", lambda *_: 0)
            with pytest.warns(UserWarning, match="minima are continuous families"):
                tsc.explore(landscape, u, strategies=[HOPPING], progress=False)
        assert landscape.n_minima > 1
        with pytest.warns(UserWarning, match=FLAT):
            tsc.explore(landscape, u, strategies=[HOPPING], progress=False)
        assert landscape.n_minima == 1


class Block(nn.Module):
    """Attention of two heads and a perceptron, each added to the residual stream."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 2, bias=False, batch_first=True)
        self.up, self.down = nn.Linear(width, width), nn.Linear(width, width, bias=False)

    def forward(self, x):
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return x + self.down(nn.functional.gelu(self.up(x)))


class Larger(nn.Module):
    """Two digits below three in, the larger of them out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(3, width), nn.Parameter(torch.randn(2, width))
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.out = nn.Linear(width, 3, bias=False)

    def forward(self, tokens):
        return self.out(self.blocks(self.token(tokens) + self.place)[:, -1])


@pytest.mark.slow
def test_heads_without_attention_are_one_linear_map():
    """Where l2 leaves a layer no queries and keys its two heads rotate together, which no symmetry of the module
    says. The minima are families of more than 500 coordinates, one for each energy, whose flat directions are as
    many as NumPy counts."""
    torch.manual_seed(0)
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    u = tsc.ModulePotential(Larger(8), (pairs, pairs.amax(1)), nn.functional.cross_entropy, l2=1.5e-2)
    assert u.ndim == 848
    found = tsc.relax(u, u.sample(6, seed=1), tol=1e-9)
    with tsc.Landscape.in_memory(u) as landscape:
        landscape.add_minima(found)
        with contextlib.suppress(UserWarning):
            characterise_new(landscape, u)
        minima = landscape.minima()
        energies = minima.energy.tolist()
        assert len(energies) == len({round(energy, 7) for energy in energies}) < 6
        for x, n_zero in zip(minima.x, minima.n_zero.tolist(), strict=True):
            spectrum = np.linalg.eigvalsh(u.hessian(x[None])[0].numpy())
            assert (np.abs(spectrum) < 1e-6).sum() == n_zero
