"""The database of trimers: random starts, the isomer that each relaxes to, and the way there."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import torch

from torchscape import random
from torchscape.errors import TorchscapeError
from torchscape.optimise import LBFGS
from torchscape.points import Status
from torchscape.potentials.clusters import Trimer
from torchscape.problems.cache import cached
from torchscape.progress import progress_bar
from torchscape.saddles import Descent, descend
from torchscape.types import Float, Int, Tensor

__all__ = ["MOST_STEPS", "isomer", "trimer_data", "trimer_database"]

MOST_STEPS = 80  # of every descent, the last ones are kept
_BLOCK = 500  # starts that are quenched together and kept in one file
_VERSION = 1  # of the procedure: part of the names of files


def trimer_data(
    n: int, seed: int = 0, steps: int | None = None, *, progress: bool = False
) -> tuple[Float[Tensor, "n 3"], Int[Tensor, "n"]]:
    """Random trimers (r_12, r_13, r_23) and what each relaxes to: 0 triangle, k chain about atom k.

    Args:
        n: how many.
        seed: of the starts.
        steps: None for the distances at the start; otherwise those so many steps before the end of the descent
            (0 to 80), or at the start where the descent is shorter.
        progress: show a progress bar while trimers are computed.

    Raises:
        TorchscapeError: for other steps.

    Example:
        >>> inputs, labels = trimer_data(20)
        >>> inputs.shape, sorted(set(labels.tolist()) | {0, 1, 2, 3})
        (torch.Size([20, 3]), [0, 1, 2, 3])
    """
    if steps is not None and not 0 <= steps <= MOST_STEPS:
        raise TorchscapeError(
            f"steps={steps}: the last {MOST_STEPS} steps of a descent are kept; ask for 0 to them"
        )
    found = trimer_database(n, seed, progress=progress)
    inputs = found["distances"] if steps is None else found["trajectory"][:, steps]
    return torch.as_tensor(inputs), torch.as_tensor(found["label"])


def trimer_database(n: int = 10_000, seed: int = 0, *, progress: bool = False) -> Mapping[str, np.ndarray]:
    """``n`` quenches of random trimers, computed once and kept in the cache (:func:`cache_folder`).

    Atoms are drawn from a cube of side 2 sqrt(3), as published, and quenched by L-BFGS with short steps to an RMS
    force of 1e-6; the few that reach neither isomer are left out. The first rows do not depend on how many are
    asked for. A label is what this minimiser ends in, as in the published data; it is not the end of gradient flow
    (:func:`flow_labels`), with which it agrees for 89 of 100 trimers: 20 % end in the triangle, of flow 9 %.

    Returns:
        ``distances`` [n 3] at the start; ``label`` [n], the isomer; ``n_steps`` [n], accepted steps of the
        descent; ``trajectory`` [n 81 3], the distances 0, 1, ..., 80 steps before its end, and those of the start
        for all places beyond.

    Example:
        >>> trimer_database(3)["trajectory"].shape
        (3, 81, 3)
    """
    blocks: list[Mapping[str, np.ndarray]] = []
    total = 0
    with progress_bar(show=progress, total=n, desc="trimers", unit=" quenches") as bar:
        for number in itertools.count():
            if total >= n and blocks:
                break
            name = f"trimers-v{_VERSION}-seed{seed}-block{number}"
            blocks.append(cached(name, lambda number=number: _quenched(seed, number)))  # type: ignore[misc]
            total += len(blocks[-1]["label"])
            bar.update(min(n, total) - bar.n)
    return {key: np.concatenate([block[key] for block in blocks])[:n] for key in blocks[0]}


def _quenched(seed: int, number: int) -> Mapping[str, np.ndarray]:
    """One block of the database."""
    potential = Trimer()
    x = potential.sample(_BLOCK, seed=int(random.fold(seed, number)))
    optimiser = LBFGS(memory=4, rescale=None, max_step=0.1, tol=1e-6, max_evaluations=2000)
    state = optimiser.init(potential, x)
    start = Trimer.distances(x)
    recent = start[:, None].repeat(1, MOST_STEPS + 1, 1)
    n_steps = torch.zeros(len(x), dtype=torch.int64)
    while bool((state.status == Status.RUNNING).any()):
        before = state.x.clone()
        state = optimiser.step(potential, state)
        moved = (state.x != before).any(1)
        longer = torch.cat([Trimer.distances(state.x)[:, None], recent[:, :-1]], 1)
        recent = torch.where(moved[:, None, None], longer, recent)
        n_steps += moved
    label = isomer(state.x)
    keep = (state.status == Status.CONVERGED) & (label >= 0)
    columns = {"distances": start, "label": label, "n_steps": n_steps, "trajectory": recent}
    return {key: column[keep].numpy() for key, column in columns.items()}


def flow_labels(distances: Float[Tensor, "n 3"]) -> Int[Tensor, "n"]:
    """The isomer that gradient flow dx/dt = -grad U leads to from trimers (r_12, r_13, r_23); -1 for neither.

    Labels of their own: those of :func:`trimer_data` are of a quasi-Newton quench, which leaves the slope.

    Raises:
        TorchscapeError: if three distances are no triangle.

    Example:
        >>> flow_labels(torch.tensor([[1.2, 1.1, 1.3], [1.0, 1.0, 1.99]])).tolist()
        [0, 1]
    """
    r12, r13, r23 = distances.double().unbind(1)
    along = (r12**2 + r13**2 - r23**2) / (2 * r12)
    height = r13**2 - along**2
    if not bool((height > -1e-6 * r13**2).all()):
        raise TorchscapeError("three distances must fit together: none may exceed the sum of the other two")
    x = distances.new_zeros(len(distances), 9, dtype=torch.float64)
    x[:, 3], x[:, 6], x[:, 7] = r12, along, height.clamp(min=0).sqrt()
    potential = Trimer()
    return isomer(descend(potential, x, options=Descent()).x)


def isomer(x: Float[Tensor, "B 9"]) -> Int[Tensor, "B"]:
    """0 for the equilateral triangle, k for the chain with atom k (1, 2, 3) in the middle, -1 for neither."""
    r = Trimer.distances(x)
    lengths, order = r.sort(1)
    triangle = lengths[:, 2] - lengths[:, 0] < 1e-2
    chain = (lengths[:, 2] - lengths[:, 0] - lengths[:, 1]).abs() < 1e-2
    bound = lengths[:, 2] < 3
    middle = torch.tensor([3, 2, 1], device=x.device)[order[:, 2]]  # the atom that the longest side does not touch
    label = torch.where(triangle, 0, torch.where(chain, middle, -1))
    return torch.where(bound, label, -1)
