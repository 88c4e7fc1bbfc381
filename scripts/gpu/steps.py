"""What a step of a minimiser costs over the gradient in it: time, operations and kernels, in both precisions; as
ever, and replayed (``compile="auto"``).

Operations are those that reach PyTorch's dispatcher, kernels those that the profiler saw on the device.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gpu.common import arguments, digits, record, seconds
from torchscape.optimise import LBFGS
from torchscape.optimise.repeated import Repeated
from torchscape.potentials.compiled import Setting


class Operations(TorchDispatchMode):
    """Counts the operations that are started."""

    n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.n += 1
        return func(*args, **(kwargs or {}))


def operations(f: Callable[[], object]) -> int:
    with Operations() as counter:
        f()
    return counter.n


def kernels(f: Callable[[], object], device: str) -> int | None:
    """Kernels that a call starts on the device; None on a CPU."""
    if torch.device(device).type != "cuda":
        return None
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
        f()
        torch.cuda.synchronize()
    return sum(event.device_type == DeviceType.CUDA for event in profiler.events())


def measured(device: str, hidden: int, n: int, walkers: int, dtype: torch.dtype, compile: Setting) -> dict:
    u = digits(hidden, n, device, dtype=dtype)
    u.compile = compile
    optimiser = LBFGS(memory=20)
    repeated = Repeated.of(optimiser, u)
    one_step = optimiser.step if repeated is None else repeated.step
    state = optimiser.init(u, u.sample(walkers, seed=0))
    for _ in range(25):  # until the memory is full
        state = one_step(u, state)

    def step() -> None:
        nonlocal state
        state = one_step(u, state)

    def gradient() -> None:
        u.energy_and_grad(state.trial)

    row = {
        "problem": f"64-{hidden}-10, {n} images, D = {u.ndim}",
        "walkers": walkers,
        "dtype": str(dtype).removeprefix("torch."),
        "replayed": repeated is not None and repeated.n_recorded > 0,
        "gradient_ms": 1e3 * seconds(gradient, device),
        "step_ms": 1e3 * seconds(step, device),
        "gradient_operations": None if compile else operations(gradient),
        "step_operations": None if compile else operations(step),
        "gradient_kernels": kernels(gradient, device),
        "step_kernels": kernels(step, device),
    }
    row["compiled"] = u.compiled  # whether steps are replayed, or why not
    row["step_over_gradient"] = row["step_ms"] / row["gradient_ms"]
    print(row, flush=True)
    return row


def main() -> None:
    args = arguments(__doc__)
    sizes = [(2, 40, 8)] if args.small else [(4, 100, 64), (4, 100, 1024), (10, 1797, 64), (10, 1797, 1024)]
    rows = []
    for hidden, n, walkers in sizes:
        for dtype in (torch.float64, torch.float32):
            for compile in (False, "auto") if torch.device(args.device).type != "cpu" else (False,):
                rows.append(measured(args.device, hidden, n, walkers, dtype, compile))
                record(args.json, args.device, rows=rows)


if __name__ == "__main__":
    main()
