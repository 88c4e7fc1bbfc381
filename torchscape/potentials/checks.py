"""What is refused when a module becomes a potential, each with the remedy, and what a trial run finds out."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import is_lazy

from torchscape import devices
from torchscape.errors import NotDeterministic, PotentialError, TorchscapeError
from torchscape.potentials.batching import differentiable_twice, fresh_bytes, second_derivative
from torchscape.potentials.module.evaluator import Evaluator
from torchscape.potentials.module.objective import Objective, batch_size, describe
from torchscape.symmetry.base import Symmetry
from torchscape.types import Float, Tensor

__all__ = [
    "available_device",
    "causes_of_wrong_gradients",
    "chosen_symmetry",
    "in_double",
    "refuse_unfit",
    "tried_out",
]

_N_TRIAL = 7  # samples in the trial: enough to split unevenly


def available_device(device: torch.device | str) -> torch.device:
    """The device, if this machine has it.

    Example:
        >>> available_device("cpu")
        device(type='cpu')
    """
    try:
        return devices.find(device)
    except TorchscapeError as error:
        raise PotentialError(str(error)) from None


def in_double(potential: Any, x: Float[Tensor, "B D"]) -> Any:
    """A ``ModulePotential`` in float64, if module and device know that; itself if not."""
    if potential.dtype == torch.float64:
        return potential
    try:
        double = potential.with_(dtype=torch.float64)
        double.energy_and_grad(x[:1].double())
    except (RuntimeError, TypeError, NotImplementedError, PotentialError):
        return potential
    return double


def available_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type of coordinates, if it is one: eigenvalues and matchings need at least float32.

    Raises:
        PotentialError: for any other.

    Example:
        >>> available_dtype(torch.float32)
        torch.float32
    """
    if dtype not in (torch.float32, torch.float64):
        raise PotentialError(f"dtype={dtype}: coordinates are torch.float64 (the default) or torch.float32")
    return dtype


def refuse_unfit(module: nn.Module) -> None:
    """Refuse modules whose mode makes their output random or dependent on the batch.

    Raises:
        NotDeterministic: for active dropout, and batch-norm that uses batch statistics.
        PotentialError: for parameters that do not exist yet, or are complex, and for what is no module.
    """
    if not isinstance(module, nn.Module):
        raise PotentialError(f"the model must be a torch.nn.Module, not {type(module).__name__}")
    for name, part in module.named_modules():
        called = f"{type(part).__name__} {name!r}" if name else type(part).__name__
        if isinstance(part, _BatchNorm) and part.training:
            raise NotDeterministic(
                f"{called} is in training mode, so its output depends on the batch; call model.eval() first"
            )
        if isinstance(part, _BatchNorm) and part.running_mean is None:
            raise NotDeterministic(
                f"{called} has track_running_stats=False, so its output depends on the batch even after "
                f"model.eval(); track running statistics, or use LayerNorm or GroupNorm"
            )
        p = part.p if isinstance(part, _DropoutNd) else getattr(part, "dropout", 0.0)
        if part.training and isinstance(p, float) and p > 0:
            raise NotDeterministic(
                f"{called} drops activations at random (p={p}) in training mode; call model.eval() first"
            )
    for name, parameter in module.named_parameters():
        if is_lazy(parameter):
            raise PotentialError(
                f"parameter {name!r} has no shape yet; run one batch through the lazy module first"
            )
        if parameter.is_complex():
            raise PotentialError(
                f"parameter {name!r} is complex, coordinates are real; hold its real and imaginary parts as two "
                f"real parameters (torch.view_as_real)"
            )


def causes_of_wrong_gradients(module: nn.Module) -> dict[str, str]:
    """By name of a parameter, what torch is known to hold back from its gradient, with the remedy."""
    causes = {}
    for name, part in module.named_modules():
        if isinstance(part, nn.Embedding | nn.EmbeddingBag):
            called = f"{type(part).__name__} {name!r}"
            if part.padding_idx is not None:
                causes[f"{name}.weight".lstrip(".")] = (
                    f"{called} has padding_idx={part.padding_idx}: torch gives that row no gradient although the "
                    f"energy depends on it; build it without padding_idx, or multiply the embedding by a mask"
                )
            elif part.scale_grad_by_freq:
                causes[f"{name}.weight".lstrip(".")] = (
                    f"{called} has scale_grad_by_freq=True, which changes its gradient; build it with False"
                )
    return causes


def tried_out(evaluator: Evaluator, x: Float[Tensor, "B D"]) -> Evaluator:
    """The evaluator, after a trial on a few samples has shown that it works and how.

    The loss must be a differentiable scalar, the same at every pass, finite somewhere, and split over samples.
    Found out on the way: how the loss joins its samples, whether the module has batching rules (with one warning
    if not), how its second derivatives are taken, and how much memory a sample needs.

    Args:
        evaluator: what to try.
        x: the module's own parameters first, then at least two other points.

    Raises:
        NotDeterministic: if two passes differ or the module changes its own buffers.
        PotentialError: if the loss cannot be evaluated, is not a scalar, ignores the coordinates, does not
            split over samples, or is nowhere finite.
    """
    objective, losses = evaluator.objective, evaluator.losses
    batch, _ = next(iter(objective.chunks(_N_TRIAL)))  # all of them, where samples interact
    with devices.fork_rng(x.device):
        first = _first_pass(objective, losses, x[:1], batch)
        _compare_passes(objective, losses, x[:1], batch, first)
        _refuse_broadcast(evaluator, x[0], batch, first)
        objective.reduction = _reduction(objective, losses, x, batch)
        how, why_not = _derivatives(evaluator, x[:2], batch)
        how["mixes"] = objective.reduction == "whole" and _mixes(evaluator, x[0], batch)
        # Recurrent layers taken apart keep what their fused kernels do not: they are counted as they will run.
        counted, apart = dataclasses.replace(evaluator, **how), how.get("nested", False)
        n_bytes, n_tensors = fresh_bytes(lambda: counted.losses(x[:1], batch, vmapped=apart))
    per_pair = n_bytes // batch_size(batch)
    row = 8 * x.shape[1] * x.element_size()
    plan = dataclasses.replace(evaluator.plan, bytes_per_pair=per_pair, bytes_per_row=row, n_operations=n_tensors)
    evaluator = dataclasses.replace(evaluator, plan=plan, **how)
    if not evaluator.vmapped:
        message = f"the module is evaluated walker by walker, because torch cannot vmap it: {why_not}"
        warnings.warn(message, stacklevel=4)
    _refuse_nowhere_finite(evaluator, x)
    return evaluator


def _refuse_nowhere_finite(evaluator: Evaluator, x: Float[Tensor, "B D"]) -> None:
    n_bad = evaluator.objective.samples.n_not_finite()
    with torch.no_grad():
        energy = evaluator.energy(x)
    fine = torch.isfinite(energy)
    if n_bad and bool(fine.any()):
        fine &= torch.isfinite(evaluator.energy_and_grad(x)[1]).all(1)
    if bool(fine.any()):
        return
    hint = "look for a logarithm or root of negative numbers, a division by zero, or overflow in the loss"
    raise PotentialError(
        "the loss is NaN or infinite everywhere, or its gradient is, at the module's own parameters and at random "
        "starts; " + (f"the data hold {n_bad} numbers that are NaN or infinite: clean them" if n_bad else hint)
    )


def _first_pass(objective: Objective, losses: Callable[..., Tensor], x: Tensor, batch: Any) -> Tensor:
    """One loss at one point: it can be evaluated, is a real scalar, and depends on the coordinates."""
    leaf = x.detach().requires_grad_(True)
    try:
        with torch.enable_grad():
            value = losses(leaf, batch, vmapped=False)
    except (RuntimeError, ValueError, IndexError, TypeError, KeyError, AttributeError) as error:
        call = "loss(model, batch)" if objective.model_first else "loss(model(*inputs), target)"
        raise PotentialError(
            f"{call} fails on a batch of {describe(batch)}: {error}. Check that the module takes inputs of these "
            f"shapes and dtypes, and the loss its outputs and targets"
        ) from error
    if value.ndim != 1 or not value.is_floating_point():
        raise PotentialError(
            f"the loss must be one real number, but it has shape {tuple(value.shape[1:])} and is "
            f"{value.dtype}; reduce it with .mean() or .sum()"
        )
    if not value.requires_grad:
        raise PotentialError(
            "the loss does not depend on the chosen parameters by autograd (torch.no_grad, .detach() or .item() "
            "in the module or loss?)"
        )
    return value.detach()


def _compare_passes(
    objective: Objective, losses: Callable[..., Tensor], x: Tensor, batch: Any, first: Tensor
) -> None:
    """A second pass gives the same number and leaves the module's buffers as they were."""
    before = {name: buffer.clone() for name, buffer in objective.named_buffers()}
    second = losses(x, batch, vmapped=False).detach()
    if not torch.allclose(first, second, rtol=100 * torch.finfo(x.dtype).eps, atol=0.0, equal_nan=True):
        raise NotDeterministic(
            f"two passes over the same samples at the same point differ ({float(first):.6g} and "
            f"{float(second):.6g}): something in the module or loss is random; call model.eval() first, "
            f"or remove the noise"
        )
    for name, buffer in objective.named_buffers():
        if not torch.equal(buffer, before[name]):
            raise NotDeterministic(
                f"buffer {name.removeprefix('module.')!r} changes during the forward pass, so the energy depends "
                f"on what was evaluated before; call model.eval() first"
            )


def _refuse_broadcast(evaluator: Evaluator, x: Tensor, batch: Any, first: Tensor) -> None:
    """Targets [N] against outputs [N, 1] make a loss compare every output with every target."""
    objective = evaluator.objective
    if objective.model_first or not isinstance(batch[-1], Tensor) or not batch[-1].is_floating_point():
        return
    *inputs, target = batch
    params = evaluator.layout.unflatten(x)
    with torch.enable_grad(), differentiable_twice():
        output = functional_call(objective.module, params, tuple(inputs))
    if not isinstance(output, Tensor) or output.shape == target.shape or output.numel() != target.numel():
        return
    if target.numel() < 2:
        return
    for pair in ((output.reshape(target.shape), target), (output, target.reshape(output.shape))):
        try:
            with torch.enable_grad(), differentiable_twice():
                alike = objective._loss(*pair).detach()
        except (RuntimeError, ValueError, IndexError, TypeError):  # a loss that wants the shapes as they are
            return
        if torch.allclose(alike, first[0], rtol=1e4 * torch.finfo(first.dtype).eps, atol=0.0, equal_nan=True):
            return  # or one that deals with them
    shape, goal = ("[" + ", ".join(["N", *map(str, t.shape[1:])]) + "]" for t in (output, target))
    raise PotentialError(
        f"the outputs have shape {shape} and the targets {goal}, so the loss compares every output with every "
        f"target; give the targets the shape of the outputs, as in y.reshape(N, ...) or y[:, None], or drop the "
        f"last axis of the outputs with .squeeze(-1)"
    )


def _reduction(objective: Objective, losses: Callable[..., Tensor], x: Tensor, batch: Any) -> str:
    """Whether the loss of a batch is the mean or the sum of the losses of its parts."""
    claimed, n = objective.reduction, batch_size(batch)
    if claimed == "whole":
        return claimed
    if n < 2:
        return claimed or "mean"
    samples = objective.samples.take(torch.arange(n))
    parts = [samples.take(torch.arange(n // 3 or 1)).whole, samples.take(torch.arange(n // 3 or 1, n)).whole]
    with torch.no_grad():
        whole, *split = (losses(x, part, vmapped=False) for part in (batch, *parts))
    shares = [batch_size(part) / n for part in parts]
    joined = {
        "mean": shares[0] * split[0] + shares[1] * split[1],
        "sum": split[0] + split[1],
    }
    if objective.total is not None:  # taken as a sum, divided by the total weight
        joined = {"mean": joined["sum"]}
    tolerance = 1e3 * torch.finfo(x.dtype).eps
    for name, value in joined.items():
        if claimed in (None, name) and torch.allclose(
            whole, value, rtol=tolerance, atol=tolerance, equal_nan=True
        ):
            return name
    kind = f"the {claimed}" if claimed else "neither the mean nor the sum"
    raise PotentialError(
        f"the loss of {n} samples is {'not ' if claimed else ''}{kind} of the losses of its parts, so the samples "
        f"interact (batch statistics, a ranking or contrastive loss?) or are reduced in another way; pass "
        f"reduction='whole' to evaluate all samples at once, or make the loss a mean or sum over samples"
    )


def _derivatives(evaluator: Evaluator, x: Tensor, batch: Any) -> tuple[dict[str, Any], str]:
    """How an evaluator maps rows and takes second derivatives, and why vmap alone does not do."""
    plain = _grad(evaluator.losses, x, batch, vmapped=False)
    why_not = ""
    for vmapped, nested in ((True, False), (True, True), (False, False)):
        losses = dataclasses.replace(evaluator, nested=nested).losses
        try:
            with _slow_fallbacks_are_errors():
                mapped = _grad(losses, x, batch, vmapped=vmapped)
                scale = float(plain.nan_to_num().abs().max())
                if not torch.allclose(mapped, plain, rtol=1e-3, atol=1e-3 * scale, equal_nan=True):
                    raise RuntimeError("vmap gives another gradient than a loop")
                second = _second(losses, x, batch, vmapped=vmapped)
                return {"vmapped": vmapped, "nested": nested, "second": second}, why_not
        except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError, Warning) as error:
            why_not = why_not or str(error).strip().splitlines()[0]
    return {"vmapped": False, "second": "none"}, why_not


def _mixes(evaluator: Evaluator, x: Tensor, batch: Any) -> bool:
    """Whether what the module says of a sample depends on the others, as far as can be seen from its outputs."""
    if evaluator.objective.model_first or batch_size(batch) < 2:
        return True
    samples = evaluator.objective.samples
    inputs = [samples.take(torch.arange(n)).whole[:-1] for n in (batch_size(batch), batch_size(batch) // 2)]
    try:
        with torch.no_grad(), differentiable_twice():
            whole, half = (
                functional_call(evaluator.objective.module, evaluator.layout.unflatten(x), part) for part in inputs
            )
        alike = torch.allclose(whole[: len(half)], half, rtol=1e-3, atol=1e-6, equal_nan=True)
    except (RuntimeError, ValueError, IndexError, TypeError, KeyError, AttributeError):
        return True  # a part of a graph is no graph
    return not alike or len(whole) != batch_size(batch)


def _grad(losses: Callable[..., Tensor], x: Tensor, batch: Any, *, vmapped: bool) -> Tensor:
    leaf = x.detach().requires_grad_(True)
    with torch.enable_grad():
        (grad,) = torch.autograd.grad(losses(leaf, batch, vmapped=vmapped).sum(), leaf)
    return grad


def _second(losses: Callable[..., Tensor], x: Tensor, batch: Any, *, vmapped: bool) -> str:
    """The first way to a Hessian-vector product that works."""
    errors = []
    for way in ("reverse", "forward"):
        try:
            second_derivative(lambda y: losses(y, batch, vmapped=vmapped), x, torch.ones_like(x), way)
            return way
        except (RuntimeError, NotImplementedError) as error:
            errors.append(error)
    if vmapped:
        raise errors[0]
    return "none"


@contextlib.contextmanager
def _slow_fallbacks_are_errors() -> Iterator[None]:
    """Inside, an operation that vmap would silently loop over raises its warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*performance drop.*")
        yield


def chosen_symmetry(symmetry: Symmetry | str | None) -> Symmetry | str:
    """The symmetry that was given, none at all for None, or the word that leaves it to be found.

    Raises:
        PotentialError: for another word.

    Example:
        >>> chosen_symmetry("auto")
        'auto'
    """
    if isinstance(symmetry, str) and symmetry != "auto":
        raise PotentialError(f"symmetry={symmetry!r}; give a Symmetry, None for no symmetry at all, or 'auto'")
    return Symmetry() if symmetry is None else symmetry
