"""Free energy along a collective variable, with errors that know of autocorrelation."""

from __future__ import annotations

import dataclasses
import math
import warnings

import torch

from torchscape import random
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.memory import SOME_LARGE, in_chunks
from torchscape.sampling.autocorrelation_times import autocorrelation_time
from torchscape.sampling.diagnostics import SamplingWarning
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, POSITIVE, SEED

__all__ = ["FreeEnergy", "free_energy_profile"]

_BLOCK_TIMES = 5  # autocorrelation times in a block: of the variance a tenth is missed
_FEW_BLOCKS = 20


@brief
@dataclasses.dataclass(frozen=True)
class FreeEnergy:
    """F(s) = -T ln p(s) along a collective variable s, shifted to 0 where it is lowest.

    Attributes:
        grid: values of s: the middles of the bins, or where the kernel density was evaluated [G].
        value: F; infinite where nothing was seen [G].
        error: standard error of -T ln p by block bootstrap; infinite where nothing was seen [G].
        density: p [G].
        replicates: p of every bootstrap replicate, for the error of anything else [R G].
        temperature: T.
        block_length: draws in a block.
        n_blocks: blocks of all chains.
    """

    grid: Float[Tensor, "G"]
    value: Float[Tensor, "G"]
    error: Float[Tensor, "G"]
    density: Float[Tensor, "G"]
    replicates: Float[Tensor, "R G"]
    temperature: float
    block_length: int
    n_blocks: int

    def difference(self, a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
        """F of the interval b less F of the interval a, -T ln(p_b / p_a), and its standard error.

        Raises:
            TorchscapeError: if an interval was never visited.
        """
        inside = [(self.grid >= low) & (self.grid <= high) for low, high in (a, b)]
        whole = [float(self.density[part].sum()) for part in inside]
        if not min(whole) > 0:
            raise TorchscapeError("one of the intervals was never visited: sample it, or choose wider ones")
        return self._log_ratio(whole, [self.replicates[:, part].sum(1) for part in inside])

    def barrier(self, start: float, end: float) -> tuple[float, float]:
        """Height of F between two values of s above the lowest point on the side of the start; and its error.

        Example:
            >>> x = random.normal(torch.arange(500), 40) + torch.tensor([-3.0, 3.0]).repeat(20)
            >>> height, error = free_energy_profile(x, bins=30).barrier(-3.0, 3.0)
            >>> abs(height - (4.5 - math.log(2))) < 4 * error  # two normal distributions, overlapping at 0
            True
        """
        step = 1 if end > start else -1
        first, last = (int((self.grid - at).abs().argmin()) for at in (start, end))
        between = torch.arange(first, last + step, step, device=self.grid.device)
        top = int(between[self.value[between].argmax()])
        side = torch.arange(top, -1 if step > 0 else len(self.grid), -step, device=self.grid.device)
        well = int(side[self.value[side].argmin()])
        if not bool(torch.isfinite(self.value[top])):
            raise TorchscapeError(
                f"nothing was seen at {float(self.grid[top]):.4g}: sample longer, or use wider bins"
            )
        density = [float(self.density[k]) for k in (well, top)]
        return self._log_ratio(density, [self.replicates[:, k] for k in (well, top)])

    def _log_ratio(self, whole: list[float], parts: list[Tensor]) -> tuple[float, float]:
        value = -self.temperature * math.log(whole[1] / whole[0])
        relative = parts[1] / whole[1] - parts[0] / whole[0]  # of the logarithm, to first order
        return value, self.temperature * float(relative.std())


def free_energy_profile(
    series: Float[Tensor, "K B"] | Float[Tensor, "S"],
    temperature: float = 1.0,
    *,
    bins: int | Float[Tensor, "E"] = 60,
    width: float | None = None,
    slope: Float[Tensor, "K B"] | Float[Tensor, "S"] | None = None,
    log_weights: Float[Tensor, "K B"] | Float[Tensor, "S"] | None = None,
    block_length: int | None = None,
    n_replicates: int = 200,
    seed: int = 0,
) -> FreeEnergy:
    """Free energy -T ln p(s) from samples of a collective variable, by histogram or kernel density.

    Errors come from whole blocks of consecutive draws, chosen anew with replacement from all chains; a block is 5
    integrated autocorrelation times long.

    -T ln p depends on how s is numbered: along a diffusion coordinate, nearly constant in wells and steep on the
    way, barriers are higher than along a length. With ``slope`` |grad s| the samples are weighted by it, which
    gives the geometric free energy F_G(s) = -T ln <delta(s(x) - s) |grad s|>, the same for any function of s.

    Args:
        series: s of K draws of each of B chains, or of S samples that are independent or of one chain.
        temperature: T, in the unit of the energy.
        bins: of the histogram: how many over the range of s, or their edges, ascending; with ``width`` how many
            grid points, or these points themselves.
        width: standard deviation of a Gaussian kernel, in units of s, that takes the place of bins; it smooths
            barriers away that are not wide beside it.
        slope: |grad s| of every sample, for instance ``DiffusionMap.gradient_norm()``.
        log_weights: logarithms of the weights of samples of another distribution.
        block_length: draws in a block.
        n_replicates: R, of the bootstrap.
        seed: of the bootstrap.

    Raises:
        TorchscapeError: for fewer than two blocks, or samples that are not finite.

    Reference: Kuensch, Ann. Stat. 17, 1217 (1989), doi 10.1214/aos/1176347265 (blocks); Hartmann & Schuette,
    Physica D 228, 59 (2007) (the geometric free energy).

    Example:
        >>> x = random.normal(torch.arange(2000), 10)
        >>> found = free_energy_profile(x, bins=torch.linspace(-2.0, 2.0, 41).double())
        >>> harmonic = found.grid.square() / 2
        >>> bool(((found.value - harmonic).abs() < 5 * found.error + 0.01).all())
        True
    """
    POSITIVE.check("free_energy_profile", temperature=temperature)
    POSITIVE.or_none.check("free_energy_profile", width=width)
    COUNT.or_none.check("free_energy_profile", block_length=block_length)
    COUNT.check("free_energy_profile", n_replicates=n_replicates)
    SEED.check("free_energy_profile", seed=seed)
    s, *others = (_as_chains(one) for one in (series, slope, log_weights))
    assert s is not None
    weight = _weights(s, *others)
    blocks, length = _blocks(s, block_length)
    n_blocks = int(blocks[-1, -1]) + 1
    if n_blocks < 2:
        raise TorchscapeError("an error bar needs two blocks or more: sample longer, or several chains")
    if n_blocks < _FEW_BLOCKS:
        warnings.warn(
            f"only {n_blocks} blocks of {length} draws: errors are rough; sample longer",
            SamplingWarning,
            stacklevel=2,
        )
    total = weight.new_zeros(n_blocks).index_add_(0, blocks.reshape(-1), weight.reshape(-1))
    if width is None:
        grid, sums = _binned(s, weight, blocks, n_blocks, bins)
        spacing = _edges(s, bins).diff()
    else:
        grid, sums = _smoothed(s, weight, blocks, n_blocks, bins, width)
        spacing = torch.ones_like(grid)
    density = sums.sum(0) / total.sum() / spacing
    replicates = _bootstrap(sums, total, n_replicates, seed) / spacing
    seen = density > 0
    raw = torch.where(seen, -temperature * density.log(), torch.inf)
    error = torch.where(seen, temperature * replicates.std(0) / density, torch.inf)
    return FreeEnergy(
        grid, raw - raw[seen].min(), error, density, replicates, float(temperature), length, n_blocks
    )


def _as_chains(series: Tensor | None) -> Float[Tensor, "K B"] | None:
    return series if series is None or series.ndim == 2 else series[:, None]


def _weights(
    s: Float[Tensor, "K B"], slope: Float[Tensor, "K B"] | None, log_weights: Float[Tensor, "K B"] | None
) -> Float[Tensor, "K B"]:
    weight = torch.ones_like(s) if log_weights is None else torch.exp(log_weights - log_weights.max())
    weight = weight if slope is None else weight * slope
    if not bool((torch.isfinite(s) & torch.isfinite(weight)).all()):
        raise TorchscapeError("a sample or weight is NaN or infinite: leave such samples out")
    return weight


def _blocks(s: Float[Tensor, "K B"], length: int | None) -> tuple[Int[Tensor, "K B"], int]:
    """The number of the block of every draw, and the draws in a block."""
    k, b = s.shape
    length = min(length or _block_length(s), k)
    blocks = (torch.arange(k, device=s.device) // length)[:, None] * b + torch.arange(b, device=s.device)
    return blocks, length


def _block_length(s: Float[Tensor, "K B"]) -> int:
    if len(s) < 8:
        return len(s)
    time = float(autocorrelation_time(s))
    return max(1, math.ceil(_BLOCK_TIMES * time)) if time > 1.5 else 1


def _edges(s: Float[Tensor, "K B"], bins: int | Float[Tensor, "E"]) -> Float[Tensor, "E"]:
    if isinstance(bins, Tensor):
        return bins.to(s)
    low, high = torch.aminmax(s)
    return low + (high - low) * torch.linspace(0.0, 1.0, bins + 1, dtype=s.dtype, device=s.device)


def _binned(
    s: Float[Tensor, "K B"], weight: Float[Tensor, "K B"], blocks: Int[Tensor, "K B"], n_blocks: int, bins
) -> tuple[Float[Tensor, "G"], Float[Tensor, "N G"]]:
    """Middles of the bins, and the weight in each bin of each block; what lies outside is in none."""
    edges = _edges(s, bins)
    n = len(edges) - 1
    place = torch.searchsorted(edges, s.contiguous(), right=True) - 1
    place = torch.where(s == edges[-1], n - 1, place)
    inside = (place >= 0) & (place < n)
    sums = weight.new_zeros(n_blocks * n)
    sums.index_add_(0, (blocks * n + place)[inside], weight[inside])
    return 0.5 * (edges[1:] + edges[:-1]), sums.reshape(n_blocks, n)


def _smoothed(
    s: Float[Tensor, "K B"], weight: Float[Tensor, "K B"], blocks: Int[Tensor, "K B"], n_blocks: int, bins, width
) -> tuple[Float[Tensor, "G"], Float[Tensor, "N G"]]:
    """Grid points, and the sum over each block of the kernels there."""
    if not width > 0:
        raise TorchscapeError(f"the width of a kernel must be positive, not {width}")
    grid = bins.to(s) if isinstance(bins, Tensor) else _edges(s, bins - 1)
    sums = weight.new_zeros(n_blocks, len(grid))
    columns = (in_chunks(one.reshape(-1), len(grid), on_host=SOME_LARGE) for one in (s, weight, blocks))
    for at, w, block in zip(*columns, strict=True):
        kernel = torch.exp(-0.5 * ((at[:, None] - grid) / width).square()) / (width * math.sqrt(2.0 * math.pi))
        sums.index_add_(0, block, w[:, None] * kernel)
    return grid, sums


def _bootstrap(
    sums: Float[Tensor, "N G"], total: Float[Tensor, "N"], n_replicates: int, seed: int
) -> Float[Tensor, "R G"]:
    """The normalised sums of blocks drawn with replacement."""
    n = len(total)
    keys = random.fold(seed, torch.arange(n_replicates, device=sums.device))
    replicates = []
    for part in in_chunks(keys, n, on_host=SOME_LARGE):
        chosen = (random.uniform(part, n) * n).long().clamp(max=n - 1)
        counts = sums.new_zeros(len(part), n).scatter_add_(1, chosen, sums.new_ones(1, 1).expand(len(part), n))
        replicates.append((counts @ sums) / (counts @ total)[:, None])
    return torch.cat(replicates)
