"""Data that stay on the host: the same numbers, chunks in order, one copy per chunk, ahead of the work."""

from __future__ import annotations

import pytest
import torch

from torchscape import memory
from torchscape.potentials import ModulePotential
from torchscape.potentials.batching import Plan
from torchscape.potentials.module import streaming
from torchscape.potentials.module.data import Samples
from torchscape.potentials.module.streaming import page_locked, streamed


class Backend:
    """What ``torch.cuda`` offers of streams and events, in host memory; notes who waited for what."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.copies = 0

    def get_device_module(self, device):
        return self

    def Stream(self, device):
        return _Stream(self, "side")

    def current_stream(self, device):
        return _Stream(self, "main")

    def stream(self, stream):
        backend = self

        class Within:
            def __enter__(self):
                backend.copies += 1
                backend.log.append(f"copy {backend.copies}")

            def __exit__(self, *_):
                pass

        return Within()


class _Stream:
    def __init__(self, backend, name):
        self.backend, self.name = backend, name

    def record_event(self):
        return _Event(self.backend, f"copy {self.backend.copies}" if self.name == "side" else "work")

    def wait_event(self, event):
        self.backend.log.append(f"{self.name} waits for {event.of}")


class _Event:
    def __init__(self, backend, of):
        self.backend, self.of = backend, of

    def synchronize(self):
        self.backend.log.append("host waits for work")


@pytest.fixture
def backend(monkeypatch) -> Backend:
    backend = Backend()
    monkeypatch.setattr(streaming, "has_streams", lambda device: True)
    monkeypatch.setattr(torch, "get_device_module", backend.get_device_module)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: None, raising=False)
    return backend


def test_a_copy_is_always_one_ahead_of_the_work(backend):
    parts = iter([torch.full((2,), float(k)) for k in range(5)])
    seen = []
    for part in streamed(parts, torch.device("cpu")):
        backend.log.append(f"work on {int(part[0]) + 1}")
        seen.append(part)
    assert torch.equal(torch.stack(seen), torch.arange(5.0)[:, None].expand(5, 2))
    assert backend.copies == 5
    assert backend.log == [
        "copy 1", "copy 2", "main waits for copy 1", "work on 1",
        "copy 3", "main waits for copy 2", "work on 2",
        "host waits for work", "copy 4", "main waits for copy 3", "work on 3",
        "host waits for work", "copy 5", "main waits for copy 4", "work on 4",
        "main waits for copy 5", "work on 5",
    ]  # fmt: skip


def test_nothing_to_stream():
    assert list(streamed(iter([]), torch.device("cpu"))) == []


def potential(chunk_size: int | None = None) -> ModulePotential:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    data = torch.randn(37, 3), torch.randint(2, (37,))
    return ModulePotential(net, data, torch.nn.functional.cross_entropy, l2=1e-3, chunk_size=chunk_size)


def test_streamed_data_give_what_resident_data_give(backend, monkeypatch):
    u, v = potential(), potential(chunk_size=10)
    x = u.sample(5)
    inputs = torch.randn(23, 3, dtype=torch.float64)
    evaluations = [
        lambda u: u.energy(x),
        lambda u: u.energy_and_grad(x)[1],
        lambda u: u.hvp(x, x),
        lambda u: u.hessian(x),
        lambda u: u.products_at(x)(x[:, None]),
        lambda u: u.predict(x, inputs),
    ]
    expected = [evaluate(u) for evaluate in evaluations]
    monkeypatch.setattr(Samples, "streamed", property(lambda self: True))
    for evaluate, resident, chunks in zip(evaluations, expected, (4, 4, 4, 4, 4, 3), strict=True):
        backend.copies = 0
        torch.testing.assert_close(evaluate(v), resident, rtol=1e-12, atol=1e-13)
        assert backend.copies == chunks  # of (inputs, targets), 37 and 23 samples by tens


def test_streamed_data_pass_for_all_rows_at_once():
    """Rows by rows, the data would be copied once for every group of rows."""
    plan = Plan(n_samples=100_000, bytes_per_pair=10**6)
    resident, streaming = (plan.sizes(64, torch.device("cpu"), streamed=how) for how in (False, True))
    assert resident[0] == 1
    samples = plan.sizes(4, torch.device("cpu"), streamed=True)[1]
    assert samples <= 256
    big = Plan(n_samples=100_000, bytes_per_pair=100)
    assert big.sizes(64, torch.device("cpu"), streamed=True)[0] == 64
    assert big.sizes(64, torch.device("cpu"))[0] < 64
    assert streaming[1] <= resident[1]


def test_data_are_page_locked_only_for_a_device_that_copies_by_itself(monkeypatch):
    tree = (torch.zeros(3), torch.arange(3))
    assert page_locked(tree, torch.device("cpu")) is tree
    pinned = []
    monkeypatch.setattr(streaming, "has_streams", lambda device: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(len(self)) or self)
    page_locked(tree, torch.device("cpu"))
    assert pinned == [3, 3]
    monkeypatch.setattr(streaming, "available_memory", lambda device: 10)
    assert page_locked(tree, torch.device("cpu")) is tree  # more than a quarter of the machine's memory
    assert memory.available_memory(torch.device("cpu")) > 10


def test_a_loss_that_weighs_its_targets_never_asks_for_all_data_on_the_device(monkeypatch):
    """The sum of the weights is found where the data are: larger than the device, they would not fit."""

    def refuse(self):
        if len(self) > 20:
            raise torch.OutOfMemoryError("no room")
        return self.tree

    monkeypatch.setattr(Samples, "whole", property(refuse))
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 2)
    loss = torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]))
    u = ModulePotential(net, (torch.randn(40, 3), torch.randint(2, (40,))), loss, chunk_size=7, symmetry=None)
    assert bool(torch.isfinite(u.energy(u.sample(2))).all())
