"""Questions from the host: none inside a step, one per look of the pool, few in a whole exploration.

They are counted on the stand-in device. What a decomposition checks by itself is no question of ours, and
cannot be had without: on CUDA, too, ``eigh`` waits for it. It is counted apart.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import sys
from pathlib import Path

import pytest
import standin
import torch

import torchscape as tsc
from torchscape import sampling
from torchscape.optimise import BFGS, LBFGS, Pool, Queue, flight, polish
from torchscape.optimise.relaxation import relax
from torchscape.points import StationaryPoints, Status
from torchscape.potentials import FunctionPotential
from torchscape.saddles import Band, Descent, Follow
from torchscape.saddles.band import Images
from torchscape.saddles.curvature import Dense, Krylov
from torchscape.saddles.eigenvector_following import Uphill
from torchscape.saddles.flow import Flow
from torchscape.saddles.stationary import Aimed, NewtonSearch
from torchscape.sampling.basins.flow import Downhill, SteepestDescent

pytestmark = pytest.mark.standin


def questions() -> int:
    """Waits and copies, but for those inside a decomposition."""
    return standin.questions() - sum(n for name, n in standin.names().items() if name in DECOMPOSITIONS)


DECOMPOSITIONS = {f"(wait) aten::{name}" for name in ("_linalg_eigh", "_linalg_svd")}


@functools.cache
def wells(d: int = 6, *, bounds: bool = False) -> FunctionPotential:
    """Coupled double wells."""
    return FunctionPotential(
        lambda x: ((x**2 - 1) ** 2).sum() + 0.1 * (x[1:] * x[:-1]).sum(),
        d,
        bounds=[(-1.5, 0.9)] * d if bounds else None,
        device="standin",
    )


@functools.cache
def network() -> tsc.ModulePotential:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    data = torch.randn(12, 3), torch.arange(12) % 2
    return tsc.ModulePotential(module, data, torch.nn.functional.cross_entropy, l2=1e-3, device="standin")


@functools.cache
def low_rank() -> tsc.ModulePotential:
    """With zero modes that depend on the point: a space of three dimensions between linear maps."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 3, bias=False), torch.nn.Linear(3, 3, bias=False))
    data = torch.randn(12, 4), torch.arange(12) % 3
    return tsc.ModulePotential(module, data, torch.nn.functional.cross_entropy, l2=1e-3, device="standin")


def starts(u: tsc.Potential, n: int = 5) -> torch.Tensor:
    """Points in general position, and where there is a box some at its walls."""
    x = tsc.random.normal(tsc.random.fold(3, torch.arange(n)), u.ndim).to("standin")
    return x if u.bounds is None else u.bounds.clamp(x)


def directed(u: tsc.Potential) -> Uphill:
    x = starts(u)
    return Uphill(x, torch.ones_like(x) / u.ndim**0.5)


def aimed(u: tsc.Potential) -> Aimed:
    x = starts(u)
    return Aimed(x, torch.ones(len(x), dtype=torch.int64, device=x.device))


def bands(u: tsc.Potential) -> Images:
    n_images = torch.full((5,), 11, device="standin")
    return Images(Band().initial(starts(u), -starts(u), n_images, torch.arange(5), most=11), n_images)


def untested(u: tsc.Potential) -> Downhill:
    return Downhill.for_none(starts(u))


STEPPERS = {
    "BFGS": (BFGS(), starts),
    "BFGS, young": (BFGS(renew_after=1), starts),
    "L-BFGS": (LBFGS(memory=5), starts),
    "L-BFGS, plain": (LBFGS(memory=5, rescale=None, pairs=None), starts),
    "band": (Band(), bands),
    "follow": (Follow(curvature=Dense()), directed),
    "follow, Krylov": (Follow(curvature=Krylov(max_dim=8)), directed),
    "descent": (Descent(curvature=Dense()), starts),
    "descent, Krylov": (Descent(curvature=Krylov(max_dim=8)), starts),
    "stationary": (NewtonSearch(), aimed),
    "stationary, Krylov": (NewtonSearch(curvature=Krylov(max_dim=8)), aimed),
    "flow": (Flow(1e-3), starts),
    "steepest descent": (SteepestDescent(), untested),
}


POTENTIALS = {"wells": wells, "box": lambda: wells(bounds=True), "network": network, "low rank": low_rank}


@pytest.mark.parametrize("potential", POTENTIALS)
@pytest.mark.parametrize("name", STEPPERS)
def test_no_questions_in_a_step(name, potential):
    u = POTENTIALS[potential]()
    stepper, begin = STEPPERS[name]
    state = stepper.init(u, begin(u))
    state = stepper.step(u, stepper.step(u, state))  # what is made once is made now
    standin.reset()
    for _ in range(2):
        state = stepper.step(u, state)
    assert questions() == 0, standin.names()


SAMPLERS = {
    "GLA2": sampling.GLA2(0.01),
    "BAOAB": sampling.BAOAB(0.01),
    "ABOBA": sampling.ABOBA(0.01),
    "SGLD": sampling.SGLD(0.01),
    "HMC": sampling.HMC(0.05, 5),
    "adaptive": sampling.AdaptiveLangevin(0.01),
    "CCAdL": sampling.CCAdL(0.01),
    "ensemble": sampling.EnsembleQuasiNewton(0.01, walkers=4),
    "tempering": sampling.ParallelTempering(sampling.HMC(0.05, 3)),
}
BOXES = (False, True)
NO_WALLS = ("ensemble", True)  # it refuses a box


@pytest.mark.parametrize(
    ("name", "bounds"), [case for case in itertools.product(SAMPLERS, BOXES) if case != NO_WALLS]
)
def test_no_questions_in_a_step_of_a_sampler(name, bounds):
    u, sampler = wells(bounds=bounds), SAMPLERS[name]
    state = sampler.init(u, starts(u, 8), temperature=0.3, seed=1)
    state = sampler.step(u, sampler.step(u, state))
    standin.reset()
    for _ in range(4):
        state = sampler.step(u, state)
    assert questions() == 0, standin.names()


def test_one_question_per_look_of_the_pool():
    u, looks = wells(), []
    queue = Queue(starts(u, 12))
    standin.reset()
    Pool(LBFGS(memory=5, rescale=None), 12, check_every=7).run(
        u, queue, on_step=lambda n: looks.append(questions())
    )
    # Between two looks there is the next one, and two copies where half of the rows have finished and are dropped.
    between = torch.tensor(looks).diff()
    assert looks[0] == 1
    assert (between <= 3).all()
    assert between.sum() <= len(between) + 2 * 4  # twelve rows can be halved four times
    assert bool(queue.ordered().converged.all())


def test_looks_are_as_rare_as_rows_are_old():
    """On a device a look comes after a third of the age of half of the rows; newcomers call for early ones."""
    u, seen = wells(), []
    start = starts(u, 12)
    Pool(LBFGS(memory=5, tol=0.0, max_evaluations=200, max_idle=10**6), 12).run(
        u, Queue(start), on_step=seen.append
    )
    assert len(seen) <= 14  # 8, 16, 24, 32, 42, 56, 74, 98, 130, 173, 230


@pytest.mark.parametrize("dense", [True, False])
def test_polish_asks_once_a_step(dense):
    u = wells()
    rough = relax(u, starts(u), tol=1e-3)
    options = tsc.optimise.Newton(dense_limit=500 if dense else 0)
    standin.reset()
    fine = polish(u, rough, tol=1e-11, options=options)
    n_asked = questions()
    assert bool((fine.grad_rms <= 1e-11).all())
    assert n_asked <= 1 + 2 * options.max_steps


class Stopped:
    """Runs tasks in this process, and writes down what has been asked before and after each."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def run(self, potential, tasks):
        for task in tasks:
            self.asked.append(questions())
            yield task.run(potential)
            self.asked.append(questions())


def test_few_questions_in_an_exploration(monkeypatch):
    """At most 300 in one of half a dozen rounds: 66 for all there is before (one asks which inputs are nought in
    all samples), 55 for a round of connecting.

    Beside these a device whose steps take long is waited for now and then, which depends on the machine.
    """
    monkeypatch.setattr(flight, "_BLIND", 1e9)
    standin.reset()
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh(), torch.nn.Linear(2, 2))
    data = torch.randn(12, 3), torch.arange(12) % 2
    u = tsc.ModulePotential(module, data, torch.nn.functional.cross_entropy, l2=1e-2, device="standin")
    stopped = Stopped()
    strategies = [tsc.BasinHopping(walkers=8, hops=0), tsc.ConnectMinima(neighbours=2, max_rounds=0)]
    with tsc.Landscape.in_memory(u) as landscape:
        tsc.explore(landscape, u, strategies=strategies, executor=stopped, progress=False)
        assert landscape.n_transition_states > 0
    before_connecting = stopped.asked[2]
    rounds = (len(stopped.asked) - 2) // 2
    assert before_connecting <= 66, standin.names()
    assert questions() - before_connecting <= 55 * rounds, standin.names()


@pytest.mark.slow
def test_few_questions_in_the_exploration_of_the_digits():
    """24 quenches of a network with 310 weights, connected to the end."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "bench"))
    import questions as bench

    counted, report = bench.count()
    assert report.status == "complete"
    assert report.n_transition_states > 100
    assert counted.total["questions"] + counted.total["copies"] <= bench.TARGET, counted.parts


def test_one_copy_for_all_columns():
    points = StationaryPoints.of(
        torch.arange(6.0).reshape(3, 2).double().to("standin"),
        torch.arange(3.0).double().to("standin"),
        status=torch.full((3,), int(Status.STALLED), device="standin"),
        eigenvalues=torch.ones(3, 2).double().to("standin"),
    )
    standin.reset()
    there = points.to("cpu")
    assert questions() == 1
    for field in dataclasses.fields(points):
        before, after = getattr(points, field.name), getattr(there, field.name)
        assert after.device.type == "cpu"
        assert after.dtype == before.dtype
        assert torch.equal(before.to("cpu").nan_to_num(7.0), after.nan_to_num(7.0))
