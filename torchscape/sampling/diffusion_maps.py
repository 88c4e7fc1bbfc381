"""Diffusion maps: the slow coordinates of points, from nothing but their distances.

R. R. Coifman and S. Lafon, Appl. Comput. Harmon. Anal. 21, 5 (2006), doi 10.1016/j.acha.2006.04.006; for kernels
of variable bandwidth T. Berry and J. Harlim, Appl. Comput. Harmon. Anal. 40, 68 (2016),
doi 10.1016/j.acha.2015.01.001; for target measures R. Banisch, Z. Trstanova, A. Bittracher, S. Klus and P. Koltai,
Appl. Comput. Harmon. Anal. 48, 242 (2020), doi 10.1016/j.acha.2018.05.001.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch

from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.sampling.kernels import DiffusionKernel, FittedKernel, VariableBandwidth, kernel_values
from torchscape.sampling.neighbours import Neighbours, nearest_neighbours
from torchscape.sampling.slow_functions import slowest
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, FINITE, SEED

if TYPE_CHECKING:
    import scipy.sparse

__all__ = ["DiffusionMap", "diffusion_map"]

_PAIRS = 1 << 22  # of points and their neighbours, by default
_NOTHING = 1e-14  # beside k(x, x) = 1: lost in rounding, and points joined by no more are not joined


@brief
@dataclasses.dataclass(frozen=True)
class DiffusionMap:
    """The generator L f = lap f + drift . grad f on N points, and its slowest M functions, L phi = -lambda phi.

    Attributes:
        eigenvalues: lambda, ascending, without the trivial 0; inverse squared lengths.
        functions: phi at the points, of mean square 1 in the stationary measure, the largest entry positive [N M].
        stationary: probabilities of the points in the stationary measure of the generator [N].
        epsilon, dimension: width of the kernel, a squared length, and dimension of the points.
        rho: relative widths of the kernel; 1 for a Gaussian one [N].
        alpha: the power of the density that was divided out; NaN for a target measure.
        drift_power: c in drift = c grad ln q, q the density of the points; NaN for a target measure.
        truncation: median over points of the kernel at the furthest neighbour: should be small, or all points be
            neighbours.
    """

    eigenvalues: Float[Tensor, "M"]
    functions: Float[Tensor, "N M"]
    stationary: Float[Tensor, "N"]
    epsilon: float
    dimension: float
    rho: Float[Tensor, "N"]
    alpha: float
    drift_power: float
    truncation: float
    _points: Float[Tensor, "N D"] | None = dataclasses.field(repr=False)
    _near: Neighbours = dataclasses.field(repr=False)
    _fitted: FittedKernel = dataclasses.field(repr=False)
    _weight: Float[Tensor, "N"] = dataclasses.field(repr=False)
    _gamma: scipy.sparse.csr_array = dataclasses.field(repr=False)

    def __len__(self) -> int:
        return len(self.functions)

    def rates(self, *, random: bool = True) -> Float[Tensor, "M"]:
        """lambda without the time of a step and without a point's own kernel value.

        Times T they are rates of overdamped dynamics dx = -grad U dt + sqrt(2 T) dW, where the generator is that
        of exp(-U / T). Two things are taken out of the eigenvalues:

        - P is the walk after a time t = epsilon <rho^2 phi^2> and not its generator: -ln(1 - lambda t) / t. On a
          circle the eigenvalues of a Gaussian kernel are (1 - exp(-epsilon k^2)) / epsilon, and these are k^2.
          Infinite where lambda t >= 1: such a function is not resolved.
        - Of random samples the sum over all *others* estimates an integral without bias; k(x, x) = 1 in it slows
          the walk by its share, one part in the number of points under the kernel.

        What is left, noise and curvature, is a few per cent: for a double well in two dimensions, all settings by
        default, means over sets of 900 to 3000 samples come out from 4 % too low to 2 % too high for the first two
        rates, one set of 900 being off by 7 %; with 128 neighbours only, up to 8 % too low. In larger sets
        outliers make functions of their own, whose rates mean nothing: ``concentration`` tells them.

        Args:
            random: whether the points are random samples; False where they are evenly spaced, when a point stands
                for its cell.
        """
        weight = self.stationary[:, None] * self.functions.square()
        t = self.epsilon * (weight * self.rho.square()[:, None]).sum(0)
        found = -(1.0 - self.eigenvalues * t).clamp(min=0.0).log() / t
        if not random:
            return found
        own = torch.as_tensor(self._gamma.diagonal()).to(t) * 2.0 * self.epsilon * self.rho.square()
        return found / (1.0 - (weight * own[:, None]).sum(0))

    @property
    def time_scales(self) -> Float[Tensor, "M"]:
        """1 / rates(), longest first."""
        return 1.0 / self.rates()

    @property
    def concentration(self) -> Float[Tensor, "M"]:
        """The largest share of one point in <phi^2>: near 1 the function is an outlier, and no slow coordinate."""
        return (self.stationary[:, None] * self.functions.square()).amax(0)

    @property
    def n_slow(self) -> int:
        """Number of slow functions: lambda_(n + 1) / lambda_n is the widest spectral gap."""
        if len(self.eigenvalues) < 2:
            raise TorchscapeError("a gap needs two eigenvalues or more: raise n_functions")
        return int((self.eigenvalues[1:] / self.eigenvalues[:-1]).argmax()) + 1

    @property
    def gap(self) -> float:
        """The ratio of the two eigenvalues beside the widest spectral gap."""
        n = self.n_slow
        return float(self.eigenvalues[n] / self.eigenvalues[n - 1])

    def coordinates(self, time: float | None = None) -> Float[Tensor, "N M"]:
        """Diffusion coordinates e^(-lambda t) phi, whose distances are those between distributions a time t on.

        Without a time phi / sqrt(lambda), whose squared distances are commute times: those of all t, summed.
        """
        if time is None:
            return self.functions / self.eigenvalues.sqrt()
        return self.functions * torch.exp(-self.eigenvalues * time)

    def gradient_norm(self) -> Float[Tensor, "N M"]:
        """|grad phi| at the points, from the carre du champ |grad f|^2 = (L f^2 - 2 f L f) / 2."""
        f = self.functions.detach().double().cpu().numpy()
        degree = self._gamma.sum(1)
        square = degree[:, None] * f**2 - 2.0 * f * (self._gamma @ f) + self._gamma @ f**2
        return torch.as_tensor(np.sqrt(np.maximum(square, 0.0))).to(self.functions)

    def extend(self, places: Float[Tensor, "B D"] | Neighbours) -> Float[Tensor, "B M"]:
        """The functions at new places, by Nystrom's formula phi(y) = (P phi)(y) / (1 - epsilon rho(y)^2 lambda).

        Args:
            places: coordinates, or for a map of given distances the nearest points of each place.

        Raises:
            TorchscapeError: if a place is so far from all points that the kernel vanishes; or if the kernel is too
                wide to resolve a function (epsilon lambda >= 1).
        """
        near = places if isinstance(places, Neighbours) else self._neighbours_of(places)
        rho = self._fitted.rho_at(near)
        value = kernel_values(self._fitted, near, rho) * self._weight[near.index]
        total = value.sum(1, keepdim=True)
        if not bool((total > 0).all()):
            far = int((total[:, 0] <= 0).nonzero()[0, 0])
            raise TorchscapeError(f"place {far} is far from all points of the map: sample there too")
        damping = 1.0 - self.epsilon * rho.square()[:, None] * self.eigenvalues.double()
        if not bool((damping > 0).all()):
            raise TorchscapeError(
                "epsilon lambda is 1 or more: ask for fewer functions, or take a smaller epsilon"
            )
        mean = torch.einsum("bk,bkm->bm", value / total, self.functions.double()[near.index])
        return (mean / damping).to(self.functions)

    def _neighbours_of(self, places: Float[Tensor, "B D"]) -> Neighbours:
        if self._points is None:
            raise TorchscapeError(
                "this map was made of distances: give Neighbours.of_distances(...) of the places"
            )
        return nearest_neighbours(self._points, self._near.index.shape[1], places)


def diffusion_map(
    points: Float[Tensor, "N D"] | Neighbours,
    *,
    kernel: DiffusionKernel | None = None,
    alpha: float | None = None,
    log_target: Float[Tensor, "N"] | None = None,
    n_functions: int = 10,
    n_neighbours: int | None = None,
    seed: int = 0,
) -> DiffusionMap:
    """Slow functions of the diffusion that has these points as samples.

    With k the kernel and q_i = sum_j k_ij / rho_i^d, the walk P_ij ~ k_ij q_j^(-alpha) has the generator
    L = (P - 1) / (epsilon rho^2), which for many points and small epsilon is

        L f = lap f + (2 - 2 alpha + beta (d + 2)) grad ln q . grad f,    rho = q^beta

    With alpha = 1 and a Gaussian kernel that is the Laplace-Beltrami operator of the set, however densely sampled;
    with alpha = 1/2 the generator of overdamped dynamics at the temperature of the samples. A target measure pi
    makes it lap f + grad ln pi . grad f whatever the points are samples of, by P_ij ~ k_ij pi_j^(1/2) / q_j.

    Args:
        points: samples or minima; or nearest neighbours by distances of one's own, such as
            ``Neighbours.of_distances(parameter_distances(x, potential.symmetry))``.
        kernel: :class:`VariableBandwidth` (the default), which reaches the tails of a distribution, or
            :class:`FixedBandwidth`, for points of much the same density.
        alpha: power of the density that is divided out; by default the one that gives drift grad ln q: 1/2 for a
            Gaussian kernel, (1 + beta (d + 2)) / 2 for a variable one.
        log_target: ln pi at the points, up to a constant: -U / T; excludes ``alpha``.
        n_functions: how many, M.
        n_neighbours: of every point, itself counted; the kernel must have decayed there (``truncation``). By
            default a quarter of all points, at most 1024, and from 4000 points on as many as make four million
            pairs; 128 at least. Fewer make the kernel narrower, and rates lower, by the noise among so few; many
            more, and the steepest log-sum may be that of the whole set, whose curvature is no longer small.
        seed: of the eigensolver.

    O(N log N) for the neighbours in few dimensions, then some dozens of products of O(N n_neighbours n_functions).

    Raises:
        TorchscapeError: if the points fall apart into groups that no kernel value joins.

    Reference: see the head of this module.

    Example:
        >>> from torchscape.sampling import FixedBandwidth
        >>> t = torch.arange(300.0, dtype=torch.float64) / 300 * 2 * torch.pi
        >>> circle = torch.stack([t.cos(), t.sin()], 1)
        >>> found = diffusion_map(circle, kernel=FixedBandwidth(epsilon=0.002), alpha=1.0, n_functions=4)
        >>> found.eigenvalues.round(decimals=1).tolist()  # k^2 on a circle, twice each
        [1.0, 1.0, 4.0, 4.0]
    """
    COUNT.check("diffusion_map", n_functions=n_functions)
    COUNT.or_none.check("diffusion_map", n_neighbours=n_neighbours)
    FINITE.or_none.check("diffusion_map", alpha=alpha)
    SEED.check("diffusion_map", seed=seed)
    if alpha is not None and log_target is not None:
        raise TorchscapeError("a target measure replaces alpha: give only one of the two")
    near = points
    if not isinstance(near, Neighbours):
        near = nearest_neighbours(near, n_neighbours or _enough(len(near)))
    if len(near) < 3:
        raise TorchscapeError(f"{len(near)} points are too few for a map")
    fitted = (kernel or VariableBandwidth()).fit(near)
    like = near.distance if isinstance(points, Neighbours) else points
    given = None if isinstance(points, Neighbours) else points.detach()
    return _map(near, fitted, alpha, log_target, n_functions, seed, like, given)


def _map(
    near: Neighbours,
    fitted: FittedKernel,
    alpha: float | None,
    log_target: Float[Tensor, "N"] | None,
    n_functions: int,
    seed: int,
    like: Tensor,
    points: Float[Tensor, "N D"] | None,
) -> DiffusionMap:
    """The walk of the kernel, and its slow functions, in the dtype and on the device of ``like``."""
    import scipy.sparse

    value = kernel_values(fitted, near, fitted.rho)
    matrix = _symmetric(near.index, value)
    rho = fitted.rho.cpu().numpy()
    log_weight, alpha, power = _log_weight(fitted, matrix, rho, alpha, log_target)
    weight = np.exp(log_weight - log_weight.max())
    walk = scipy.sparse.dia_array((weight, 0), shape=matrix.shape)
    joint = (walk @ matrix @ walk).tocsr()  # reversible: P is this, with rows divided by their sums
    measure = fitted.epsilon * rho**2 * joint.sum(1)
    rates, functions = slowest(joint, measure, n_functions, seed)
    as_given = lambda values: torch.as_tensor(values).to(like)  # noqa: E731
    return DiffusionMap(
        eigenvalues=as_given(rates),
        functions=as_given(functions),
        stationary=as_given(measure / measure.sum()),
        epsilon=fitted.epsilon,
        dimension=fitted.dimension,
        rho=as_given(rho),
        alpha=alpha,
        drift_power=power,
        truncation=0.0 if near.index.shape[1] == len(near) else float(value[:, -1].median()),
        _points=points,
        _near=near,
        _fitted=fitted,
        _weight=torch.as_tensor(weight).to(value),
        _gamma=(scipy.sparse.dia_array((0.5 / measure, 0), shape=matrix.shape) @ joint).tocsr(),
    )


def _log_weight(
    fitted: FittedKernel,
    matrix: scipy.sparse.csr_array,
    rho: np.ndarray,
    alpha: float | None,
    log_target: Float[Tensor, "N"] | None,
) -> tuple[np.ndarray, float, float]:
    """ln of what each point weighs in the walk; alpha and the drift's power of the density, NaN for a target."""
    shift = fitted.beta * (fitted.dimension + 2.0)
    if log_target is None and alpha is None:
        alpha = 0.5 * (1.0 + shift)
        if np.isnan(alpha):
            raise TorchscapeError("with widths of your own (rho), give alpha or log_target too")
    log_q = np.log(matrix.sum(1)) - fitted.dimension * np.log(rho)
    if alpha is not None:
        return -alpha * log_q, float(alpha), float(2.0 - 2.0 * alpha + shift)
    assert log_target is not None
    target = log_target.detach().double().cpu().numpy()
    return 0.5 * target - log_q - 0.5 * (fitted.dimension + 2.0) * np.log(rho), np.nan, np.nan


def _enough(n: int) -> int:
    """Neighbours by default: so many that noise among them is small, but all near beside the whole set."""
    return max(128, min(1024, n // 4, _PAIRS // max(1, n)))


def _symmetric(index: Int[Tensor, "N K"], value: Float[Tensor, "N K"]) -> scipy.sparse.csr_array:
    """The kernel as a sparse matrix: two points are neighbours where either says so."""

    import scipy.sparse
    import scipy.sparse.csgraph

    n, k = index.shape
    kind = np.int32 if 2 * n * k < 2**31 else np.int64  # half the memory to read in every product
    rows = (index.cpu().numpy().reshape(-1).astype(kind), np.arange(0, n * k + 1, k, dtype=kind))
    matrix = scipy.sparse.csr_array((value.cpu().numpy().reshape(-1), *rows), shape=(n, n))
    matrix = matrix.maximum(matrix.T).tocsr()
    matrix.data[matrix.data < _NOTHING] = 0.0
    matrix.eliminate_zeros()
    pieces = scipy.sparse.csgraph.connected_components(matrix, directed=False)[0]
    if pieces > 1:
        raise TorchscapeError(
            f"the points fall apart into {pieces} groups that no kernel value joins: take more neighbours, a "
            "larger epsilon, VariableBandwidth(), or map each group on its own"
        )
    return matrix
