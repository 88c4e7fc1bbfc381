"""Run a module once and follow the axes of its parameters through every operation.

The module is run as it is (control flow, hooks and all) under a ``TorchFunctionMode`` that sees every tensor
operation by name. Operations that are not understood freeze what they touch and leave a note.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from torchscape.layout import ParameterLayout
from torchscape.symmetry.modules import indexing, recurrent  # noqa: F401  (they add their rules)
from torchscape.symmetry.modules.axes import Ledger, classes_of_rows
from torchscape.symmetry.modules.elementwise import Elementwise
from torchscape.symmetry.modules.example import Call
from torchscape.symmetry.modules.factors import Unclear
from torchscape.symmetry.modules.operations import OPERATIONS, Operations
from torchscape.symmetry.modules.rules import Label
from torchscape.types import Float, Tensor

__all__ = ["Trace", "trace"]


@dataclasses.dataclass(frozen=True)
class Trace:
    """What a run of a module showed.

    Attributes:
        ledger: the axis classes and what is demanded of them.
        labels: for each traced parameter the label of its axes.
        notes: what was left out, in sentences.
        head: names of the weight and bias of the linear map that makes the output (softmax shift), if one does.
        idle: name and slice of parameters that cannot matter behind a softmax (the bias of attention keys).
        summed: names and slice of two parameters of which only the sum matters (the biases of recurrent gates).
    """

    ledger: Ledger
    labels: dict[str, Label]
    notes: tuple[str, ...]
    head: tuple[str, ...] = ()
    idle: tuple[tuple[str, slice], ...] = ()
    summed: tuple[tuple[str, str, slice], ...] = ()

    def without_prefix(self, prefix: str) -> Trace:
        """The same with shorter names of the parameters."""
        return dataclasses.replace(
            self,
            labels={name.removeprefix(prefix): label for name, label in self.labels.items()},
            head=tuple(name.removeprefix(prefix) for name in self.head),
            idle=tuple((name.removeprefix(prefix), rows) for name, rows in self.idle),
            summed=tuple((a.removeprefix(prefix), b.removeprefix(prefix), rows) for a, b, rows in self.summed),
        )


def trace(
    module: torch.nn.Module, names: Sequence[str], example: Call | Sequence[Any] | Mapping[str, Any]
) -> Trace:
    """Follow the parameters called ``names`` through one forward pass on ``example``; all others are constants.

    Args:
        module: in evaluation mode; a copy of it is run.
        names: the parameters that are coordinates.
        example: the arguments of ``forward``, as a sequence, a mapping, or both (a ``Call``).

    Raises:
        Exception: whatever ``forward`` raises on this example.
    """
    example = _as_call(example)
    module = copy.deepcopy(module)
    parameters = dict(module.named_parameters())
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in names and parameter.is_floating_point())
    constants = {id(t): t for t in itertools.chain(parameters.values(), module.buffers())}
    tracer = _Tracer({name: parameters[name] for name in names if name in parameters}, constants)
    with torch.enable_grad(), tracer:
        output = module(*example.args, **example.kwargs)
    return tracer.finish(output)


def outputs_of(
    module: torch.nn.Module,
    layout: ParameterLayout,
    example: Call | Sequence[Any] | Mapping[str, Any],
    prefix: str = "",
) -> Callable[[Float[Tensor, "D"]], Float[Tensor, "n"]]:
    """The outputs of a module on an example, in one row, as a function of its coordinates.

    Arguments as for :func:`trace`; ``prefix`` stands before the names of ``layout`` in those of ``module``.
    """
    call, own = _as_call(example), copy.deepcopy(module)
    like = next(own.parameters())

    @torch.no_grad()
    def outputs(x: Float[Tensor, "D"]) -> Float[Tensor, "n"]:
        values = layout.unflatten(x.to(like))
        made = functional_call(own, {prefix + n: v for n, v in values.items()}, call.args, dict(call.kwargs))
        return torch.cat([like[:0].flatten(), *(t.flatten().to(like) for t in _tensors_within(made))])

    return outputs


def _as_call(example: Call | Sequence[Any] | Mapping[str, Any]) -> Call:
    if isinstance(example, Call):
        return example
    return Call((), example) if isinstance(example, Mapping) else Call(tuple(example))


class _Tracer(TorchFunctionMode):
    """Labels tensors as operations make them."""

    def __init__(self, parameters: Mapping[str, Tensor], constants: Mapping[int, Tensor]) -> None:
        super().__init__()
        self._parameters = dict(parameters)
        self._constants = dict(constants)
        self._labels: dict[int, tuple[Tensor, Label]] = {}  # the tensor is kept so that its id is not reused
        self._makers: dict[int, tuple[Tensor, ...]] = {}
        self._notes: list[str] = []
        self._ledger = Ledger()
        self._operations = Operations(self._ledger, self.label)
        for parameter in self._parameters.values():
            axes = tuple(self._ledger.fresh(size) for size in parameter.shape)
            self._labels[id(parameter)] = (parameter, Label(axes))

    # --- labels -----------------------------------------------------------------------------------------

    def label(self, tensor: Tensor) -> Label:
        """The label of a tensor; one that was not seen before is a constant of the module, or data."""
        if id(tensor) not in self._labels:
            layers = self._operations.layers_of(tensor)
            if layers is not None:
                self._set(tensor, self._operations.stack(layers, 0))
            elif id(tensor) in self._constants:
                self._set(tensor, self._label_of_constant(tensor))
            else:
                if tensor.requires_grad:
                    self._freeze_all("an operation that cannot be followed (a custom or compiled function)")
                self._set(tensor, Label.of_data(tensor.shape))
        return self._labels[id(tensor)][1]

    def _label_of_constant(self, tensor: Tensor) -> Label:
        """Units of a constant may be exchanged where its slices are equal, and may not change sign or scale."""
        axes = []
        for dim, size in enumerate(tensor.shape):
            axis = self._ledger.fresh(size, gauge=False)
            self._ledger.paint(axis, classes_of_rows(tensor.detach().movedim(dim, 0).reshape(size, -1).cpu()))
            axes.append(axis)
        return Label(tuple(axes), is_zero=not bool(tensor.count_nonzero()))

    def _set(self, tensor: Tensor, label: Label) -> None:
        self._labels[id(tensor)] = (tensor, label)

    def _note(self, sentence: str) -> None:
        if sentence not in self._notes:
            self._notes.append(sentence)

    def _freeze_all(self, why: str) -> None:
        self._note(f"{why} hides parameters from the trace: no symmetry is claimed")
        for parameter in self._parameters.values():
            self._operations.freeze(self._labels[id(parameter)][1])

    # --- the mode ---------------------------------------------------------------------------------------

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        made = list(_tensors(out))
        operands = list(_tensors((args, kwargs)))
        if made and _name(func) in _MAKERS:  # zeros, or numbers of which nothing is claimed
            label = Label.of_data(made[0].shape)
            self._set(made[0], dataclasses.replace(label, is_zero=_name(func) in _ZEROS))
        elif any(self._depends(tensor) for tensor in operands):
            name = _name(func)
            if made and not (name.endswith("_") and made[0]._is_view()):
                self._follow(func, name, args, kwargs, out, made, operands)
            elif made or name in _ESCAPES:
                self._freeze_all(f"{name} (a value that leaves the tensors, or is written into one)")
        return out

    def _depends(self, tensor: Tensor) -> bool:
        """Whether the tensor depends on a parameter that is a coordinate."""
        if tensor.requires_grad or id(tensor) not in self._labels:
            return tensor.requires_grad
        axes = self._labels[id(tensor)][1].axes
        return any(leaf.cls is not None for axis in axes for leaf in self._ledger.leaves(axis))

    def _follow(self, func, name: str, args, kwargs, out, made: list[Tensor], operands: list[Tensor]) -> None:
        if name.removesuffix("_") not in ("sum", "mean"):
            self._operations.settle(operands)
        try:
            labels = self._labels_of(func, name, args, kwargs, out, operands)
        except Unclear as trouble:
            self._note(f"{name}: {trouble}; the units it touches are left out")
            for tensor in operands:
                self._operations.freeze(self.label(tensor))
            labels = [*map(Label.of_data, (tensor.shape for tensor in made))]
        for tensor, label in zip(made, labels, strict=True):
            if label is not None:  # what has layers is labelled when it is used
                self._set(tensor, label)
        if name == "linear":
            self._makers[id(made[0])] = tuple(operands[1:])
        elif name in ("softmax", "log_softmax") and id(operands[0]) in self._makers:
            self._makers[id(made[0])] = self._makers[id(operands[0])]

    def _labels_of(self, func, name: str, args, kwargs, out, operands: list[Tensor]) -> list[Label | None]:
        name = name.removesuffix("_")
        operation = OPERATIONS.get(name)
        if operation is not None and not (name in _SCALAR and len(operands) == 1):
            try:
                labels = operation(self._operations, out, *args, **kwargs)
            except (TypeError, ValueError, IndexError, AttributeError) as trouble:
                raise Unclear(f"is called in a way that is not understood ({trouble})") from trouble
            return [*labels] if isinstance(labels, list) else [labels]
        if len(operands) == 1 and isinstance(out, Tensor) and out.shape == operands[0].shape:
            return [self._label_of_elementwise(func, args, kwargs, operands[0])]
        raise Unclear("is not understood")

    def _label_of_elementwise(self, func, args, kwargs, operand: Tensor) -> Label:
        def f(t: Tensor) -> object:
            swapped = (
                [t if a is operand else a for a in args],
                {k: t if a is operand else a for k, a in kwargs.items()},
            )
            return func(*swapped[0], **swapped[1])

        with torch.no_grad():
            behaviour = Elementwise.of(f, operand.dtype)
        if behaviour is None:
            raise Unclear("is not understood")
        return self._operations.power(self.label(operand), parity=behaviour.parity, degree=behaviour.degree)

    # --- the end ----------------------------------------------------------------------------------------

    def finish(self, output: object) -> Trace:
        """Whatever leaves the module is seen by the loss, and may not change."""
        outputs = list(_tensors_within(output))
        if isinstance(output, torch.nn.Module) or not outputs:
            self._freeze_all("an output that is not made of tensors")
        for tensor in outputs:
            self._operations.freeze(self.label(tensor))
        names = {id(parameter): name for name, parameter in self._parameters.items()}
        head: tuple[str, ...] = ()
        if len(outputs) == 1:
            head = tuple(names[id(t)] for t in self._makers.get(id(outputs[0]), ()) if id(t) in names)
        idle = tuple((names[id(t)], rows) for t, rows in self._operations.idle if id(t) in names)
        labels = {name: self._labels[id(parameter)][1] for name, parameter in self._parameters.items()}
        pairs = {(id(a), id(b)): (a, b, rows) for a, b, rows in self._operations.summed}
        summed = tuple((names[i], names[j], pairs[i, j][2]) for i, j in pairs if i in names and j in names)
        return Trace(self._ledger, labels, tuple(self._notes), head, idle, summed)


# With a plain number as the other operand these are functions of one tensor, and are tried out as such.
_SCALAR = frozenset(
    ("add", "radd", "iadd", "sub", "subtract", "rsub", "isub", "mul", "multiply", "rmul", "imul", "pow", "rpow")
) | {"div", "divide", "true_divide", "rdiv", "truediv", "rtruediv", "itruediv"}

# These hand a value of a tensor to Python, or write into a tensor behind its label's back.
_ESCAPES = frozenset(
    [
        "item",
        "tolist",
        "numpy",
        "bool",
        "float",
        "int",
        "index",
        "array",
        "setitem",
        "nonzero",
        "is_nonzero",
        "equal",
    ]
)


# These make tensors of their own, at most in the shape of another one; to zeros something may be added.
_ZEROS = frozenset(["zeros", "new_zeros", "zeros_like"])
_MAKERS = _ZEROS | {
    *(f"{kind}{how}" for kind in ("ones", "full", "empty", "rand", "randn") for how in ("", "_like")),
    *(f"new_{kind}" for kind in ("ones", "full", "empty", "tensor")),
}


def _name(func) -> str:
    """The name of an operation without the underscores of special methods; one trailing "_" means in place."""
    name = getattr(func, "__name__", str(func))
    if name == "__get__":
        return f"get_{func.__self__.__name__}"
    return name.strip("_") if name.startswith("__") else name


def _tensors(value: object) -> Iterable[Tensor]:
    """Every tensor in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)


def _tensors_within(output: object, depth: int = 4) -> Iterable[Tensor]:
    """Every tensor in what a module returns: dataclasses and other objects with attributes, too."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for item in output.values():
            yield from _tensors_within(item, depth)
    elif isinstance(output, (tuple, list)):
        for item in output:
            yield from _tensors_within(item, depth)
    elif depth and hasattr(output, "__dict__") and not isinstance(output, (type, torch.nn.Module)):
        yield from _tensors_within(vars(output), depth - 1)
