"""Recurrent layers in elementary operations: their fused kernels have no batching rules, or slow ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from torchscape.types import Tensor

__all__ = ["can_be_unrolled", "unrolled"]

Cell = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def can_be_unrolled(name: str, args: Sequence[object]) -> bool:
    """Whether this is a call of ``torch.lstm``, ``gru`` or ``rnn_tanh`` that :func:`unrolled` computes: sequences
    of equal length, without dropout."""
    if name not in ("lstm", "gru", "rnn_tanh", "rnn_relu") or len(args) != 9:
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
    and ``torch.nn.GRU``; and ``torch.rnn_tanh`` and ``torch.rnn_relu``, as ``torch.nn.RNN`` has them.

    Features lie in rows and samples in columns, so that activations run over long rows; of weights that are mapped
    over walkers, what the inputs add to all steps is one matrix product.

    Args:
        name: "lstm", "gru", "rnn_tanh" or "rnn_relu".
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
    steps = x.permute(2, 1, 0) if batch_first else x.permute(2, 0, 1)  # [k, T, n]
    ends: list[tuple[Tensor, Tensor]] = []
    for layer in range(num_layers):
        sides = []
        for backwards in range(n_directions):
            k = layer * n_directions + backwards
            own = weights[k * per : (k + 1) * per]
            w_ih, w_hh = own[:2]
            b_ih, b_hh = own[2:4] if has_biases else (None, None)
            cell = _cell(name, w_hh, b_hh, own[-1] if projected else None)
            h, c, along = h0[k].mT, c0[k].mT, []
            given = w_ih @ steps.flatten(1)
            if b_ih is not None:
                given = given + b_ih[:, None]
            parts = given.unflatten(1, steps.shape[1:]).unbind(1)
            for one in reversed(parts) if backwards else parts:
                h, c = cell(one, h, c)
                along.append(h)
            sides.append(torch.stack(along[::-1] if backwards else along, 1))
            ends.append((h.mT, c.mT))
        steps = torch.cat(sides) if len(sides) > 1 else sides[0]
    last = [torch.stack(parts) for parts in zip(*ends, strict=True)]
    out = steps.permute(2, 1, 0) if batch_first else steps.permute(1, 2, 0)
    return (out, *last) if name == "lstm" else (out, last[0])


def _cell(name: str, w_hh: Tensor, b_hh: Tensor | None, w_hr: Tensor | None) -> Cell:
    """One step, from what the input adds and the state before to the state after, each [H, n]."""

    def lstm(given: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        total = given + from_state(h)
        n = len(total) // 4
        i, f = total[: 2 * n].sigmoid().split(n)
        c = f * c + i * total[2 * n : 3 * n].tanh()
        h = total[3 * n :].sigmoid() * c.tanh()
        return (h if w_hr is None else w_hr @ h), c

    def gru(given: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        n = len(h)
        (both, g), (both_h, g_h) = given.split([2 * n, n]), from_state(h).split([2 * n, n])
        r, z = (both + both_h).sigmoid().split(n)
        g = torch.addcmul(g, r, g_h).tanh()
        h = torch.addcmul(g, z, h - g)
        return h, h

    def plain(given: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        total = given + from_state(h)
        h = total.relu() if name == "rnn_relu" else total.tanh()
        return h, h

    def from_state(h: Tensor) -> Tensor:
        product = w_hh @ h
        return product if b_hh is None else product + b_hh[:, None]

    return {"lstm": lstm, "gru": gru}.get(name, plain)
