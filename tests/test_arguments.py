"""Arguments in the wrong order, or of another kind, are told in one line that says what to give instead."""

from __future__ import annotations

import pytest
import torch
from shapes import unchecked

import torchscape as tsc
from torchscape import analysis, export, plots
from torchscape.errors import DatabaseError, OptionError, PotentialError
from torchscape.saddles import climb, confirm, connect, find_stationary


def wells() -> tsc.FunctionPotential:
    return tsc.FunctionPotential(lambda x: (x[0] ** 2 - 1) ** 2 + x[1] ** 2, 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda u, land, net: tsc.explore(u, land),
            OptionError,
            "the landscape comes first.*not a FunctionPotential",
        ),
        (lambda u, land, net: tsc.explore("run.db", u), OptionError, "the landscape comes first.*not a str"),
        (lambda u, land, net: tsc.explore(land, net), PotentialError, r"not a Linear: wrap it as ModulePotential"),
        (
            lambda u, land, net: tsc.explore(land, u, strategies=[tsc.BasinHopping]),
            OptionError,
            "not the class Basin",
        ),
        (
            lambda u, land, net: tsc.explore(land, u, budget=60),
            OptionError,
            r"give a Budget, such as Budget\(seconds",
        ),
        (lambda u, land, net: tsc.explore(land, u, executor=4), OptionError, "executor=4; give 'in-process'"),
        (lambda u, land, net: tsc.Landscape.open(u, "run.db"), DatabaseError, "the path comes first"),
        (lambda u, land, net: tsc.Landscape.open(":memory:", u), DatabaseError, r"Landscape.in_memory\(potential"),
        (lambda u, land, net: tsc.Landscape.open("run.db", net), PotentialError, "not a Linear"),
        (
            lambda u, land, net: tsc.Landscape.in_memory(lambda x: x),
            PotentialError,
            "wrap it as FunctionPotential",
        ),
        (lambda u, land, net: tsc.relax(torch.zeros(1, 2), u), PotentialError, "not a Tensor: see the order"),
        (lambda u, land, net: climb(land, torch.zeros(1, 2)), PotentialError, "give its .potential"),
        (lambda u, land, net: connect(net, u, u), PotentialError, "connect needs a Potential"),
        (lambda u, land, net: confirm(net, u), PotentialError, "confirm needs a Potential"),
        (lambda u, land, net: find_stationary(net, u), PotentialError, "find_stationary needs a Potential"),
        (lambda u, land, net: plots.disconnectivity(land), AttributeError, r"give landscape.network\(\)"),
        (lambda u, land, net: export.to_pyg(land), AttributeError, r"give landscape.network\(\)"),
        (
            lambda u, land, net: analysis.heat_capacity(land, torch.ones(2)),
            AttributeError,
            r"landscape.network\(\)",
        ),
        (lambda u, land, net: land.nothing, AttributeError, "'Landscape' object has no attribute 'nothing'"),
    ],
)
def test_what_is_of_another_kind(call, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    u = wells()
    with tsc.Landscape.in_memory(u) as landscape:
        landscape.add_minima(tsc.relax(u, u.sample(4)))
        with unchecked(), pytest.raises(error, match=message) as caught:
            call(u, landscape, torch.nn.Linear(2, 1))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_one_strategy_needs_no_list():
    u = wells()
    with tsc.Landscape.in_memory(u) as landscape:
        tsc.explore(landscape, u, strategies=tsc.BasinHopping(walkers=8, hops=1), progress=False)
        assert landscape.n_minima == 2
