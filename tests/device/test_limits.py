"""A device with little memory: allocations beyond its limit fail, and everything goes on within it."""

from __future__ import annotations

import contextlib
import warnings

import pytest
import standin
import torch
from on_both import KINDS, wells

from torchscape.errors import MemoryWarning
from torchscape.memory import available_memory, rows_that_fit
from torchscape.optimise import LBFGS, relax
from torchscape.potentials import ModulePotential, Potential
from torchscape.saddles.decomposition import rows_within
from torchscape.sampling import BAOAB, diagnose, sample

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
    starts = torch.ones(24, 60, dtype=torch.float64)
    optimiser = LBFGS(memory=20)
    expected = relax(Wide("cpu", 60, 1), starts, optimiser=optimiser)
    u, here = Wide("standin", 60, 1), starts.to("standin")
    per_row = optimiser.bytes_per_row(60, torch.float64)
    with room(10 * per_row), pytest.warns(MemoryWarning, match="goes on with"):
        found = relax(u, here, optimiser=optimiser, pool_size=24)
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


@contextlib.contextmanager
def device_of(n_bytes: int):
    """The device has so much memory in all."""
    available_memory.cache_clear()
    try:
        with standin.limit(n_bytes, "standin"):
            yield
    finally:
        available_memory.cache_clear()


@pytest.mark.parametrize("kind", ["gaussian process", "k-means", "p-spin", "cluster"])
def test_rows_evaluated_at_once_grow_with_the_device(kind):
    """A 64th of the memory for a temporary, so that ten times the memory takes ten times the rows."""
    sizes = []
    for n_bytes in (2**31, 10 * 2**31):
        with device_of(n_bytes):
            sizes.append(KINDS[kind]("standin").max_rows)
    assert sizes[0] * 10 <= sizes[1] < sizes[0] * 10 + 10


def test_temporaries_take_a_share_of_the_device_and_dense_hessians_too():
    device = torch.device("standin")
    for n_bytes in (2**30, 2**34, 2**37):
        with device_of(n_bytes):
            n = rows_that_fit(1000, device, on_host=1)
            assert n_bytes / 65 < 8000 * n <= n_bytes / 64
            assert 6 * 8 * 50**2 * rows_within(50, torch.float64, device) <= n_bytes / 10


def test_records_larger_than_their_share_move_to_the_host_in_one_copy_a_block():
    u = wells("standin")
    starts = u.sample(8, seed=1)
    drawn = {
        "steps": 50,
        "thin": 2,
        "seed": 3,
        "sampler": BAOAB(0.05),
        "observables": {"first": lambda x: x[:, 0]},
    }
    whole = sample(u, starts, **drawn)
    assert whole.x is not None
    assert whole.x.device.type == "standin"
    # a kept state has 7 numbers of 8 chains: 448 bytes, of which ten are a share and five a block
    standin.reset()
    sample(u, starts, **drawn)
    copies = standin.counts()["to_host"]
    available_memory.cache_clear()
    with standin.limit(16 * 4480, "standin"):  # so little is planned with, but there is more
        available_memory(starts.device)
    try:
        standin.reset()
        parts = sample(u, starts, **drawn)  # 25 kept states
        assert standin.counts()["to_host"] - copies == 5 + 1  # and what is known of the chains
    finally:
        available_memory.cache_clear()
    for name in ("x", "energy", "kinetic", "virial", "grad_square", "acceptance", "temperature", "status"):
        there, here = getattr(whole, name), getattr(parts, name)
        assert here.device.type == "cpu", name
        torch.testing.assert_close(here, there.cpu(), rtol=0, atol=0, equal_nan=True)
    assert torch.equal(parts.observed["first"], whole.observed["first"].cpu())
    assert parts.state.x.device.type == "standin"
    assert diagnose(parts, warn=False) == diagnose(whole, warn=False)
    more = sample(u, parts.state, steps=2, sampler=drawn["sampler"])
    assert torch.equal(more.x[0].cpu(), sample(u, whole.state, steps=2, sampler=drawn["sampler"]).x[0].cpu())
