"""How to combine the predictions of several minima into one."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.metrics.predictions import true_probability
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, NOT_NEGATIVE

__all__ = ["Stacking", "mean_probability", "stacking_weights", "vote"]


def mean_probability(
    probability: Float[Tensor, "*S K n C"], weights: Float[Tensor, "*#S K"] | None = None
) -> Float[Tensor, "*S n C"]:
    """The mean of the members' probabilities, with equal or given weights (made to add up to one).

    Its log loss is never above the mean log loss of its members, by Jensen's inequality.

    Example:
        >>> mean_probability(torch.tensor([[[1.0, 0.0]], [[0.5, 0.5]]])).tolist()
        [[0.75, 0.25]]
    """
    if weights is None:
        return probability.mean(-3)
    share = weights / weights.sum(-1, keepdim=True)
    return (share[..., None, None] * probability).sum(-3)


def vote(probability: Float[Tensor, "*S K n C"]) -> Float[Tensor, "*S n C"]:
    """The share of the votes for each class: one from each member, and one, split, from their mean probability.

    The split vote never overturns a majority: it decides ties, and leaves no class without a probability.

    Example:
        >>> p = torch.tensor([[[0.9, 0.1]], [[0.4, 0.6]], [[0.4, 0.6]]])
        >>> vote(p).argmax(-1).item(), mean_probability(p).argmax(-1).item()
        (1, 0)
    """
    ballots = torch.nn.functional.one_hot(probability.argmax(-1), probability.shape[-1]).to(probability)
    return (ballots.sum(-3) + probability.mean(-3)) / (probability.shape[-3] + 1)


@brief
@dataclasses.dataclass(frozen=True)
class Stacking:
    """Weights of the members of a mixture.

    Attributes:
        weights: not negative, adding up to one [K].
        gap: the loss on the data of the fit is at most this far above the least possible.
    """

    weights: Float[Tensor, "K"]
    gap: float


def stacking_weights(
    probability: Float[Tensor, "K n C"], labels: Int[Tensor, "n"], *, tol: float = 1e-6, max_steps: int = 20_000
) -> Stacking:
    """The weights with which the mean probability has the least log loss on validation data.

    max over the simplex of mean_i ln sum_k w_k p_ki, with p_ki what member k gives to the true class of item i: a
    concave problem, solved by w_k <- w_k g_k, g_k = mean_i p_ki / sum_l w_l p_li (the EM step; it never lowers
    the objective). The optimum is at most max_k g_k - 1 away, which is the gap.

    Args:
        probability: of the members on validation data. Fitted on the data that the members were trained on, the
            weights reward those that overfit.
        labels: the true classes there.
        tol: gap at which to stop.
        max_steps: to stop at in any case.

    Reference: Cover, IEEE Trans. Inf. Theory 30, 369 (1984), doi 10.1109/TIT.1984.1056869 (iteration and bound);
    Yao et al., Bayesian Anal. 13, 917 (2018), doi 10.1214/17-BA1091 (stacking of predictive distributions).

    Example:
        >>> p = torch.tensor([[[0.9, 0.1], [0.9, 0.1]], [[0.2, 0.8], [0.2, 0.8]]], dtype=torch.float64)
        >>> stacking_weights(p, torch.tensor([0, 0])).weights.round(decimals=3).tolist()
        [1.0, 0.0]
    """
    NOT_NEGATIVE.check("stacking_weights", tol=tol)
    COUNT.check("stacking_weights", max_steps=max_steps)
    if probability.shape[1] == 0:
        raise TorchscapeError("stacking is fitted on validation data: give at least one item")
    given = true_probability(probability, labels).double()
    given = given.clamp(min=torch.finfo(given.dtype).tiny)
    weights = given.new_full((len(given),), 1 / len(given))
    gap = torch.inf
    for step in range(max_steps):
        gain = (given / (weights @ given)).mean(1)
        if step % 20 == 0:  # the host is asked now and then
            gap = float(gain.max()) - 1
            if gap <= tol:
                break
        weights = weights * gain
        weights = weights / weights.sum()
    else:
        gap = float((given / (weights @ given)).mean(1).max()) - 1
    return Stacking(weights.to(probability), max(gap, 0.0))
