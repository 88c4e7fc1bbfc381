"""Gradients that are written out: of which modules, and that they are those of torch's own loss and autograd."""

from __future__ import annotations

import copy
import functools
import itertools
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from torchscape import ModulePotential
from torchscape.potentials.contract import check_contract
from torchscape.potentials.module import fused

N = 23


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mlp(*widths, act=nn.Tanh, bias=True):
    torch.manual_seed(1)
    layers = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [nn.Linear(n_in, n_out, bias=bias), act()]
    return nn.Sequential(*layers[:-1])


VECTORS, LABELS = numbers(N, 4), torch.arange(N) % 3
SEEN = torch.tensor([1.0, 0.0, 1.0, 1.0])  # by which the second input is nought in all samples
PROBABILITIES = numbers(N, 3, seed=1).softmax(1)


class Forward(nn.Module):
    """What a person would write, with an activation of its own for each layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.one, self.two, self.three = nn.Linear(4, 6), nn.Linear(6, 5, bias=False), nn.Linear(5, 3)

    def forward(self, x):
        return self.three(torch.sigmoid(self.two(torch.tanh(self.one(x)))))


class Shared(nn.Module):
    """One layer that is used three times."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.first, self.again, self.last = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x):
        h = self.first(x).tanh()
        for _ in range(3):
            h = self.again(h).tanh()
        return self.last(h)


class Scaled(nn.Module):
    """Inputs that are standardised by buffers, flattened, and seen by a frozen layer first."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3, 0.4]))
        self.frozen, self.net = nn.Linear(4, 6), mlp(6, 5, 3)
        self.frozen.requires_grad_(False)

    def forward(self, x):
        return self.net(torch.relu(self.frozen(x.reshape(len(x), -1) - self.mean)))


class Skip(Forward):
    def forward(self, x):
        h = torch.tanh(self.one(x))
        return self.three(torch.tanh(self.two(h)) + h[:, :5])


class Noted(Forward):
    def forward(self, x):
        h = torch.tanh(self.one(x))
        if bool(h[0, 0] > 2):  # never
            return self.three(self.two(h))
        return self.three(self.two(h).tanh())


class Transposed(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.encoder, self.bias = nn.Linear(4, 3), nn.Parameter(torch.zeros(4))

    def forward(self, x):
        return F.linear(torch.tanh(self.encoder(x)), self.encoder.weight.T, self.bias)


def penalised(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1]) + 1e-2 * model[0].weight.abs().sum()


def of_the_model(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


WEIGHTS = torch.tensor([1.0, 5.0, 0.2])
LABELLED, FITTED = (VECTORS, LABELS), (VECTORS, numbers(N, 3, seed=2))
WRITTEN = {
    "tanh": (lambda: mlp(4, 5, 3), LABELLED, F.cross_entropy),
    "linear": (lambda: nn.Linear(4, 3), LABELLED, F.cross_entropy),
    "deep": (lambda: mlp(4, 6, 5, 4, 3), LABELLED, nn.CrossEntropyLoss()),
    "no biases": (lambda: mlp(4, 5, 3, bias=False), LABELLED, F.cross_entropy),
    "two kinds of layers": (Forward, LABELLED, F.cross_entropy),
    "shared layer": (Shared, LABELLED, F.cross_entropy),
    "constants first": (Scaled, LABELLED, F.cross_entropy),
    "an input that is nought": (lambda: mlp(4, 5, 3), (VECTORS * SEEN, LABELS), F.cross_entropy),
    "an input that is nought, no biases": (
        lambda: mlp(4, 5, 3, bias=False),
        (VECTORS * SEEN, LABELS),
        F.cross_entropy,
    ),
    "all inputs nought": (lambda: mlp(4, 5, 3), (0 * VECTORS, LABELS), F.cross_entropy),
    "no activation": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3)), LABELLED, F.cross_entropy),
    "dropout that is off": (
        lambda: nn.Sequential(*mlp(4, 5, 3), nn.Dropout(0.5)).eval(),
        LABELLED,
        F.cross_entropy,
    ),
    "sum": (lambda: mlp(4, 5, 3), LABELLED, nn.CrossEntropyLoss(reduction="sum")),
    "class weights": (lambda: mlp(4, 5, 3), LABELLED, nn.CrossEntropyLoss(weight=WEIGHTS)),
    "ignored": (lambda: mlp(4, 5, 3), (VECTORS, LABELS - 1), nn.CrossEntropyLoss(ignore_index=-1)),
    "both": (lambda: mlp(4, 5, 3), (VECTORS, LABELS), nn.CrossEntropyLoss(weight=WEIGHTS, ignore_index=1)),
    "probabilities": (lambda: mlp(4, 5, 3), (VECTORS, PROBABILITIES), F.cross_entropy),
    "weighted probabilities": (
        lambda: mlp(4, 5, 3),
        (VECTORS, PROBABILITIES),
        nn.CrossEntropyLoss(weight=WEIGHTS),
    ),
    "of the model": (lambda: mlp(4, 5, 3), LABELLED, of_the_model),
    "squares": (lambda: mlp(4, 5, 3), FITTED, F.mse_loss),
    "sum of squares": (lambda: mlp(4, 5, 3), FITTED, nn.MSELoss(reduction="sum")),
    **{
        kind.__name__: (functools.partial(mlp, 4, 5, 3, act=kind), LABELLED, F.cross_entropy)
        for kind in (nn.Sigmoid, nn.ReLU, nn.GELU, nn.SiLU, nn.ELU, nn.Softplus)
    },
    "in place": (lambda: mlp(4, 5, 3, act=lambda: nn.ReLU(inplace=True)), LABELLED, F.cross_entropy),
}
NOT_WRITTEN = {
    "skip": (Skip, LABELLED, F.cross_entropy),
    "asks": (Noted, LABELLED, F.cross_entropy),
    "transposed": (Transposed, (VECTORS, VECTORS), F.mse_loss),
    "penalty": (lambda: mlp(4, 5, 3), LABELLED, penalised),
    "smoothing": (lambda: mlp(4, 5, 3), LABELLED, nn.CrossEntropyLoss(label_smoothing=0.1)),
    "another slope": (lambda: mlp(4, 5, 3, act=lambda: nn.ELU(0.5)), LABELLED, F.cross_entropy),
    "another gelu": (lambda: mlp(4, 5, 3, act=lambda: nn.GELU("tanh")), LABELLED, F.cross_entropy),
    "layer norm": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 3)),
        LABELLED,
        F.cross_entropy,
    ),
    "sequence": (lambda: mlp(2, 5, 2), (numbers(N, 3, 2), numbers(N, 3, 2, seed=3)), F.mse_loss),
    "huber": (lambda: mlp(4, 5, 3), FITTED, nn.HuberLoss()),
    "activated output": (lambda: nn.Sequential(mlp(4, 5, 3), nn.Tanh()), FITTED, F.mse_loss),
}


def built(case, **options):
    make, data, loss = case
    net = make()
    return net, data, loss, ModulePotential(net, data, loss, symmetry=None, check=False, **options)


def expected(net, data, loss, l2, x, u):
    """Energy and gradient of the module at one row, by torch alone."""
    net = u.load_into(copy.deepcopy(net).double(), x)
    loss = copy.deepcopy(loss).double() if isinstance(loss, nn.Module) else loss
    batch = tuple(leaf.double() if leaf.is_floating_point() else leaf for leaf in data)
    trained = [p for p in net.parameters() if p.requires_grad]
    value = loss(net, batch) if loss is of_the_model else loss(net(*batch[:-1]), batch[-1])
    value = value + l2 * sum(p.square().sum() for p in trained)
    return value.detach(), torch.cat([g.flatten() for g in torch.autograd.grad(value, trained)])


@pytest.mark.parametrize("name", WRITTEN)
def test_the_gradient_is_that_of_torch(name):
    net, data, loss, u = built(WRITTEN[name], l2=1e-2)
    x = u.sample(3, seed=4)
    energy, grad = u.energy_and_grad(x)
    assert u._evaluator.written.holds
    for row, one, slope in zip(x, energy, grad, strict=True):
        value, its = expected(net, data, loss, 1e-2, row, u)
        torch.testing.assert_close(one, value, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(slope, its, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", WRITTEN)
def test_products_and_hessians_are_those_of_torch(name):
    u = built(WRITTEN[name], l2=1e-2)[3]
    x = u.sample(3, seed=4)
    v = torch.stack([u.sample(3, seed=5), u.sample(3, seed=6)], 1)
    products, whole = u.products_at(x)(v), u.hessian(x)
    for k in (0, 1):
        exact = u._evaluator.product_by_autograd(x, v[:, k])
        torch.testing.assert_close(products[:, k], exact, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(u.hvp(x, v[:, k]), exact, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close((whole @ v[:, k, :, None])[..., 0], exact, rtol=1e-10, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.*walker by walker")
@pytest.mark.parametrize("name", NOT_WRITTEN)
def test_what_is_no_chain_is_left_to_autograd(name):
    net, data, loss, u = built(NOT_WRITTEN[name], l2=1e-2)
    energy, grad = u.energy_and_grad(u.initial)
    assert not u._evaluator.written.holds
    if loss is not penalised:
        value, its = expected(net, data, loss, 1e-2, u.initial[0], u)
        torch.testing.assert_close(energy[0], value, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(grad[0], its, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", ["tanh", "both", "deep"])
def test_the_contract_holds_on_every_device_and_dtype(name, device, dtype):
    u = built(WRITTEN[name], l2=1e-2, device=device, dtype=dtype)[3]
    check_contract(u, n=2)
    assert u._evaluator.written.holds


def test_some_parameters_are_coordinates_and_some_are_regularised():
    net, data, loss, u = built(WRITTEN["deep"], l2=1e-2, parameters="[246].*", regularise="*.weight")
    energy, grad = u.energy_and_grad(u.initial)
    assert u._evaluator.written.holds
    net = net.double()
    trained = [p for name, p in net.named_parameters() if name[0] in "246"]
    value = loss(net(data[0].double()), data[1]) + 1e-2 * sum(p.square().sum() for p in trained if p.ndim == 2)
    torch.testing.assert_close(energy[0], value.detach())
    torch.testing.assert_close(grad[0], torch.cat([g.flatten() for g in torch.autograd.grad(value, trained)]))


def test_a_frozen_layer_in_the_middle_is_left_to_autograd():
    u = built(WRITTEN["deep"], parameters=["0.*", "6.*"])[3]
    u.energy_and_grad(u.initial)
    assert not u._evaluator.written.holds


def test_what_the_user_says_of_chunks_holds():
    _, _, _, u = built(WRITTEN["tanh"], chunk_size=4)
    u.energy_and_grad(u.initial)
    assert not u._evaluator.written.holds  # which would take all samples at once
    few, whole = (built(WRITTEN["tanh"], max_rows=rows)[3] for rows in (2, None))
    x = u.sample(5, seed=1)
    for one, other in zip(few.energy_and_grad(x), whole.energy_and_grad(x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-15)
    assert few._evaluator.written._found.rows(x.device) == 2


def test_outputs_that_would_overflow_or_underflow():
    """Cross-entropy of outputs thousands apart: exact where exponentials are 0, as in torch."""
    u = built(WRITTEN["tanh"])[3]
    x = 2000 * u.sample(2, seed=1)
    u.energy_and_grad(u.initial)
    energy, grad = u.energy_and_grad(x)
    value, slope = u._evaluator.by_autograd(x)
    assert float(energy.min()) > 100
    torch.testing.assert_close(energy, value, rtol=1e-12, atol=0)
    torch.testing.assert_close(grad, slope, rtol=1e-10, atol=1e-10)
    bad = torch.full_like(x, torch.nan)
    assert bool(torch.isnan(u.energy_and_grad(bad)[0]).all())


def test_rows_do_not_notice_each_other_and_relatives_have_their_own():
    u = built(WRITTEN["tanh"], l2=1e-2)[3]
    x = u.sample(7, seed=2)
    whole = u.energy_and_grad(x)
    for one, rows in zip(whole, zip(*(u.energy_and_grad(row[None]) for row in x), strict=True), strict=True):
        torch.testing.assert_close(torch.cat(rows), one, rtol=1e-12, atol=1e-14)
    part, other = u.on(range(5)), u.with_(l2=0.5)
    for relative in (part, other, pickle.loads(pickle.dumps(u)), copy.deepcopy(u)):
        energy, grad = relative.energy_and_grad(x)
        value, slope = relative._evaluator.by_autograd(x)
        assert relative._evaluator.written.holds
        torch.testing.assert_close(energy, value)
        torch.testing.assert_close(grad, slope)
    assert u.energy_and_grad(x[:0])[1].shape == (0, u.ndim)


@pytest.mark.parametrize("name", ["an input that is nought", "an input that is nought, no biases", "tanh", "deep"])
@pytest.mark.parametrize("small", [0, 10**6])
def test_what_is_compiled_is_the_same_function(name, small, monkeypatch):
    """By layers and, up to ``small`` weights, by features; samples and inputs that are filled up count nothing."""
    monkeypatch.setattr(fused, "_SMALL", small)
    u = built(WRITTEN[name], l2=1e-2)[3]
    x = u.sample(3, seed=4)
    expected = u.energy_and_grad(x)
    written, decay = u._evaluator.written, u._evaluator.decay
    made = fused.Fused(written._found)
    for one, other in zip(made(x, *made.constants(decay)), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)
