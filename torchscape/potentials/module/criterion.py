"""What can be learned about a loss without running it: how it is called, named, and reduces its samples."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from torchscape.errors import PotentialError
from torchscape.types import Float, Tensor

__all__ = ["REDUCTIONS", "indexed_settings", "loss_name", "set_reduction", "takes_model", "with_reduction"]

REDUCTIONS = ("mean", "sum", "whole")
Loss = Callable[..., Tensor]

_MODEL_NAMES = {"model", "module", "net", "network"}
_INDEXED = (nn.functional.cross_entropy, nn.functional.nll_loss)


class Functional(nn.Module):
    """A functional with its settings; those that are tensors follow the module's dtype and device."""

    def __init__(self, function: Loss, settings: dict[str, Any]) -> None:
        super().__init__()
        self.function = function
        self.settings = {key: value for key, value in settings.items() if not isinstance(value, Tensor)}
        for key, value in settings.items():
            if isinstance(value, Tensor):
                self.register_buffer(key, value.detach().clone())

    def forward(self, *args: Any) -> Tensor:
        return self.function(*args, **self.settings, **dict(self.named_buffers()))


def takes_model(loss: Loss) -> bool:
    """Whether ``loss`` is called as loss(model, batch) rather than loss(output, target).

    Example:
        >>> takes_model(lambda model, batch: model(batch).square().mean())
        True
        >>> takes_model(nn.functional.mse_loss), takes_model(nn.MSELoss())
        (False, False)
    """
    if isinstance(loss, Functional):
        return takes_model(loss.function)
    try:
        parameters = list(
            inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss).parameters.values()
        )
    except (TypeError, ValueError):  # a built-in without a signature
        return False
    names = [parameter.name for parameter in parameters]
    by_name = names[:1] and (names[0] in _MODEL_NAMES or names[1:2] == ["batch"])
    return bool(by_name) or ("Module" in str(parameters[0].annotation) if parameters else False)


def is_of_torch(loss: Loss) -> bool:
    """Whether ``loss`` is a criterion or function of PyTorch's own, which is called as loss(output, target)."""
    if isinstance(loss, functools.partial):
        return is_of_torch(loss.func)
    return (getattr(loss, "__module__", None) or type(loss).__module__ or "torch").split(".")[0] == "torch"


def loss_name(loss: Loss) -> str:
    """What to call a loss in a fingerprint: its own name and settings, not its code, address or reduction.

    Example:
        >>> loss_name(functools.partial(nn.functional.huber_loss, delta=2.0)), loss_name(nn.L1Loss())
        ('huber_loss(delta=2.0)', 'L1Loss()')
    """
    if isinstance(loss, functools.partial):
        return f"{loss_name(loss.func)}({_show(loss.keywords)})"
    if isinstance(loss, nn.Module):
        return f"{type(loss).__name__}({_show({**vars(loss), **loss.state_dict()})})"
    return getattr(loss, "__name__", type(loss).__name__)


def set_reduction(loss: Loss, reduction: str | None) -> tuple[Loss, str | None]:
    """A copy of the loss with the reduction asked for, and which one that is (None: to be found out by trial)."""
    if reduction is not None and reduction not in REDUCTIONS:
        raise PotentialError(f"reduction must be one of {', '.join(REDUCTIONS)}, not {reduction!r}")
    if isinstance(loss, functools.partial) and not loss.args:
        loss = Functional(loss.func, loss.keywords)
    own = _setting(loss, "reduction")
    if own is None or reduction == "whole" or takes_model(loss):
        return (copy.deepcopy(loss) if isinstance(loss, nn.Module) else loss), reduction
    if own == "batchmean" and reduction in (None, "mean"):
        return copy.deepcopy(loss), "mean"
    wanted = reduction or own
    if wanted not in REDUCTIONS:
        raise PotentialError(
            f"the loss has reduction={own!r} and returns one number per sample; say reduction='mean' or 'sum'"
        )
    return with_reduction(loss, wanted), wanted


def with_reduction(loss: Loss, reduction: str) -> Loss:
    """A copy of a functional or criterion with another reduction."""
    if isinstance(loss, Functional):
        return Functional(loss.function, {**loss.settings, **dict(loss.named_buffers()), "reduction": reduction})
    if isinstance(loss, nn.Module):
        loss = copy.deepcopy(loss)
        loss.reduction = reduction  # type: ignore[assignment]
        return loss
    return Functional(loss, {"reduction": reduction})


def indexed_settings(loss: Loss) -> tuple[Float[Tensor, "C"] | None, int] | None:
    """(class weights, ignored index) of a loss on class indices; None for any other loss."""
    function = loss.function if isinstance(loss, Functional) else loss
    if not isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss) and function not in _INDEXED:
        return None
    return _setting(loss, "weight"), _setting(loss, "ignore_index")


def _setting(loss: Loss, name: str) -> Any:
    """A setting of a criterion, or of a functional and its defaults; None where there is none."""
    if isinstance(loss, Functional):
        given = {**loss.settings, **dict(loss.named_buffers())}
        return given[name] if name in given else _setting(loss.function, name)
    if isinstance(loss, nn.Module):
        return getattr(loss, name, None)
    try:
        parameter = inspect.signature(loss).parameters.get(name)
    except (TypeError, ValueError):
        return None
    return None if parameter is None or parameter.default is parameter.empty else parameter.default


def _show(settings: dict[str, Any]) -> str:
    plain = {
        key: value.tolist() if isinstance(value, Tensor) else value
        for key, value in settings.items()
        if isinstance(value, int | float | str | Tensor)
        and not key.startswith("_")
        and key not in ("training", "reduction")
    }
    return ", ".join(f"{key}={value}" for key, value in sorted(plain.items()))
