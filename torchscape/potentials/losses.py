"""Losses beside those of torch: a differentiable stand-in for one minus the area under the ROC curve."""

from __future__ import annotations

import math

import torch
from torch import nn

from torchscape.errors import PotentialError
from torchscape.types import Float, Tensor

__all__ = ["AUCLoss"]

_SURROGATES = ("logistic", "squared-hinge")


class AUCLoss(nn.Module):
    r"""A smooth upper bound of 1 - AUC, as a criterion on (outputs, class indices).

    For one class against the rest, with scores s, 1 - AUC is the share of pairs of a positive i and a negative j
    that are in the wrong order, s_i < s_j. The step function of s_i - s_j is replaced by

        logistic:       ln(1 + exp(-t)) / ln 2
        squared hinge:  max(0, 1 - t)^2,           t = (s_i - s_j) / scale,

    both convex, at least the step everywhere, and consistent with AUC (so that minimising them over all functions
    minimises 1 - AUC). The mean over pairs is averaged over the classes that have positives and negatives.
    The score of a class is its log odds, z_c - ln sum_{k != c} exp z_k, which orders items as its probability
    does; a single output is the score of class 1 against class 0. As t grows without end on separable data, use
    the logistic form with regularisation.

    Every pair of samples interacts, so a :class:`ModulePotential` takes the data as a whole, which the attribute
    ``reduction`` tells it.

    Args:
        surrogate: "logistic" or "squared-hinge".
        scale: the difference of scores that counts as clear.

    Raises:
        PotentialError: for another surrogate, or outputs and targets that do not fit.

    References: W. Gao and Z.-H. Zhou (consistency), Proc. IJCAI 2015, 939, doi 10.48550/arXiv.1208.0645;
    C. Burges et al. (logistic), Proc. ICML 2005, 89, doi 10.1145/1102351.1102363; landscapes of such losses:
    M. P. Niroomand et al., Mach. Learn.: Sci. Technol. 3, 015019 (2022), doi 10.1088/2632-2153/ac49a9.

    Example:
        >>> ordered = torch.tensor([[-9.0], [-8.0], [9.0]])  # the one item of class 1 has the highest score
        >>> round(AUCLoss()(ordered, torch.tensor([0, 0, 1])).item(), 6)
        0.0
        >>> AUCLoss("squared-hinge")(torch.zeros(3, 2), torch.tensor([0, 1, 1])).item()  # no order at all
        1.0
    """

    def __init__(self, surrogate: str = "logistic", scale: float | int = 1.0) -> None:
        super().__init__()
        if surrogate not in _SURROGATES or not scale > 0:
            choices = " or ".join(_SURROGATES)
            raise PotentialError(f"surrogate={surrogate!r}, scale={scale}: choose {choices}, and a positive scale")
        self.surrogate, self.scale = surrogate, float(scale)
        self.reduction = "whole"

    def forward(self, outputs: Float[Tensor, "n *C"], targets: Tensor) -> Float[Tensor, ""]:
        if targets.is_floating_point() or targets.ndim != 1 or outputs.ndim > 2:
            raise PotentialError(
                f"AUC needs outputs [n C] or [n] and class indices [n], not {list(outputs.shape)} and "
                f"{targets.dtype} {list(targets.shape)}"
            )
        outputs = outputs[:, None] if outputs.ndim == 1 else outputs
        scores = outputs if outputs.shape[1] == 1 else _log_odds(outputs)
        first = 1 if outputs.shape[1] == 1 else 0
        terms = []
        for column, s in enumerate(scores.unbind(1)):
            member = targets == column + first
            positive, negative = member.nonzero()[:, 0], (~member).nonzero()[:, 0]
            if len(positive) and len(negative):
                gaps = (s[positive, None] - s[negative]) / self.scale
                terms.append(self._surrogate(gaps).mean())
        return torch.stack(terms).mean() if terms else 0.0 * outputs.sum()

    def _surrogate(self, gaps: Float[Tensor, "p q"]) -> Float[Tensor, "p q"]:
        if self.surrogate == "logistic":
            return nn.functional.softplus(-gaps, threshold=1e9) / math.log(2)
        return (1 - gaps).clamp_min(0.0).square()


def _log_odds(outputs: Float[Tensor, "n C"]) -> Float[Tensor, "n C"]:
    """ln p_c / (1 - p_c) of softmax probabilities."""
    own = torch.eye(outputs.shape[1], dtype=torch.bool, device=outputs.device)
    others = outputs[:, None].masked_fill(own, -torch.inf)  # [n C C]
    return outputs - torch.logsumexp(others, 2)
