"""An evaluation whose samples are spread over processes is that of one, up to rounding."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

import torchscape as tsc
from torchscape.errors import PotentialError, TorchscapeError
from torchscape.potentials.module.spreading import _share, spread

sys.path.insert(0, str(Path(__file__).parent))
from spread_driver import joined, potential, told

DRIVER = Path(__file__).with_name("spread_driver.py")

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without torch.distributed")


@pytest.fixture(scope="class")
def others(tmp_path_factory):
    """Two processes that serve this one, and write what they say into files of this folder."""
    folder = tmp_path_factory.mktemp("meet")
    programs = [["1", "2"]] if hasattr(os, "fork") else [["1"], ["2"]]
    started = [subprocess.Popen([sys.executable, DRIVER, folder, "3", *ranks]) for ranks in programs]
    joined(str(folder), 0, 3)
    yield folder
    told(None)
    torch.distributed.destroy_process_group()
    said = [(folder / f"said.{rank}").read_text() for rank in (1, 2)]
    assert [one.wait(timeout=120) for one in started] == [0] * len(started), said


class TestThreeProcesses:
    def test_everything_is_that_of_one_process(self, others):
        for weighted in (True, False):
            one = potential(weighted=weighted)
            x = one.sample(5, seed=1)
            v = torch.randn(5, one.ndim, dtype=torch.float64)
            told((weighted, -1))
            with spread(one) as whole:
                assert whole is not None
                assert whole.fingerprint() == one.fingerprint()
                # Sums of 23 samples in another order: rounding, 1e-16 of the largest term, and ten times as much
                # for each derivative, whose terms cancel.
                assert_close(whole.energy(x), one.energy(x), rtol=1e-13, atol=1e-14)
                for mine, its in zip(whole.energy_and_grad(x), one.energy_and_grad(x), strict=True):
                    assert_close(mine, its, rtol=1e-12, atol=1e-14)
                assert_close(whole.hvp(x, v), one.hvp(x, v), rtol=1e-11, atol=1e-13)
                assert_close(whole.hessian(x), one.hessian(x), rtol=1e-11, atol=1e-13)
                k = torch.randn(5, 2, one.ndim, dtype=torch.float64)
                assert_close(whole.products_at(x)(k), one.products_at(x)(k), rtol=1e-11, atol=1e-13)
                leaf = x.clone().requires_grad_(True)
                (grad,) = torch.autograd.grad(whole.energy(leaf).sum(), leaf)
                assert_close(grad, one.energy_and_grad(x)[1], rtol=1e-12, atol=1e-14)
                first = whole.energy_and_grad(x)
                for _ in range(5):  # whoever is done first
                    assert all(torch.equal(a, b) for a, b in zip(whole.energy_and_grad(x), first, strict=True))
                assert len(whole.energy(x[:0])) == 0
                if weighted:
                    landscapes = [quenched(u) for u in (whole, one)]
                    # last digits of a sum in another order become those of where a quench ends: its gradient
                    # squared, 1e-16, over curvatures of 1e-3 at least
                    assert_close(landscapes[0].energy, landscapes[1].energy, rtol=1e-12, atol=1e-12)
            with pytest.raises(TorchscapeError, match="its block has ended"):
                whole.energy(x)

    def test_a_process_that_fails_is_named(self, others):
        for weighted in (True, False):
            one = potential(weighted=weighted)
            told((weighted, 1))
            with (
                spread(one) as whole,
                pytest.raises(TorchscapeError, match="process 1 of 3 failed at its samples"),
            ):
                whole.energy(one.initial)
        assert (others / "said.1").read_text().count("NoneType") >= 2
        assert "NoneType" not in (others / "said.2").read_text()


def quenched(u: tsc.Potential) -> tsc.Network:
    with tsc.Landscape.in_memory(u) as landscape:
        hopping = tsc.BasinHopping(walkers=6, hops=0)
        tsc.explore(landscape, u, strategies=[hopping], progress=False, seed=2, check=False)
        return landscape.network()


def test_shares_add_up_to_the_whole():
    one = potential()
    x = one.sample(3, seed=1)
    shares = [_share(one, rank, 4) for rank in range(4)]
    assert sum(len(share.objective.samples) for share in shares) == one.n_samples
    total = sum(share.energy(x) for share in shares) + (one._evaluator.decay * x**2).sum(1)
    assert_close(total, one.energy(x), rtol=1e-13, atol=1e-14)


def test_what_cannot_be_spread_is_refused():
    with pytest.raises(TorchscapeError, match="init_process_group"), spread(potential()):
        pass
    with pytest.raises(PotentialError, match="23 samples cannot be spread over 24 processes"):
        _share(potential(), 0, 24)
    one = tsc.ModulePotential(
        torch.nn.Linear(2, 1),
        (torch.randn(9, 2), torch.randn(9, 1)),
        torch.nn.functional.mse_loss,
        reduction="whole",
    )
    with pytest.raises(PotentialError, match="takes all samples at once"):
        _share(one, 0, 2)
