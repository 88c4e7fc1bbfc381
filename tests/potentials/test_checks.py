"""What cannot be a potential is refused at construction, and the message names the remedy."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from torchscape import ModulePotential
from torchscape.errors import NotDeterministic, PotentialError
from torchscape.potentials.module.criterion import set_reduction

X, Y = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3


def linear():
    torch.manual_seed(0)
    return nn.Linear(4, 3)


def build(module=None, data=(X, Y), loss=F.cross_entropy, **options):
    return ModulePotential(linear() if module is None else module, data, loss, **options)


class Named(nn.Module):
    def __init__(self, part):
        super().__init__()
        self.linear, self.part = linear(), part

    def forward(self, x):
        return self.part(self.linear(x))


def test_training_mode_batch_norm():
    with pytest.raises(
        NotDeterministic, match=r"BatchNorm1d 'part' is in training mode.*call model\.eval\(\) first"
    ):
        build(Named(nn.BatchNorm1d(3)))


def test_batch_norm_without_running_statistics():
    with pytest.raises(NotDeterministic, match=r"'part' has track_running_stats=False.*LayerNorm"):
        build(Named(nn.BatchNorm1d(3, track_running_stats=False)).eval())


@pytest.mark.parametrize("part", [nn.Dropout(0.1), nn.AlphaDropout(0.1), nn.MultiheadAttention(3, 1, dropout=0.1)])
def test_active_dropout(part):
    with pytest.raises(NotDeterministic, match=r"'part' drops activations at random \(p=0.1\).*model\.eval\(\)"):
        build(Named(part))


def test_dropout_that_is_off_is_welcome():
    assert build(Named(nn.Dropout(0.1)).eval()).ndim == 15
    assert build(Named(nn.Dropout(0.0))).ndim == 15


def test_functional_noise():
    class Noisy(nn.Linear):
        def forward(self, x):
            return F.dropout(super().forward(x), 0.5)

    with pytest.raises(NotDeterministic, match=r"two passes .* differ .*remove the noise"):
        build(Noisy(4, 3))


def test_buffers_that_change():
    class Counting(nn.Linear):
        def __init__(self):
            super().__init__(4, 3)
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x):
            self.count += 1
            return super().forward(x)

    with pytest.raises(NotDeterministic, match=r"buffer 'count' changes.*model\.eval\(\)"):
        build(Counting())


def test_samples_that_interact():
    """Centring over the batch: the loss of the whole set is not the mean of the losses of its parts."""

    class Centred(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            return y - y.mean(0)

    with pytest.raises(PotentialError, match=r"not the mean of the losses.*samples interact.*reduction='whole'"):
        build(Centred(4, 3))
    assert build(Centred(4, 3), reduction="whole", chunk_size=2).n_samples == 12


def test_a_loss_that_is_neither_mean_nor_sum():
    def worst(output, target):
        return F.cross_entropy(output, target, reduction="none").max()

    with pytest.raises(PotentialError, match=r"neither the mean nor the sum.*reduction='whole'"):
        build(loss=worst)
    net = linear()
    whole = build(net, loss=worst, reduction="whole", symmetry=None)
    expected = worst(net(X), Y).double()
    torch.testing.assert_close(whole.energy(whole.initial)[0].detach(), expected.detach(), rtol=1e-6, atol=0)


def test_a_loss_that_is_nowhere_finite():
    with pytest.raises(PotentialError, match=r"NaN or infinite everywhere.*logarithm or root of negative numbers"):
        build(loss=lambda output, target: (output.abs() * -1 - 1).log().mean())


def test_data_with_nan():
    x = X.clone()
    x[3, 2] = torch.nan
    with pytest.raises(PotentialError, match=r"the data hold 1 numbers that are NaN.*clean them"):
        build(data=(x, Y))


def test_finite_somewhere_is_enough():
    """A potential may have forbidden regions: rows that get there see NaN, others do not notice."""
    net = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        net.weight.fill_(1.0)
    potential = build(
        net, (torch.ones(3, 1), torch.ones(3)), lambda out, y: (out.log() ** 2).mean(), symmetry=None
    )
    energy = potential.energy(torch.tensor([[2.0], [-1.0], [1.0]], dtype=torch.float64))
    assert energy.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize(
    "loss",
    [lambda output, target: (output**2).sum(1), lambda output, target: (output**2).mean((0,), keepdim=True)],
)
def test_a_loss_that_is_not_a_scalar(loss):
    with pytest.raises(
        PotentialError, match=r"must be one real number, but it has shape .*\.mean\(\) or \.sum\(\)"
    ):
        build(loss=loss)


def test_a_criterion_without_reduction():
    with pytest.raises(PotentialError, match=r"reduction='none'.*say reduction='mean' or 'sum'"):
        build(loss=nn.CrossEntropyLoss(reduction="none"))
    x = build().sample(2)
    repaired = build(loss=nn.CrossEntropyLoss(reduction="none"), reduction="mean", symmetry=None)
    torch.testing.assert_close(repaired.energy(x), build().energy(x))


def test_an_unknown_reduction():
    with pytest.raises(PotentialError, match="one of mean, sum, whole, not 'median'"):
        set_reduction(F.cross_entropy, "median")


def test_wrong_input_shapes():
    with pytest.raises(
        PotentialError, match=r"fails on a batch of .*\(7, 5\) float64.*Check that the module takes"
    ):
        build(data=(torch.randn(12, 5), Y))


def test_wrong_targets():
    with pytest.raises(PotentialError, match="Check that the module takes inputs of these shapes"):
        build(data=(X, Y + 5))


def test_targets_are_missing():
    with pytest.raises(PotentialError, match=r"\(inputs, \.\.\., targets\).*loss\(model, batch\)"):
        build(data=X)


@pytest.mark.parametrize("data", [(X[:0], Y[:0]), [], iter(()), torch.utils.data.TensorDataset(X[:0], Y[:0])])
def test_no_data(data):
    with pytest.raises(PotentialError, match="data set is empty"):
        build(data=data)


def test_data_of_another_kind():
    with pytest.raises(PotentialError, match=r"made of tensors, but a float was found.*torch.as_tensor"):
        build(data=(X, 1.0))
    with pytest.raises(PotentialError, match="Dataset or an iterable of batches"):
        build(data=3)


def test_a_dataset_that_augments_at_random():
    class Jittered(torch.utils.data.Dataset):
        def __len__(self):
            return 5

        def __getitem__(self, i):
            return X[i] + torch.randn(4), Y[i]

    with pytest.raises(NotDeterministic, match=r"random transform.*draw them once"):
        build(data=Jittered())


def test_a_loss_out_of_reach_of_autograd():
    with pytest.raises(PotentialError, match=r"does not depend on the chosen parameters.*\.item\(\)"):
        build(loss=lambda output, target: output.detach().square().mean())


def test_nothing_to_explore():
    net = linear().requires_grad_(False)
    with pytest.raises(PotentialError, match=r"no parameter is a coordinate.*frozen.*weight, bias"):
        build(net)
    with pytest.raises(PotentialError, match=r"parameters='wieght' matches no parameter; there are weight, bias"):
        build(parameters="wieght")
    with pytest.raises(PotentialError, match=r"regularise='.*none' matches no parameter"):
        build(regularise=["*none"])


def test_lazy_and_complex_parameters():
    with pytest.raises(PotentialError, match="run one batch through the lazy module first"):
        build(nn.LazyLinear(3))
    with pytest.raises(PotentialError, match=r"complex.*view_as_real"):
        build(nn.Linear(4, 3, dtype=torch.complex64))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_no_cuda_device():
    with pytest.raises(PotentialError, match="no usable CUDA device for 'cuda': use 'cpu'"):
        build(device="cuda")
    with pytest.raises(PotentialError, match="no usable CUDA device"):
        build().with_(device="cuda:1")


def test_no_such_device():
    with pytest.raises(PotentialError, match="there is no device 'warp'"):
        build(device="warp")


def test_points_that_do_not_fit():
    potential = build(symmetry=None)
    with pytest.raises(PotentialError, match=r"shape \[B, 15\], not \(2, 14\)"):
        potential.energy(torch.zeros(2, 14, dtype=torch.float64))
    with pytest.raises(PotentialError, match=r"points are torch.float32.*with_\(dtype="):
        potential.energy_and_grad(torch.zeros(2, 15))


def test_all_targets_ignored():
    with pytest.raises(PotentialError, match="every target is ignored"):
        build(data=(X, torch.full_like(Y, -100)))
