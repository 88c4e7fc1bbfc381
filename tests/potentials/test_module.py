"""ModulePotential: the module is left alone, data of every kind, points in and out, families and fingerprints."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from torchscape import ModulePotential, random
from torchscape.errors import PotentialError
from torchscape.potentials.batching import Plan
from torchscape.potentials.contract import check_contract
from torchscape.symmetry import Symmetry

X, Y = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3


def network(act=nn.Tanh, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), act(), nn.Linear(5, 3))


def build(data=(X, Y), loss=F.cross_entropy, module=None, **options):
    return ModulePotential(network() if module is None else module, data, loss, **{"symmetry": None} | options)


# --- the module is left alone ---------------------------------------------------------------------------


def test_nothing_the_user_owns_is_changed():
    net = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5).eval(), nn.BatchNorm1d(5), nn.Linear(5, 3))
    net[2].eval()
    net[0].weight.requires_grad_(False)
    state, flags = copy.deepcopy(net.state_dict()), [part.training for part in net.modules()]
    grads, rng = [p.requires_grad for p in net.parameters()], torch.get_rng_state()
    criterion = nn.CrossEntropyLoss()
    potential = build(module=net, loss=criterion, reduction="sum", symmetry="auto")
    x = potential.sample(3, seed=1)
    potential.energy_and_grad(x), potential.hvp(x, x), potential.hessian(x), potential.predict(x, X)
    potential.symmetry.random_image(x, random.fold(0, torch.arange(3)))
    potential.load_into(potential.module, x[0])
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert [part.training for part in net.modules()] == flags
    assert [p.requires_grad for p in net.parameters()] == grads
    assert all(p.grad is None and p.dtype == torch.float32 for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), rng)
    assert criterion.reduction == "mean"


def test_training_the_original_does_not_move_the_potential():
    net = network()
    potential = build(module=net)
    before = potential.energy(potential.initial)
    with torch.no_grad():
        for p in net.parameters():
            p += 1.0
    torch.testing.assert_close(potential.energy(potential.initial), before)


# --- coordinates ----------------------------------------------------------------------------------------


def test_points_go_in_and_out_of_modules():
    net = network()
    potential = build(module=net)
    x = potential.sample(1, seed=5)
    other = potential.load_into(copy.deepcopy(net), x)
    torch.testing.assert_close(potential.flatten(other), x[0], rtol=1e-6, atol=1e-7)  # through float32
    assert not torch.equal(other[0].weight, net[0].weight)
    loss = F.cross_entropy(other(X), Y).double()
    torch.testing.assert_close(potential.energy(x)[0], loss, rtol=1e-5, atol=1e-6, check_dtype=False)
    with pytest.raises(PotentialError, match="one point of 43 coordinates"):
        potential.load_into(net, potential.sample(2))
    with pytest.raises(PotentialError, match=r"no parameter '0.weight' of shape \(5, 4\)"):
        potential.load_into(nn.Linear(4, 3), x)
    with pytest.raises(PotentialError, match=r"no tensor for parameter '0.weight'"):
        potential.flatten(nn.Linear(4, 3))


@pytest.mark.parametrize("chosen", ["2.*", ["2.weight", "2.bias"], lambda name, p: name.startswith("2.")])
def test_a_filter_chooses_the_coordinates(chosen):
    """With the first layer fixed the problem is logistic regression on its features: convex."""
    potential = build(parameters=chosen, l2=1e-3)
    assert potential.layout.names == ("2.weight", "2.bias")
    check_contract(potential, n=2)
    assert bool((torch.linalg.eigvalsh(potential.hessian(potential.sample(3))) > 0).all())


def test_frozen_parameters_can_be_chosen_and_frozen_ones_are_constant():
    net = network()
    net[0].requires_grad_(False)
    assert build(module=net).ndim == 18
    assert build(module=net, parameters="*").ndim == 43


def test_regularisation_of_a_subset():
    potential, plain = build(l2=0.5, regularise="*.weight"), build()
    x = plain.sample(2)
    weights = torch.cat([x[:, :20], x[:, 25:40]], 1)
    torch.testing.assert_close(potential.energy(x) - plain.energy(x), 0.5 * (weights**2).sum(1))
    check_contract(potential, n=2)


def test_tied_weights_count_once():
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Tanh(), nn.Linear(4, 4, bias=False))
    net[2].weight = net[0].weight
    potential = build(module=net, data=(X, X), loss=F.mse_loss, l2=1.0)
    assert potential.layout.aliases == {"2.weight": "0.weight"}
    w = torch.eye(4, dtype=torch.float64) * 0.3
    x = X.double()
    expected = F.mse_loss(torch.tanh(x @ w.T) @ w.T, x) + (w**2).sum()
    torch.testing.assert_close(potential.energy(w.reshape(1, -1))[0], expected)


# --- data -----------------------------------------------------------------------------------------------


class Items(Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return X[i].numpy(), int(Y[i])


@pytest.mark.parametrize(
    "data",
    [
        [X, Y],
        TensorDataset(X, Y),
        Items(),
        Subset(TensorDataset(X, Y), range(12)),
        DataLoader(TensorDataset(X, Y), batch_size=5),
        DataLoader(TensorDataset(X, Y), batch_size=5, shuffle=True),
        [(X[:7], Y[:7]), (X[7:], Y[7:])],
        (batch for batch in [(X[:7], Y[:7]), (X[7:], Y[7:])]),
    ],
    ids=["list", "TensorDataset", "Dataset", "Subset", "loader", "shuffled", "batches", "generator"],
)
def test_data_in_any_container_are_the_same_landscape(data):
    reference, potential = build(), build(data=data)
    x = reference.sample(3)
    torch.testing.assert_close(potential.energy(x), reference.energy(x))
    assert potential.fingerprint() == reference.fingerprint()


def test_several_inputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, a, b):
            return self.linear(a * b)

    potential = build(module=Two(), data=(X, X + 1, Y))
    assert potential.predict(potential.sample(2), (X, X)).shape == (2, 12, 3)
    check_contract(potential, n=2)


def test_a_minibatch_is_another_potential():
    """The mean of the energies on equal parts is the energy on the whole."""
    potential = build(loss=nn.CrossEntropyLoss(weight=torch.tensor([1.0, 1.0, 1.0])), l2=0.1)
    x = potential.sample(3)
    halves = potential.on(torch.arange(6)), potential.on(slice(6, None))
    assert [half.n_samples for half in halves] == [6, 6]
    torch.testing.assert_close(sum(half.energy(x) for half in halves) / 2, potential.energy(x))
    torch.testing.assert_close(halves[0].energy(x), build(data=(X[:6], Y[:6]), l2=0.1).energy(x))
    assert halves[0].fingerprint() != potential.fingerprint()
    check_contract(halves[0], n=2)
    with pytest.raises(PotentialError, match=r"0\.\.11"):
        potential.on([12])


# --- prediction, starts ---------------------------------------------------------------------------------


def test_predictions_are_those_of_the_module_at_each_point():
    net = network()
    potential = build(module=net, chunk_size=5, max_rows=2)
    x = potential.sample(3)
    outputs = potential.predict(x, X)
    for row, output in zip(x, outputs, strict=True):
        torch.testing.assert_close(potential.load_into(net, row)(X).double(), output, rtol=1e-4, atol=1e-5)
    assert potential.predict(x[:0], X).shape == (0, 12, 3)


def test_starts_come_from_the_module_s_initialiser():
    """Linear draws weights and biases uniformly from (-k, k), k = fan_in^(-1/2): range and variance k^2/3."""
    x = build().sample(400, seed=2)
    for columns, fan_in in ((slice(0, 25), 4), (slice(25, 43), 5)):
        drawn, k = x[:, columns], fan_in**-0.5
        assert bool((drawn.abs() <= k + 1e-6).all())
        assert drawn.var().item() == pytest.approx(k**2 / 3, rel=0.05)
        assert drawn.mean().abs().item() < 0.01


@pytest.mark.parametrize(
    "part",
    [nn.Linear(4, 3), nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.PReLU(), nn.Linear(8, 3)), "own"],
    ids=["linear", "norm", "own parameter"],
)
def test_starts_in_float32_are_those_in_float64(part):
    """torch's generator has other numbers for float32: explorations began elsewhere, and found other minima."""

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 4))

        def forward(self, x):
            return x @ self.weight.T

    module = Own() if part == "own" else part
    single, double = (build(module=module, dtype=dtype).sample(5) for dtype in (torch.float32, torch.float64))
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    assert torch.equal(single, double.to(torch.float32))


def test_a_start_depends_on_its_seed_and_row_alone():
    potential = build()
    assert torch.equal(potential.sample(5, seed=1)[:2], potential.sample(2, seed=1))
    assert not torch.equal(potential.sample(2, seed=1), potential.sample(2, seed=2))
    assert potential.sample(0).shape == (0, 43)


def test_parameters_without_initialiser_are_drawn_too():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.b = nn.Parameter(torch.zeros(3, 4)), nn.Parameter(torch.zeros(3))

        def forward(self, x):
            return x @ self.w.T + self.b

    x = build(module=Bare()).sample(300)
    assert x[:, :12].std().item() == pytest.approx(0.5, rel=0.05)  # fan-in 4
    assert x[:, 12:].std().item() == pytest.approx(0.1, rel=0.1)


# --- families and fingerprints --------------------------------------------------------------------------


def test_a_family_in_l2():
    potential = build(l2=0.1)
    x = potential.sample(2)
    other = potential.with_(l2=0.2)
    torch.testing.assert_close(other.energy(x) - potential.energy(x), 0.1 * (x**2).sum(1))
    torch.testing.assert_close(other.energy(x), build(l2=0.2).energy(x))
    assert potential.l2 == 0.1
    assert other.fingerprint() == build(l2=0.2).fingerprint() != potential.fingerprint()
    assert potential.with_(regularise="*.bias").fingerprint() == build(l2=0.1, regularise="*.bias").fingerprint()


def test_a_relative_in_single_precision_is_the_same_landscape():
    potential = build(l2=0.1)
    single = potential.with_(dtype=torch.float32)
    x = potential.sample(2)
    torch.testing.assert_close(single.energy(x.float()), potential.energy(x).float())
    assert single.fingerprint() == potential.fingerprint()
    check_contract(single, n=2)
    assert potential.energy(x).dtype == torch.float64


def test_the_fingerprint_does_not_depend_on_how_it_is_evaluated():
    reference = build(l2=0.1).fingerprint()
    for options in ({"chunk_size": 2}, {"max_rows": 1}, {"dtype": torch.float32}):
        assert build(l2=0.1, **options).fingerprint() == reference
    assert build(l2=0.1, module=network(seed=3)).fingerprint() == reference  # where training starts is no matter


def test_the_fingerprint_tells_landscapes_apart():
    frozen = network()
    frozen[0].requires_grad_(False)
    elsewhere = network(seed=3)
    elsewhere[0].requires_grad_(False)
    potentials = [
        build(),
        build(l2=0.1),
        build(l2=0.1, regularise="*.weight"),
        build(data=(X + 1e-3, Y)),
        build(data=(X, Y.roll(1))),
        build(loss=F.nll_loss),
        build(loss=nn.CrossEntropyLoss(label_smoothing=0.1)),
        build(loss=nn.CrossEntropyLoss(label_smoothing=0.2)),
        build(loss=functools.partial(F.cross_entropy, label_smoothing=0.1)),
        build(reduction="sum"),
        build(module=network(act=nn.SiLU)),
        build(module=frozen),
        build(module=elsewhere),
        build(parameters="0.*"),
    ]
    assert len({potential.fingerprint() for potential in potentials}) == len(potentials)
    assert build(module=frozen).fingerprint() == build(parameters="2.*").fingerprint()  # two ways to say one thing


# --- symmetry -------------------------------------------------------------------------------------------


def test_the_symmetry_of_the_module_is_found_and_verified():
    """Five tanh units: 5! permutations times 2^5 signs, 3840 images."""
    potential = build(symmetry="auto", l2=1e-2)
    x = potential.sample(2)
    torch.testing.assert_close(potential.symmetry.log_degeneracy(x).exp(), torch.full((2,), 3840.0).double())
    check_contract(potential, n=2)


def test_regularisation_breaks_scales_and_its_absence_restores_them():
    potential = build(symmetry="auto", module=network(act=nn.ReLU), l2=1e-2)
    x = potential.sample(2)
    assert potential.symmetry.zero_modes(x).shape[1] == 0
    free = potential.with_(l2=0.0)
    modes = free.symmetry.zero_modes(x)
    assert modes.shape[1] >= 5  # one scale for every hidden unit, and the shift of the softmax
    _, grad = free.energy_and_grad(x)
    torch.testing.assert_close(torch.einsum("bzd,bd->bz", modes, grad), modes.new_zeros(modes.shape[:2]))


def test_a_loss_that_looks_inside_breaks_the_symmetry_with_a_warning():
    def favouring_the_first_unit(model, batch):
        x, y = batch
        return F.cross_entropy(model(x), y) + torch.tanh(model[0](x))[:, 0].mean()

    potential = build(symmetry="auto", loss=favouring_the_first_unit)
    potential._evaluator.objective.example = lambda: (X[:2].double(),)
    with pytest.warns(UserWarning, match=r"not every symmetry.*permutations change the energy"):
        found = potential.symmetry
    assert found.log_degeneracy(potential.sample(1)).item() < 1.0


def test_the_symmetry_can_be_given():
    class Mine(Symmetry):
        pass

    mine = Mine()
    assert build(symmetry=mine).symmetry is mine
    assert type(build(symmetry=None).symmetry) is Symmetry


@pytest.mark.parametrize("chunk_size", [None, 5])
def test_products_at_points_are_those_of_hvp_whether_graphs_are_kept_or_not(chunk_size, monkeypatch):
    potential = build(l2=0.3, chunk_size=chunk_size)
    x = potential.sample(3, seed=1)
    v = random.normal(random.fold(2, torch.arange(3)), 4 * potential.ndim).reshape(3, 4, -1)
    each = torch.stack([potential.hvp(x, v[:, k]) for k in range(4)], 1)
    kept = potential.products_at(x)
    torch.testing.assert_close(kept(v), each)
    torch.testing.assert_close(kept(v[:, :1]), each[:, :1])  # the graphs serve again
    monkeypatch.setattr(Plan, "keeps_graphs", lambda *_: False)
    torch.testing.assert_close(potential.products_at(x)(v), each)
    assert potential.products_at(x[:0])(v[:0]).shape == (0, 4, potential.ndim)
