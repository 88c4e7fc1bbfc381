"""Explorations on a device find what they find on the CPU, whatever is explored and however."""

from __future__ import annotations

import pytest
import torch
from on_both import KINDS, close, wells

import torchscape as tsc
from torchscape.explore import ClimbFromMinima, LowerBarriers, StationarySearch, TemperedBasinHopping
from torchscape.explore.families import merge_families
from torchscape.saddles import characterise
from torchscape.saddles.families import FamilyWalk

HOPS = tsc.BasinHopping(walkers=6, hops=2)
CONNECT = tsc.ConnectMinima(neighbours=2, max_rounds=3)
STRATEGIES = {
    "basin-hopping": [HOPS],
    "tempered": [TemperedBasinHopping(ladders=2, temperatures=(0.2, 0.8), hops=4, every=2)],
    "connect": [HOPS, CONNECT],
    "climb": [HOPS, ClimbFromMinima(searches=4)],
    "lower barriers": [HOPS, CONNECT, LowerBarriers(max_rounds=2)],
    "stationary": [StationarySearch(starts=40, patience=None)],
}


class Interrupted:
    """Runs tasks in this process until the ``n``-th."""

    def __init__(self, n: int) -> None:
        self.left = n

    def run(self, potential, tasks):
        for task in tasks:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            yield task.run(potential)


def found(potential, strategies, file=None, **options):
    with tsc.Landscape.in_memory(potential) if file is None else tsc.Landscape.open(file, potential) as landscape:
        report = tsc.explore(landscape, potential, strategies=strategies, progress=False, **options)
        return report, landscape.network(), landscape.minima()


@pytest.mark.parametrize("strategies", STRATEGIES.values(), ids=STRATEGIES.keys())
def test_every_strategy_finds_the_same(strategies, device):
    report, network, minima = found(wells(device), strategies)
    _, here, _ = found(wells("cpu"), strategies)
    assert report.status.startswith("complete")
    assert minima.x.device.type == device.type
    for name in ("energy", "edges", "ts_energy", "log_det", "ids"):
        close(getattr(network, name), getattr(here, name), atol=1e-6)


def test_interrupted_and_resumed(device, tmp_path):
    file = tmp_path / "x.db"
    report, *_ = found(wells(device), STRATEGIES["connect"], file, executor=Interrupted(1))
    assert report.status == "interrupted"
    _, there, *_ = found(wells(device), STRATEGIES["connect"], file)
    _, here, *_ = found(wells("cpu"), STRATEGIES["connect"])
    for name in ("energy", "edges", "ts_energy"):
        close(getattr(there, name), getattr(here, name), atol=1e-6)


def test_one_file_is_explored_on_device_and_cpu_in_turn(device, tmp_path):
    file = tmp_path / "x.db"
    found(wells(device), [HOPS], file)
    _, there, *_ = found(wells("cpu"), STRATEGIES["connect"], file)
    _, here, *_ = found(wells("cpu"), STRATEGIES["connect"])
    close(there.ts_energy, here.ts_energy, atol=1e-6)


@pytest.mark.filterwarnings("ignore:all . minima are continuous families")  # of attention and embedding
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
def test_every_kind_of_potential(make, device):
    there, here = make(device), make("cpu")
    x = here.sample(3, seed=1)
    close(there.sample(3, seed=1), x)
    on = x.to(device)
    close(there.energy_and_grad(on), here.energy_and_grad(x))
    close(there.hvp(on, on.flip(0)), here.hvp(x, x.flip(0)))
    close(there.hessian(on), here.hessian(x))
    assert there.fingerprint() == here.fingerprint()
    hops = [tsc.BasinHopping(walkers=2, hops=0)]
    (report, network, _), (_, expected, _) = found(there, hops), found(here, hops)
    assert report.status.startswith("complete")  # or complete up to families
    assert expected.n_minima > 0
    close(network.energy.sort().values, expected.energy.sort().values, rtol=1e-5, atol=1e-6)


class Tilted(tsc.Potential):
    """A double well that loses one of its minima as p grows."""

    ndim, length_scale = 1, 0.5

    def __init__(self, p: float, device) -> None:
        self.p, self.device = p, torch.device(device)

    def energy(self, x):
        return ((x**2 - 1) ** 2 + self.p * x).sum(1)

    def settings(self):
        return {"p": self.p}


def test_family(device):
    strategies = [tsc.BasinHopping(walkers=4, hops=0), tsc.ConnectMinima(neighbours=1)]
    there, here = (
        tsc.explore_family(members, [0.1, 0.9, 1.7], strategies=strategies, progress=False)
        for members in (lambda p: Tilted(p, device), lambda p: Tilted(p, "cpu"))
    )
    close(there.energy, here.energy, atol=1e-6)
    assert len(there.events) == len(here.events) > 0


@pytest.mark.parametrize("dense_limit", [500, 1], ids=["dense", "products"])
def test_minima_of_a_ring_are_joined(dense_limit, device):
    u = tsc.FunctionPotential(lambda x: (x.square().sum(1) - 1) ** 2, 2, batched=True, device=device)
    landscape = tsc.Landscape.in_memory(u)
    angle = torch.tensor([0.0, 1.0, 2.5]).double()
    x = torch.stack([angle.cos(), angle.sin()], 1).to(device)
    converged = torch.full((3,), int(tsc.Status.CONVERGED), device=device)
    points = characterise(u, tsc.StationaryPoints.of(x, u.energy(x), status=converged))
    ids = landscape.add_minima(points)
    landscape.set_curvature(ids, points)
    assert merge_families(landscape, u, walk=FamilyWalk(dense_limit=dense_limit)) == 2
