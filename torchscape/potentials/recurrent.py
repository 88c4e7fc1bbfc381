"""LSTM and GRU layers in elementary operations, for devices whose fused cells have no batching rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn.functional import linear

from torchscape.types import Tensor

__all__ = ["can_be_unrolled", "unrolled"]

Cell = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def can_be_unrolled(name: str, args: Sequence[object]) -> bool:
    """Whether this is a call of ``torch.lstm`` or ``torch.gru`` that :func:`unrolled` computes: sequences of equal
    length, without dropout."""
    if name not in ("lstm", "gru") or len(args) != 9:
        return False
    packed = not isinstance(args[3], bool)  # there the weights come fourth
    dropout, train = args[5:7]
    return not packed and not (dropout and train)


def unrolled(
    name: str,
    x: Tensor,
    states: Tensor | Sequence[Tensor],
    weights: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """What ``torch.lstm`` and ``torch.gru`` return, from the equations in the documentation of ``torch.nn.LSTM``
    and ``torch.nn.GRU``.

    Args:
        name: "lstm" or "gru".
        x: inputs [T, n, k], or [n, T, k] with ``batch_first``.
        states: initial (h, c), or h, each [layers * directions, n, H].
        weights: of every layer and direction W_ih, W_hh, with biases b_ih, b_hh, and with a projection W_hr.
        has_biases, num_layers, bidirectional, batch_first: as torch has them.
        dropout, train: no dropout is done (see :func:`can_be_unrolled`).
    """
    h0, c0 = (states, states) if isinstance(states, Tensor) else states
    n_directions = 1 + bool(bidirectional)
    per = len(weights) // (num_layers * n_directions)
    projected = per == (5 if has_biases else 3)
    steps = x.transpose(0, 1) if batch_first else x
    ends: list[tuple[Tensor, Tensor]] = []
    for layer in range(num_layers):
        sides = []
        for backwards in range(n_directions):
            k = layer * n_directions + backwards
            own = weights[k * per : (k + 1) * per]
            w_ih, w_hh = own[:2]
            b_ih, b_hh = own[2:4] if has_biases else (None, None)
            cell = _cell(name, w_hh, b_hh, own[-1] if projected else None)
            h, c, along = h0[k], c0[k], []
            given = linear(steps, w_ih, b_ih).unbind(0)
            for one in reversed(given) if backwards else given:
                h, c = cell(one, h, c)
                along.append(h)
            sides.append(torch.stack(along[::-1] if backwards else along))
            ends.append((h, c))
        steps = torch.cat(sides, -1)
    last = [torch.stack(parts) for parts in zip(*ends, strict=True)]
    out = steps.transpose(0, 1) if batch_first else steps
    return (out, *last) if name == "lstm" else (out, last[0])


def _cell(name: str, w_hh: Tensor, b_hh: Tensor | None, w_hr: Tensor | None) -> Cell:
    """One step, from what the input adds and the state before to the state after."""

    def lstm(given: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = (given + linear(h, w_hh, b_hh)).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return (h if w_hr is None else linear(h, w_hr)), c

    def gru(given: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        r_x, z_x, n_x = given.chunk(3, -1)
        r_h, z_h, n_h = linear(h, w_hh, b_hh).chunk(3, -1)
        n = (n_x + (r_x + r_h).sigmoid() * n_h).tanh()
        h = n + (z_x + z_h).sigmoid() * (h - n)
        return h, h

    return lstm if name == "lstm" else gru
