"""A device with little memory: allocations beyond its limit fail, and everything goes on within it."""

from __future__ import annotations

import contextlib
import warnings

import pytest
import standin
import torch

from torchscape.errors import MemoryWarning
from torchscape.memory import available_memory
from torchscape.optimise import LBFGS, relax
from torchscape.potentials import ModulePotential, Potential

pytestmark = pytest.mark.standin


class Wide(Potential):
    """A bowl, evaluated through so many numbers per coordinate."""

    def __init__(self, device: str, ndim: int = 4, width: int = 500) -> None:
        self.device, self.ndim, self.width = torch.device(device), ndim, width
        self.stiffness = torch.linspace(1, 9, ndim, dtype=torch.float64).to(device)

    def energy(self, x):
        wide = x[:, :, None] * torch.ones(self.width, dtype=x.dtype, device=x.device)
        return 0.5 * (wide.square().mean(2) * self.stiffness).sum(1)


@contextlib.contextmanager
def room(n_bytes: int):
    """The device has what is in use and so much more."""
    standin.reset_peak("standin")
    with standin.limit(standin.memory("standin")["allocated"] + n_bytes, "standin"):
        yield


def test_evaluations_stay_within_the_limit():
    u = Wide("standin")
    x = torch.linspace(-1, 1, 256, dtype=torch.float64).reshape(64, 4)
    here = x.to("standin")
    with room(600_000), pytest.warns(MemoryWarning, match="gradients: goes on with"):  # a row takes 16 kB and more
        energy, grad = u.energy_and_grad(here)
    expected = Wide("cpu").energy_and_grad(x)
    torch.testing.assert_close(energy.cpu(), expected[0])
    torch.testing.assert_close(grad.cpu(), expected[1])


def test_rows_that_wait_on_the_host_leave_the_device():
    starts = torch.ones(64, 200, dtype=torch.float64)
    optimiser = LBFGS(memory=20)
    expected = relax(Wide("cpu", 200, 1), starts, optimiser=optimiser)
    u, here = Wide("standin", 200, 1), starts.to("standin")
    per_row = optimiser.bytes_per_row(200, torch.float64)
    with room(24 * per_row), pytest.warns(MemoryWarning, match="goes on with"):
        found = relax(u, here, optimiser=optimiser, pool_size=64)
    assert bool(found.converged.all())
    torch.testing.assert_close(found.x.cpu(), expected.x, rtol=0, atol=1e-8)


def test_data_larger_than_the_device_are_streamed_with_one_copy_per_chunk():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(50, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
    data = torch.randn(1000, 50), torch.randint(2, (1000,))  # 400 kB
    loss = torch.nn.functional.cross_entropy
    there = ModulePotential(net, data, loss, l2=1e-3)
    available_memory.cache_clear()
    try:
        with room(600_000), warnings.catch_warnings():
            warnings.simplefilter("ignore", MemoryWarning)
            here = ModulePotential(net, data, loss, l2=1e-3, device="standin", chunk_size=100)
            x = there.sample(3)
            on_device = x.to("standin")
            here.energy_and_grad(on_device)  # whatever is halved is halved here
            standin.reset()
            energy, grad = here.energy_and_grad(on_device)
            copies = standin.counts()["from_host"]
    finally:
        available_memory.cache_clear()
    expected = there.energy_and_grad(x)
    torch.testing.assert_close(energy.cpu(), expected[0])
    torch.testing.assert_close(grad.cpu(), expected[1])
    assert copies == 2 * 10  # inputs and targets of ten chunks
