"""A two-layer transformer that finds the larger of two numbers."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

import torchscape as tsc
from architectures.bare import BareLoss
from architectures.entry import Entry, Explored
from architectures.newton import newton
from torchscape.explore import BasinHopping, ConnectMinima

__all__ = ["SEQUENCES"]


class Block(nn.Module):
    """Attention and a two-layer perceptron, each added to the residual stream."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, bias=False, batch_first=True)
        self.up, self.down = nn.Linear(width, width), nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return x + self.down(nn.functional.gelu(self.up(x)))


class Larger(nn.Module):
    """Two digits below ``base`` in, the larger of them read off at the second."""

    def __init__(self, base: int = 3, width: int = 4, heads: int = 1) -> None:
        super().__init__()
        self.token = nn.Embedding(base, width)
        self.place = nn.Parameter(torch.randn(2, width))
        self.blocks = nn.Sequential(Block(width, heads), Block(width, heads))
        self.out = nn.Linear(width, base, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.out(self.blocks(self.token(tokens) + self.place)[:, -1])


def given() -> dict[str, Any]:
    """The model, all nine pairs of digits, and the loss."""
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    return {"module": Larger(), "data": (pairs, pairs.amax(1)), "loss": nn.functional.cross_entropy, "l2": 1.5e-2}


def strategies(quick: bool) -> list[tsc.explore.Strategy]:
    """Quenches and the paths between neighbours."""
    hopping = BasinHopping(walkers=16 if quick else 96, hops=0 if quick else 2, temperature=0.01, step=0.5)
    connect = ConnectMinima(neighbours=1 if quick else 2, bridges=1, max_rounds=0 if quick else 2, attempts=1)
    return [hopping, connect]


def probabilities(explored: Explored) -> np.ndarray:
    """Of the right answer, at every minimum and for every pair [N 9]."""
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    said = explored.potential.predict(explored.network.coords, pairs).softmax(-1)
    return said[:, torch.arange(9), pairs.amax(1)].numpy()


def picture(explored: Explored) -> Figure:
    """How sure each minimum is of each answer."""
    values = probabilities(explored)[:16]
    figure, axes = plt.subplots(figsize=(7, 1.4 + 0.26 * len(values)))
    image = axes.imshow(values, vmin=np.floor(10 * values.min()) / 10, vmax=1, cmap="viridis", aspect="auto")
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3)).tolist()
    axes.set_xticks(range(9), [f"{a}, {b}" for a, b in pairs])
    energies = explored.network.energy.tolist()
    axes.set_yticks(range(len(values)), [f"{k}: {energies[k]:.4f}" for k in range(len(values))], fontsize=8)
    axes.set(xlabel="pair of digits", ylabel="minimum: loss")
    figure.colorbar(image, label="probability of the larger one")
    figure.tight_layout()
    return figure


def with_two_heads(quenches: int = 8) -> dict[str, Any]:
    """The same model with two heads of two dimensions: flat directions of its minima beyond the known rotations,
    and how much attention is left at each (the largest entry of queries and keys)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = given() | {"module": Larger(heads=2)}
    potential, loss = tsc.ModulePotential(**parts), BareLoss(**parts)
    found = tsc.relax(potential, potential.sample(quenches, seed=1))
    ends = [newton(loss, x) for x in found.x.numpy()]
    x = torch.as_tensor(np.array([end.x for end in ends]))
    known = (potential.symmetry.zero_modes(x).norm(dim=2) > 0.5).sum(1).tolist()
    values = potential.layout.unflatten(x)
    weights = torch.stack([values[name] for name in values if name.endswith("in_proj_weight")], 1)
    attention = weights[:, :, :8].abs().amax((2, 3))
    beyond = [end.n_flat - rotations for end, rotations in zip(ends, known, strict=True)]
    return {
        "flat_beyond_rotations": beyond,
        "without_attention_in_a_layer": int((attention.amin(1) < 1e-6).sum()),
        "quenches": quenches,
    }


def told(own: dict[str, Any]) -> str:
    two = own["two_heads"]
    beyond = two["flat_beyond_rotations"]
    return (
        f"With two heads instead of one, {sum(n > 0 for n in beyond)} of {two['quenches']} quenches end in minima "
        f"with up to {max(beyond)} flat directions that no symmetry of the module explains; at "
        f"{two['without_attention_in_a_layer']} of them a layer has no attention left (queries and keys are "
        "zero), so that its two heads are one linear map, and rotate together."
    )


SEQUENCES = Entry(
    name="sequences",
    title="A two-layer transformer",
    about=(
        "Two layers of attention and perceptron on a residual stream of width four say which of two digits is the "
        "larger; all nine pairs are the data. Nothing but linear maps meets the stream and the inside of a head, "
        "so that both may be rotated: minima are orbits, which [the symmetry](../symmetry.md) knows, and which "
        "count once. There is no layer norm: it makes the loss independent of the scale of the stream, which l2 "
        "then shrinks towards the root of the layer norm's epsilon. Curvatures at minima reach 10^5 there, and "
        "quenches take several times as many steps."
    ),
    given=given,
    shown=(Block, Larger, given),
    strategies=strategies,
    quenches=40,
    second="answers",
    picture=picture,
    caption="The probability of the right answer for each of the nine pairs, at the lowest minima.",
    measures=lambda _: {"two_heads": with_two_heads()},
    remarks=told,
)
