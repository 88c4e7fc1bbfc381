"""Detection by tracing: what is found is a symmetry of the function, and what should be found is."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from neural_cases import ConvNet, Dense, PlainAttention, Residual, Transformer, case, mlp
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch_geometric import nn as geometric

from torchscape import random
from torchscape.layout import ParameterLayout
from torchscape.symmetry.modules.elementwise import Elementwise
from torchscape.symmetry.neural import detect

CASES = {
    "mlp": lambda: mlp(3, 4, 2),
    "deep mlp": lambda: mlp(3, 4, 5, 4, 2),
    "relu mlp": lambda: mlp(3, 4, 5, 2, activation=nn.ReLU),
    "one hidden unit": lambda: mlp(2, 1, 2),
    "residual": lambda: case(Residual(), torch.randn(5, 3)),
    "residual relu": lambda: case(Residual(torch.relu), torch.randn(5, 3)),
    "conv, fresh batch-norm": lambda: case(ConvNet(), torch.randn(2, 2, 4, 4)),
    "conv, paired batch-norm": lambda: case(ConvNet("pairs"), torch.randn(2, 2, 4, 4)),
    "conv, trained batch-norm": lambda: case(ConvNet("distinct"), torch.randn(2, 2, 4, 4)),
    "plain attention": lambda: case(PlainAttention(), torch.randn(2, 4, 3)),
    "transformer": lambda: case(Transformer(), torch.tensor([[0, 1, 2], [4, 3, 1]])),
    "concatenation, gate, tied weights": lambda: case(Dense(), torch.randn(5, 3)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_random_image_computes_the_same_function(name):
    """Every architecture, at random parameters, in float64: outputs agree to 1e-10 although all units moved."""
    one = CASES[name]()
    assert one.symmetry.groups
    assert not one.symmetry.notes
    assert_symmetric(one)


def assert_symmetric(one) -> None:
    x = one.points(8)
    image = one.symmetry.random_image(x, random.fold(1, torch.arange(8)))
    assert (image - x).norm(dim=1).max() > 0.1
    before, after = one.outputs(x), one.outputs(image)
    assert (after - before).abs().max() <= 1e-10 * before.abs().max()


@pytest.mark.parametrize("name", CASES)
def test_every_part_is_a_symmetry_and_none_is_lost_in_verification(name):
    one = CASES[name]()
    checked = one.symmetry.verified(lambda x: one.outputs(x).flatten(1).square().sum(1), one.points(3, seed=3))
    assert checked.describe() == one.symmetry.describe()


def sizes(one) -> list[tuple[int, int, int, int]]:
    """(units, colours, signs, scales) of every group."""
    return [(g.size, len(g.cells), g.n_signs, g.n_scales) for g in one.symmetry.groups]


class TestWhatIsFound:
    def test_tanh_layers_have_signs_and_relu_layers_scales(self):
        assert sizes(mlp(3, 4, 5, 2)) == [(4, 1, 1, 0), (5, 1, 1, 0)]
        assert sizes(mlp(3, 4, 2, activation=nn.ReLU)) == [(4, 1, 0, 1)]
        assert sizes(mlp(3, 4, 2, activation=nn.LeakyReLU)) == [(4, 1, 0, 1)]
        assert sizes(mlp(3, 4, 2, activation=nn.Sigmoid)) == [(4, 1, 0, 0)]
        assert (
            mlp(3, 4, 2, activation=nn.Identity).symmetry.describe() == "0.weight: invertible maps of 4 dimensions"
        )

    @pytest.mark.parametrize("odd", [nn.Tanhshrink, nn.Softsign, nn.Hardtanh, nn.Softshrink])
    def test_odd_activations_are_found_by_trying(self, odd):
        assert sizes(mlp(2, 3, 1, activation=odd)) == [(3, 1, 1, 0)]

    def test_an_activation_written_by_hand(self):
        class Softsign(nn.Module):
            def forward(self, x):
                return x / (1 + x.abs())

        assert sizes(mlp(2, 3, 1, activation=Softsign)) == [(3, 1, 1, 0)]

    def test_one_unit_may_still_change_sign(self):
        one = mlp(2, 1, 2)
        assert one.symmetry.log_degeneracy(one.points(1)).exp().item() == pytest.approx(2.0)

    def test_the_residual_stream_moves_as_one(self):
        one = case(Residual(), torch.randn(5, 3))
        assert sizes(one) == [(4, 1, 1, 0), (5, 1, 1, 0)]
        assert one.symmetry.log_degeneracy(one.points(1)).item() == pytest.approx(math.log(24 * 16 * 120 * 32))

    def test_batch_norm_channels_are_exchanged_only_where_the_buffers_agree(self):
        def cells(running):
            return [
                g.colour.unique().numel() for g in case(ConvNet(running), torch.randn(2, 2, 4, 4)).symmetry.groups
            ]

        assert cells("fresh")[0] == 1
        assert cells("pairs")[0] == 2
        assert cells("distinct")[0] == 4

    def test_attention_heads_are_a_group(self):
        """In each, queries and keys share a space, and values and outputs; the stream that they read and write."""
        one = case(PlainAttention(), torch.randn(2, 4, 3))
        assert one.symmetry.describe().split("; ") == [
            "embed.weight: permutations and signs of 6 units",
            "qkv.weight: permutations of 3 units",
            "qkv.weight: invertible maps of 2 dimensions in each of 3 copies",
            "qkv.weight: invertible maps of 2 dimensions in each of 3 copies",
        ]

    def test_every_way_to_write_attention_finds_the_heads(self):
        class Net(nn.Module):
            def __init__(self, **options):
                super().__init__()
                self.attention, self.out = (
                    nn.MultiheadAttention(6, 3, batch_first=True, **options),
                    nn.Linear(6, 2),
                )

            def forward(self, x):
                return self.out(self.attention(x, x, x)[0])

        assert (3, 1, 0, 0) in sizes(case(Net(), torch.randn(2, 4, 6)))
        assert (3, 1, 0, 0) in sizes(case(Net(bias=False), torch.randn(2, 4, 6)))
        assert (2, 1, 0, 1) not in sizes(case(Net(add_bias_kv=True), torch.randn(2, 4, 6)))
        assert (3, 1, 0, 0) in sizes(case(Transformer(heads=3), torch.tensor([[0, 1, 2], [4, 3, 1]])))

    def test_a_frozen_layer_keeps_its_units_where_they_are(self):
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        assert case(net, torch.randn(5, 3), frozen=("2.weight",)).symmetry.describe() == "none"

    def test_a_frozen_layer_with_equal_columns_lets_them_be_exchanged(self):
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2, bias=False))
        net[2].weight.data = torch.tensor([[1.0, 1.0, 2.0, 2.0], [3.0, 3.0, 4.0, 4.0]])
        one = case(net, torch.randn(5, 3), frozen=("2.weight",))
        assert sizes(one) == [(4, 2, 0, 0)]
        image = one.symmetry.random_image(one.x, torch.tensor([5]))
        assert torch.allclose(one.outputs(image), one.outputs(one.x), atol=1e-12)

    def test_tied_weights_share_their_symmetry(self):
        """x -> W^T tanh(W x): signs survive tying (s^2 = 1); with relu, scales (c^2 = 1) do not."""

        class Tied(nn.Module):
            def __init__(self, activation):
                super().__init__()
                self.encode, self.activation = nn.Linear(3, 4), activation

            def forward(self, x):
                return self.activation(self.encode(x)) @ self.encode.weight

        assert sizes(case(Tied(torch.tanh), torch.randn(5, 3))) == [(4, 1, 1, 0)]
        assert sizes(case(Tied(torch.relu), torch.randn(5, 3))) == [(4, 1, 0, 0)]


class TestWhatIsLeftOut:
    def test_an_operation_that_is_not_understood_freezes_what_it_touches_and_says_so(self):
        class Odd(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(4, 5), nn.Linear(5, 1)

            def forward(self, x):
                return self.c(torch.tanh(self.b(torch.cumsum(torch.tanh(self.a(x)), 1))))

        one = case(Odd(), torch.randn(5, 3))
        assert sizes(one) == [(5, 1, 1, 0)]
        assert "cumsum" in one.symmetry.notes[0]
        image = one.symmetry.random_image(one.x, torch.tensor([5]))
        assert torch.allclose(one.outputs(image), one.outputs(one.x), atol=1e-12)

    def test_a_function_that_hides_parameters_leaves_nothing(self):
        class Hidden(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x.cumsum(1)

            @staticmethod
            def backward(ctx, g):
                return g

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 1)

            def forward(self, x):
                return self.b(Hidden.apply(torch.tanh(self.a(x))))

        one = case(Net(), torch.randn(5, 3))
        assert one.symmetry.describe() == "none"
        assert one.symmetry.notes

    def test_writing_into_a_slice_is_not_followed(self):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 1)

            def forward(self, x):
                h = torch.tanh(self.a(x))
                h[:, 0] = 0.0
                return self.b(h)

        assert case(Net(), torch.randn(5, 3)).symmetry.describe() == "none"

    def test_a_number_taken_out_of_a_tensor_is_not_followed(self):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 1)

            def forward(self, x):
                h = self.a(x)
                return self.b(torch.tanh(h)) * h[0, 0].item()

        assert case(Net(), torch.randn(5, 3)).symmetry.describe() == "none"

    @pytest.mark.parametrize(
        ("layer", "found"),
        [
            (nn.RNN(3, 4, batch_first=True), [(4, 1, 1, 0)]),
            (nn.RNN(3, 4, nonlinearity="relu"), [(4, 1, 0, 1)]),
            (nn.GRU(3, 4, 2, batch_first=True), [(4, 1, 1, 0)] * 2),
            (nn.GRU(3, 4, bias=False), [(4, 1, 1, 0)]),
            (nn.LSTM(3, 4, bidirectional=True), [(4, 1, 1, 0)] * 2),
        ],
    )
    def test_units_of_recurrent_layers(self, layer, found):
        """The sign of a unit: of its candidate gate, its state, and whatever reads it; relu units have scales."""

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer, self.out = layer, nn.Linear(4 * (1 + layer.bidirectional), 1)

            def forward(self, x):
                return self.out(self.layer(x)[0][:, -1])

        one = case(Net(), torch.randn(2, 5, 3))
        assert sizes(one) == found
        assert_symmetric(one)

    def test_the_last_state_and_a_projection(self):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.two, self.narrow = nn.GRU(3, 4, 2), nn.LSTM(3, 4, proj_size=2)
                self.a, self.b = nn.Linear(4, 1), nn.Linear(2, 1)

            def forward(self, x):
                packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 4, 2]))
                state, (h, _) = self.narrow(packed)
                padded, _ = nn.utils.rnn.pad_packed_sequence(state)
                return self.a(self.two(x)[1][-1]) + self.b(h[-1]) + self.b(padded).sum(0)

        one = case(Net(), torch.randn(5, 3, 3))
        assert [str(g).split(": ")[1] for g in one.symmetry.groups] == [
            "permutations and signs of 4 units",
            "permutations and signs of 4 units",
            "permutations and signs of 4 units",
            "invertible maps of 2 dimensions",
        ]
        assert_symmetric(one)

    def test_cells_in_a_loop(self):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.lstm, self.gru, self.out = nn.LSTMCell(3, 4), nn.GRUCell(4, 5), nn.Linear(5, 1)

            def forward(self, x):
                state, h = None, torch.zeros(x.shape[1], 5, dtype=x.dtype)
                for step in x:
                    state = self.lstm(step, state)
                    h = self.gru(state[0], h)
                return self.out(h)

        one = case(Net(), torch.randn(4, 2, 3))
        assert sizes(one) == [(4, 1, 1, 0), (5, 1, 1, 0)]
        assert_symmetric(one)

    def test_a_first_state_that_is_no_zero_holds_the_units(self):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer, self.out = nn.GRU(3, 4), nn.Linear(4, 1)

            def forward(self, x):
                return self.out(self.layer(x, torch.arange(8.0, dtype=x.dtype).reshape(1, 2, 4))[0][-1])

        assert case(Net(), torch.randn(5, 2, 3)).symmetry.describe() == "none"

    @pytest.mark.parametrize(
        ("kind", "options", "found"),
        [
            (geometric.GCNConv, {}, "permutations and signs of 4 units"),
            (geometric.SAGEConv, {"aggr": "max"}, "permutations and scales of 4 units"),
            (
                geometric.GATConv,
                {"heads": 2},
                "permutations of 2 units; permutations and signs of 2 units in each of 2 copies",
            ),
            (
                geometric.GATConv,
                {"heads": 2, "concat": False},
                "permutations of 2 units; permutations and signs of 4 units",
            ),
            (
                geometric.GATv2Conv,
                {"heads": 2},
                "permutations of 2 units; permutations of 2 units in each of 2 copies",
            ),
            (
                geometric.TransformerConv,
                {"heads": 2},
                "permutations of 2 units; invertible maps of 2 dimensions in each of 2 copies; "
                "permutations and signs of 2 units in each of 2 copies",
            ),
        ],
    )
    def test_channels_and_heads_of_graph_networks(self, kind, options, found):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                width = 2 if options.get("heads") and options.get("concat", True) else 4
                self.a, self.b = kind(3, width, **options), nn.Linear(4, 2)

            def forward(self, x, edges):
                h = (
                    torch.tanh(self.a(x, edges))
                    if kind is not geometric.SAGEConv
                    else torch.relu(self.a(x, edges))
                )
                return geometric.global_mean_pool(self.b(h), torch.tensor([0, 0, 0, 1, 1, 1]))

        edges = torch.tensor([[0, 1, 2, 3, 4, 5, 1, 4], [1, 2, 0, 4, 5, 3, 0, 3]])
        one = case(Net(), torch.randn(6, 3), edges)
        assert "; ".join(str(g).split(": ")[1] for g in one.symmetry.groups) == found
        assert not one.symmetry.notes
        assert_symmetric(one)

    def test_a_module_that_returns_no_tensors(self):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.list = nn.ModuleList([nn.Linear(3, 4), nn.Linear(3, 4)])

            def forward(self, x):
                return sum(float(layer(x).detach().sum()) for layer in self.list)

        net = Net()
        layout = ParameterLayout.of({name: p.shape for name, p in net.named_parameters()})
        found = detect(net, layout, (torch.randn(5, 3),))
        assert found.describe() == "none"
        assert found.notes

    def test_a_product_that_is_not_only_summed_is_no_inner_product(self):
        class Net(nn.Module):
            def __init__(self, both):
                super().__init__()
                self.a, self.b, self.both = nn.Linear(3, 4), nn.Linear(3, 4), both

            def forward(self, x):
                product = self.a(x) * self.b(x)
                return product.sum(1) + (torch.tanh(product).sum(1) if self.both else 0.0)

        assert (
            case(Net(False), torch.randn(5, 3)).symmetry.describe() == "a.weight: invertible maps of 4 dimensions"
        )
        assert case(Net(True), torch.randn(5, 3)).symmetry.describe() == (
            "a.weight: permutations, signs and scales of 4 units"
        )

    def test_units_under_weight_norm(self):
        """The direction v and the length g of each unit change sign together, whatever reads it; so do outputs."""
        net = nn.Sequential(weight_norm(nn.Linear(3, 4)), nn.Tanh(), weight_norm(nn.Linear(4, 2)))
        one = case(net, torch.randn(5, 3))
        assert sizes(one) == [(4, 1, 2, 0), (2, 2, 1, 0)]
        assert_symmetric(one)

    def test_a_module_that_returns_a_dataclass(self):
        @dataclasses.dataclass
        class Output:
            logits: torch.Tensor
            hidden: list

        class Net(nn.Module):
            def __init__(self, leak):
                super().__init__()
                self.a, self.b, self.leak = nn.Linear(3, 4), nn.Linear(4, 2), leak

            def forward(self, x):
                h = torch.tanh(self.a(x))
                return Output(self.b(h), [h] if self.leak else [])

        def found(leak):
            net = Net(leak)
            layout = ParameterLayout.of({name: p.shape for name, p in net.named_parameters()})
            return detect(net, layout, (torch.randn(5, 3),)).describe()

        assert found(False) == "a.weight: permutations and signs of 4 units"
        assert found(True) == "none"

    def test_a_module_that_cannot_run_on_the_example_is_noted(self):
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        layout = ParameterLayout.of({name: p.shape for name, p in net.named_parameters()})
        assert "could not be run" in detect(net, layout, (torch.randn(2, 5),)).notes[0]

    def test_the_shape_of_the_input_is_guessed_when_it_is_not_given(self):
        net = nn.Sequential(nn.Conv2d(1, 3, 5), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 24 * 24, 2))
        layout = ParameterLayout.of({name: p.shape for name, p in net.named_parameters()})
        assert [g.size for g in detect(net, layout).groups] == [3]

    def test_the_module_is_left_alone(self):
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        net[0].weight.requires_grad_(False)
        before = {name: p.clone() for name, p in net.named_parameters()}
        layout = ParameterLayout.of({"2.weight": net[2].weight.shape})
        detect(net, layout, (torch.randn(2, 3),))
        assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
        assert [p.requires_grad for p in net.parameters()] == [False, True, True, True]


class TestVerification:
    def test_l2_breaks_rescalings_but_not_permutations(self):
        one = mlp(3, 4, 2, activation=nn.ReLU)

        def energy(x, l2):
            return one.outputs(x).square().mean((1, 2)) + l2 * x.square().sum(1)

        free = one.symmetry.verified(lambda x: energy(x, 0.0), one.points(3))
        regularised = one.symmetry.verified(lambda x: energy(x, 1e-6), one.points(3))
        assert free.groups[0].n_scales == 1
        assert regularised.groups[0].n_scales == 0
        assert regularised.groups[0].is_permutable
        assert "l2" in regularised.notes[0]

    def test_an_energy_that_tells_units_apart_drops_the_group(self):
        one = mlp(3, 4, 2)
        weight = torch.arange(one.layout.ndim, dtype=torch.float64)
        assert one.symmetry.verified(lambda x: (weight * x).sum(1), one.points(3)).groups == ()
        (signs,) = one.symmetry.verified(lambda x: (weight * x).square().sum(1), one.points(3)).groups
        assert (signs.is_permutable, signs.n_signs) == (False, 1)

    def test_the_softmax_shift_is_kept_only_where_the_loss_does_not_see_it(self):
        one = mlp(3, 4, 3, shift=True)

        def energy(x, l2):
            return one.outputs(x).log_softmax(2)[:, :, 0].mean(1) + l2 * x[:, :28].square().sum(1)

        assert [s.name for s in one.symmetry.shifts] == ["2.weight", "2.bias"]
        kept = one.symmetry.verified(lambda x: energy(x, 0.0), one.points(3)).shifts
        assert [s.name for s in kept] == ["2.weight", "2.bias"]
        biases_free = one.symmetry.verified(lambda x: energy(x, 1e-4), one.points(3)).shifts
        assert [s.name for s in biases_free] == ["2.bias"]
        assert one.symmetry.verified(lambda x: one.outputs(x).square().sum((1, 2)), one.points(3)).shifts == ()


@pytest.mark.parametrize(
    ("f", "parity", "degree"),
    [
        (torch.tanh, -1, None),
        (torch.sin, -1, None),
        (torch.cos, 1, None),
        (torch.asinh, -1, None),
        (torch.erf, -1, None),
        (torch.abs, 1, 1.0),
        (torch.square, 1, 2.0),
        (torch.relu, None, 1.0),
        (nn.functional.leaky_relu, None, 1.0),
        (torch.sigmoid, None, None),
        (nn.functional.gelu, None, None),
        (lambda t: 3.0 * t, -1, 1.0),
        (lambda t: t**3, -1, 3.0),
        (lambda t: t.abs().sqrt(), 1, 0.5),
        (torch.sign, -1, 0.0),
    ],
)
def test_activations_by_trying(f, parity, degree):
    assert Elementwise.of(f) == Elementwise(parity, degree)


def test_what_mixes_elements_is_not_an_activation():
    assert Elementwise.of(lambda t: t - t.mean()) is None
    assert Elementwise.of(lambda t: t.flip(0)) is None
