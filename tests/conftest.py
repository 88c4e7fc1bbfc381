"""Shared fixtures: devices and dtypes, run-time shape checks, a quiet matplotlib."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "device"))

import pytest
import standin
import torch
from shapes import check_shapes, next_test

# scripts/gpu_check, on a machine without beartype, says otherwise.
if os.environ.get("TORCHSCAPE_SHAPES") != "unchecked":
    check_shapes("torchscape")

if "OMP_NUM_THREADS" not in os.environ:
    torch.set_num_threads(min(2, os.cpu_count() or 1))


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(config, items):
    """Slow reproductions run only when asked for by ``-m slow``, on the stand-in also what is slow only there.

    TORCHSCAPE_STANDIN says which part runs: "without" the stand-in, "only" on it; both where it is unset.
    """
    part = os.environ.get("TORCHSCAPE_STANDIN")
    if part in ("without", "only"):
        others = [item for item in items if asks_for_standin(item) != (part == "only")]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if asks_for_standin(item) == (part == "only")]
    for item in items:
        if item.get_closest_marker("slow_on_stand_in") and asks_for_standin(item):
            item.add_marker(pytest.mark.slow)
    if os.environ.get("TORCHSCAPE_NOTEBOOKS") != "run":
        later = pytest.mark.skip(reason="a notebook: run with TORCHSCAPE_NOTEBOOKS=run")
        for item in items:
            if item.get_closest_marker("notebook"):
                item.add_marker(later)
    if "slow" in (config.getoption("-m") or ""):
        return
    skip = pytest.mark.skip(reason="slow: run with -m slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


def pytest_configure(config):
    """Where the stand-in must be tested and cannot be built, that is said at once, by the process in charge."""
    if os.environ.get("TORCHSCAPE_STANDIN") in ("only", "required") and not hasattr(config, "workerinput"):
        try:
            standin.build()
        except standin.NoCompiler as reason:
            raise pytest.UsageError(str(reason)) from None


def pytest_collection_finish(session):
    """The stand-in device is built and loaded if a test asks for it, and before any test runs: autograd starts its
    threads at the first backward pass, one for each device that is there by then.

    What has been imported by now stays: the garbage collector need not go through it again and again, which took a
    tenth of the time of a file of explorations."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    wanted = [item for item in session.items if asks_for_standin(item)]
    if not wanted or session.config.option.collectonly:
        return
    try:
        standin.load()
    except standin.NoCompiler as reason:
        for item in wanted:
            item.add_marker(pytest.mark.skip(reason=str(reason)))
    except standin.TooLate as reason:
        raise pytest.UsageError(str(reason)) from None


def pytest_runtest_setup(item):
    next_test()


def asks_for_standin(item) -> bool:
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return parameters.get("device") == "standin" or item.get_closest_marker("standin") is not None


DEVICES = [
    pytest.param("cpu"),
    pytest.param("standin"),
    pytest.param(
        "cuda",
        marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
    ),
]


@pytest.fixture(params=DEVICES)
def device(request) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request) -> torch.dtype:
    return request.param
