"""Data in files, and batches that are too many for memory: each chunk is read when it is used."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, IterableDataset

import torchscape as tsc
from torchscape.errors import PotentialError
from torchscape.potentials.module import spool
from torchscape.potentials.module.data import Samples

N = 1000


@pytest.fixture
def arrays(tmp_path):
    """Float32 on the disk, which the potential uses in float64."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(N, 6)).astype("float32"), generator.integers(0, 3, N)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    return np.load(tmp_path / "x.npy", mmap_mode="r"), np.load(tmp_path / "y.npy", mmap_mode="r"), x, y


def network(data, **options) -> tsc.ModulePotential:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 3))
    return tsc.ModulePotential(module, data, nn.CrossEntropyLoss(), l2=1e-3, chunk_size=64, **options)


def in_memory(x, y) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(x), torch.from_numpy(y)


def test_mapped_arrays_stay_in_their_files(arrays):
    far_x, far_y, x, y = arrays
    samples = Samples.of((far_x, far_y))
    assert all(np.shares_memory(leaf.numpy(), array) for leaf, array in zip(samples.leaves, arrays, strict=False))
    (first, target), *_ = samples.chunks(64)
    assert first.dtype == torch.float64
    assert target.dtype == torch.int64
    assert_close(first, torch.from_numpy(x[:64]).double())
    assert len(samples.take(torch.arange(100, 200))) == 100
    assert_close(samples.take(torch.tensor([5, 3])).whole[0], torch.from_numpy(x[[5, 3]]).double())
    assert samples.digest() == Samples.of(in_memory(x, y)).digest()


def test_the_landscape_is_that_of_the_same_numbers_in_memory(arrays):
    far_x, far_y, x, y = arrays
    far, near = network((far_x, far_y)), network(in_memory(x, y))
    assert far.fingerprint() == near.fingerprint()
    rows = near.sample(3, seed=0)
    for mine, its in zip(far.energy_and_grad(rows), near.energy_and_grad(rows), strict=True):
        assert torch.equal(mine, its)
    assert torch.equal(far.hessian(rows), near.hessian(rows))
    assert_close(far.with_(l2=0.1).energy(rows), near.with_(l2=0.1).energy(rows))


def test_a_number_that_is_not_finite_is_found_in_a_file(tmp_path):
    x = np.ones((20_000, 2))
    x[15_000, 1] = np.nan
    np.save(tmp_path / "x.npy", x)
    assert Samples.of(np.load(tmp_path / "x.npy", mmap_mode="r")).n_not_finite() == 1


class Lines(IterableDataset):
    """What does not fit into memory is read as it comes."""

    def __init__(self, x, y) -> None:
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)

    def __iter__(self):
        yield from zip(self.x, self.y, strict=True)


@pytest.mark.parametrize("limit", [0, 20_000, 1 << 40], ids=["files", "some in memory first", "memory"])
def test_batches_beyond_a_share_of_the_memory_go_into_files(arrays, monkeypatch, limit):
    *_, x, y = arrays
    monkeypatch.setattr(spool, "total_memory", lambda _: limit / spool._SHARE)
    loader = DataLoader(Lines(x, y), batch_size=70)  # the last batch is smaller
    samples = Samples.of(loader, dtype=torch.float32)
    assert spool.mapped(tuple(samples.leaves))[1] is False  # they are tensors by now
    assert (samples.dtype is None) == (limit == 1 << 40)
    assert_close(samples.whole[0], torch.from_numpy(x))
    assert_close(samples.whole[1], torch.from_numpy(y))
    assert samples.digest() == Samples.of(in_memory(x, y)).digest()
    rows = network(in_memory(x, y)).sample(2, seed=0)
    assert torch.equal(network(loader).energy(rows), network(in_memory(x, y)).energy(rows))


def test_numbers_of_other_types_in_files(monkeypatch):
    """NumPy has no bfloat16; and numbers are not rounded to the type of the first batch."""
    monkeypatch.setattr(spool, "total_memory", lambda _: 0)
    x = torch.randn(6, 2).bfloat16()
    assert torch.equal(Samples.of(iter([(x[:4],), (x[4:],)])).whole[0], x.double())
    with pytest.raises(PotentialError, match="numbers of different types"):
        Samples.of(iter([(torch.ones(2, dtype=torch.int64),), (torch.full((2,), 0.5),)]))


def test_batches_that_do_not_belong_together_are_refused(monkeypatch):
    for limit in (0, 1 << 40):
        monkeypatch.setattr(spool, "total_memory", lambda _, limit=limit: limit)
        for batches, told in (
            ([(torch.ones(2, 3), torch.ones(2)), (torch.ones(2, 4), torch.ones(2))], "different shapes"),
            ([(torch.ones(2), torch.ones(2)), torch.ones(2)], "differ in structure"),
            ([(torch.ones(2), "two")], "made of tensors, not str"),
            ([], "gave no batches"),
        ):
            with pytest.raises(PotentialError, match=told):
                Samples.of(iter(batches))
