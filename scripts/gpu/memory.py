"""Memory that runs out for real: evaluations and a pool in a tenth of the memory that they ask for.

On a GPU the process is limited to what it has and so much more (``torch.cuda.set_per_process_memory_fraction``),
on a CPU by the operating system (``RLIMIT_AS``). The errors are the allocator's own.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from gpu.common import arguments, digits, record
from torchscape.errors import MemoryWarning
from torchscape.optimise import LBFGS, relax
from torchscape.potentials import Potential

MIB = 2**20


class Wide(Potential):
    """A bowl, evaluated through so many numbers per coordinate that rows fill the memory."""

    def __init__(self, device: str, ndim: int, width: int) -> None:
        self.device, self.ndim, self.width = torch.device(device), ndim, width
        self.stiffness = torch.linspace(1, 50, ndim, dtype=torch.float64, device=device)

    def energy(self, x):
        wide = x[:, :, None].expand(-1, -1, self.width) * 1.0
        return 0.5 * (wide.square().mean(2) * self.stiffness).sum(1)


def limit(device: str, more: int) -> None:
    """No more memory than this process has, and ``more`` bytes."""
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(device) + more) / total, device)
    elif sys.platform.startswith("linux"):
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + more, resource.RLIM_INFINITY))


def unlimited(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    elif sys.platform.startswith("linux"):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def noted(f: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, list[str]]:
    """A result and what was said about memory."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = f()
    return found, [str(one.message) for one in said if issubclass(one.category, MemoryWarning)]


def squeezed(name: str, device: str, more: int, f: Callable[[], torch.Tensor], expected: torch.Tensor) -> dict:
    limit(device, more)
    try:
        found, notes = noted(f)
    finally:
        unlimited(device)
    difference = float((found - expected).abs().max())
    row = {"what": name, "limit_mib": more // MIB, "notes": notes, "difference": difference}
    print(row, flush=True)
    assert notes, f"{name}: memory did not run out, so nothing was shown"
    assert difference < 1e-8, f"{name}: other results with fewer rows"
    return row


def peaks(device: str, walkers: int) -> list[dict]:
    """The most memory that was in use at once."""
    if torch.device(device).type != "cuda":
        return []
    u = digits(10, 1797, device)
    x = u.sample(walkers, seed=0)
    rows = []
    for name, f in (
        ("gradient", lambda: u.energy_and_grad(x)),
        ("50 steps of a quench", lambda: relax(u, x, max_evaluations=50)),
        ("Hessians of 16 points", lambda: u.hessian(x[:16])),
    ):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        f()
        rows.append({"what": name, "walkers": walkers, "peak_mib": torch.cuda.max_memory_allocated(device) / MIB})
    return rows


def main() -> None:
    args = arguments(__doc__)
    device = args.device
    u = Wide(device, ndim=6, width=800_000)  # 37 MiB a row, several times over in a gradient
    n = 4 if args.small else 256
    x = torch.linspace(-1, 1, 6 * n, dtype=torch.float64, device=device).reshape(n, 6)
    slope = x * u.stiffness
    rows = [
        squeezed(
            "gradients",
            device,
            (400 if args.small else 512) * MIB,
            lambda: u.energy_and_grad(x)[0],
            0.5 * (x * slope).sum(1),
        ),
        squeezed("products", device, (400 if args.small else 512) * MIB, lambda: u.hvp(x, x), slope),
    ]
    bowl = Wide(device, ndim=2000, width=1)
    starts = torch.ones(64 if args.small else 1024, 2000, dtype=torch.float64, device=device)
    run = lambda: relax(bowl, starts, optimiser=LBFGS(memory=100), tol=1e-9, pool_size=len(starts)).x  # noqa: E731
    rows.append(
        squeezed("rows in flight", device, (64 if args.small else 768) * MIB, run, torch.zeros_like(starts))
    )
    record(args.json, device, squeezed=rows, peaks=peaks(device, 1024))


if __name__ == "__main__":
    main()
