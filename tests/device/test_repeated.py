"""On a device a step is told once and replayed, and every row ends where it ends otherwise.

CUDA records by itself, the stand-in where that is asked for (``standin_graphs.py``).
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import standin
import standin_graphs
import torch

import torchscape as tsc
from torchscape import problems
from torchscape.memory import available_memory, limits_of
from torchscape.optimise import BFGS, LBFGS, ShortLBFGS, relax, repeated
from torchscape.optimise.flight import Flight
from torchscape.optimise.repeated import Repeated
from torchscape.points import StationaryPoints
from torchscape.potentials import FunctionPotential
from torchscape.potentials.counted import Metered

MINIMISERS = {"BFGS": BFGS(), "LBFGS": LBFGS(memory=5), "ShortLBFGS": ShortLBFGS()}


@pytest.fixture
def records(request):
    on_standin = "device" not in request.fixturenames or request.getfixturevalue("device").type == "standin"
    with standin_graphs.registered() if on_standin else contextlib.nullcontext():
        yield


@pytest.fixture
def made(monkeypatch) -> list[Repeated]:
    """What replayed, in every flight of the test."""
    found = list[Repeated]()

    def noted(flight: Flight) -> None:
        begin(flight)
        found.extend([flight._repeated] if flight._repeated is not None else [])

    begin = Flight.__post_init__
    monkeypatch.setattr(Flight, "__post_init__", noted)
    return found


def network(device: torch.device | str) -> tsc.ModulePotential:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(6, 3), torch.nn.Tanh(), torch.nn.Linear(3, 3)).double()
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(1)).double()
    data = x, (x[:, :3] + x[:, 3:] ** 2).argmax(1)
    return tsc.ModulePotential(
        module, data, torch.nn.functional.cross_entropy, l2=1e-2, symmetry=None, device=device
    )


def wells(device: torch.device) -> FunctionPotential:
    return FunctionPotential(
        lambda x: ((x**2 - 1) ** 2).sum() + 0.1 * (x[1:] * x[:-1]).sum(),
        6,
        bounds=[(-1.5, 0.9)] * 6,
        device=device,
    )


class Bowl(tsc.Potential):
    """Its curvatures are 1 to 6; ``look`` sees the points of every evaluation."""

    ndim = 6

    def __init__(self, look: Any) -> None:
        self.device = torch.device("standin")
        self.look, self.curvatures = look, torch.arange(1.0, 7.0, device="standin").double()

    def energy(self, x):
        return 0.5 * (self.curvatures * x**2).sum(1)

    def energy_and_grad(self, x):
        self.look(x)
        return self.energy(x), self.curvatures * x


POTENTIALS = {
    "network": network,
    "cluster": lambda device: problems.get("lj", n=7, device=device).potential,
    "box": wells,
}


def expect_the_same(found: StationaryPoints, expected: StationaryPoints) -> None:
    """To rounding: a step that is replayed uses its memory whole, empty places and all."""
    assert torch.equal(found.status, expected.status)
    # Both end where the RMS gradient is 1e-8, over curvatures of 1e-2 and more: 1e-6 in x, 1e-14 in energy.
    torch.testing.assert_close(found.energy, expected.energy, rtol=0.0, atol=1e-10)
    torch.testing.assert_close(found.x, expected.x, rtol=0.0, atol=1e-5)


def refused(graph: Any, stream: Any) -> Any:
    raise RuntimeError("not today")


@pytest.mark.parametrize("potential", POTENTIALS)
@pytest.mark.parametrize("name", MINIMISERS)
def test_every_row_ends_where_it_ends_otherwise(name, potential, device, records, made, monkeypatch):
    """Rows end at different times; others take their places, or they are left out, after which all is recorded
    anew. With the same shapes, but not replayed, the last digit is the same."""
    u = POTENTIALS[potential](device)
    x, options = u.sample(12, seed=3), {"optimiser": MINIMISERS[name], "pool_size": 5}
    plain = relax(u, x, **options)
    assert not made
    u.compile = "auto"
    metered = Metered(u)
    found = relax(metered, x, **options)
    assert u.compiled.endswith("steps are replayed")
    assert 1 <= made[0].n_recorded <= 8
    assert int(found.converged.sum()) >= 9
    assert int(((found.energy - plain.energy).abs() < 1e-8).sum()) >= 11  # of clusters one may go elsewhere

    n_gradients, metered.n_gradients = metered.n_gradients, 0
    with monkeypatch.context() as patch:
        patch.setattr(torch.get_device_module(device), "graph", refused)
        as_ever = relax(metered, x, **options)
    assert u.compiled.endswith("steps are not replayed: not today")
    if device.type != "standin":  # libraries may sum in another order from call to call
        return
    for column in ("x", "energy", "grad_rms", "status", "n_evaluations"):
        assert torch.equal(getattr(found, column), getattr(as_ever, column)), column
    assert n_gradients == metered.n_gradients  # those of rows that have finished, too


@pytest.mark.standin
def test_replayed_steps_start_no_operation_from_the_host(records, made):
    u = network("standin")
    u.compile = "auto"
    stepper = LBFGS(memory=5)
    steps = Repeated.of(stepper, u)
    state = stepper.init(u, u.sample(4, seed=1))
    states = [state := steps.step(u, state) for _ in range(6)]
    assert all(one is states[0] for one in states)  # in its buffers
    assert steps.n_recorded == 1
    assert steps._graph.n_replays == 5
    standin.reset()
    steps.step(u, state)
    assert standin.questions() == 0


def bowl_descents(look: Any) -> tuple[tsc.Potential, StationaryPoints]:
    u = Bowl(look)
    u.compile = "auto"
    x = 2 * tsc.random.normal(tsc.random.fold(3, torch.arange(8)), 6).to("standin")
    found = relax(u, x, optimiser=LBFGS(memory=5))
    expect_the_same(found, relax(Bowl(lambda x: None), x, optimiser=LBFGS(memory=5)))
    return u, found


@pytest.mark.standin
@pytest.mark.parametrize(
    ("look", "why"),
    [(lambda x: float(x.sum()), "_local_scalar_dense"), (lambda x: torch.ones(3).to(x), "copy")],
    ids=["asks", "copies from the host"],
)
def test_what_cannot_be_recorded_is_done_as_ever(look, why, records, made):
    u, _ = bowl_descents(look)
    assert u.compiled.startswith("steps are not replayed: aten.")
    assert why in u.compiled
    assert made[0].n_recorded == 0


@pytest.mark.standin
def test_a_recording_that_does_something_else_is_not_believed(records, made, monkeypatch):
    monkeypatch.setattr(standin_graphs.Graph, "replay", lambda self: None)
    u, _ = bowl_descents(lambda x: None)
    assert u.compiled == "steps are not replayed: they would go elsewhere"
    assert made[0].n_recorded == 0


@pytest.mark.standin
def test_where_memory_runs_out_in_recording_steps_go_on_as_ever(records, made, monkeypatch):
    def full(self, tensor):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(standin_graphs.Graph, "keep", full)
    u, _ = bowl_descents(lambda x: None)
    assert u.compiled == "steps are not replayed: out of memory"


@pytest.mark.standin
def test_where_there_is_no_room_for_a_copy_of_the_rows_steps_go_on_as_ever(records, made, monkeypatch):
    def crowded(self, potential):
        raise torch.OutOfMemoryError("out of memory: no room")

    monkeypatch.setattr(Repeated, "_tried", crowded)
    u, _ = bowl_descents(lambda x: None)
    assert u.compiled == "steps are not replayed: out of memory: no room"


@pytest.mark.standin
def test_where_memory_is_short_nothing_is_tried(records, made, monkeypatch):
    """A copy of the rows would drive the potential to take a few at a time, for good."""
    monkeypatch.setattr(repeated, "free_memory", lambda device: available_memory(device))
    monkeypatch.setattr(Repeated, "_tried", None)
    u, _ = bowl_descents(lambda x: None)
    assert u.compiled == "steps are not replayed: memory is short"


@pytest.mark.standin
def test_rows_that_were_halved_beside_the_copy_are_not_afterwards(records, made, monkeypatch):
    def cramped(self, potential):
        limits_of(potential)["gradients"] = 1
        return tried(self, potential)

    tried = Repeated._tried
    monkeypatch.setattr(Repeated, "_tried", cramped)
    u, _ = bowl_descents(lambda x: None)
    assert u.compiled == "steps are not replayed: memory is short"
    assert "gradients" not in limits_of(u)


@pytest.mark.standin
def test_where_nothing_is_recorded_that_is_said(made):
    u, _ = bowl_descents(lambda x: None)
    assert u.compiled == "steps are not replayed: standin records nothing"
    assert not made


def test_in_host_memory_nothing_is_recorded():
    u = problems.get("lj", n=7).potential
    u.compile = True
    assert Repeated.of(BFGS(), u) is None
    assert "steps" not in u.compiled
