"""Batches of linear assignment problems, solved exactly."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from torchscape.devices import is_host
from torchscape.memory import rows_that_fit
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["assign"]

_ENUMERATED = 5  # up to 5! = 120 permutations are scored in one matrix product
_CHUNK = 1 << 24  # scores held at once while enumerating


def assign(gain: Float[Tensor, "B n n"]) -> Int[Tensor, "B n"]:
    """The permutations p that maximise sum_i gain[i, p_i], one for each row of the batch.

    Exact whichever way is taken: rows whose best partners are all different are done at once; small problems are
    enumerated in one matrix product; larger ones go to SciPy's shortest augmenting paths (Crouse 2016,
    doi 10.1109/TAES.2016.140952) on the CPU, and to the same algorithm vectorised over the batch on a GPU.

    Example:
        >>> assign(torch.tensor([[[1.0, 5.0], [0.0, 3.0]], [[4.0, 0.0], [0.0, 4.0]]])).tolist()
        [[1, 0], [0, 1]]
    """
    n = gain.shape[1]
    gain = gain.detach().nan_to_num(nan=0.0)  # a row that is not finite must not stop the rest
    best = gain.argmax(2)
    if n < 2 or len(gain) == 0:
        return best
    hard = torch.nonzero((best.sort(1).values.diff(dim=1) == 0).any(1))[:, 0]
    if len(hard) == 0:
        return best
    solve = _enumerate if n <= _ENUMERATED else _each if is_host(gain.device) else _augmenting_paths
    best[hard] = solve(gain[hard])
    return best


def _enumerate(gain: Float[Tensor, "B n n"]) -> Int[Tensor, "B n"]:
    n = gain.shape[1]
    table = torch.tensor(list(itertools.permutations(range(n))), device=gain.device)
    chosen = torch.nn.functional.one_hot(table, n).to(gain.dtype).reshape(len(table), n * n)
    rows = rows_that_fit(len(table), gain.device, on_host=_CHUNK)
    return torch.cat([table[(part.flatten(1) @ chosen.T).argmax(1)] for part in gain.split(rows)])


def _each(gain: Float[Tensor, "B n n"]) -> Int[Tensor, "B n"]:
    from scipy.optimize import linear_sum_assignment

    problems = gain.double().numpy()
    out = np.empty(problems.shape[:2], dtype=np.int64)
    for row, problem in zip(out, problems, strict=True):
        row[:] = linear_sum_assignment(problem, maximize=True)[1]
    return torch.from_numpy(out)


def _augmenting_paths(gain: Float[Tensor, "B n n"]) -> Int[Tensor, "B n"]:
    """One augmenting path per unit, found for every row of the batch at once.

    Column 0 is a dummy that stands for "unmatched": ``owner[b, j]`` is the unit matched to column j, -1 if none.
    """
    b, n, _ = gain.shape
    cost = torch.cat([gain.new_zeros(b, n, 1), -gain], 2)
    u, v = gain.new_zeros(b, n + 1), gain.new_zeros(b, n + 1)  # the last of u belongs to no unit
    owner = torch.full((b, n + 1), -1, device=gain.device)
    for unit in range(n):
        owner[:, 0] = unit
        end, came_from = _shortest_path(cost, u, v, owner)
        _augment(owner, end, came_from)
    return owner[:, 1:].argsort(1)


def _shortest_path(
    cost: Float[Tensor, "B n m"], u: Float[Tensor, "B m"], v: Float[Tensor, "B m"], owner: Int[Tensor, "B m"]
) -> tuple[Int[Tensor, "B"], Int[Tensor, "B m"]]:
    """Dijkstra on reduced costs from the unit in column 0 to a free column; updates the potentials in place."""
    b, _, m = cost.shape
    rows = torch.arange(b, device=cost.device)
    here = torch.zeros(b, dtype=torch.int64, device=cost.device)
    seen: Bool[Tensor, "B m"] = torch.zeros(b, m, dtype=torch.bool, device=cost.device)
    reach = torch.full((b, m), torch.inf, dtype=cost.dtype, device=cost.device)
    came_from = torch.zeros(b, m, dtype=torch.int64, device=cost.device)
    while bool((active := owner[rows, here] >= 0).any()):
        seen[rows, here] |= active
        unit = owner[rows, here]
        reduced = cost[rows, unit] - u[rows, unit][:, None] - v
        closer = (reduced < reach) & ~seen & active[:, None]
        reach = torch.where(closer, reduced, reach)
        came_from = torch.where(closer, here[:, None], came_from)
        delta, nearest = reach.masked_fill(seen, torch.inf).min(1)
        delta = torch.where(active, delta, 0.0)[:, None]
        u.scatter_add_(1, torch.where(seen, owner, m - 1), torch.where(seen, delta, 0.0))
        v -= torch.where(seen, delta, 0.0)
        reach -= torch.where(seen, 0.0, delta)
        here = torch.where(active, nearest, here)
    return here, came_from


def _augment(owner: Int[Tensor, "B m"], end: Int[Tensor, "B"], came_from: Int[Tensor, "B m"]) -> None:
    """Hand every column on the path to the unit of the column before it."""
    rows = torch.arange(len(owner), device=owner.device)
    here = end
    while bool((here > 0).any()):
        before = came_from[rows, here]
        handed = torch.where(here > 0, owner[rows, before], owner[rows, here])
        owner[rows, here] = handed
        here = torch.where(here > 0, before, here)
