"""Benchmark results as JSON, with what they were measured on."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import torchscape
from torchscape.outputs import whole_file

__all__ = ["record"]


def record(path: Path, device: str = "cpu", **figures: Any) -> None:
    """Write the figures with device, versions, commit and date."""
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
        "commit": commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    with whole_file(path) as beside:
        beside.write_text(json.dumps({"about": about, **figures}, indent=1) + "\n")
    print(f"wrote {path}")


def commit() -> str | None:
    """Which code was measured, ``-dirty`` if it differs from what Git has; None outside a checkout."""
    words = ["git", "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"]
    try:
        return subprocess.run(
            words, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
