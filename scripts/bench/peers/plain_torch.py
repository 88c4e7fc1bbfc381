"""Energy and gradient of one point by plain PyTorch, as NumPy, for the peers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from functions import Network, Regression

__all__ = ["one_point"]


def one_point(function: Regression | Network) -> Callable[[np.ndarray], tuple[Any, np.ndarray]]:
    """Energy and gradient of one point by plain PyTorch: the same model, one backward pass, no batching.

    What a user of a PyTorch model hands to a program that asks for one point after the other. It is faster than
    torchscape's own ``energy_and_grad`` on a batch of one.
    """
    torch.set_num_threads(1)
    if isinstance(function, Regression):
        x, t = torch.as_tensor(function.x), torch.as_tensor(function.t)

        def loss(q):
            return (
                (torch.exp(-q[0] * x) * torch.sin(q[1] * x + q[2]) * torch.sin(q[3] * x + q[4]) - t).square().sum()
            )

    else:
        inputs, labels = torch.as_tensor(function.inputs), torch.as_tensor(function.labels)

        def loss(q):
            w1, b1, w2, b2 = (p.view(s) for p, s in zip(q.split(function.sizes), function.shapes, strict=True))
            logits = torch.nn.functional.linear(torch.tanh(torch.nn.functional.linear(inputs, w1, b1)), w2, b2)
            return torch.nn.functional.cross_entropy(logits, labels) + function.l2 * q.dot(q)

    def call(q: np.ndarray) -> tuple[Any, np.ndarray]:
        here = torch.tensor(q, requires_grad=True)
        energy = loss(here)
        (grad,) = torch.autograd.grad(energy, here)
        return energy.item(), grad.numpy()

    return call
