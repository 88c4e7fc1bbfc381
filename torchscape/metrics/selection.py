"""Which minima to put into an ensemble, by what they predict, by groups or by distances."""

from __future__ import annotations

import numpy as np
import torch

from torchscape import random
from torchscape.metrics.predictions import true_probability
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT, SEED

__all__ = [
    "select_at_random",
    "select_by_group",
    "select_diverse",
    "select_greedily",
]


def select_at_random(n: int, k: int, *, n_draws: int = 1, seed: int = 0) -> Int[Tensor, "S K"]:
    """Sets of k of n minima, each without repetition, every set equally likely.

    Example:
        >>> select_at_random(5, 5, n_draws=2).sort(1).values.tolist()
        [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]
    """
    COUNT.check("select_at_random", n=n, k=k, n_draws=n_draws)
    SEED.check("select_at_random", seed=seed)
    return random.permutation(random.fold(seed, torch.arange(n_draws)), n)[:, : min(k, n)]


def select_by_group(energy: Float[Tensor, "N"], label: Int[Tensor, "N"], k: int) -> Int[Tensor, "K"]:
    """The lowest minimum of each group, by ascending energy, then the second lowest of each, and so on.

    Args:
        energy: of the minima.
        label: community (``communities(network).label``), funnel (``funnels(network).label``) or any group of
            each minimum; negative for none.
        k: number of minima; fewer come back if the groups hold fewer.

    Example:
        >>> select_by_group(torch.tensor([0.0, 0.1, 0.2, 0.3]), torch.tensor([0, 0, 1, 1]), 3).tolist()
        [0, 2, 1]
    """
    COUNT.check("select_by_group", k=k)
    e, group = energy.detach().cpu().numpy(), label.cpu().numpy()
    within = np.lexsort((e, group))
    first = np.searchsorted(group[within], group[within], side="left")
    rank = np.empty(len(e), dtype=np.int64)
    rank[within] = np.arange(len(e)) - first
    order = np.lexsort((e, rank))
    order = order[group[order] >= 0]
    return torch.as_tensor(order, device=energy.device)[: min(k, len(order))]


def select_greedily(
    probability: Float[Tensor, "N n C"], labels: Int[Tensor, "n"], k: int, *, repeat: bool = False
) -> Int[Tensor, "K"]:
    """One minimum after the other, each the one that lowers the loss of the mean probability most.

    The loss is -ln of the mean probability of the true class, on validation data; the first minimum is the best
    by itself. The selection may end with minima that make it worse again: see its loss at each size.

    Args:
        probability: of the classes at every minimum, on validation data, not on the test data.
        labels: the true classes there.
        k: number of minima.
        repeat: let a minimum be chosen again, which gives it more weight.

    O(k N n).

    Reference: Caruana et al., ICML (2004), doi 10.1145/1015330.1015432.

    Example:
        >>> p = torch.tensor([[[0.9, 0.1], [0.6, 0.4]], [[0.8, 0.2], [0.6, 0.4]], [[0.45, 0.55], [0.1, 0.9]]])
        >>> select_greedily(p, torch.tensor([0, 1]), 2).tolist()
        [2, 0]
    """
    COUNT.check("select_greedily", k=k)
    n_minima = len(probability)
    of_truth = true_probability(probability, labels)
    free = torch.ones(n_minima, dtype=torch.bool, device=probability.device)
    total, chosen = of_truth.new_zeros(of_truth.shape[1]), []
    for size in range(1, (k if repeat else min(k, n_minima)) + 1):
        loss = -((total + of_truth) / size).log().mean(1)
        best = torch.where(free, loss.nan_to_num(nan=torch.inf), torch.inf).argmin()
        chosen.append(best)
        total = total + of_truth[best]
        free[best] = repeat
    return torch.stack(chosen)


def select_diverse(
    distances: Float[Tensor, "N N"], k: int, *, first: int, among: Bool[Tensor, "N"] | None = None
) -> Int[Tensor, "K"]:
    """Farthest-first: each minimum the one whose nearest among those chosen is farthest away.

    At most half as diverse (in the smallest distance between two members) as the best set there is: Gonzalez,
    Theor. Comput. Sci. 38, 293 (1985), doi 10.1016/0304-3975(85)90224-5.

    Args:
        distances: between minima, for example misclassification distances on validation data.
        k: number of minima.
        first: the minimum to begin with, for example the best one on validation data.
        among: which minima may be chosen; without it, diversity is bought with bad minima.

    Example:
        >>> points = torch.tensor([[0.0], [1.0], [9.0], [5.0]])
        >>> select_diverse(torch.cdist(points, points), 3, first=0).tolist()
        [0, 2, 3]
    """
    COUNT.check("select_diverse", k=k)
    allowed = (
        torch.ones(len(distances), dtype=torch.bool, device=distances.device) if among is None else among.clone()
    )
    allowed[first] = True
    chosen = [torch.as_tensor(first, device=distances.device)]
    nearest = distances[first].clone()
    for _ in range(min(k, int(allowed.sum())) - 1):
        allowed[chosen[-1]] = False
        chosen.append(torch.where(allowed, nearest, -torch.inf).argmax())
        nearest = torch.minimum(nearest, distances[chosen[-1]])
    return torch.stack(chosen)
