"""The loss by itself: torch and NumPy, and no part of torchscape, so that what is checked by it is checked."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parameters_to_vector, vector_to_parameters

__all__ = ["BareLoss"]


class BareLoss:
    """U(theta) = loss + l2 |theta|^2 of all parameters of a module, in their own order and in float64.

    Args:
        module, data, loss, l2: as ``ModulePotential`` takes them; a loss of data in one tensor is called
            loss(model, batch). All samples are evaluated at once, whatever ``reduction`` says.
    """

    def __init__(self, module: nn.Module, data: tuple, loss: Any, l2: float, reduction: str | None = None) -> None:
        self.module = copy.deepcopy(module).double()
        self.data = tuple(part.double() if part.is_floating_point() else part for part in data)
        self.loss, self.l2 = loss, l2
        self.parameters = list(self.module.parameters())
        self.ndim = sum(parameter.numel() for parameter in self.parameters)

    @property
    def theta(self) -> np.ndarray:
        """The module's present parameters [D]."""
        return parameters_to_vector(self.parameters).detach().numpy().copy()

    def _value(self, theta: np.ndarray) -> torch.Tensor:
        vector_to_parameters(torch.as_tensor(theta), self.parameters)
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels of attention have no second derivative
            if len(self.data) == 1:
                return self.loss(self.module, self.data)
            *inputs, target = self.data
            return self.loss(self.module(*inputs), target)

    def energy_and_grad(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """U and its gradient [D], as ``scipy.optimize.minimize`` wants them with jac=True."""
        value = self._value(theta)
        grad = parameters_to_vector(torch.autograd.grad(value, self.parameters)).numpy()
        return value.item() + self.l2 * float(theta @ theta), grad + 2 * self.l2 * theta

    def hessian(self, theta: np.ndarray) -> np.ndarray:
        """The dense Hessian [D D], by a second backward pass for every column."""
        grads = torch.autograd.grad(self._value(theta), self.parameters, create_graph=True)
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        rows = torch.autograd.grad(
            flat, self.parameters, torch.eye(self.ndim, dtype=flat.dtype), is_grads_batched=True, allow_unused=True
        )
        blocks = [
            row.reshape(self.ndim, -1)
            if row is not None
            else torch.zeros(self.ndim, parameter.numel(), dtype=flat.dtype)
            for row, parameter in zip(rows, self.parameters, strict=True)
        ]
        hessian = torch.cat(blocks, 1).numpy()
        return 0.5 * (hessian + hessian.T) + 2 * self.l2 * np.eye(self.ndim)

    def outputs(self, theta: np.ndarray) -> np.ndarray:
        """What the module says of all of its inputs, as one row of numbers."""
        vector_to_parameters(torch.as_tensor(theta), self.parameters)
        inputs = self.data if len(self.data) == 1 else self.data[:-1]
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            return self.module(*inputs).reshape(-1).numpy().copy()
