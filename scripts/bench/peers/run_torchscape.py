"""torchscape on one problem: run by compare.py with the Python that runs compare.py.

Minima: BasinHopping. Transition states: ConnectMinima on the given minima, neighbours only. Both by ``explore``
into a database in memory, as a user would run them; a point counts as known when its round is committed.
torchscape is given: the function in torch, differentiated by autograd, the box, the tolerance; for the network the
same ``ModulePotential`` as any user's, whose symmetry it finds out itself (inside the time).
"""

from __future__ import annotations

import numpy as np
import torch
from functions import Network, Regression, load
from tracing import Trace, arguments

import torchscape as tsc
from torchscape.explore import InProcess
from torchscape.optimise import relax
from torchscape.saddles import Band, Follow


def potential_of(function: Regression | Network) -> tsc.Potential:
    """The function as a user would hand it over."""
    if isinstance(function, Regression):
        x, t = torch.as_tensor(function.x), torch.as_tensor(function.t)

        def loss(q):
            q1, q2, q3, q4, q5 = q[:, :, None].unbind(1)
            return (torch.exp(-q1 * x) * torch.sin(q2 * x + q3) * torch.sin(q4 * x + q5) - t).square().sum(1)

        box = list(zip(function.lower.tolist(), function.upper.tolist(), strict=True))
        return tsc.FunctionPotential(loss, function.ndim, bounds=box, batched=True)
    n_in, hidden, n_out = function.inputs.shape[1], function.hidden, function.n_out
    net = torch.nn.Sequential(torch.nn.Linear(n_in, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, n_out))
    data = (torch.as_tensor(function.inputs), torch.as_tensor(function.labels))
    return tsc.ModulePotential(net, data, torch.nn.functional.cross_entropy, l2=function.l2)


class Clocked(InProcess):
    """Runs tasks as ever, and looks at the database between them."""

    def __init__(self, landscape: tsc.Landscape, trace: Trace, phase: str) -> None:
        self.trace = trace
        saddles = phase == "saddles"
        self.ids = landscape.transition_state_ids if saddles else landscape.minimum_ids
        self.points = landscape.transition_states if saddles else landscape.minima
        self.known = self.ids()

    def run(self, potential, tasks):
        self.look()
        return super().run(potential, tasks)

    def look(self) -> None:
        """Note what is new since the last look."""
        ids = self.ids()
        new = ids[~torch.isin(ids, self.known)]
        self.known = ids
        if len(new):
            self.trace.note(self.points(new).x.numpy())


def warm_up() -> None:
    """First calls of torch and SQLite, on other functions: the peers' imports are not timed either."""
    wells = tsc.FunctionPotential(lambda x: ((x**2 - 1) ** 2).sum(), 2)
    one = torch.ones(2, 1, dtype=torch.float64)
    small = tsc.ModulePotential(torch.nn.Linear(1, 1), (one, one), torch.nn.functional.mse_loss)
    small.hessian(small.sample(2))
    with tsc.Landscape.in_memory(wells) as landscape:
        strategies = [tsc.BasinHopping(walkers=8, hops=1), tsc.ConnectMinima(neighbours=2)]
        tsc.explore(landscape, wells, strategies=strategies, progress=False)


def main() -> None:
    asked = arguments()
    settings = dict(asked.settings)
    torch.set_num_threads(settings.pop("threads", 1))
    function = load(asked.problem)
    warm_up()
    trace = Trace(function.ndim)
    potential = potential_of(function)
    with tsc.Landscape.in_memory(potential) as landscape:
        if asked.phase == "minima":
            strategy = tsc.BasinHopping(tol=asked.tol, **settings)
        else:
            with np.load(asked.given) as given:
                landscape.add_minima(relax(potential, torch.as_tensor(given["minima"]), tol=asked.tol))
            settings |= {"band": Band(**settings.pop("band", {})), "refine": Follow(**settings.pop("refine", {}))}
            strategy = tsc.ConnectMinima(tol=asked.tol, max_rounds=0, **settings)
        clock = Clocked(landscape, trace, asked.phase)
        report = tsc.explore(
            landscape,
            potential,
            strategies=[strategy],
            seed=asked.seed,
            budget=tsc.Budget(seconds=asked.seconds),
            executor=clock,
            progress=False,
        )
        clock.look()
        tries = report.n_quenches if asked.phase == "minima" else len(landscape.tried_pairs().pairs)
        trace.save(asked.out, tries=tries, gradients=report.n_evaluations, outcomes=report.outcomes)


if __name__ == "__main__":
    main()
