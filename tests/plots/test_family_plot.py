"""Pictures of families show the branches and events that the family holds."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
import pytest
import torch

from torchscape import Network, plots
from torchscape.analysis import Family, FamilyEvent
from torchscape.errors import TorchscapeError

NAN = float("nan")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def cusp() -> Family:
    """Two minima and a transition state; the upper minimum and the transition state end at p = 2.5."""
    energy = torch.tensor(
        [[0.0, -0.5, -1.0, -1.5], [0.2, 0.4, NAN, NAN], [1.0, 0.7, NAN, NAN]], dtype=torch.float64
    )
    index = torch.tensor([[0, 0, 0, 0], [0, 0, -1, -1], [1, 1, -1, -1]])
    networks = []
    for k in range(4):
        both = k < 2
        e = energy[: 2 if both else 1, k]
        networks.append(Network.of(e, [(0, 1)] if both else [], energy[2:, k] if both else []))
    return Family(
        values=torch.tensor([1.0, 2.0, 3.0, 4.0]).double(),
        networks=tuple(networks),
        energy=energy,
        log_det=energy,
        softest=energy,
        index=index,
        ids=torch.where(index == 0, torch.arange(3)[:, None], torch.where(index == 1, 0, -1)),
        coords=(),
        events=(FamilyEvent("fold", 2.5, 1e-9, (1, 2), False, energy=0.6),),
        followed=torch.ones(3, dtype=torch.bool),
    )


def fork() -> Family:
    """A minimum that becomes a transition state at p = 2.5, where two minima begin."""
    energy = torch.tensor(
        [[0.0, 0.0, 0.0, 0.0], [NAN, NAN, -0.1, -0.3], [NAN, NAN, -0.1, -0.3]], dtype=torch.float64
    )
    index = torch.tensor([[0, 0, 1, 1], [-1, -1, 0, 0], [-1, -1, 0, 0]])
    event = FamilyEvent("pitchfork", 2.5, 0.5, (1, 2), True, through=(0,), energy=0.0)
    nets = [Network.of([0.0], [], [])] * 2 + [Network.of([e, e], [(0, 1)], [0.0]) for e in (-0.1, -0.3)]
    ids = torch.tensor([[0, 0, 0, 0], [-1, -1, 0, 0], [-1, -1, 1, 1]])
    values = torch.tensor([1.0, 2.0, 3.0, 4.0]).double()
    followed = torch.ones(3, dtype=torch.bool)
    return Family(values, tuple(nets), energy, energy, energy, index, ids, (), (event,), followed)


def lines(axes):
    """(points, is solid) of every drawn line of two points or more."""
    found = [line for line in axes.get_lines() if line.get_linestyle() != "None" and len(line.get_xdata()) > 1]
    return [(line.get_xydata().tolist(), line.get_linestyle() == "-") for line in found]


def test_branches_are_drawn_to_the_fold():
    picture = plots.branches(cusp(), parameter="nu", unit="kJ/mol")
    drawn = lines(picture.axes)
    assert ([[1.0, 1.0], [2.0, 0.7], [2.5, 0.6]], False) in [(p, s) for p, s in drawn if len(p) == 3]
    assert ([[1.0, 0.2], [2.0, 0.4], [2.5, 0.6]], True) in drawn
    assert ([[1.0, 0.0], [2.0, -0.5], [3.0, -1.0], [4.0, -1.5]], True) in drawn
    assert len(drawn) == 3
    markers = [line.get_xydata().tolist() for line in picture.axes.get_lines() if line.get_marker() == "o"]
    assert markers == [[[2.5, 0.6]]]
    assert (picture.axes.get_xlabel(), picture.axes.get_ylabel()) == ("nu", "energy (kJ/mol)")
    texts = [text.get_text() for text in picture.axes.get_legend().get_texts()]
    assert texts == ["minimum", "transition state", "fold"]


def test_a_branch_changes_its_style_with_its_index():
    drawn = lines(plots.branches(fork()).axes)
    assert ([[1.0, 0.0], [2.0, 0.0], [2.5, 0.0]], True) in drawn
    assert ([[2.5, 0.0], [3.0, 0.0], [4.0, 0.0]], False) in drawn
    assert drawn.count(([[2.5, 0.0], [3.0, -0.1], [4.0, -0.3]], True)) == 2


def test_graphs_share_axis_and_colours():
    family = cusp()
    picture = plots.disconnectivity_series(family, parameter="nu", levels=40)
    assert len({tuple(graph.levels) for graph in picture.pictures}) == 1
    picture = plots.disconnectivity_series(family, parameter="nu")
    assert len(picture.figure.axes) == 4  # and no colour bars
    assert len({axes.get_ylim() for axes in picture.figure.axes}) == 1
    assert [graph.layout.y.max() for graph in picture.pictures[:2]] == [1.0, 0.7]  # mergers at their own energies
    for k, graph in enumerate(picture.pictures):
        for position, branch in enumerate(family.branch_of(k).tolist()):
            assert graph.colouring.rgba[position].tolist() == pytest.approx(picture.colours[branch].tolist())
    assert picture.colours[0].tolist() != picture.colours[1].tolist()
    picture.figure.savefig(io.BytesIO())  # warnings are errors


def test_axes_given_and_members_without_minima():
    family = cusp()
    empty = torch.full((3, 1), NAN, dtype=torch.float64)
    energy = torch.cat([family.energy[:, :1], empty], 1)
    index = torch.cat([family.index[:, :1], torch.full((3, 1), -1)], 1)
    nets = (family.networks[0], Network.of([], [], []))
    ids = torch.tensor([[0, -1], [1, -1], [0, -1]])
    short = Family(family.values[:2], nets, energy, energy, energy, index, ids, (), (), family.followed[:1])
    figure, axes = plt.subplots(1, 2)
    picture = plots.disconnectivity_series(short, axes=list(axes))
    assert picture.figure is figure
    assert picture.pictures[1] is None
    assert axes[1].texts[0].get_text() == "no minima"
    with pytest.raises(TorchscapeError, match="one for each"):
        plots.disconnectivity_series(short, axes=[axes[0]])
