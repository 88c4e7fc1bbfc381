"""Calibration: whether events that are given the probability p happen in the fraction p of cases."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch

from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.metrics.predictions import true_probability
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT

__all__ = ["Calibration", "CalibrationComparison", "calibration", "compare_calibration"]


@brief
@dataclasses.dataclass(frozen=True)
class Calibration:
    """Probabilities of n items against what happened, in K bins of confidence.

    Attributes:
        edges: of the bins [K + 1]; a bin includes its upper edge.
        confidence, frequency: mean probability and fraction of events in each bin; NaN where it is empty [K].
        count: items in each bin [K].
        ece: expected calibration error, sum_k n_k / n |frequency_k - confidence_k|.
        mce: the largest such difference.
        nll, nll_error: mean of -ln p(true class), and its standard error.
        brier, brier_error: mean of sum_c (p_c - [c is true])^2, between 0 and 2, and its standard error.
        accuracy: fraction of items whose most probable class is the true one.
    """

    edges: Float[Tensor, "K_1"]
    confidence: Float[Tensor, "K"]
    frequency: Float[Tensor, "K"]
    count: Int[Tensor, "K"]
    ece: float
    mce: float
    nll: float
    nll_error: float
    brier: float
    brier_error: float
    accuracy: float


def calibration(
    probability: Float[Tensor, "n C"],
    labels: Int[Tensor, "n"],
    *,
    bins: int = 15,
    equal_counts: bool = False,
    of_class: int | None = None,
) -> Calibration:
    """Scores and reliability of predicted probabilities.

    The event of an item is that its most probable class is the true one, with that class's probability; or, for
    ``of_class``, that this class is the true one. Negative log likelihood and Brier score are proper: only the
    true probabilities make them least. The calibration error is not, and depends on the bins.

    Args:
        probability: of the classes.
        labels: the true classes.
        bins: K.
        equal_counts: edges at quantiles of the confidence, instead of K equal intervals of [0, 1].
        of_class: reliability of this class's probability instead of the most probable one's.

    Raises:
        TorchscapeError: for shapes that do not fit, no items, or rows that are no probabilities.

    References: G. W. Brier, Mon. Weather Rev. 78, 1 (1950); A. H. Murphy and R. L. Winkler, Appl. Stat. 26, 41
    (1977), doi 10.2307/2346866, reliability diagrams; C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, *On
    calibration of modern neural networks*, ICML 34 (2017), doi 10.48550/arXiv.1706.04599, for the expected error.

    Example:
        >>> p = torch.tensor([[0.75, 0.25]] * 4)
        >>> found = calibration(p, torch.tensor([0, 0, 1, 1]))
        >>> found.ece, found.brier, found.accuracy
        (0.25, 0.625, 0.5)
    """
    COUNT.check("calibration", bins=bins)
    p = _checked(probability, labels)
    n, n_classes = p.shape
    guess = p.argmax(1)
    if of_class is None:
        confidence, event = p.gather(1, guess[:, None])[:, 0], guess == labels
    else:
        confidence, event = p[:, of_class], labels == of_class
    edges = torch.linspace(0, 1, bins + 1, dtype=p.dtype, device=p.device)
    edges = confidence.quantile(edges) if equal_counts else edges
    which = torch.searchsorted(edges[1:-1].contiguous(), confidence.contiguous())
    count = torch.bincount(which, minlength=bins)
    sums = torch.stack([confidence, event.to(p.dtype)]).new_zeros(2, bins)
    sums.index_add_(1, which, torch.stack([confidence, event.to(p.dtype)]))
    of_bins, frequency = sums / count  # 0 / 0 is NaN: an empty bin says nothing
    gap = (frequency - of_bins).abs().nan_to_num(nan=0.0)
    nll = -true_probability(p, labels).log()
    brier = (p - torch.nn.functional.one_hot(labels, n_classes)).square().sum(1)
    return Calibration(
        edges=edges,
        confidence=of_bins,
        frequency=frequency,
        count=count,
        ece=float((count.to(p.dtype) / n * gap).sum()),
        mce=float(gap.max()),
        nll=float(nll.mean()),
        nll_error=_standard_error(nll),
        brier=float(brier.mean()),
        brier_error=_standard_error(brier),
        accuracy=float((guess == labels).double().mean()),
    )


@brief
@dataclasses.dataclass(frozen=True)
class CalibrationComparison:
    """Calibration of several predictors on the same items; printed as a table.

    Attributes:
        calibration: by the predictor's name.
        n_items: number of items.
    """

    calibration: Mapping[str, Calibration]
    n_items: int

    def table(self) -> str:
        """One line per predictor: negative log likelihood, Brier score, calibration error, accuracy."""
        width = max(len(name) for name in (*self.calibration, "predictor"))
        head = f"{'predictor':{width}}  {'NLL':>15}  {'Brier':>15}  {'ECE':>6}  {'accuracy':>8}"
        lines = [head, "-" * len(head)]
        for name, one in self.calibration.items():
            nll, brier = (
                f"{value:.4f} ± {error:.4f}"
                for value, error in ((one.nll, one.nll_error), (one.brier, one.brier_error))
            )
            lines.append(f"{name:{width}}  {nll:>15}  {brier:>15}  {one.ece:6.4f}  {one.accuracy:8.1%}")
        lines.append(f"{self.n_items} items; errors are standard errors")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()


def compare_calibration(
    predictions: Mapping[str, Float[Tensor, "n C"]],
    labels: Int[Tensor, "n"],
    *,
    bins: int = 15,
    equal_counts: bool = False,
    of_class: int | None = None,
) -> CalibrationComparison:
    """:func:`calibration` of several predictors on the same items.

    Args:
        predictions: probabilities of the classes, by name.
        labels, bins, equal_counts, of_class: of :func:`calibration`.

    Raises:
        TorchscapeError: without predictors, or for what :func:`calibration` refuses.

    Example:
        >>> p = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
        >>> both = {"sure": p, "unsure": (p + 0.5) / 2}
        >>> print(compare_calibration(both, torch.tensor([0, 1])))
        predictor              NLL            Brier     ECE  accuracy
        -------------------------------------------------------------
        sure       0.1643 ± 0.0589  0.0500 ± 0.0300  0.1500    100.0%
        unsure     0.3937 ± 0.0371  0.2125 ± 0.0325  0.3250    100.0%
        2 items; errors are standard errors
    """
    COUNT.check("compare_calibration", bins=bins)
    if not predictions:
        raise TorchscapeError("give at least one predictor: {'name': probabilities}")
    settings = {"bins": bins, "equal_counts": equal_counts, "of_class": of_class}
    found = {name: calibration(p, labels, **settings) for name, p in predictions.items()}  # type: ignore[arg-type]
    return CalibrationComparison(found, len(labels))


def _checked(probability: Float[Tensor, "n C"], labels: Int[Tensor, "n"]) -> Float[Tensor, "n C"]:
    p = probability.detach().double()
    if len(p) != len(labels) or not len(p):
        raise TorchscapeError(f"{len(p)} rows of probabilities for {len(labels)} items: give one row for each")
    if not bool(((p >= 0).all(1) & ((p.sum(1) - 1).abs() < 1e-3)).all()):
        raise TorchscapeError("rows must be probabilities that add up to one: take outputs.softmax(-1) of logits")
    return p


def _standard_error(values: Float[Tensor, "n"]) -> float:
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else float("nan")
