"""Checkpoints of trained models as points of a potential: files, state dicts, what wrappers do to names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from torchscape.errors import MissingExtra, PotentialError, TorchscapeError
from torchscape.potentials.module.potential import ModulePotential
from torchscape.types import Float, Tensor

__all__ = ["checkpoint_point", "read_state"]

_NESTED = ("state_dict", "model_state_dict", "model", "module", "net", "network")
_WRAPPED = ("_orig_mod.", "module.")  # torch.compile, DataParallel


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file: weights only, nothing in it is run.

    Files of ``torch.save`` (a state dict, or a dictionary that holds one, as Lightning and most training scripts
    write) and of safetensors.

    Raises:
        TorchscapeError: if the file cannot be read, holds more than tensors, or no state dict.
        MissingExtra: for safetensors without the package of that name.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        try:
            from safetensors.torch import load_file
        except ImportError:
            raise MissingExtra.of("safetensors", "safetensors") from None
        return dict(load_file(path))
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise TorchscapeError(f"there is no file {path}") from None
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TorchscapeError(
            f"{path} cannot be read as weights only ({first:.120}): save the tensors alone, with "
            f"torch.save(model.state_dict(), path)"
        ) from error
    state = _tensors_of(held)
    if state is None:
        raise TorchscapeError(f"{path} holds no state dict: save one with torch.save(model.state_dict(), path)")
    return state


def _tensors_of(held: object) -> dict[str, Tensor] | None:
    """The state dict in what a file holds."""
    if not isinstance(held, Mapping):
        return None
    for name in _NESTED:
        inner = held.get(name)
        if isinstance(inner, Mapping) and any(isinstance(value, Tensor) for value in inner.values()):
            return _tensors_of(inner)
    found = {str(name): value for name, value in held.items() if isinstance(value, Tensor)}
    return found or None


def checkpoint_point(
    potential: ModulePotential, checkpoint: str | Path | Mapping[str, Tensor] | nn.Module | Tensor, name: str = ""
) -> Float[Tensor, "D"]:
    """The coordinates of a checkpoint: a file, a state dict, a module, or already a row [D].

    What wrappers put before the names of parameters (torch.compile, DataParallel, Lightning, an attribute of a
    larger model) is taken off.

    Raises:
        PotentialError: if parameters are missing or have other shapes, or if buffers or frozen parameters differ
            from those of the potential in a way that changes its energy.
    """
    if isinstance(checkpoint, Tensor):
        if checkpoint.shape != (potential.ndim,):
            raise PotentialError(
                f"checkpoint {name}: a row of {potential.ndim} coordinates, not {tuple(checkpoint.shape)}"
            )
        return checkpoint.detach().to(potential.device, potential.dtype)
    if isinstance(checkpoint, nn.Module):
        return potential.flatten(checkpoint)
    state = read_state(checkpoint) if isinstance(checkpoint, str | Path) else dict(checkpoint)
    name = name or (str(checkpoint) if isinstance(checkpoint, str | Path) else "checkpoint")
    module = potential.module
    own = module.state_dict()
    fitting = _without_prefix(state, list(own), name)
    wrong = [n for n, value in fitting.items() if n in own and value.shape != own[n].shape]
    if wrong:
        shapes = [list(values[wrong[0]].shape) for values in (fitting, own)]
        raise PotentialError(
            f"{name}: {wrong[0]} has shape {shapes[0]}, in the potential {shapes[1]}: another architecture"
        )
    more = [n for n in fitting if n not in own]
    if more:
        raise PotentialError(f"{name}: the potential has no {', '.join(more[:3])}: another architecture")
    module.load_state_dict(fitting)
    return potential.flatten(module)


def _without_prefix(state: Mapping[str, Tensor], own: Sequence[str], name: str) -> dict[str, Tensor]:
    """The state under the names of the potential's module."""
    for wrapper in _WRAPPED * 2:
        if state and all(n.startswith(wrapper) for n in state):
            state = {n.removeprefix(wrapper): value for n, value in state.items()}
    state = {n.replace("_orig_mod.", ""): value for n, value in state.items()}
    ends = [n.removesuffix(own[0]) for n in state if n == own[0] or n.endswith(f".{own[0]}")]
    for prefix in sorted(ends, key=len):
        if all(prefix + n in state for n in own):
            return {n.removeprefix(prefix): value for n, value in state.items() if n.startswith(prefix)}
    missing = [n for n in own if n not in state]
    raise PotentialError(
        f"{name}: no {', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''} in it, but "
        f"{', '.join(list(state)[:3])} ...: another architecture, or names that need a prefix taken off"
    )
