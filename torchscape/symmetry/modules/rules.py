"""What each tensor operation does to the labels of its operands: the arithmetic of traced axes.

Everything is written in terms of two operations, a contraction of labelled axes (linear maps, convolutions,
attention) and an elementwise sum or product with broadcasting. What does not fit raises ``Unclear``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence

from torchscape.symmetry.modules.axes import Ledger
from torchscape.symmetry.modules.factors import Axis, Charge, Factor, Sum, Unclear, length

__all__ = ["Label", "Rules"]

Letters = Sequence[Hashable]


@dataclasses.dataclass(frozen=True)
class Label:
    """What is known of a tensor: one axis per dimension; ``is_zero`` for constants that are zero everywhere."""

    axes: tuple[Axis, ...]
    is_zero: bool = False

    @classmethod
    def of_data(cls, shape: Sequence[int]) -> Label:
        """A tensor that no permutation touches."""
        return cls(tuple((Factor(size),) for size in shape))


class Rules:
    """Labels of results from labels of operands, noting in the ledger what the operation demands."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    # --- contractions -----------------------------------------------------------------------------------

    def contract(self, operands: Sequence[tuple[Letters, Label]], out: Letters) -> Label:
        """The label of an Einstein sum: letters that do not appear in ``out`` are summed over."""
        found: dict[Hashable, list[Axis]] = {}
        for letters, label in operands:
            if len(set(letters)) != len(letters) or len(letters) != len(label.axes):
                raise Unclear("a diagonal is taken")
            for letter, axis in zip(letters, label.axes, strict=True):
                found.setdefault(letter, []).append(axis)
        merged = {letter: self._together(axes) for letter, axes in found.items()}
        for letter, axes in found.items():
            if letter not in out:
                self.ledger.neutral(merged[letter])
                beside = set.intersection(*(set(letters) for letters, _ in operands if letter in letters)) - {
                    letter
                }
                together, kept = ([merged[x] for x in beside if (x in out) is stays] for stays in (False, True))
                self.ledger.summed(merged[letter], together, kept)
            if len(axes) != (1 if letter in out else 2):
                self.ledger.bend(merged[letter])
        return Label(tuple(merged[letter] for letter in out))

    def _together(self, axes: Sequence[Axis]) -> Axis:
        """One axis for operands that are multiplied along it; those of length one are broadcast."""
        size = max(length(axis) for axis in axes)
        for axis in axes:
            if length(axis) != size:
                self.ledger.neutral(axis)
        full = [axis for axis in axes if length(axis) == size]
        for axis in full[1:]:
            self.ledger.unify(full[0], axis)
        return self.ledger.merged(full)

    def linear(self, x: Label, weight: Label, bias: Label | None = None) -> Label:
        """x W^T + b."""
        batch = list(range(len(x.axes) - 1))
        rows: Letters = ["out"] if len(weight.axes) == 2 else []
        y = self.contract([([*batch, "in"], x), ([*rows, "in"], weight)], [*batch, *rows])
        return y if bias is None else self.add(y, bias)

    def matmul(self, a: Label, b: Label) -> Label:
        """The product of matrices, with the broadcasting of ``torch.matmul``."""
        na, nb = len(a.axes), len(b.axes)
        left: Letters = [*range(-na, -2), "n", "k"] if na > 1 else ["k"]
        right: Letters = [*range(-nb, -2), "k", "m"] if nb > 1 else ["k"]
        batch = list(range(-max(na, nb), -2))
        return self.contract(
            [(left, a), (right, b)], [*batch, *(["n"] if na > 1 else []), *(["m"] if nb > 1 else [])]
        )

    def convolution(
        self, x: Label, w: Label, bias: Label | None, out_shape: Sequence[int], groups: int, *, flip: bool
    ):
        """A convolution, or with ``flip`` its transpose: channels are contracted, space is left alone."""
        n = len(w.axes) - 2
        batch, channels, space = x.axes[: -n - 1], x.axes[-n - 1], x.axes[-n:]
        for axis in (*space, *w.axes[2:]):
            self.ledger.fix(axis)
            self.ledger.inert(axis)
        rows, columns = (w.axes[1], w.axes[0]) if flip else (w.axes[0], w.axes[1])
        if groups == 1:
            kernel, signal = Label((rows, columns)), Label((*batch, channels))
            y = self.contract(
                [([*range(len(batch)), "in"], signal), (["out", "in"], kernel)], [*range(len(batch)), "out"]
            )
            made = y.axes
        else:
            made = self._grouped(batch, channels, rows, columns, groups, flip=flip)
        y = Label((*made, *Label.of_data(out_shape[-n:]).axes))
        return y if bias is None else self.add(y, Label((*bias.axes, *[()] * n)))

    def _grouped(self, batch, channels: Axis, rows: Axis, columns: Axis, groups: int, *, flip: bool):
        def grouped(axis: Axis) -> tuple[Axis, ...]:
            return self.ledger.regroup([axis], (groups, length(axis) // groups))

        kernel = Label((*grouped(columns), rows) if flip else (*grouped(rows), columns))
        order = ["group", "in", "out"] if flip else ["group", "out", "in"]
        signal = Label((*batch, *grouped(channels)))
        y = self.contract(
            [([*range(len(batch)), "group", "in"], signal), (order, kernel)], [*range(len(batch)), "group", "out"]
        )
        return (*y.axes[:-2], self.ledger.expand(y.axes[-2] + y.axes[-1]))

    def attention(self, q: Label, k: Label, v: Label, mask: Label | None = None, *, causal: bool = False) -> Label:
        """softmax(q k^T + mask) v over the last two axes, the others being batch and heads."""
        return self.attention_and_weights(q, k, v, mask, causal=causal)[0]

    def attention_and_weights(
        self, q: Label, k: Label, v: Label, mask: Label | None = None, *, causal: bool = False
    ) -> tuple[Label, Label]:
        batch = list(range(len(q.axes) - 2))
        scores = self.contract([([*batch, "l", "d"], q), ([*batch, "s", "d"], k)], [*batch, "l", "s"])
        if mask is not None:
            scores = self.add(scores, mask)
        for axis in scores.axes:
            self.ledger.inert(axis)
        if causal:
            self.ledger.fix(scores.axes[-1])
            self.ledger.fix(scores.axes[-2])
        return self.contract([([*batch, "l", "s"], scores), ([*batch, "s", "e"], v)], [*batch, "l", "e"]), scores

    # --- elementwise ------------------------------------------------------------------------------------

    def add(self, *labels: Label) -> Label:
        """A sum: equal charges, and none where something without charge is added."""
        labels = tuple(label for label in labels if not label.is_zero) or labels[:1]
        return self._elementwise(labels, self._added)

    def multiply(self, *labels: Label, divide: bool = False) -> Label:
        """A product (or a quotient of two): the charges add up, and units of equal factors are told apart."""
        product, axes = self.product(*labels, divide=divide)
        for axis in axes:
            self.ledger.bend(axis)
        return product

    def product(self, *labels: Label, divide: bool = False) -> tuple[Label, list[Axis]]:
        """A product, and the axes that all of its factors have: unless they are summed over next, as in the inner
        product (a * b).sum(), their units are told apart.
        """
        if divide:
            flipped = tuple(self.ledger.recharged(axis, lambda charge: -charge) for axis in labels[1].axes)
            labels = (labels[0], Label(flipped))
        shared: list[Axis] = []

        def multiplied(axes: Sequence[Axis]) -> Axis:
            full = self._full(axes)
            axis = self.ledger.merged(full)
            if len(full) > 1 and length(axis) > 1:
                shared.append(axis)
            return axis

        return self._elementwise(labels, multiplied), shared

    def _elementwise(self, labels: Sequence[Label], combine) -> Label:
        ndim = max(len(label.axes) for label in labels)
        padded = [((),) * (ndim - len(label.axes)) + label.axes for label in labels]
        return Label(tuple(combine(axes) for axes in zip(*padded, strict=True)))

    def _full(self, axes: Sequence[Axis]) -> list[Axis]:
        size = max(length(axis) for axis in axes)
        full = [axis for axis in axes if length(axis) == size and (axis or size == 1)]
        for axis in axes:
            if length(axis) != size:
                self.ledger.neutral(axis)  # broadcast
        for axis in full[1:]:
            self.ledger.unify(full[0], axis)
        return full

    def _added(self, axes: Sequence[Axis]) -> Axis:
        full = self._full(axes)
        first = full[0]
        for axis in full[1:]:
            opposite = self.ledger.recharged(axis, lambda charge: -charge)
            self.ledger.neutral(self.ledger.merged([first, opposite]))
        if len(full) < len(axes):
            self.ledger.inert(first)
        bare = [self.ledger.recharged(axis, lambda charge: Charge()) for axis in full[1:]]
        return self.ledger.merged([first, *bare])

    def power(self, x: Label, *, parity: int | None, degree: float | None) -> Label:
        """f(x) elementwise, for an f of this parity (odd -1, even +1) and degree of homogeneity."""

        def change(charge: Charge) -> Charge:
            return Charge(charge.sign if parity == -1 else frozenset(), charge.scaled(degree or 0.0).scale)

        for axis in x.axes:
            self.ledger.neutral(axis, sign=parity is None, scale=degree is None)
            if not (parity == -1 and degree == 1.0):
                self.ledger.bend(axis)
        return Label(tuple(self.ledger.recharged(axis, change) for axis in x.axes))

    # --- shapes -----------------------------------------------------------------------------------------

    def reshape(self, x: Label, shape: Sequence[int]) -> Label:
        return Label(self.ledger.regroup(x.axes, shape), x.is_zero)

    def permute(self, x: Label, order: Sequence[int]) -> Label:
        return Label(tuple(x.axes[i] for i in order), x.is_zero)

    def broadcast(self, x: Label, shape: Sequence[int]) -> Label:
        """``expand``: along the new axes all entries are alike."""
        axes: list[Axis] = []
        padded = ((),) * (len(shape) - len(x.axes)) + x.axes
        for axis, size in zip(padded, shape, strict=True):
            if length(axis) != size:
                self.ledger.neutral(axis)
            axes.append(axis if length(axis) == size else self.ledger.fresh(size, gauge=False))
        return Label(tuple(axes))

    def concatenate(self, labels: Sequence[Label], dim: int) -> Label:
        """The pieces side by side along ``dim``; along the other axes they move together."""
        others = [Label(tuple(a for i, a in enumerate(label.axes) if i != dim)) for label in labels]
        rest = list(self.add(*others).axes) if len(labels) > 1 else list(others[0].axes)
        rest.insert(dim, (Sum(tuple(label.axes[dim] for label in labels)),))
        return Label(tuple(rest))

    def stack(self, labels: Sequence[Label], dim: int) -> Label:
        rest = list(self.add(*labels).axes)
        rest.insert(dim, (Factor(len(labels)),))
        return Label(tuple(rest))

    def slices(self, x: Label, dim: int, sizes: Sequence[int]) -> list[Label]:
        """Consecutive pieces along ``dim``."""
        parts = self.ledger.segments(x.axes[dim], sizes)
        return [Label((*x.axes[:dim], part, *x.axes[dim + 1 :])) for part in parts]

    def without(self, x: Label, dim: int) -> Label:
        """One entry along ``dim``, which must be of length one."""
        self.ledger.neutral(x.axes[dim])
        return Label(x.axes[:dim] + x.axes[dim + 1 :])

    def reduce(
        self, x: Label, dims: Sequence[int], *, keepdim: bool, linear: bool, ordered: bool, inner: bool = False
    ) -> Label:
        """A sum, mean (``linear``), maximum (``ordered``) or other symmetric function over ``dims``.

        With ``inner`` it is the sum of an inner product: nothing tells the units apart.
        """
        for i, axis in enumerate(x.axes):
            if i in dims:
                self.ledger.neutral(axis)
                if not inner:
                    self.ledger.bend(axis)
                others = [(k in dims, other) for k, other in enumerate(x.axes) if k != i]
                together, kept = ([other for summed, other in others if summed is sums] for sums in (True, False))
                self.ledger.summed(axis, together, kept)
            elif not linear:
                self.ledger.neutral(axis, scale=not ordered)
                self.ledger.bend(axis)
        kept = [() if i in dims else axis for i, axis in enumerate(x.axes) if keepdim or i not in dims]
        return Label(tuple(axis or (Factor(1),) for axis in kept))

    def resample(self, x: Label, shape: Sequence[int], n_space: int, *, linear: bool) -> Label:
        """Pooling, padding, interpolation: the last ``n_space`` axes change, the others ride along."""
        kept = x.axes[: len(x.axes) - n_space]
        for axis in x.axes[len(kept) :]:
            self.ledger.fix(axis)
            self.ledger.inert(axis)
        for axis in () if linear else kept:
            self.ledger.neutral(axis, scale=False)
            self.ledger.bend(axis)
        return Label((*kept, *Label.of_data(shape[len(kept) :]).axes))

    def normalise(self, x: Label, *, sign: bool) -> Label:
        """Division by a norm over any axes: scales are lost; signs survive if nothing is subtracted (``sign``)."""
        for axis in x.axes:
            self.ledger.neutral(axis, sign=not sign)
            self.ledger.bend(axis)
        return x

    def freeze(self, label: Label) -> None:
        """Leave out everything that this tensor depends on."""
        for axis in label.axes:
            self.ledger.fix(axis)
            self.ledger.inert(axis)


def reduced_dims(dim: object, ndim: int) -> list[int]:
    """The axes named by a ``dim`` argument, counted from the front."""
    if dim is None:
        return list(range(ndim))
    dims = [dim] if isinstance(dim, int) else list(dim)  # type: ignore[call-overload]
    return [int(d) % ndim for d in dims] or list(range(ndim))
