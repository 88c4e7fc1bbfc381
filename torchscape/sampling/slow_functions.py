"""The slowest functions of a reversible walk on many points: a block method with a coarse walk beside it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch

from torchscape import random
from torchscape.errors import TorchscapeError
from torchscape.validation import COUNT, SEED

if TYPE_CHECKING:
    import scipy.sparse

__all__ = ["slowest"]

_DENSE_POINTS = 1000  # up to so many, all eigenpairs of a dense matrix are quicker than a few of a sparse one
_COARSE = 1500  # groups of points, at most about
_GUARDS = 6  # functions carried along beside those wanted
_ROUNDS, _STEPS = 30, 15
_TOL = 1e-4  # of a residual, beside the lowest eigenvalue: eigenvalues are good to its square


def slowest(
    joint: scipy.sparse.csr_array, measure: np.ndarray, n_functions: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lowest eigenpairs of diag(measure)^-1 (row sums - joint), the trivial one left out, ascending.

    LOBPCG on all functions at once, so that no copy of a multiple eigenvalue is missed. It starts from, and is
    preconditioned by, the walk between groups of neighbouring points, which knows what is slow: a few dozen
    products with the matrix are enough, where Lanczos takes thousands for 10^5 points.

    Args:
        joint: a symmetric matrix of joint probabilities, up to a factor [N N].
        measure: of every point, times its time scale [N].
        n_functions: how many.
        seed: of the choice of groups.

    Returns:
        Eigenvalues [M] and functions of mean square 1 in the measure, the largest entry positive [N M].

    Reference: Knyazev, SIAM J. Sci. Comput. 23, 517 (2001), doi 10.1137/S1064827500366124.

    Example:
        >>> import scipy.sparse
        >>> chain = scipy.sparse.csr_array(np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]))
        >>> slowest(chain, np.ones(3), 2, seed=0)[0].round(9).tolist()
        [1.0, 3.0]
    """

    import scipy.linalg
    import scipy.sparse

    COUNT.check("slowest", n_functions=n_functions)
    SEED.check("slowest", seed=seed)
    n = len(measure)
    m = min(n_functions, n - 1)
    root = 1.0 / np.sqrt(measure)
    outer = scipy.sparse.dia_array((root, 0), shape=joint.shape)
    degree = scipy.sparse.dia_array((joint.sum(1) / measure, 0), shape=joint.shape)
    laplacian = (degree - outer @ joint @ outer).tocsr()
    if n <= max(_DENSE_POINTS, 8 * (m + _GUARDS)):
        values, vectors = scipy.linalg.eigh(laplacian.toarray(), subset_by_index=(1, m))
    else:
        values, vectors = _by_blocks(joint, laplacian, np.sqrt(measure), m, seed)
    functions = vectors * root[:, None]
    functions *= np.sqrt(measure.sum()) / np.linalg.norm(functions * np.sqrt(measure)[:, None], axis=0)
    largest = functions[np.abs(functions).argmax(0), np.arange(m)]
    return values, functions * np.sign(largest)


def _by_blocks(
    joint: scipy.sparse.csr_array, laplacian: scipy.sparse.csr_array, trivial: np.ndarray, m: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    import scipy.linalg
    import scipy.sparse
    import scipy.sparse.linalg

    group = _groups(joint, seed)
    n, n_groups = len(group), int(group.max()) + 1
    # Orthonormal columns, which hold the trivial function.
    length = np.sqrt(np.bincount(group, trivial**2))
    up = scipy.sparse.csr_array((trivial / length[group], group, np.arange(n + 1)), shape=(n, n_groups))
    coarse = (up.T @ laplacian @ up).toarray()
    width = min(m + _GUARDS, n_groups - 1)
    rough, vectors = scipy.linalg.eigh(coarse, subset_by_index=(0, width))
    factor = scipy.linalg.cho_factor(coarse + max(rough[1], 1e-12 * rough[-1]) * np.eye(n_groups))
    smooth = 1.0 / laplacian.diagonal()[:, None]

    def precondition(residual: np.ndarray) -> np.ndarray:
        residual = residual.reshape(n, -1)
        return up @ scipy.linalg.cho_solve(factor, up.T @ residual) + smooth * residual

    operator = scipy.sparse.linalg.LinearOperator(
        (n, n), matvec=precondition, matmat=precondition, dtype=np.float64
    )
    constant = (trivial / np.linalg.norm(trivial))[:, None]
    x = up @ vectors[:, 1:]
    floor = 1e-12 * float(laplacian.diagonal().max())
    for _ in range(_ROUNDS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that guards have not converged is no news
            values, x = scipy.sparse.linalg.lobpcg(
                laplacian, x, M=operator, Y=constant, tol=floor, maxiter=_STEPS, largest=False
            )
        residual = np.linalg.norm(laplacian @ x[:, :m] - x[:, :m] * values[:m], axis=0)
        if (residual <= np.maximum(_TOL * np.maximum(values[:m], 0.0), floor)).all():
            return values[:m], x[:, :m]
    n_done = int((residual <= np.maximum(_TOL * np.maximum(values[:m], 0.0), floor)).sum())
    raise TorchscapeError(
        f"{n_done} of {m} functions were found: some points hardly hold on to the others; take a larger epsilon, "
        "VariableBandwidth(), or fewer functions"
    )


def _groups(joint: scipy.sparse.csr_array, seed: int) -> np.ndarray:
    """A group for every point: that of a landmark, or of the neighbour it is most with that has one already."""
    n = joint.shape[0]
    chance = random.uniform(random.fold(seed, torch.arange(n)), 1)[:, 0].numpy()
    group = np.full(n, -1)
    landmarks = np.flatnonzero(chance <= np.sort(chance)[min(_COARSE, n // 8)])
    group[landmarks] = np.arange(len(landmarks))
    rows = np.repeat(np.arange(n), np.diff(joint.indptr))
    while (group < 0).any():
        weight = np.where(group[joint.indices] >= 0, joint.data, 0.0)
        best = np.maximum.reduceat(weight, joint.indptr[:-1])
        hits = np.flatnonzero((weight == best[rows]) & (weight > 0.0) & (group[rows] < 0))
        if len(hits) == 0:  # a piece without a landmark: each of its points on its own
            alone = np.flatnonzero(group < 0)
            group[alone] = group.max() + 1 + np.arange(len(alone))
            break
        group[rows[hits]] = group[joint.indices[hits]]
    return group
