"""What the networks at many minima say of data that they were not trained on."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.metrics.predictions import accuracy, misclassified
from torchscape.potentials.module.potential import ModulePotential
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["HeldOut", "class_probability", "held_out"]


@brief
@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Predictions of N minima for n held-out items.

    Attributes:
        loss: the potential's own loss on these items, without regularisation [N].
        outputs: what the module gives [N n ...].
        labels: the classes of the items; None where the targets are no classes [n].
    """

    loss: Float[Tensor, "N"]
    outputs: Tensor
    labels: Int[Tensor, "n"] | None

    @property
    def wrong(self) -> Bool[Tensor, "N n"]:
        """Which minimum gets which item wrong."""
        return misclassified(self.outputs, self._classes())

    @property
    def accuracy(self) -> Float[Tensor, "N"]:
        """The fraction of items that each minimum gets right."""
        return accuracy(self.wrong)

    @property
    def probability(self) -> Float[Tensor, "N n C"]:
        """Probabilities of the classes: the softmax of C outputs, or the logistic function of one.

        The outputs are taken for logits or log-probabilities, as cross entropy takes them.
        """
        self._classes()
        return class_probability(self.outputs)

    def _classes(self) -> Int[Tensor, "n"]:
        if self.labels is None:
            raise TorchscapeError(
                "these targets are no class indices: accuracy and probabilities need classes; pass labels=..."
            )
        return self.labels


def class_probability(outputs: Tensor) -> Float[Tensor, "N n C"]:
    """The softmax of C outputs [N n C], or the logistic function of one [N n] or [N n 1]."""
    if outputs.ndim == 3 and outputs.shape[2] > 1:
        return outputs.softmax(2)
    logit = outputs.reshape(outputs.shape[:2])
    return torch.stack([(-logit).sigmoid(), logit.sigmoid()], 2)


def held_out(
    potential: ModulePotential,
    x: Float[Tensor, "N D"],
    inputs: Tensor | tuple[Tensor, ...],
    targets: Tensor,
    *,
    labels: Int[Tensor, "n"] | None = None,
) -> HeldOut:
    """Loss and predictions of every minimum on held-out data, in batches of minima and items.

    Args:
        potential: whose module and loss are evaluated.
        x: minima, or any points.
        inputs: one tensor, or as many as the module takes.
        targets: what the loss compares the outputs with.
        labels: the classes, where the targets are not class indices themselves (one-hot rows, say); whole-number
            or boolean targets are classes by default.

    Raises:
        PotentialError: if inputs and targets do not suit the module and loss.

    Example:
        >>> net = torch.nn.Linear(1, 2)
        >>> data = torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1])
        >>> u = ModulePotential(net, data, torch.nn.functional.cross_entropy)
        >>> x = torch.tensor([[-1.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
        >>> held_out(u, x, torch.tensor([[2.0], [-3.0]]), torch.tensor([1, 1])).accuracy.item()
        0.5
    """
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    unregularised = potential.with_(l2=0.0).with_data((*inputs, targets))
    with torch.no_grad():
        loss = unregularised.energy(x)
    if labels is None and not targets.is_floating_point() and targets.ndim == 1:
        labels = targets.long()
    outputs = potential.predict(x, inputs)
    return HeldOut(loss, outputs, None if labels is None else labels.to(outputs.device))
