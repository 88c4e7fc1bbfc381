"""Modules of every kind keep the potential's contract, and agree with torch's own loss on the whole data set."""

from __future__ import annotations

import functools
import itertools
import warnings

import pytest
import torch
from custom_operations import Cube
from torch import nn
from torch.nn import functional as F

from torchscape import ModulePotential
from torchscape.potentials.contract import check_contract

N = 11


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def classes(n=N, k=3):
    return torch.arange(n) % k


class Tied(nn.Module):
    """An autoencoder that decodes with the transpose of its encoder, under a second name."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(4, 3)
        self.bias = nn.Parameter(torch.zeros(4))
        self.decoder = self.encoder.weight

    def forward(self, x):
        return torch.tanh(self.encoder(x)) @ self.decoder + self.bias


class Normalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.norm(self.first(x))))


def normalised():
    torch.manual_seed(0)
    net = Normalised()
    net(3 * numbers(64, 4))  # running statistics that differ from (0, 1)
    return net.eval()


class Buffered(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.register_buffer("scale", torch.tensor([0.5, 1.0, 2.0]))

    def forward(self, x):
        return torch.sin(self.linear(x)) * self.scale


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(4, 2, batch_first=True, dropout=0.1), nn.Linear(4, 3)

    def forward(self, x):
        x = x.reshape(len(x), 2, 4)
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


class Fused(nn.Module):
    """Attention by the functional, which has kernels without second derivatives."""

    def __init__(self):
        super().__init__()
        self.qkv, self.head = nn.Linear(4, 12), nn.Linear(4, 3)

    def forward(self, x):
        q, k, v = self.qkv(x.reshape(len(x), 1, 2, 4)).chunk(3, -1)
        return self.head(F.scaled_dot_product_attention(q, k, v, is_causal=True)[:, 0].sum(1))


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(7, 4), nn.Linear(4, 3)

    def forward(self, tokens):
        return self.head(torch.tanh(self.embedding(tokens).mean(1)))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(2, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


def mlp(*widths, act=nn.Tanh):
    layers = [part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b), act())]
    return nn.Sequential(*layers[:-1])


def frozen():
    net = mlp(4, 5, 3)
    net[0].weight.requires_grad_(False)
    return net


def convolution():
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.Softplus(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 3)
    )


def encoder():
    layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True, activation="gelu")
    return nn.Sequential(nn.Unflatten(1, (2, 4)), layer, nn.Flatten(), nn.Linear(8, 3)).eval()


VECTORS, SEQUENCES = numbers(N, 4), numbers(N, 8)
LABELLED = VECTORS, classes()
CASES = {
    "mlp": (lambda: mlp(4, 5, 3), LABELLED, F.cross_entropy),
    "deep mlp": (lambda: mlp(4, 5, 4, 3, act=nn.SiLU), LABELLED, F.cross_entropy),
    "no bias": (lambda: nn.Linear(4, 3, bias=False), LABELLED, F.cross_entropy),
    "tied weights": (Tied, (VECTORS, VECTORS), nn.MSELoss()),
    "frozen": (frozen, LABELLED, F.cross_entropy),
    "buffers": (Buffered, LABELLED, F.cross_entropy),
    "batch-norm": (normalised, LABELLED, F.cross_entropy),
    "layer-norm": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 3)),
        LABELLED,
        F.cross_entropy,
    ),
    "convolution": (convolution, (numbers(N, 1, 4, 4), classes()), F.cross_entropy),
    "attention": (lambda: Attention().eval(), (SEQUENCES, classes()), F.cross_entropy),
    "fused attention": (Fused, (SEQUENCES, classes()), F.cross_entropy),
    "transformer": (encoder, (SEQUENCES, classes()), F.cross_entropy),
    "embedding": (Words, (torch.arange(2 * N).reshape(N, 2) % 7, classes()), F.cross_entropy),
    "sum": (lambda: mlp(4, 5, 3), LABELLED, nn.CrossEntropyLoss(reduction="sum")),
    "label smoothing": (lambda: mlp(4, 5, 3), LABELLED, nn.CrossEntropyLoss(label_smoothing=0.1)),
    "class probabilities": (lambda: mlp(4, 5, 3), (VECTORS, numbers(N, 3).softmax(1)), F.cross_entropy),
    "class weights": (lambda: mlp(4, 5, 3), LABELLED, nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.2]))),
    "functional class weights": (
        lambda: mlp(4, 5, 3),
        LABELLED,
        functools.partial(F.cross_entropy, weight=torch.tensor([1.0, 5.0, 0.2], dtype=torch.float64)),
    ),
    "ignored targets": (lambda: mlp(4, 5, 3), (VECTORS, classes() - 1), nn.CrossEntropyLoss(ignore_index=-1)),
    "weights and smoothing": (
        lambda: mlp(4, 5, 3),
        LABELLED,
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.2]), label_smoothing=0.2),
    ),
    "pixels": (
        lambda: nn.Conv1d(1, 3, 1),
        (numbers(N, 1, 6), torch.arange(N * 6).reshape(N, 6) % 3),
        F.cross_entropy,
    ),
    "mse": (lambda: mlp(4, 5, 2), (VECTORS, numbers(N, 2)), F.mse_loss),
    "huber": (lambda: mlp(4, 5, 2), (VECTORS, 0.3 * numbers(N, 2)), nn.HuberLoss(delta=10.0)),
    "binary": (lambda: mlp(4, 5, 1), (VECTORS, (classes(k=2)[:, None]).float()), nn.BCEWithLogitsLoss()),
    "nll": (lambda: nn.Sequential(*mlp(4, 5, 3), nn.LogSoftmax(1)), LABELLED, F.nll_loss),
}


def build(name, **options):
    torch.manual_seed(1)
    make, data, loss = CASES[name]
    net = make()
    return net, data, loss, ModulePotential(net, data, loss, **options)


@functools.cache
def plain(name) -> ModulePotential:
    """Built once for the tests that leave it as it is."""
    return build(name, l2=1e-2, symmetry=None)[3]


ON_EVERY_DEVICE = ["mlp", "convolution", "attention", "embedding", "batch-norm"]


@pytest.mark.parametrize("name", [name for name in CASES if name not in ON_EVERY_DEVICE])
def test_every_kind_of_module_keeps_the_contract(name):
    potential = plain(name)
    assert potential._evaluator.vmapped
    check_contract(potential, n=2)


@pytest.mark.parametrize("name", CASES)
def test_the_energy_is_the_loss_of_the_whole_set_however_it_is_chunked(name):
    net, data, loss, potential = build(name, l2=1e-2, chunk_size=4, symmetry=None)  # chunks of 4, 4 and 3
    net = net.double()
    loss = loss.double() if isinstance(loss, nn.Module) else loss
    *inputs, target = (leaf.double() if leaf.is_floating_point() else leaf for leaf in data)
    trained = [p for p in net.parameters() if p.requires_grad]
    expected = loss(net(*inputs), target) + 1e-2 * sum((p**2).sum() for p in trained)
    expected_grad = torch.cat([g.flatten() for g in torch.autograd.grad(expected, trained)])
    x = potential.flatten(net)[None]
    energy, grad = potential.energy_and_grad(x)
    torch.testing.assert_close(energy[0], expected.detach())
    torch.testing.assert_close(grad[0], expected_grad)
    torch.testing.assert_close(potential.energy(x)[0], expected.detach())
    v = potential.sample(1, seed=3)
    whole = plain(name)
    torch.testing.assert_close(potential.hvp(x, v), whole.hvp(x, v), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(potential.hessian(x), whole.hessian(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ON_EVERY_DEVICE)
def test_the_contract_holds_on_every_device_and_dtype(name, device, dtype):
    potential = build(name, l2=1e-2, dtype=dtype, device=device, symmetry=None)[3]
    assert potential._evaluator.vmapped
    check_contract(potential, n=2)


def test_kinks_are_allowed():
    torch.manual_seed(0)
    potential = ModulePotential(mlp(4, 6, 3, act=nn.ReLU), LABELLED, F.cross_entropy, symmetry=None)
    check_contract(potential, smooth=False)


def test_a_loss_that_plain_vmap_is_slow_for_is_batched_with_its_gradient_inside():
    torch.manual_seed(0)
    net, data = nn.Sequential(*mlp(4, 5, 3), nn.LogSoftmax(1)), (VECTORS, numbers(N, 3).softmax(1))
    potential = ModulePotential(net, data, nn.KLDivLoss(reduction="batchmean"), symmetry=None, chunk_size=4)
    assert potential._evaluator.vmapped
    check_contract(potential, n=2)
    expected = F.kl_div(net(data[0]), data[1], reduction="batchmean").double()
    torch.testing.assert_close(
        potential.energy(potential.initial)[0].detach(), expected.detach(), rtol=1e-5, atol=0
    )


class Cubic(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 3), nn.Linear(3, 3)

    def forward(self, x):
        return self.last(Cube.apply(self.first(x)))


def test_an_operation_without_batching_rule_is_looped_over_with_one_warning(dtype):
    torch.manual_seed(0)
    data = VECTORS, classes()
    with pytest.warns(UserWarning, match="walker by walker") as caught:
        potential = ModulePotential(Cubic(), data, F.cross_entropy, l2=1e-2, symmetry=None, dtype=dtype)
    assert len(caught) == 1
    assert not potential._evaluator.vmapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_contract(potential, n=2)


def test_a_loss_of_model_and_batch_with_derivatives_of_the_model():
    """A differential equation u' = -u, u(0) = 1, with torch.func in the loss; energy by plain autograd."""

    def residual(model, batch):
        t = batch["t"]
        slope = torch.func.vmap(torch.func.grad(lambda s: model(s[None])[0]))(t[:, 0])
        start = (model(torch.zeros(1, 1, dtype=t.dtype)) - 1).square().sum()
        return (slope + model(t)[:, 0]).square().mean() + start

    torch.manual_seed(0)
    net, t = mlp(1, 6, 1), torch.linspace(0, 1, N)[:, None]
    potential = ModulePotential(net, {"t": t}, residual, chunk_size=4, symmetry=None)
    assert potential._evaluator.vmapped
    check_contract(potential, n=2)
    net, s = net.double(), t.double().requires_grad_(True)
    u = net(s)
    (slope,) = torch.autograd.grad(u.sum(), s)
    expected = (slope + u).square().mean() + (net(torch.zeros(1, 1).double()) - 1).square().sum()
    torch.testing.assert_close(potential.energy(potential.flatten(net)[None])[0].detach(), expected.detach())


def test_a_loss_that_calls_autograd_itself_is_looped_over():
    """torch.autograd.grad inside the loss cannot be vmapped, but is right in a loop."""

    def residual(model, batch):
        t = batch.clone().requires_grad_(True)
        u = model(t)
        (slope,) = torch.autograd.grad(u.sum(), t, create_graph=True)
        return (slope + u).square().mean()

    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="walker by walker"):
        potential = ModulePotential(mlp(1, 4, 1), torch.linspace(0, 1, N)[:, None], residual, symmetry=None)
    check_contract(potential, n=2)


def test_a_loss_of_unequal_parts_is_evaluated_whole():
    """Collocation points and boundary points are different in number: nothing can be split."""

    def loss(model, batch):
        return model(batch["inside"]).square().mean() + (model(batch["edge"]) - 1).square().sum()

    torch.manual_seed(0)
    data = {"inside": numbers(9, 2), "edge": numbers(2, 2)}
    potential = ModulePotential(mlp(2, 3, 1), data, loss, chunk_size=3, symmetry=None)
    check_contract(potential, n=2)
    net = potential.module
    expected = loss(net, {k: v.double() for k, v in data.items()})
    torch.testing.assert_close(potential.energy(potential.initial)[0].detach(), expected.detach())


@pytest.mark.parametrize("reduce", [torch.mean, torch.sum])
def test_the_reduction_of_a_custom_loss_is_found_out(reduce):
    def loss(output, target):
        return reduce((output - target).abs().pow(3).sum(1))

    torch.manual_seed(0)
    net = mlp(4, 5, 2)
    data = VECTORS, numbers(N, 2)
    potential = ModulePotential(net, data, loss, chunk_size=4, symmetry=None)
    expected = loss(net(data[0]), data[1]).double()
    torch.testing.assert_close(
        potential.energy(potential.initial)[0].detach(), expected.detach(), rtol=1e-5, atol=0
    )


def test_reduction_overrides_the_functional_default():
    torch.manual_seed(0)
    net = mlp(4, 5, 3)
    mean, total = (
        ModulePotential(net, LABELLED, F.cross_entropy, reduction=r, symmetry=None) for r in ("mean", "sum")
    )
    x = mean.sample(2)
    torch.testing.assert_close(total.energy(x), N * mean.energy(x))
