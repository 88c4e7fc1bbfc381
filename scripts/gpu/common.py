"""What the parts share: arguments, problems, clocks that wait for the device, results with what they ran on."""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
from _record import record

from torchscape.potentials import ModulePotential

__all__ = ["arguments", "convolution", "digits", "record", "seconds", "synchronize"]


def arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--small", action="store_true", help="as small as it gets: only shows that the part runs")
    return parser.parse_args()


def synchronize(device: str) -> None:
    """Wait until the device has done all that was asked of it."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def seconds(f: Callable[[], object], device: str, turns: int = 7) -> float:
    """The median time of a call, the device's work included, after two calls that do not count."""
    for _ in range(2):
        f()
    times = []
    for _ in range(turns):
        synchronize(device)
        began = time.perf_counter()
        f()
        synchronize(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def images(n: int) -> tuple[torch.Tensor, torch.Tensor, str]:
    """n images [64] of ten classes: scikit-learn's digits, or blobs of as many numbers where it is missing."""
    if importlib.util.find_spec("sklearn") is not None:
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        return torch.as_tensor(x[:n] / 16 - 0.3), torch.as_tensor(y[:n]), "digits"
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(10, (n,), generator=generator)
    centres = torch.randn(10, 64, generator=generator, dtype=torch.float64)
    return 0.3 * centres[y] + 0.3 * torch.randn(n, 64, generator=generator, dtype=torch.float64), y, "blobs"


def digits(hidden: int, n: int, device: str, **options: Any) -> ModulePotential:
    """A 64-hidden-10 tanh classifier."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(64, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, 10))
    x, y, _ = images(n)
    return _potential(net, (x, y), device, options)


def convolution(n: int, device: str, **options: Any) -> ModulePotential:
    """Two filters of 3 x 3 and a linear layer on images of 8 x 8."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 8, 8)),
        torch.nn.Conv2d(1, 2, 3),
        torch.nn.Tanh(),
        torch.nn.AvgPool2d(3),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 10),
    )
    x, y, _ = images(n)
    return _potential(net, (x, y), device, options)


def _potential(net: torch.nn.Module, data: tuple, device: str, options: dict[str, Any]) -> ModulePotential:
    settings = {"l2": 1e-3, "device": device, **options}
    return ModulePotential(net, data, torch.nn.functional.cross_entropy, **settings)
