"""Here everything runs on a device, and is compared with the CPU."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(
    params=[
        pytest.param("standin"),
        pytest.param(
            "cuda",
            marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
        ),
    ]
)
def device(request) -> torch.device:
    return torch.device(request.param)
