"""Students that could copy their teacher exactly, and where training stalls instead."""

from __future__ import annotations

import matplotlib.pyplot as plt
import torch

import torchscape as tsc
from reproductions.experiment import Experiment, Run
from reproductions.judge import Verdict
from reproductions.page import Page
from torchscape.progress import progress_bar

__all__ = ["EXPERIMENT"]

_PUBLISHED = 0.016
_ZERO, _SMALL_GRADIENT = 1e-6, 1e-3


def _carry_out(run: Run, page: Page) -> None:
    teacher, n = run.pick((3, 100), (5, 400))
    sizes, starts, evaluations = run.pick(([1.0], 3, 300), ([1.0, 2.0], 8, 3000))
    losses, ground, ended, stalled = {}, {}, {}, {}
    with progress_bar(show=run.progress, total=len(sizes), desc="students", unit="") as bar:
        for size in sizes:
            problem = tsc.problems.get("student-teacher", teacher=teacher, size=size, n=n, device=run.device)
            u = problem.potential
            ends = tsc.relax(u, u.sample(starts, seed=0), tol=1e-6, max_evaluations=evaluations)
            losses[size] = ends.energy.sort().values.cpu()
            ended[size] = (
                f"{int(ends.converged.sum())} of {starts} converged, RMS gradient at most "
                f"{float(ends.grad_rms.max()):.0e}"
            )
            stuck = (ends.energy > _ZERO) & (ends.grad_rms < _SMALL_GRADIENT)
            stalled[size] = float(stuck.double().mean())
            assert problem.known.lowest is not None
            ground[size] = float(u.energy(problem.known.lowest[None]))
            bar.update()
    page.what = (
        f"A teacher with {teacher} hidden units is trained on one half of {2 * n} images (8 x 8 digits), and a "
        "student learns its outputs on the other half: mean squared difference, no regularisation. A student of "
        "equal or larger size can copy the teacher, so that the lowest loss is zero and known. The paper uses "
        "MNIST; its loss and sizes are not published."
    )
    for size in sizes:
        page.compare(f"size {size:g}: trainings", ended[size])
        page.compare(f"size {size:g}: loss at the copy of the teacher", f"{ground[size]:.1e}", independent="0")
        page.compare(
            f"size {size:g}: loss where {starts} trainings end",
            f"{float(losses[size][0]):.2g} to {float(losses[size][-1]):.2g}, median "
            f"{float(losses[size].median()):.2g}",
            _verdict(stalled[size], losses[size]),
            published=f"stalls near {_PUBLISHED} although 0 exists",
            remark=f"{stalled[size]:.0%} with RMS gradient below {_SMALL_GRADIENT:g} and loss above {_ZERO:g}; "
            "values do not compare, as the loss of the paper is not given",
        )
    shares = [f"{stalled[size]:.0%} of size {size:g}" for size in sizes]
    page.say(
        f"Of the trainings, {' and '.join(shares)} stall above zero (RMS gradient below {_SMALL_GRADIENT:g}, loss "
        f"above {_ZERO:g}), although a copy of the teacher has a loss of zero to rounding."
    )
    reached = [f"{size:g}" for size in sizes if float(losses[size].max()) <= _ZERO]
    if reached:
        page.say(
            f"Every student of size {', '.join(reached)} reaches zero, where the paper's stall: these are L-BFGS "
            "quenches of small networks on small images."
        )
    page.settings += [
        f"teacher {teacher} hidden tanh units, {n} images each half, seed 0",
        f"{starts} quenches for each size, L-BFGS, at most {evaluations} evaluations, RMS gradient 1e-6",
    ]
    figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for size in sizes:
        ax.semilogy(range(1, starts + 1), losses[size].clamp(min=1e-14), "o-", label=f"size {size:g}")
    ax.axhline(_PUBLISHED, color="0.5", ls=":", label="published plateau (other loss)")
    ax.set_xlabel("training, by loss")
    ax.set_ylabel("loss where it ends")
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    page.picture(figure, "losses", "Where trainings of the student end; zero exists.")


def _verdict(stalled: float, losses: torch.Tensor) -> Verdict:
    """Some trainings stall; none does, as all reach zero; or they were cut off on their way."""
    if stalled > 0:
        return Verdict.KIND
    return Verdict.DIFFERENT if float(losses.max()) <= _ZERO else Verdict.SHORT


EXPERIMENT = Experiment(
    "students", "Students that could copy their teacher", "P, section VII.B, Fig. 16", _carry_out
)
