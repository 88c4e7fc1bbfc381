"""Benchmark results as JSON, with what they were measured on."""

from __future__ import annotations

import datetime
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

import torchscape

__all__ = ["record"]


def record(path: Path, device: str = "cpu", **figures: Any) -> None:
    """Write the figures with device, versions and date."""
    where = (
        torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor() or platform.machine()
    )
    about = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "device": device,
        "machine": where,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torchscape": torchscape.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"about": about, **figures}, indent=1) + "\n")
    print(f"wrote {path}")
