"""Rules for recurrent layers and cells: one step of the recurrence, written in terms of the other rules.

Units of one layer are permuted together in all their gates and in the state. A step is followed twice, from no
state and from the state of the first, which must come out alike: then all steps do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from torchscape.symmetry.modules.factors import Unclear
from torchscape.symmetry.modules.operations import OPERATIONS, Operations
from torchscape.symmetry.modules.rules import Label
from torchscape.types import Tensor

__all__: list[str] = []


@dataclasses.dataclass(frozen=True)
class _Weights:
    """What one direction of one layer owns, by gate."""

    of_input: list[Label]
    of_state: list[Label]
    input_bias: list[Label] | None
    state_bias: list[Label] | None
    projection: Label | None = None

    @classmethod
    def of(cls, ops: Operations, tensors: Sequence[Tensor | None], n_gates: int) -> _Weights:
        def gates(tensor: Tensor) -> list[Label]:
            return ops.slices(ops.of(tensor), 0, [len(tensor) // n_gates] * n_gates)

        w_ih, w_hh, *rest = tensors
        if w_ih is None or w_hh is None:
            raise Unclear("has no weights")
        biases = [t for t in rest if t is not None and t.ndim == 1]
        projection = [t for t in rest if t is not None and t.ndim == 2]
        b_ih, b_hh = (gates(b) for b in biases) if biases else (None, None)
        if biases:  # where the state enters a gate by itself (the last of a GRU), its bias does too
            alike = len(biases[0]) // n_gates * (2 if n_gates == 3 else n_gates)
            ops.summed.append((biases[0], biases[1], slice(0, alike)))
        return cls(gates(w_ih), gates(w_hh), b_ih, b_hh, ops.of(projection[0]) if projection else None)


State = tuple[Label, ...]
Step = Callable[[Operations, _Weights, Label, "State | None"], State]


def _inputs(ops: Operations, w: _Weights, x: Label) -> list[Label]:
    """W_i x + b_i of every gate."""
    biases: Sequence[Label | None] = w.input_bias or [None] * len(w.of_input)
    return [ops.linear(x, weight, bias) for weight, bias in zip(w.of_input, biases, strict=True)]


def _states(ops: Operations, w: _Weights, h: Label | None) -> list[Label | None]:
    """W_h h + b_h of every gate; None where there is neither."""
    biases: Sequence[Label | None] = w.state_bias or [None] * len(w.of_state)
    if h is None:
        return list(biases)
    return [ops.linear(h, weight, bias) for weight, bias in zip(w.of_state, biases, strict=True)]


def _sum(ops: Operations, a: Label, b: Label | None) -> Label:
    return a if b is None else ops.add(a, b)


def _plain(parity: int | None, degree: float | None) -> Step:
    def step(ops: Operations, w: _Weights, x: Label, state: State | None) -> State:
        (a,), (b,) = _inputs(ops, w, x), _states(ops, w, state[0] if state else None)
        return (ops.power(_sum(ops, a, b), parity=parity, degree=degree),)

    return step


def _lstm(ops: Operations, w: _Weights, x: Label, state: State | None) -> State:
    """c' = f c + i g, h' = o tanh(c'): the cell may change sign with the gate g alone."""
    mine, its = _inputs(ops, w, x), _states(ops, w, state[0] if state else None)
    i, f, g, o = (_sum(ops, a, b) for a, b in zip(mine, its, strict=True))
    i, f, o = (ops.power(gate, parity=None, degree=None) for gate in (i, f, o))
    c = ops.multiply(i, ops.power(g, parity=-1, degree=None))
    c = ops.add(c, ops.multiply(f, state[1] if state else c))
    h = ops.multiply(o, ops.power(c, parity=-1, degree=None))
    return (h if w.projection is None else ops.linear(h, w.projection)), c


def _gru(ops: Operations, w: _Weights, x: Label, state: State | None) -> State:
    """h' = (1 - z) tanh(W_n x + r (W_h h)) + z h."""
    mine, its = _inputs(ops, w, x), _states(ops, w, state[0] if state else None)
    r, z = (ops.power(_sum(ops, a, b), parity=None, degree=None) for a, b in zip(mine[:2], its[:2], strict=True))
    n = mine[2] if its[2] is None else ops.add(mine[2], ops.multiply(r, its[2]))
    n = ops.multiply(z, ops.power(n, parity=-1, degree=None))
    return (ops.add(n, ops.multiply(z, state[0] if state else n)),)


_KINDS: dict[str, tuple[Step, int]] = {
    "lstm": (_lstm, 4),
    "gru": (_gru, 3),
    "rnn_tanh": (_plain(-1, None), 1),
    "rnn_relu": (_plain(None, 1.0), 1),
}


def _run(ops: Operations, step: Step, w: _Weights, x: Label, start: State) -> State:
    """The state after any number of steps; what the start holds, zeros aside, is tied to it."""
    first = step(ops, w, x, None)
    again = step(ops, w, x, first)
    return tuple(ops.add(*states) for states in zip(first, again, start, strict=True))


def _layers(kind: str):
    step, n_gates = _KINDS[kind]

    def rule(ops: Operations, out, input: Tensor, second, third, *options):
        if isinstance(third, list):
            hx, weights, flags = second, third, options
        else:  # a packed sequence: the sizes of its batches stand before the state
            hx, weights, flags = third, options[0], options[1:]
        _, n_layers, dropout, training, bidirectional = flags[:5]
        if training and dropout:
            raise Unclear("drops at random")
        starts = [_states_by_layer(ops, tensor) for tensor in (hx if isinstance(hx, tuple) else (hx,))]
        n_directions = 2 if bidirectional else 1
        each = len(weights) // (n_layers * n_directions)
        owned = [_Weights.of(ops, weights[k : k + each], n_gates) for k in range(0, len(weights), each)]
        x, ends = ops.of(input), []
        for layer in range(n_layers):
            mine = range(layer * n_directions, (layer + 1) * n_directions)
            ends += [_run(ops, step, owned[k], x, tuple(start[k] for start in starts)) for k in mine]
            x = ops.concatenate([ends[k][0] for k in mine], len(x.axes) - 1) if bidirectional else ends[-1][0]
        for tensor, states in zip(out[1:], zip(*ends, strict=True), strict=True):
            ops.remember_layers(tensor, [_at_the_end(state, tensor.ndim - 1) for state in states])
        return [x] + [None] * len(starts)

    return rule


def _states_by_layer(ops: Operations, tensor: Tensor) -> list[Label]:
    """Of an initial state [layers, (batch,) units] the label of each layer, as wide as its inputs are deep."""
    label = ops.of(tensor)
    if label.is_zero:
        return [label] * len(tensor)
    parts = ops.slices(label, 0, [1] * len(tensor))
    return [Label(ops.without(part, 0).axes[-1:]) for part in parts]


def _at_the_end(state: Label, ndim: int) -> Label:
    """The state after the last step: the units, and a batch where there is one."""
    units = state.axes[-1]
    return Label((*state.axes[-ndim:-1], units)) if ndim > 1 else Label((units,))


def _cell(kind: str):
    step, n_gates = _KINDS[kind]

    def rule(ops: Operations, out, input: Tensor, hx, w_ih, w_hh, b_ih=None, b_hh=None):
        owned = _Weights.of(ops, [w_ih, w_hh, b_ih, b_hh], n_gates)
        given = tuple(ops.of(tensor) for tensor in (hx if isinstance(hx, (tuple, list)) else (hx,)))
        x = ops.of(input)
        state = None if all(label.is_zero for label in given) else given
        made = step(ops, owned, x, state)
        return list(made) if kind == "lstm" else made[0]

    return rule


def _unpacked(ops: Operations, out, data, *options):
    """[time, batch, units] and the lengths from a packed sequence [entries, units]."""
    units = ops.of(data).axes[-1]
    return [Label((*Label.of_data(out[0].shape[:2]).axes, units)), Label.of_data(out[1].shape)]


OPERATIONS["_pad_packed_sequence"] = _unpacked
for _kind in _KINDS:
    OPERATIONS[_kind], OPERATIONS[f"{_kind}_cell"] = _layers(_kind), _cell(_kind)
