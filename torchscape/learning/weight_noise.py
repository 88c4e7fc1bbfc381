"""How well predictions bear random changes of the weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from torchscape import random
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.learning.worst_cases import Norm, unit_lengths
from torchscape.memory import SOME_LARGE, rows_that_fit
from torchscape.metrics.predictions import misclassified, predicted_classes
from torchscape.potentials.module.potential import ModulePotential
from torchscape.progress import progress_bar
from torchscape.types import Float, Int, Tensor
from torchscape.validation import SEED, Range

__all__ = ["Robustness", "robustness"]


@brief
@dataclasses.dataclass(frozen=True)
class Robustness:
    """What N minima predict when their weights are perturbed by S sizes of noise.

    Attributes:
        sizes: standard deviations of the noise [S].
        accuracy: mean over the draws [N S]; NaN without labels.
        accuracy_error: standard error of that mean [N S].
        agreement: fraction of items whose class is that of the unperturbed network, mean over the draws [N S].
        agreement_error: standard error of that mean [N S].
    """

    sizes: Float[Tensor, "S"]
    accuracy: Float[Tensor, "N S"]
    accuracy_error: Float[Tensor, "N S"]
    agreement: Float[Tensor, "N S"]
    agreement_error: Float[Tensor, "N S"]


def robustness(
    potential: ModulePotential,
    x: Float[Tensor, "N D"],
    inputs: Tensor | tuple[Tensor, ...],
    labels: Int[Tensor, "n"] | None = None,
    *,
    sizes: Sequence[float] = (0.01, 0.03, 0.1, 0.3, 1.0),
    norm: Norm = "l2",
    n_draws: int = 32,
    seed: int = 0,
    progress: bool = False,
) -> Robustness:
    """Accuracy, and agreement with the unperturbed predictions, under Gaussian noise on all coordinates.

    x'_i = x_i + size s_i z_i with z normal, and s_i = 1 ("l2") or |x_i| + 0.01 ("adaptive"). Every minimum and
    size sees the same draws of z, so that their differences are not those of the draws.

    Args:
        potential: whose module predicts.
        x: minima.
        inputs: one tensor of n items, or as many as the module takes.
        labels: the true classes of the items.
        sizes: of the noise.
        norm: of its components, as in :func:`torchscape.learning.worst_case_loss`.
        n_draws: random changes per minimum and size.
        seed: of the draws.
        progress: show a progress bar.

    Example:
        >>> net = torch.nn.Linear(1, 2)
        >>> data = torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1])
        >>> u = ModulePotential(net, data, torch.nn.functional.cross_entropy)
        >>> x = torch.tensor([[-1.0, 1.0, 0.0, 0.0], [-0.01, 0.01, 0.0, 0.0]], dtype=torch.float64)
        >>> found = robustness(u, x, *data, sizes=[0.1], n_draws=100)
        >>> found.agreement[0].item(), found.agreement[1].item() < 0.7
        (1.0, True)
    """
    Range(low=2, whole=True).check("robustness", n_draws=n_draws)
    SEED.check("robustness", seed=seed)
    if n_draws < 2:
        raise TorchscapeError("an error bar needs two draws or more")
    calm = potential.predict(x, inputs)
    classes = predicted_classes(calm)
    lengths = unit_lengths(x, norm)
    z = random.normal(random.fold(seed, torch.arange(n_draws, device=x.device)), x.shape[1], x.dtype)
    rows = rows_that_fit(n_draws * (x.shape[1] + calm[:1].numel()), x.device, on_host=SOME_LARGE)
    scores = calm.new_full((2, len(sizes), len(x), n_draws), torch.nan)  # accuracy, agreement
    with progress_bar(show=progress, total=len(sizes) * len(x), unit=" minima") as bar:
        for s, size in enumerate(sizes):
            for part in torch.arange(len(x), device=x.device).split(rows):
                moved = x[part, None] + size * lengths[part, None] * z
                outputs = potential.predict(moved.flatten(0, 1), inputs)
                same = predicted_classes(outputs).reshape(len(part), n_draws, -1) == classes[part, None]
                scores[1, s, part] = same.to(calm).mean(2)
                if labels is not None:
                    right = ~misclassified(outputs, labels.to(outputs.device))
                    scores[0, s, part] = right.to(calm).mean(1).reshape(len(part), n_draws)
                bar.update(len(part))
    mean, error = scores.mean(3).mT, scores.std(3).mT / n_draws**0.5
    return Robustness(torch.as_tensor(sizes).to(calm), mean[0], error[0], mean[1], error[1])
