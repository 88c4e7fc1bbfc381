"""Derivatives, symmetries and states that are false are refused; those that are merely awkward are not."""

from __future__ import annotations

import warnings

import pytest
import torch
from custom_operations import Cube
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

import torchscape as tsc
from torchscape.errors import PotentialError
from torchscape.potentials import ClusterPotential, FunctionPotential, ModulePotential, Potential
from torchscape.potentials.batching import fresh_bytes
from torchscape.potentials.probe import generic_points, probe, refuse_wrong_derivatives
from torchscape.symmetry.blocks import BlockPermutation
from torchscape.symmetry.cluster import ClusterSymmetry
from torchscape.symmetry.inversion import Inversion

X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.randn(12, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def differences(u: Potential, x: torch.Tensor) -> torch.Tensor:
    """The Hessian by central differences of the gradient."""
    eye = 1e-5 * torch.eye(u.ndim, dtype=x.dtype)
    rows = [(u.energy_and_grad(x + e)[1] - u.energy_and_grad(x - e)[1]) / 2e-5 for e in eye]
    return torch.stack(rows, 1)


# --- mended ---------------------------------------------------------------------------------------------


def old_weight_norm(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer)


@pytest.mark.parametrize(
    "normed",
    [
        old_weight_norm,
        nn.utils.parametrizations.weight_norm,
        lambda layer: nn.utils.parametrizations.weight_norm(layer, dim=1),
        lambda layer: nn.utils.parametrizations.weight_norm(layer, dim=None),
    ],
)
def test_weight_norm_has_the_hessian_of_its_gradient(normed):
    """torch's own second derivative of weight normalisation is off by a tenth (torch 2.13)."""
    net = nn.Sequential(normed(nn.Linear(4, 3)), nn.Tanh(), nn.Linear(3, 2))
    u = ModulePotential(net, (X, Y), mse_loss, symmetry=None)
    x = u.sample(1, seed=1) + 0.3
    torch.testing.assert_close(u.hessian(x), differences(u, x), atol=1e-7, rtol=0)
    assert u.flatten(u.module).shape == (u.ndim,)
    assert u.with_(dtype=torch.float32).energy(x.float()).item() == pytest.approx(u.energy(x).item(), rel=1e-5)


def test_the_kernel_of_weight_norm_in_torch_is_still_wrong():
    """When this fails, torch has mended it, and ``WrittenOut`` may go."""
    v, g = torch.randn(3, 4, dtype=torch.float64), torch.rand(3, 1, dtype=torch.float64) + 0.5

    def f(v, g):
        return torch._weight_norm(v, g, 0).sin().sum()

    def grad(v):
        v = v.clone().requires_grad_(True)
        return torch.autograd.grad(f(v, g), v, create_graph=True)[0], v

    d = torch.randn_like(v)
    first, leaf = grad(v)
    (product,) = torch.autograd.grad(first, leaf, d)
    measured = (grad(v + 1e-6 * d)[0] - grad(v - 1e-6 * d)[0]).detach() / 2e-6
    assert float((product - measured).abs().max()) > 1e-3


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 2)
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return self.scale * self.a(x).tanh()


def test_parameters_of_no_dimensions():
    u = ModulePotential(Scaled(), (X, Y), mse_loss, l2=1e-2, regularise="scale")
    points = tsc.relax(u, u.sample(3))
    assert bool(points.converged.all())
    net = u.load_into(u.module, points.x[0])
    assert net.scale.shape == ()
    torch.testing.assert_close(u.flatten(net), points.x[0])
    assert u.layout.unflatten(points.x[0])["scale"].shape == ()
    alone = ModulePotential(Scaled(), (X, Y), mse_loss, parameters="scale", symmetry=None)
    assert alone.energy(torch.zeros(2, 1).double()).tolist() == pytest.approx([Y.square().mean().item()] * 2)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.r, self.o = kind(4, 3, batch_first=True, bidirectional=True), nn.Linear(6, 2)

    def forward(self, x):
        return self.o(self.r(x.unflatten(1, (1, 4)).expand(-1, 3, -1))[0][:, -1])


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.filterwarnings("error:.*walker by walker")
def test_recurrent_layers_need_no_loop(kind, dtype):
    u = ModulePotential(Recurrent(kind), (X, Y), mse_loss, symmetry=None, dtype=dtype)
    x = u.sample(3)
    energy, grad = u.energy_and_grad(x)
    v = torch.ones_like(x)
    product = u.hvp(x, v)
    for b in range(3):  # each row in a module of its own, by plain autograd
        net = u.load_into(u.module.requires_grad_(True), x[b])
        loss = mse_loss(net(X.to(dtype)), Y.to(dtype))
        slopes = torch.autograd.grad(loss, list(net.parameters()), create_graph=True)
        second = torch.autograd.grad(sum(s.sum() for s in slopes), list(net.parameters()))
        tolerance = {"atol": 100 * torch.finfo(dtype).eps, "rtol": 0.0}
        torch.testing.assert_close(energy[b], loss.detach(), **tolerance)
        torch.testing.assert_close(grad[b], torch.cat([s.detach().flatten() for s in slopes]), **tolerance)
        torch.testing.assert_close(product[b], torch.cat([s.flatten() for s in second]), **tolerance)


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_the_plan_counts_recurrent_layers_as_they_run(kind):
    """Taken apart they keep what the fused kernel does not: the plan counted that, a third too little."""
    u = ModulePotential(Recurrent(kind), (X, Y), mse_loss, symmetry=None)
    evaluator = u._evaluator
    batch = next(iter(evaluator.objective.samples.chunks(7)))
    one, two = (
        fresh_bytes(lambda x=x: evaluator.losses(x, batch, vmapped=True))[0] // 7
        for x in (u.initial, u.initial.repeat(2, 1))
    )
    assert evaluator.plan.bytes_per_pair == pytest.approx(one, rel=0.1)  # alone, copies of a row are views
    assert two == pytest.approx(2 * one, rel=0.1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_recurrent_layers_in_a_function_need_no_loop(kind, dtype):
    layer = Recurrent(kind).to(dtype).requires_grad_(False)
    z = X[:2].to(dtype)
    u = FunctionPotential(lambda x: layer(z + x).square().sum(), 4, dtype=dtype)
    x = u.sample(3)
    energy, grad = u.energy_and_grad(x)
    for b in range(3):
        leaf = x[b].clone().requires_grad_(True)
        alone = layer(z + leaf).square().sum()
        (slope,) = torch.autograd.grad(alone, leaf)
        torch.testing.assert_close(energy[b], alone.detach(), atol=0.0, rtol=100 * torch.finfo(dtype).eps)
        torch.testing.assert_close(grad[b], slope, atol=100 * torch.finfo(dtype).eps, rtol=0.0)
    if dtype == torch.float64:
        torch.testing.assert_close(u.hessian(x), differences(u, x), atol=1e-7, rtol=1e-6)


@pytest.mark.filterwarnings("error")
def test_attention_in_a_function_takes_its_mathematical_form():
    attend = nn.MultiheadAttention(4, 2, batch_first=True).double().requires_grad_(False)
    z = torch.randn(1, 3, 4, dtype=torch.float64)

    def fn(x):
        tokens = z + x.view(1, 1, 4)
        return attend(tokens, tokens, tokens, need_weights=False)[0].square().sum()

    u = FunctionPotential(fn, 4)
    x = u.sample(2)
    torch.testing.assert_close(u.hessian(x), differences(u, x), atol=1e-7, rtol=1e-6)


# --- refused --------------------------------------------------------------------------------------------


class Padded(nn.Module):
    def __init__(self, **options) -> None:
        super().__init__()
        self.e, self.o = nn.Embedding(5, 3, **options), nn.Linear(3, 2)

    def forward(self, z):
        return self.o(torch.tanh(self.e(z)).mean(1))


class Rounded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 2)

    def forward(self, x):
        h = torch.tanh(self.a(x))
        return h + (h.round() - h).detach()


def held_back(model, batch):
    out = model(batch)
    return ((out - 2 * out.detach().tanh()) ** 2).mean()


TOKENS = (torch.arange(48) * 7 % 5).reshape(12, 4)


@pytest.mark.parametrize(
    ("module", "data", "loss", "message"),
    [
        (Padded(padding_idx=0), (TOKENS, Y), mse_loss, r"in e\.weight.*padding_idx=0.*build it without"),
        (Padded(scale_grad_by_freq=True), (TOKENS, Y), mse_loss, r"e\.weight.*scale_grad_by_freq=True"),
        (Rounded(), (X, Y), mse_loss, "straight-through"),
        (nn.Linear(4, 2), X, held_back, r"\.detach\(\).*check=False"),
    ],
)
def test_false_gradients(module, data, loss, message):
    with pytest.raises(PotentialError, match=message):
        ModulePotential(module, data, loss, symmetry=None)
    assert ModulePotential(module, data, loss, symmetry=None, check=False).ndim > 0


class Quantised(nn.Module):
    """Activations on a grid, the slope of the identity."""

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        self.a, self.o, self.levels = nn.Linear(4, width), nn.Linear(width, 2), levels

    def forward(self, x):
        h = torch.tanh(self.a(x))
        return self.o(h + ((h * self.levels).round() / self.levels - h).detach())


@pytest.mark.parametrize(("width", "levels"), [(8, 1), (256, 1), (256, 8), (64, 128)])
def test_straight_through_estimators_of_any_fineness(width, levels, dtype):
    """Jumps closer to each other than the steps of the differences make these agree with the false slope."""
    torch.manual_seed(width)
    x, y = torch.randn(64, 4), torch.randn(64, 2)
    with pytest.raises(PotentialError, match="straight-through"):
        ModulePotential(Quantised(width, levels), (x, y), mse_loss, symmetry=None, dtype=dtype)


class Twisted(Cube):
    """With a backward whose own derivative is that of something else."""

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (3 * x.detach() ** 2 + 0 * x)


@pytest.mark.filterwarnings("ignore:.*row by row")
def test_false_second_derivatives_and_functions():
    with pytest.raises(PotentialError, match=r"Hessian-vector product.*x\[0\].*elementary"):
        FunctionPotential(lambda x: Twisted.apply(x).sum(-1), 2, batched=True)
    with pytest.raises(PotentialError, match=r"gradient is not.*in x\[1\]"):
        FunctionPotential(lambda x: x[0] ** 2 + x[1] * x[1].detach(), 2)


class Wrong(Potential):
    ndim = 2

    def energy(self, x):
        return (x**2).sum(1) * (1 + 0.1 * x.detach()[:, 0])


def test_explore_tries_potentials_of_users():
    with tsc.Landscape.in_memory(Wrong()) as landscape:
        with pytest.raises(PotentialError, match="gradient is not the derivative"):
            tsc.explore(landscape, Wrong(), progress=False)
        strategies = [tsc.BasinHopping(walkers=2, hops=0)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tsc.explore(landscape, Wrong(), strategies=strategies, progress=False, check=False)


# --- not refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e12])
def test_kinks_noise_and_units_are_no_faults(scale, dtype):
    """In float64 the differences are certain beside them, in float32 they are not; the unit does not matter."""
    certain = dtype == torch.float64
    net = nn.Sequential(nn.Linear(4, 30), nn.ReLU(), nn.Linear(30, 30), nn.ReLU(), nn.Linear(30, 2))
    for loss in (mse_loss, nn.functional.l1_loss):
        u = ModulePotential(net, (X, Y), lambda a, b, loss=loss: scale * loss(a, b), dtype=dtype, reduction="mean")
        assert refuse_wrong_derivatives(u, u.sample(5, seed=7), "") == certain
    offset = FunctionPotential(lambda x: scale * (1e6 + x.abs().sum() + x.clamp_min(0).max()), 3, dtype=dtype)
    assert refuse_wrong_derivatives(offset, offset.sample(5, seed=3), "") == certain


def test_points_that_are_not_finite_are_passed_over():
    u = FunctionPotential(lambda x: x[0].log() + x[1] ** 2, 2)
    assert u.ndim == 2
    box = FunctionPotential(lambda x: (x[0] * (1 - x[0])).sqrt() + x[1], 2, bounds=[(0, 1), (-1e-9, 1e-9)])
    x = generic_points(box)
    assert bool((box.bounds.interior(x)).all())


# --- symmetry -------------------------------------------------------------------------------------------


class Thomson(ClusterPotential):
    """Charges near the unit sphere about the origin."""

    def energy(self, x):
        r = self.atoms(x)
        radius = r.norm(dim=2, keepdim=True)
        u = r / radius
        i, j = torch.triu_indices(self.n_atoms, self.n_atoms, 1)
        return (1 / (u[:, i] - u[:, j]).norm(dim=2)).sum(1) + 5 * ((radius - 1) ** 2).sum((1, 2))


class Mixed(ClusterPotential):
    """Springs of different strength: no two atoms are alike, which nobody said."""

    def energy(self, x):
        p = self.atoms(x)
        return (torch.arange(1, self.n_atoms + 1) * (p - p.mean(1, keepdim=True)).square().sum(2)).sum(1)


def test_false_symmetries_of_clusters():
    with pytest.raises(PotentialError, match=r"Thomson: U changes under translation,.*translation=False"):
        probe(Thomson(5))
    with pytest.raises(PotentialError, match=r"U changes under exchange of like atoms,.*species="):
        probe(Mixed(3))
    probe(Thomson(5, translation=False))
    probe(Mixed(3, species="abc"))


def test_charges_on_a_sphere_are_found_where_they_are():
    """Thomson's problem for four charges: one minimum, the tetrahedron, E = 6 / sqrt(8/3) (J. J. Thomson 1904)."""
    u = Thomson(4, translation=False)
    with tsc.Landscape.in_memory(u) as landscape:
        tsc.explore(landscape, u, strategies=[tsc.BasinHopping(walkers=4, hops=2)], progress=False)
        minima, network = landscape.minima(), landscape.network()
    assert minima.energy.tolist() == pytest.approx([6 / (8 / 3) ** 0.5], abs=1e-9)
    assert network.n_modes.tolist() == [9]
    values = torch.linalg.eigvalsh(u.hessian(minima.x))[0]
    assert network.log_det.tolist() == pytest.approx([values[3:].log().sum().item()], abs=1e-6)
    assert u.symmetry.log_degeneracy(minima.x).exp().tolist() == pytest.approx([2 * 24 / 24])


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_clusters_bound_to_the_origin(n):
    g = ClusterSymmetry(n, translation=False)
    x = torch.randn(4, 3 * n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    key = tsc.random.fold(0, torch.arange(4))
    image = g.random_image(x, key)
    assert bool((g.distance(x, image) < 1e-6).all())
    torch.testing.assert_close(g.invariants(x), g.invariants(image))
    near = x + 0.01 * torch.randn_like(x)
    assert bool(((g.invariants(x) - g.invariants(near)).norm(dim=1) <= g.distance(x, near) + 1e-12).all())
    moved = (x.reshape(4, n, 3) + torch.tensor([0.0, 0.0, 9.0])).flatten(1)
    assert bool((g.distance(x, moved) > 0.1).all())
    modes = g.zero_modes(x)
    torch.testing.assert_close(modes @ modes.mT, torch.diag_embed((modes.norm(dim=2) > 0.5).double()))


@pytest.mark.parametrize("symmetry", [Inversion(), BlockPermutation(2, 1)])
def test_false_symmetries_of_functions(symmetry):
    with pytest.raises(PotentialError, match="claimed symmetry"):
        FunctionPotential(lambda x: (x[0] - 1) ** 2 + 2 * x[1] ** 2, 2, symmetry=symmetry)
    assert FunctionPotential(lambda x: (x**2).sum(), 2, symmetry=symmetry).ndim == 2


# --- state ----------------------------------------------------------------------------------------------


def normalised() -> nn.Sequential:
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 2))
    net(X.float() + torch.randn(1, 4))  # running statistics
    return net.eval()


def test_a_point_belongs_to_the_state_it_was_made_with():
    torch.manual_seed(0)
    one, other = normalised(), normalised()
    labels = torch.arange(12) % 2
    u = ModulePotential(one, (X, labels), cross_entropy)
    for refused in (u.flatten, lambda net: u.load_into(net, u.initial[0])):
        with pytest.raises(PotentialError, match=r"1\.running_mean, 1\.running_var.*(build|u\.module)"):
            refused(other)
    other.load_state_dict({**other.state_dict(), **{k: v for k, v in one.state_dict().items() if "running" in k}})
    other[1].num_batches_tracked += 5
    energy = u.energy(u.flatten(other)[None]).item()
    assert energy == pytest.approx(cross_entropy(other.double()(X), labels).item(), rel=1e-6)
    frozen = ModulePotential(one, (X, labels), cross_entropy, parameters="0.*")
    with pytest.raises(PotentialError, match=r"3\.weight"):
        frozen.flatten(other)


# --- shapes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", [None, "mean", "whole"])
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_targets_that_are_broadcast_against_outputs(reduction):
    net = nn.Linear(4, 1)
    with pytest.raises(PotentialError, match=r"outputs have shape \[N, 1\] and the targets \[N\].*y\[:, None\]"):
        ModulePotential(net, (X, Y[:, 0]), mse_loss, reduction=reduction)

    def squeezing(output, target):
        return mse_loss(output.squeeze(-1), target)

    u = ModulePotential(net, (X, Y[:, 0]), squeezing)
    assert u.energy(u.initial).item() == pytest.approx(mse_loss(net.double()(X)[:, 0], Y[:, 0]).item())


def test_infinite_data():
    x = X.clone()
    x[3, 1] = torch.inf
    with pytest.raises(PotentialError, match="1 numbers that are NaN or infinite: clean them"):
        ModulePotential(nn.Sequential(nn.Linear(4, 2), nn.Tanh()), (x, Y), mse_loss)
