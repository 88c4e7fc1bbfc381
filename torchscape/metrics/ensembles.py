"""Ensembles side by side on held-out data, with the errors that a finite test set leaves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch

from torchscape import random
from torchscape.brief import brief
from torchscape.errors import TorchscapeError, UnknownName
from torchscape.memory import ONE_LARGE, in_chunks
from torchscape.metrics.predictions import true_probability
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT_OR_ZERO, SEED

__all__ = ["EnsembleComparison", "compare_ensembles"]


@brief
@dataclasses.dataclass(frozen=True)
class EnsembleComparison:
    """M predictors on the same held-out items. Every error is a standard error over resampled items.

    Attributes:
        names: of the predictors.
        loss: mean of -ln p(true class) [M].
        loss_error: its standard error [M].
        accuracy, accuracy_error: the same of the fraction of items that are right [M].
        loss_gain: loss of the baseline minus that of each predictor: positive is better [M].
        loss_gain_error: standard error of that difference, on the same items [M].
        accuracy_gain, accuracy_gain_error: accuracy of each predictor minus that of the baseline [M].
        spread: standard deviation of the loss over the realisations of a predictor; NaN for a single one [M].
        baseline: name of the predictor that the others are compared with.
        n_items: number of items.
    """

    names: tuple[str, ...]
    loss: Float[Tensor, "M"]
    loss_error: Float[Tensor, "M"]
    accuracy: Float[Tensor, "M"]
    accuracy_error: Float[Tensor, "M"]
    loss_gain: Float[Tensor, "M"]
    loss_gain_error: Float[Tensor, "M"]
    accuracy_gain: Float[Tensor, "M"]
    accuracy_gain_error: Float[Tensor, "M"]
    spread: Float[Tensor, "M"]
    baseline: str
    n_items: int

    def table(self) -> str:
        """The numbers for people, one line per predictor."""
        width = max(len(name) for name in (*self.names, "predictor"))
        head = f"{'predictor':{width}}  {'loss':>15}  {'gain':>16}  {'accuracy (%)':>13}  {'gain':>12}"
        lines = [head, "-" * len(head)]
        for k, name in enumerate(self.names):
            loss, accuracy = (
                _with_error(self.loss[k], self.loss_error[k], 4),
                _percent(self.accuracy[k], self.accuracy_error[k]),
            )
            gain = _with_error(self.loss_gain[k], self.loss_gain_error[k], 4, "+")
            more = _percent(self.accuracy_gain[k], self.accuracy_gain_error[k], "+")
            if name == self.baseline:
                gain = more = "baseline"
            lines.append(f"{name:{width}}  {loss:>15}  {gain:>16}  {accuracy:>13}  {more:>12}")
        lines.append(f"{self.n_items} items; errors are standard errors over resampled items")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()


def compare_ensembles(
    predictions: Mapping[str, Float[Tensor, "..."]],
    labels: Int[Tensor, "n"],
    *,
    baseline: str | None = None,
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> EnsembleComparison:
    """Loss and accuracy of predictors on the same items, and how far the choice of items explains a difference.

    The items are resampled with replacement, the same samples for all predictors: the error of a difference is
    that of paired items, much smaller than the errors of the two numbers suggest.

    Args:
        predictions: probabilities of the classes by name: [n C], or [S n C] for S realisations of one recipe (a
            selection at random, retrained models), whose loss and accuracy are averaged.
        labels: the true classes.
        baseline: what to compare with; the first by default.
        n_bootstrap: samples of items.
        seed: of these.

    Raises:
        TorchscapeError: without predictors or items, or if shapes do not fit.
        UnknownName: for a baseline that is none of the predictors.

    Reference: Efron & Tibshirani, An Introduction to the Bootstrap (1993), doi 10.1007/978-1-4899-4541-9.

    Example:
        >>> sure, unsure = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([[0.6, 0.4], [0.4, 0.6]])
        >>> found = compare_ensembles({"unsure": unsure, "sure": sure}, torch.tensor([0, 1]))
        >>> [round(gain, 4) for gain in found.loss_gain.tolist()]
        [0.0, 0.3466]
    """
    COUNT_OR_ZERO.check("compare_ensembles", n_bootstrap=n_bootstrap)
    SEED.check("compare_ensembles", seed=seed)
    if not predictions or len(labels) == 0:
        raise TorchscapeError("give at least one predictor and one item")
    names = tuple(predictions)
    baseline = names[0] if baseline is None else baseline
    if baseline not in predictions:
        raise UnknownName.of("predictor", baseline, list(names))
    losses, rights, spreads = zip(*(_per_item(p, labels, name) for name, p in predictions.items()), strict=True)
    items = torch.stack([*losses, *rights])  # [2 M, n]
    means, errors, gain, gain_errors = _resampled(items, names.index(baseline), n_bootstrap, seed)
    m = len(names)
    return EnsembleComparison(
        names=names,
        loss=means[:m],
        loss_error=errors[:m],
        accuracy=means[m:],
        accuracy_error=errors[m:],
        loss_gain=0.0 - gain[:m],
        loss_gain_error=gain_errors[:m],
        accuracy_gain=gain[m:],
        accuracy_gain_error=gain_errors[m:],
        spread=torch.stack(spreads),
        baseline=baseline,
        n_items=len(labels),
    )


def _per_item(
    probability: Tensor, labels: Int[Tensor, "n"], name: str
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"], Float[Tensor, ""]]:
    """Loss and correctness of every item, averaged over realisations, and how the mean loss spreads over these."""
    p = probability[None] if probability.ndim == 2 else probability
    if p.ndim != 3 or p.shape[1] != len(labels):
        raise TorchscapeError(
            f"{name!r} has shape {list(probability.shape)}: give probabilities [{len(labels)}, classes], or "
            f"[realisations, {len(labels)}, classes]"
        )
    loss = -true_probability(p, labels).double().log()
    right = (p.argmax(2) == labels).double()
    spread = loss.mean(1).std() if len(p) > 1 else loss.new_tensor(torch.nan)
    return loss.mean(0), right.mean(0), spread


def _resampled(items: Float[Tensor, "R n"], baseline: int, n_bootstrap: int, seed: int) -> tuple[Tensor, ...]:
    """Means, their bootstrap errors, differences from the baseline (of either half), and the errors of these."""
    n = items.shape[1]
    keys = random.fold(seed, torch.arange(n_bootstrap, device=items.device))
    draws = []
    for key in in_chunks(keys, n, on_host=ONE_LARGE):
        picked = (random.uniform(key, n) * n).long()
        counts = items.new_zeros(len(key), n).scatter_add_(1, picked, items.new_ones(picked.shape))
        draws.append(counts @ items.T / n)
    drawn, means = torch.cat(draws), items.mean(1)
    half = len(items) // 2
    reference = torch.tensor([baseline, half + baseline], device=items.device).repeat_interleave(half)
    differences = drawn - drawn[:, reference]
    return means, drawn.std(0), means - means[reference], differences.std(0)


def _with_error(value: Tensor, error: Tensor, digits: int, sign: str = "") -> str:
    return f"{float(value):{sign}.{digits}f} ± {float(error):.{digits}f}"


def _percent(value: Tensor, error: Tensor, sign: str = "") -> str:
    return _with_error(100 * value, 100 * error, 1, sign)
