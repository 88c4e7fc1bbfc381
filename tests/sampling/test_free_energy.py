"""Free energies against closed-form marginals; errors against the spread of independent runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import lfilter
from scipy.stats import norm

from torchscape.errors import TorchscapeError
from torchscape.potentials import Potential
from torchscape.sampling import (
    BAOAB,
    FixedBandwidth,
    SamplingWarning,
    diffusion_map,
    free_energy_profile,
    sample,
)


def autoregression(rho: float, k: int, b: int, seed: int, device=None) -> torch.Tensor:
    """Stationary normal chains x_t = rho x_(t-1) + sqrt(1 - rho^2) G."""
    noise = torch.randn(k, b, generator=torch.Generator().manual_seed(seed)).double().numpy()
    later, _ = lfilter([(1 - rho**2) ** 0.5], [1.0, -rho], noise[1:], axis=0, zi=rho * noise[:1])
    return torch.as_tensor(np.concatenate([noise[:1], later])).to(device)


def test_histogram_of_a_normal_distribution(device):
    edges = torch.linspace(-3, 3, 31, dtype=torch.float64, device=device)
    found = free_energy_profile(autoregression(0.5, 4000, 20, 0, device), 0.5, bins=edges)
    exact = -0.5 * np.log(np.diff(norm.cdf(edges.cpu().numpy())) / np.diff(edges.cpu().numpy()))
    got = -0.5 * found.density.log().cpu().numpy()
    off = (got - exact) / found.error.cpu().numpy()
    assert np.abs(off).max() < 4.5
    assert 0.5 < np.sqrt((off**2).mean()) < 1.6
    assert float(found.value.min()) == 0.0


@pytest.mark.parametrize("width", [None, 0.2])
def test_errors_are_the_spread_of_independent_runs(width):
    """Draws with autocorrelation time 19: the error of plain counting would be four times too small."""
    edges = torch.linspace(-2, 2, 9, dtype=torch.float64)
    runs = [free_energy_profile(autoregression(0.9, 1500, 4, seed), bins=edges, width=width) for seed in range(60)]
    spread = torch.stack([-run.density.log() for run in runs]).std(0)
    stated = torch.stack([run.error for run in runs]).mean(0)
    ratio = stated / spread
    assert 0.75 < float(ratio.min()) <= float(ratio.max()) < 1.3
    barriers = torch.tensor([run.difference((-0.6, 0.6), (1.1, 2.0)) for run in runs])
    assert float(barriers[:, 1].mean() / barriers[:, 0].std()) == pytest.approx(1.0, abs=0.3)


def test_kernel_density_is_the_convolution():
    """A normal distribution smoothed by a kernel of width h has variance 1 + h^2."""
    grid = torch.linspace(-2, 2, 21, dtype=torch.float64)
    found = free_energy_profile(autoregression(0.0, 20000, 5, 1), bins=grid, width=0.5)
    exact = norm.pdf(grid.numpy(), scale=np.sqrt(1.25))
    assert np.abs((found.density.numpy() - exact) / found.replicates.std(0).numpy()).max() < 4.5


def test_weights_turn_samples_of_one_distribution_into_those_of_another():
    edges = torch.linspace(-2, 2, 21, dtype=torch.float64)
    x = autoregression(0.0, 20000, 5, 2)
    found = free_energy_profile(x, bins=edges, log_weights=0.5 * x)  # normal, about 1/2
    exact = np.diff(norm.cdf(edges.numpy() - 0.5)) / 0.2
    assert np.abs(found.density.numpy() - exact).max() < 4.5 * float(found.replicates.std(0).max())


def test_geometric_free_energy_does_not_depend_on_the_name_of_the_variable():
    """s and sinh(s): with |grad s| the same curve over corresponding bins, without it not."""
    x = autoregression(0.0, 5000, 4, 3)
    edges = torch.linspace(-2, 2, 21, dtype=torch.float64)
    plain = free_energy_profile(x, bins=edges, slope=torch.ones_like(x))
    other = free_energy_profile(x.sinh(), bins=edges.sinh(), slope=x.cosh())
    torch.testing.assert_close(other.value, plain.value, rtol=0, atol=0.02)
    assert float((free_energy_profile(x.sinh(), bins=edges.sinh()).value - plain.value).abs().max()) > 0.5


class Well(Potential):
    """U = a (x^2 - 1)^2 + 2 y^2: the marginal of x is that of its first term, the barrier of the path is a."""

    ndim = 2
    height = 2.5

    def energy(self, x):
        return self.height * (x[:, 0] ** 2 - 1) ** 2 + 2 * x[:, 1] ** 2


@pytest.fixture(scope="module")
def walks():
    starts = torch.tensor([[-1.0, 0.0], [1.0, 0.0]]).double().repeat(250, 1)
    return sample(Well(), starts, sampler=BAOAB(0.1), steps=800, burn_in=100, thin=10)


def test_free_energy_of_a_double_well_along_x(walks):
    found = free_energy_profile(walks.x[:, :, 0], bins=torch.linspace(-1.4, 1.4, 29).double())
    height, error = found.barrier(-1.0, 1.0)
    assert error < 0.1
    assert abs(height - Well.height) < 4 * error + 0.02
    weight = np.exp(-Well.height * (found.grid.numpy() ** 2 - 1) ** 2)
    exact = -np.log(weight / weight.sum())
    got = -torch.log(found.density / found.density.sum()).numpy()
    assert np.abs((got - exact) / found.error.numpy()).max() < 5
    left, spread = found.difference((-1.4, 0.0), (0.0, 1.4))
    assert abs(left) < 4 * spread


def test_barrier_along_the_first_diffusion_coordinate(walks):
    """The geometric free energy along it has the barrier of the minimum-energy path, which -T ln p has not."""
    x = walks.x[::8].flatten(0, 1)
    kernel = FixedBandwidth(0.004)
    g = torch.Generator().manual_seed(0)
    inside = (x[:, 0].abs() < 1.7) & (x[:, 1].abs() < 1.3)
    x = x[inside][torch.randperm(int(inside.sum()), generator=g)[:3000]]
    found = diffusion_map(x, kernel=kernel, log_target=-Well().energy(x), n_functions=2, n_neighbours=500)
    assert found.n_slow == 1
    first, slope = found.functions[:, 0], found.gradient_norm()[:, 0]
    assert abs(float(torch.corrcoef(torch.stack([first, x[:, 0]]))[0, 1])) > 0.95
    low, high = float(first.quantile(0.25)), float(first.quantile(0.75))
    geometric, error = free_energy_profile(first, bins=30, slope=slope, block_length=1).barrier(low, high)
    plain, _ = free_energy_profile(first, bins=30, block_length=1).barrier(low, high)
    assert abs(geometric - Well.height) < 4 * error + 0.15
    assert plain > geometric + 0.3


def test_too_little_is_said():
    with pytest.warns(SamplingWarning, match="only 10 blocks"):
        free_energy_profile(autoregression(0.0, 100, 1, 4), block_length=10)
    with pytest.raises(TorchscapeError, match="two blocks"):
        free_energy_profile(torch.randn(5).double(), block_length=5)
    with pytest.raises(TorchscapeError, match="never visited"):
        free_energy_profile(autoregression(0.0, 100, 1, 4), block_length=1).difference((-1.0, 1.0), (50.0, 60.0))
