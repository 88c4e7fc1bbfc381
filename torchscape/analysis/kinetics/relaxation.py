"""How populations relax: time evolution from any start, and the spectrum of relaxation times."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch

from torchscape.analysis.kinetics.rate_theory import Rates
from torchscape.analysis.kinetics.transformation import as_arrays, span
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.sparse import links
from torchscape.types import Float, Tensor

__all__ = ["RelaxationSpectrum", "evolve", "relaxation_spectrum"]

_LONG_SERIES = 2000.0
_DENSE_LIMIT = 4000


@brief
@dataclasses.dataclass(frozen=True)
class RelaxationSpectrum:
    """Eigenvalues of the rate matrix, K phi = -rate phi.

    Attributes:
        rates: [K], ascending; one zero for each connected component comes first.
        modes: [N K], orthonormal eigenvectors v of the symmetrised matrix; phi_a = v_a p_a^(1/2) says where
            population comes from and goes to, psi_a = v_a / p_a^(1/2) is its slow coordinate.
    """

    rates: Float[Tensor, "K"]
    modes: Float[Tensor, "N K"]

    @property
    def times(self) -> Float[Tensor, "K"]:
        """Relaxation times 1 / rate; inf for the stationary modes."""
        return 1 / self.rates


def evolve(
    rates: Rates, start: Float[Tensor, "N"], times: float | list[float] | Float[Tensor, "S"]
) -> Float[Tensor, "S N"]:
    """Occupation probabilities p(t) = exp(K t) p(0) at any times, however stiff the rates.

    With q the fastest escape rate and P = 1 + K / q (a matrix without negative entries),
    exp(K t) = sum_n e^(-qt) (qt)^n / n! P^n: uniformisation, which only adds. It is summed directly for q t up to
    2000, at O(E q t). Beyond that exp(K t) is squared up from a short time, log2(q t) times O(N^3), with the
    largest entry of each column set from the sum of the others, so that probability is conserved and slow rates,
    however small, keep their digits.

    Args:
        rates: the network of rates.
        start: [N], non-negative; its sum is conserved.
        times: [S], not negative.

    Raises:
        TorchscapeError: for negative times or probabilities, or if a stiff problem has more than 4000 minima.

    References: Jensen (1953), doi 10.1080/03461238.1953.10419459;
    Grassmann (1977), doi 10.1016/0305-0548(77)90007-7.

    Example:
        >>> from torchscape.analysis import rates
        >>> from torchscape.network import Network
        >>> two = rates(Network.of([0.0, 0.0], [(0, 1)], [1.0]), 1.0)
        >>> evolve(two, torch.tensor([1.0, 0.0], dtype=torch.float64), [0.0, 1e6]).round(decimals=9).tolist()
        [[1.0, 0.0], [0.5, 0.5]]
    """
    t = np.atleast_1d(np.asarray(torch.as_tensor(times, dtype=torch.float64).cpu()))
    p0 = start.double().cpu().numpy()
    if len(p0) != rates.n_minima or (p0 < 0).any() or not np.isfinite(p0).all():
        raise TorchscapeError(f"start must hold {rates.n_minima} non-negative probabilities, one per minimum")
    if (t < 0).any() or not np.isfinite(t).all():
        raise TorchscapeError("times must be finite and not negative")
    escape = rates.log_escape_rates.double().exp().cpu().numpy()
    q = float(escape.max(initial=0.0))
    if not np.isfinite(q):
        raise TorchscapeError("a rate overflows float64: rescale the energies or raise the temperature")
    if q == 0.0:
        return torch.as_tensor(np.tile(p0, (len(t), 1))).to(rates.log_occupation)
    step = _uniformised(rates, escape, q)
    longest = float(t.max(initial=0.0))
    if q * longest <= _LONG_SERIES:
        return torch.as_tensor(_series(step, p0, q * t)).to(rates.log_occupation)
    if rates.n_minima > _DENSE_LIMIT:
        raise TorchscapeError(
            f"the fastest rate times the longest time is {q * longest:.1e} and there are {rates.n_minima} minima: "
            "shorten the times, or eliminate fast minima first with graph_transformation"
        )
    return torch.as_tensor(_squared(step, p0, q, t)).to(rates.log_occupation)


def relaxation_spectrum(rates: Rates) -> RelaxationSpectrum:
    """All relaxation rates, each to nearly full relative accuracy however many orders of magnitude they span.

    The symmetrised rate matrix S_ab = c_ab / (p_a p_b)^(1/2) has S p^(1/2) = 0. Gaussian elimination with diagonal
    pivoting, the pivots taken as sums (nothing is subtracted), gives a rank-revealing S = -L D L^T; the singular
    values of L D^(1/2), by a one-sided Jacobi method, are the square roots of the relaxation rates. A plain
    eigenvalue solver would lose every rate below 1e-16 of the fastest. Cost O(N^3); for thousands of minima reduce
    the network with :func:`~torchscape.analysis.graph_transformation` first.

    Raises:
        TorchscapeError: if rates or occupations span more than float64 can hold.

    References: Demmel, Gu, Eisenstat, Slapničar, Veselić & Drmač (1999), doi 10.1016/S0024-3795(99)00134-2;
    Alfa, Xue & Ye (2002), doi 10.1090/S0025-5718-01-01325-4; Drmač & Veselić (2008), doi 10.1137/05063920X.

    Example:
        >>> from torchscape.analysis import rates
        >>> from torchscape.network import Network
        >>> two = rates(Network.of([0.0, 0.0], [(0, 1)], [1.0]), 1.0)
        >>> (relaxation_spectrum(two).rates / two.log_rates.exp().sum()).round(decimals=9).tolist()
        [0.0, 1.0]
    """
    from scipy.linalg.lapack import dgejsv

    i, j, log_c, log_p = as_arrays(rates)
    n = rates.n_minima
    log_s = log_c - (log_p[i] + log_p[j]) / 2
    if span(log_s) > 500 or span(log_p) > 1000:
        raise TorchscapeError(
            "the rates span more orders of magnitude than float64 can hold: raise the temperature, or keep the "
            "slow minima only with graph_transformation"
        )
    scale = float(log_s.max()) if len(log_s) else 0.0
    off = np.zeros((n, n))
    off[i, j] = off[j, i] = np.exp(log_s - scale)
    lower, pivots, order = _pivoted(off, np.exp((log_p - log_p.max()) / 2))
    rank = len(pivots)
    # The stationary modes, one for each component, are known in closed form: p^(1/2) on the component.
    modes = _stationary(n, i, j, log_p)
    values = np.zeros(modes.shape[1])
    if rank:
        factor = np.empty((n, rank))
        factor[order] = lower * np.sqrt(pivots)
        # joba=0: full relative accuracy for a well-conditioned matrix times a diagonal one; jobu=0: left vectors.
        sigma, u, _, work, _, info = dgejsv(factor, joba=0, jobu=0, jobv=3, jobr=0, jobp=0)
        if info:
            raise TorchscapeError(f"the Jacobi singular value decomposition did not converge (info {info})")
        sigma = sigma * (work[0] / work[1])
        slow_first = np.argsort(sigma)
        values = np.concatenate([values, sigma[slow_first] ** 2 * math.exp(scale)])
        modes = np.concatenate([modes, u[:, :rank][:, slow_first]], 1)
    like = rates.log_occupation
    return RelaxationSpectrum(torch.as_tensor(values).to(like), torch.as_tensor(modes).to(like))


def _pivoted(off: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """L D L^T of the matrix with off-diagonals -off and null vector v, rows of L in the order of elimination."""
    n = len(v)
    order = np.arange(n)
    columns: list[np.ndarray] = []
    pivots: list[float] = []
    for k in range(n):
        rest = off[k:, k:]
        diagonal = (rest @ v[order[k:]]) / v[order[k:]]
        best = int(diagonal.argmax())
        if not diagonal[best] > 0:
            break
        if best:
            swap = np.array([k, k + best])
            order[swap] = order[swap[::-1]]
            off[swap] = off[swap[::-1]]
            off[:, swap] = off[:, swap[::-1]]
            for column in columns:
                column[swap] = column[swap[::-1]]
        row = off[k, k + 1 :].copy()
        column = np.zeros(n)
        column[k], column[k + 1 :] = 1.0, -row / diagonal[best]
        columns.append(column)
        pivots.append(float(diagonal[best]))
        off[k + 1 :, k + 1 :] += np.outer(row, row / diagonal[best])
        np.fill_diagonal(off, 0.0)
    lower = np.stack(columns, 1) if columns else np.zeros((n, 0))
    return lower, np.array(pivots), order


def _stationary(n: int, i: np.ndarray, j: np.ndarray, log_p: np.ndarray) -> np.ndarray:
    from scipy.sparse.csgraph import connected_components

    count, labels = connected_components(links(1.0, i, j, n), directed=False)
    modes = np.zeros((n, count))
    modes[np.arange(n), labels] = np.exp((log_p - log_p.max()) / 2)
    for c in range(count):
        inside = log_p[labels == c]
        modes[labels == c, c] = np.exp((inside - np.logaddexp.reduce(inside)) / 2)
    return modes


def _uniformised(rates: Rates, escape: np.ndarray, q: float):
    """P = 1 + K / q as a sparse matrix; columns sum to one, entries are not negative."""
    from scipy.sparse import coo_array

    i, j, log_c, log_p = as_arrays(rates)
    n = rates.n_minima
    here = np.arange(n)
    row, column = np.concatenate([j, i, here]), np.concatenate([i, j, here])
    off = np.exp(np.concatenate([log_c - log_p[i], log_c - log_p[j]])) / q
    return coo_array((np.concatenate([off, (q - escape) / q]), (row, column)), shape=(n, n)).tocsr()


def _series(step, p0: np.ndarray, qt: np.ndarray) -> np.ndarray:
    """sum_n Poisson(n; qt) P^n p0 for all qt at once."""
    from scipy.special import gammaln

    longest = float(qt.max(initial=0.0))
    n_terms = int(longest + 10 * math.sqrt(longest) + 40)
    with np.errstate(divide="ignore"):
        log_qt = np.log(qt)
    result = np.zeros((len(qt), *p0.shape))
    v = p0
    for n in range(n_terms):
        power = n * log_qt if n else np.zeros_like(qt)
        weight = np.exp(power - qt - gammaln(n + 1))
        result += weight.reshape(-1, *[1] * p0.ndim) * v
        v = step @ v
    return result


def _squared(step, p0: np.ndarray, q: float, times: np.ndarray) -> np.ndarray:
    """exp(K t) p0 from binary powers of exp(K dt), built by repeated squaring, applied to all times on the way."""
    n_squarings = max(0, math.ceil(math.log2(q * float(times.max()))))
    dt = float(times.max()) / 2.0**n_squarings
    # fmod is exact; t - count * dt would be off by more than dt once count exceeds 2^53.
    remainders = np.fmod(times, dt)
    counts = [int((t - r) / dt) for t, r in zip(times.tolist(), remainders.tolist(), strict=True)]
    p = torch.as_tensor(_series(step, p0, q * remainders)).T.contiguous()
    ladder = torch.as_tensor(_series(step, np.eye(len(p0)), np.array([q * dt]))[0])
    while True:
        _conserve(ladder)
        odd = torch.tensor([k for k, count in enumerate(counts) if count & 1], dtype=torch.int64)
        p[:, odd] = ladder @ p[:, odd]
        counts = [count >> 1 for count in counts]
        if not any(counts):
            return p.T.numpy()
        ladder = ladder @ ladder


def _conserve(matrix: Float[Tensor, "N N"]) -> None:
    """Sets the largest entry of each column to one minus the others: they carry the small rates, it does not."""
    top = matrix.argmax(0, keepdim=True)
    matrix.scatter_(0, top, 0.0)
    matrix.scatter_(0, top, 1.0 - matrix.sum(0, keepdim=True))
