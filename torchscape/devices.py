"""What depends on the kind of device, decided in one place: no other module looks at a device's name.

Two kinds are told apart. On the **host** (the CPU) memory is the machine's, asking a tensor for a number is free,
and small pieces that stay in the caches are fastest. On a **device** (CUDA, XPU, MPS, or any backend that torch
knows as an accelerator) whoever asks waits for everything that was started before, so that doing something for all
rows costs less than asking which need it, and large pieces keep all units busy.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch

from torchscape.errors import TorchscapeError
from torchscape.types import Tensor

__all__ = [
    "HOST", "accelerator_name", "asking_is_free", "empty_cache", "expand", "find", "fork_rng", "free_memory",
    "has_streams", "holds_numbers", "instructions", "is_host", "recorder", "synchronise", "total_memory",
]  # fmt: skip

HOST = torch.device("cpu")


def is_host(device: torch.device | str) -> bool:
    """Whether the device is the CPU.

    Example:
        >>> is_host("cpu"), is_host("cuda:1")
        (True, False)
    """
    return torch.device(device).type == HOST.type


def asking_is_free(tensor: Tensor) -> bool:
    """Whether the host may ask ``tensor`` for a number without waiting for a device. While a function is compiled
    there is none to be asked for, whatever the device.

    Example:
        >>> asking_is_free(torch.zeros(3))
        True
    """
    return tensor.is_cpu and not torch.compiler.is_compiling()  # asked dozens of times in a step


def holds_numbers(device: torch.device) -> bool:
    """Whether tensors there have values: on ``meta`` they have shapes only."""
    return device.type != "meta"


def find(device: torch.device | str) -> torch.device:
    """The device of that name, if this machine has it.

    Raises:
        TorchscapeError: if it has not, or torch knows no such kind of device; the message says what to use.

    Example:
        >>> find("cpu")
        device(type='cpu')
    """
    try:
        device = torch.device(device)
    except RuntimeError:
        raise TorchscapeError(f"there is no device {str(device)!r}: use cpu, cuda, cuda:1, ...") from None
    if is_host(device):
        return device
    if not holds_numbers(device):
        raise TorchscapeError("device 'meta' holds no numbers: use cpu, cuda, cuda:1, ...")
    kind = device.type.upper()
    module = _module(device)
    if module is None or not _call(module, "is_available", False):
        raise TorchscapeError(
            f"this machine has no usable {kind} device for {str(device)!r}: use 'cpu', or install a driver and a "
            "torch build that matches it"
        )
    n = _call(module, "device_count", 1)
    if device.index is not None and device.index >= n:
        names = f"{device.type}:0" + (f" to {device.type}:{n - 1}" if n > 1 else "")
        raise TorchscapeError(f"there is no {str(device)!r}, this machine has {n} {kind} device(s): use {names}")
    return device


def expand(names: torch.device | str) -> list[torch.device]:
    """The device of that name, or all of a kind: "cuda:all".

    Raises:
        TorchscapeError: if this machine has none.

    Example:
        >>> expand("cpu")
        [device(type='cpu')]
    """
    kind, _, rest = str(names).partition(":")
    if rest != "all":
        return [find(names)]
    first = find(f"{kind}:0")
    return [torch.device(kind, number) for number in range(_call(_module(first), "device_count", 1))]


def instructions() -> str:
    """Which vector instructions torch uses in host memory: ``DEFAULT``, ``AVX2``, ``AVX512`` or another's name."""
    return torch.backends.cpu.get_cpu_capability()


def total_memory(device: torch.device | str) -> int:
    """Bytes of memory of the device; of the host, what the machine or the process's control group allows."""
    device = torch.device(device)
    if is_host(device):
        return _host_memory()
    module = _module(device)
    if hasattr(module, "mem_get_info"):
        return int(module.mem_get_info(device)[1])
    if hasattr(module, "get_device_properties"):
        return int(module.get_device_properties(device).total_memory)
    if hasattr(module, "recommended_max_memory"):  # MPS shares the machine's memory
        return int(module.recommended_max_memory())
    return _host_memory()


def free_memory(device: torch.device | str) -> int:
    """Bytes that can be had on the device now, what torch has cached but not handed out included; of the host, all
    that :func:`total_memory` tells, since the system's caches make way."""
    device = torch.device(device)
    if is_host(device):
        return _host_memory()
    module = _module(device)
    if hasattr(module, "mem_get_info"):
        idle = _call(module, "memory_reserved", 0, device) - _call(module, "memory_allocated", 0, device)
        return int(module.mem_get_info(device)[0]) + max(0, int(idle))
    taken = _call(module, "driver_allocated_memory", 0) if module is not None else 0
    return max(0, total_memory(device) - int(taken))


@contextlib.contextmanager
def fork_rng(device: torch.device | str) -> Iterator[None]:
    """Torch's global random numbers, of the host and of the device, are afterwards as they were before."""
    device = torch.device(device)
    module = None if is_host(device) else _module(device)
    with torch.random.fork_rng(devices=[]):
        if module is None or not hasattr(module, "get_rng_state"):
            yield
            return
        where = () if device.type == "mps" else (device,)  # there is one only, and its functions take no device
        before = module.get_rng_state(*where)
        try:
            yield
        finally:
            module.set_rng_state(before, *where)


def empty_cache() -> None:
    """Give the memory that torch has cached, in pieces, back to the accelerator, if one is in use."""
    device = torch.accelerator.current_accelerator(check_available=True)
    module = None if device is None else _module(device)
    if module is not None and _call(module, "is_initialized", True):
        _call(module, "empty_cache", None)


def synchronise(device: torch.device | str) -> None:
    """Wait for everything that a device was told to do; there is nothing to wait for on the host."""
    device = torch.device(device)
    module = None if is_host(device) else _module(device)
    if module is not None:
        _call(module, "synchronize", None)


def has_streams(device: torch.device | str) -> bool:
    """Whether copies from page-locked memory can run on a stream of their own, beside other work."""
    device = torch.device(device)
    return not is_host(device) and all(
        hasattr(_module(device), name) for name in ("Stream", "stream", "current_stream")
    )


def recorder(device: torch.device | str) -> Callable[[], contextlib.AbstractContextManager[Any]] | None:
    """What records all that the device is told within a block, instead of its being done, in something with a
    method ``replay``: a CUDA graph. None where the device has none.

    Example:
        >>> recorder("cpu") is None
        True
    """
    device = torch.device(device)
    module: Any = None if is_host(device) else _module(device)
    if not hasattr(module, "CUDAGraph"):
        return None

    @contextlib.contextmanager
    def record() -> Iterator[Any]:
        graph = module.CUDAGraph()
        with module.device(device), module.graph(graph, stream=module.Stream(device)):
            yield graph

    return record


def accelerator_name() -> str | None:
    """Make and model of the accelerator of this machine, None where there is none."""
    device = torch.accelerator.current_accelerator(check_available=True)
    if device is None:
        return None
    return str(_call(_module(device), "get_device_name", device.type))


def _module(device: torch.device) -> Any:
    """``torch.cuda`` and the like, None if no backend has registered."""
    try:
        return torch.get_device_module(device)
    except RuntimeError:  # a kind of device that no backend has registered
        return None


def _call(module: Any, name: str, otherwise: Any, *args: Any) -> Any:
    """The module's function of that name, where it has one."""
    return getattr(module, name)(*args) if hasattr(module, name) else otherwise


def _host_memory() -> int:
    limits = []
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not on every platform
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError), open(path) as limit:
            limits.append(int(limit.read()))
    return min(limits, default=4 * 2**30)
