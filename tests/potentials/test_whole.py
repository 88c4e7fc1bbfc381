"""Losses of all samples at once: a graph, whose nodes see each other, is never cut."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch_geometric.nn import GCNConv

from torchscape import ModulePotential
from torchscape.potentials import check_contract
from torchscape.potentials.losses import AUCLoss

N_NODES = 70  # more than any trial takes


class RingNet(nn.Module):
    """Two graph convolutions on a ring of nodes."""

    def __init__(self, n: int = N_NODES) -> None:
        super().__init__()
        a = torch.arange(n)
        self.register_buffer("edges", torch.stack([torch.cat([a, (a + 1) % n]), torch.cat([(a + 1) % n, a])]))
        self.first, self.second = GCNConv(3, 2), GCNConv(2, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.first(x, self.edges)), self.edges)


@pytest.fixture
def ring() -> tuple[RingNet, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return RingNet().double(), torch.randn(N_NODES, 3).double(), torch.arange(N_NODES) % 4


def test_a_graph_is_evaluated_as_a_whole(ring):
    """The trial, the symmetry, predictions and loading look at all nodes: a part of them is no graph."""
    net, x, y = ring
    u = ModulePotential(net, (x, y), F.cross_entropy, l2=1e-2, reduction="whole", chunk_size=5)
    theta = u.flatten(net)
    expected = F.cross_entropy(net(x), y) + 1e-2 * (theta**2).sum()
    torch.testing.assert_close(u.energy(theta[None])[0], expected.detach())
    assert u.symmetry.describe() == "first.bias: permutations and signs of 2 units"
    torch.testing.assert_close(u.predict(theta[None], x)[0], net(x).detach())
    torch.testing.assert_close(u.load_into(RingNet(), theta)(x.float()), net(x).detach().float())
    check_contract(u, n=2)


def test_a_module_with_other_edges_is_refused(ring):
    """Which the energy of a few nodes could not even tell."""
    net, x, y = ring
    u = ModulePotential(net, (x, y), F.cross_entropy, reduction="whole")
    other = RingNet()
    other.edges = other.edges.roll(1, 1) * 0
    with pytest.raises(ValueError, match="differs from that of the potential in edges"):
        u.flatten(other)


def test_outputs_of_a_ranking_loss_are_still_made_in_parts():
    """There the loss looks at all samples, the module at each by itself."""
    torch.manual_seed(0)
    x, y = torch.randn(20, 3), torch.arange(20) % 2
    u = ModulePotential(nn.Linear(3, 2), (x, y), AUCLoss(), reduction="whole", chunk_size=4)
    assert not u._evaluator.mixes
    assert u.predict(u.sample(2), x).shape == (2, 20, 2)


def test_the_order_of_nodes_is_part_of_which_landscape_it_is(ring):
    """The edges name nodes by their places; the order of samples that do not see each other means nothing."""
    net, x, y = ring
    order = torch.randperm(N_NODES, generator=torch.Generator().manual_seed(3))

    def told(module, data, loss=F.cross_entropy):
        return ModulePotential(module, data, loss, l2=1e-2, reduction="whole").fingerprint()

    assert told(net, (x, y)) == told(net, (x.clone(), y.clone()))
    assert told(net, (x, y)) != told(net, (x[order], y[order]))
    alone = nn.Linear(3, 4).double()
    assert told(alone, (x, y)) == told(alone, (x[order], y[order]))
    auc = AUCLoss()
    assert told(alone, (x, y), auc) == told(alone, (x[order], y[order]), auc)
