"""Whole explorations on the device and on the CPU: the same minima, and what the device was asked meanwhile.

Rounding sends a few quenches to other minima, so the two runs need not agree minimum by minimum. What must hold:
every minimum of the device is one for the CPU too, at the same energy to rounding, and most of the energies found
by one were found by the other.

Questions are the waits of the host for the device that torch.cuda's sync debug mode reports in the whole run.
"""

from __future__ import annotations

import sys
import time
import warnings

import torch

import torchscape as tsc
from gpu.common import arguments, convolution, digits, images, record, synchronize
from torchscape import Potential

_SECONDS = 20.0  # for each of four explorations; looked at between rounds


def explored(potential: Potential, device: str, walkers: int) -> tuple[dict, torch.Tensor, torch.Tensor]:
    # Only the lowest minima are connected: searches find new minima, and so there would be no end to it.
    strategies = [
        tsc.BasinHopping(walkers=walkers, hops=1, temperature=0.02, tol=1e-7),
        tsc.ConnectMinima(neighbours=1, bridges=1, max_rounds=1, max_minima=max(2, walkers // 2)),
    ]
    cuda = torch.device(device).type == "cuda"
    began, cpu = time.perf_counter(), time.process_time()
    with tsc.Landscape.in_memory(potential) as landscape, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if cuda:
            torch.cuda.reset_peak_memory_stats(device)
            torch.cuda.set_sync_debug_mode("warn")
        try:
            report = tsc.explore(
                landscape,
                potential,
                strategies=strategies,
                seed=0,
                budget=tsc.Budget(seconds=_SECONDS),
                progress=False,
            )
        finally:
            if cuda:
                torch.cuda.set_sync_debug_mode("default")
        synchronize(device)
        minima, network = landscape.minima(), landscape.network(coords=False)
    figures = {
        "seconds": time.perf_counter() - began,
        "host_seconds": time.process_time() - cpu,
        "minima": len(minima),
        "transition_states": len(network.ts_energy),
        "report": str(report),
        "complete": report.status == "complete",
        "questions": sum("synchroniz" in str(one.message).lower() for one in said) if cuda else None,
        "peak_bytes": torch.cuda.max_memory_allocated(device) if cuda else None,
    }
    return figures, minima.x.cpu(), minima.energy.cpu()


def shared(a: torch.Tensor, b: torch.Tensor) -> float:
    """The fraction of the energies a that are among b."""
    return float(((a[:, None] - b).abs().amin(1) < 1e-6).double().mean())


def compared(name: str, here: Potential, there: Potential, device: str, walkers: int) -> dict:
    on_device, x, energy = explored(here, device, walkers)
    on_cpu, _, known = explored(there, "cpu", walkers)
    again, grad = there.energy_and_grad(x)
    row = {
        "problem": name,
        "ndim": here.ndim,
        "device": on_device,
        "cpu": on_cpu,
        "largest_energy_difference": float((again - energy).abs().max()),
        "largest_rms_gradient_on_cpu": float(grad.square().mean(1).sqrt().max()),
        "of_the_cpu_found_on_device": shared(known, energy),
        "of_the_device_found_on_cpu": shared(energy, known),
    }
    row["agree"] = (
        row["largest_energy_difference"] < 1e-9
        and row["largest_rms_gradient_on_cpu"] < 1e-6
        and (
            not (on_device["complete"] and on_cpu["complete"])  # one that was cut short has found less
            or min(row["of_the_cpu_found_on_device"], row["of_the_device_found_on_cpu"]) > 0.7
        )
    )
    print(row, flush=True)
    return row


def main() -> int:
    args = arguments(__doc__)
    n, hidden, walkers, l2 = (20, 1, 3, 3e-3) if args.small else (100, 4, 12, 1e-3)
    what, rows = images(n)[2], []
    for name, make in (
        (f"{what} 64-{hidden}-10, {n} images", lambda device: digits(hidden, n, device, l2=l2)),
        (f"convolutions, {n} images", lambda device: convolution(n, device, l2=l2)),
    ):
        rows.append(compared(name, make(args.device), make("cpu"), args.device, walkers))
        record(args.json, args.device, rows=rows)  # what there is, should time run out in the next
    return int(not all(row["agree"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
