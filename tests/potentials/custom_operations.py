"""Operations as users write them."""

from __future__ import annotations

import torch


class Cube(torch.autograd.Function):
    """x^3 without a rule for vmap."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grad
