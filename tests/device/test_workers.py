"""``cuda:all``: a worker on each device of a kind, and the landscape of the CPU."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
from on_both import KINDS, close, wells

import torchscape as tsc
from torchscape import devices
from torchscape.errors import OptionError, TorchscapeError
from torchscape.explore import ClimbFromMinima, Found, Processes
from torchscape.explore.executors import choose_executor

STRATEGIES = [tsc.BasinHopping(walkers=12, hops=2), tsc.ConnectMinima(neighbours=2), ClimbFromMinima(searches=2)]
STAND_IN = "import sys\nsys.path.insert(0, {folder!r})\nimport standin\nstandin.load()\n"


@pytest.fixture
def everywhere(device, tmp_path, monkeypatch) -> list[str]:
    """The names of all devices; workers know the stand-in as soon as they start."""
    folder = str(Path(__file__).parent)
    (tmp_path / "sitecustomize.py").write_text(STAND_IN.format(folder=folder) if device.type == "standin" else "")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    return [str(one) for one in devices.expand(f"{device.type}:all")]


class Where:
    """A task that tells on which device the potential computes."""

    kind = "where"

    def run(self, potential):
        x = potential.sample(2)
        time.sleep(0.1)  # so that who starts later finds something to do
        assert potential.energy(x).device == x.device == potential.device
        return Found(tsc.StationaryPoints.empty(potential.ndim), n_quenches=potential.device.index)


@pytest.mark.parametrize("kind", ["function", "linear", "cluster"])
def test_each_worker_has_a_device_of_its_own(kind, device, everywhere):
    potential = KINDS[kind](f"{device.type}:0")
    with Processes(devices=f"{device.type}:all") as executor:
        assert executor.workers == len(everywhere)
        told: set[int] = set()
        for _ in range(100):  # the second worker may take seconds to start
            told |= {found.n_quenches for found in executor.run(potential, [Where()] * 4)}
            if len(told) == len(everywhere):
                break
    assert told == set(range(len(everywhere)))


def test_the_landscape_is_that_of_the_cpu(device, everywhere):
    networks = []
    for where, executor in ((f"{device.type}:0", f"{device.type}:all"), ("cpu", None)):
        potential = wells(where)
        with tsc.Landscape.in_memory(potential) as landscape:
            tsc.explore(landscape, potential, strategies=STRATEGIES, executor=executor, progress=False)
            networks.append(landscape.network())
    for name in ("energy", "edges", "ts_energy", "log_det", "ids", "hits"):
        # last digits of the device are not those of the CPU; log_det moves with the last step of a quench
        close(getattr(networks[0], name), getattr(networks[1], name), atol=1e-9)


def test_devices_that_are_not_there_are_refused(device, everywhere):
    with pytest.raises(OptionError, match="moves only what lies on a device"):
        Processes(devices=everywhere).run(wells("cpu"), [Where()])
    with pytest.raises(TorchscapeError, match=f"use {device.type}:0"):
        Processes(devices=[f"{device.type}:99"])
    for nothing in ("cpu", [], "cpu:all"):
        with pytest.raises(TorchscapeError):
            Processes(devices=nothing)


def test_more_workers_than_devices_share_them(device, everywhere):
    with Processes(workers=2 * len(everywhere), threads=1, devices=everywhere) as executor:
        members = []
        for _ in range(executor.workers):
            members.append(executor.hired())
            executor.members.append(members[-1])
        assert sorted(one.device for one in members) == sorted(everywhere * 2)


def test_without_a_device_the_word_says_so():
    if not torch.accelerator.is_available():
        with pytest.raises(TorchscapeError, match="no usable CUDA device"), choose_executor("cuda:all"):
            pass
