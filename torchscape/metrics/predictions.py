"""Which test items a minimum gets wrong, and how far two minima differ in that."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.memory import ONE_LARGE, rows_that_fit
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT

__all__ = [
    "JointDensity",
    "MisclassificationDistances",
    "accuracy",
    "cluster_order",
    "joint_density",
    "misclassification_distances",
    "misclassification_index",
    "misclassified",
    "predicted_classes",
    "true_probability",
]

_MOST_COUNTED = 1e5  # beyond, whole numbers are as good as any


def predicted_classes(outputs: Tensor) -> Int[Tensor, "N n"]:
    """The class of every item at every minimum: the largest of C outputs, or the sign of a single logit.

    Args:
        outputs: [N n C], or [N n] or [N n 1] for two classes told apart by one logit (positive is class 1).

    Example:
        >>> predicted_classes(torch.tensor([[[0.1, 0.9], [2.0, -1.0]]])).tolist()
        [[1, 0]]
        >>> predicted_classes(torch.tensor([[0.3, -0.3]])).tolist()
        [[1, 0]]
    """
    if outputs.ndim == 2:
        return (outputs > 0).long()
    if outputs.ndim != 3:
        raise TorchscapeError(
            f"outputs must be [minima, items, classes] or [minima, items], not {_shape(outputs)}"
        )
    return (outputs[:, :, 0] > 0).long() if outputs.shape[2] == 1 else outputs.argmax(2)


def misclassified(outputs: Tensor, labels: Int[Tensor, "n"]) -> Bool[Tensor, "N n"]:
    """Whether each minimum gets each item wrong; an output that is NaN is wrong.

    Args:
        outputs: scores of the classes at every minimum, as for :func:`predicted_classes`.
        labels: the true classes.

    Example:
        >>> misclassified(torch.tensor([[1.0, -1.0], [-2.0, -2.0]]), torch.tensor([1, 1])).tolist()
        [[False, True], [True, True]]
    """
    wrong = predicted_classes(outputs) != labels
    missing = outputs.isnan()
    return wrong | (missing.any(2) if outputs.ndim == 3 else missing)


def accuracy(wrong: Bool[Tensor, "N n"]) -> Float[Tensor, "N"]:
    """The fraction of items that each minimum gets right."""
    return 1.0 - wrong.double().mean(1)


def true_probability(probability: Float[Tensor, "*S n C"], labels: Int[Tensor, "n"]) -> Float[Tensor, "*S n"]:
    """The probability that goes to the true class of each item."""
    index = labels[:, None].expand(*probability.shape[:-1], 1)
    return probability.gather(-1, index)[..., 0]


def misclassification_index(wrong: Bool[Tensor, "N n"], reference: int) -> Float[Tensor, "N"]:
    """The fraction of items that a minimum or the reference, but not both, gets wrong.

    Args:
        wrong: which minimum gets which item wrong (:func:`misclassified`).
        reference: the minimum to compare with, as a rule the global one (``network.global_minimum``).

    Reference: Ballard et al., Phys. Chem. Chem. Phys. 19, 12585 (2017), doi 10.1039/c7cp01108c, III.

    Example:
        >>> wrong = torch.tensor([[True, False, False, False], [False, True, False, False]])
        >>> misclassification_index(wrong, 0).tolist()
        [0.0, 0.5]
    """
    return (wrong ^ wrong[reference]).double().mean(1)


@brief
@dataclasses.dataclass(frozen=True)
class MisclassificationDistances:
    """How far every two minima differ in what they get wrong.

    Attributes:
        value: l_ij, the fraction of items that i or j, but not both, gets wrong [N N].
        error: f_i, the fraction that i gets wrong [N].
    """

    value: Float[Tensor, "N N"]
    error: Float[Tensor, "N"]

    @property
    def maximum(self) -> Float[Tensor, "N N"]:
        """l_max = f_i + f_j: the distance of two minima that share no error."""
        return self.error[:, None] + self.error

    @property
    def independent(self) -> Float[Tensor, "N N"]:
        """f_i + f_j - 2 f_i f_j: the distance to be expected if i and j erred independently of each other."""
        return self.maximum - 2 * self.error[:, None] * self.error

    @property
    def relative(self) -> Float[Tensor, "N N"]:
        """l_ij / l_max, from 0 (the same errors) to 1 (none in common); 0 where neither errs at all."""
        return torch.where(self.maximum > 0, self.value / self.maximum, 0.0)


def misclassification_distances(wrong: Bool[Tensor, "N n"]) -> MisclassificationDistances:
    """The misclassification distance of every two minima.

    l_ij = f_i + f_j - 2 c_ij, with c_ij the fraction of items that both get wrong: 0 for minima with the same
    errors, l_max = f_i + f_j for minima without a common one. It is a metric on sets of errors (the size of their
    symmetric difference).

    Args:
        wrong: which minimum gets which item wrong (:func:`misclassified`).

    O(N^2 n), one matrix product for a block of items.

    Reference: Ballard et al., Phys. Chem. Chem. Phys. 19, 12585 (2017), doi 10.1039/c7cp01108c, V and Fig. 8.

    Example:
        >>> wrong = torch.tensor([[True, True, False, False], [False, True, True, False]])
        >>> found = misclassification_distances(wrong)
        >>> found.value.tolist(), found.maximum[0, 1].item()
        ([[0.0, 0.5], [0.5, 0.0]], 1.0)
    """
    n_minima, n = wrong.shape
    if n == 0:
        raise TorchscapeError("there are no test items: give at least one")
    both = torch.zeros(n_minima, n_minima, dtype=torch.float64, device=wrong.device)
    for part in wrong.split(rows_that_fit(n_minima, wrong.device, on_host=ONE_LARGE), 1):
        errs = part.double()
        both += errs @ errs.mT  # counts, exact in float64
    count = both.diagonal().clone()
    return MisclassificationDistances((count[:, None] + count - 2 * both) / n, count / n)


def cluster_order(distances: Float[Tensor, "N N"], method: str = "average") -> Int[Tensor, "N"]:
    """The minima in the order of the leaves of a hierarchical clustering, neighbours as close as may be.

    Up to 500 minima the leaves are ordered optimally (Bar-Joseph, Gifford & Jaakkola, Bioinformatics 17, S22
    (2001), doi 10.1093/bioinformatics/17.suppl_1.S22); beyond, as the clustering leaves them.

    Args:
        distances: symmetric, zero on the diagonal.
        method: how groups are joined, in SciPy's words ("average", "complete", "single", "ward").

    O(N^2); the optimal order O(N^3).

    Example:
        >>> far = torch.tensor([[0.0, 9.0, 1.0], [9.0, 0.0, 9.0], [1.0, 9.0, 0.0]])
        >>> cluster_order(far).tolist() in ([0, 2, 1], [2, 0, 1], [1, 0, 2], [1, 2, 0])
        True
    """
    from scipy.cluster.hierarchy import leaves_list

    if len(distances) < 2:
        return torch.arange(len(distances), device=distances.device)
    return torch.as_tensor(leaves_list(linkage_of(distances, method)).astype("int64"), device=distances.device)


def linkage_of(distances: Float[Tensor, "N N"], method: str = "average"):
    """SciPy's linkage matrix of a symmetric matrix of distances, N >= 2."""
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    if not bool(distances.isfinite().all()):
        raise TorchscapeError("the distances are not all finite: leave out the minima without predictions")
    condensed = squareform(distances.detach().double().cpu().numpy(), checks=False)
    return linkage(condensed, method=method, optimal_ordering=len(distances) <= 500)


@brief
@dataclasses.dataclass(frozen=True)
class JointDensity:
    """How often two distances occur together, over all pairs of minima.

    Attributes:
        density: probability per area of each cell; integrates to one [X Y].
        x_edges, y_edges: limits of the cells [X+1], [Y+1].
    """

    density: Float[Tensor, "X Y"]
    x_edges: Float[Tensor, "X1"]
    y_edges: Float[Tensor, "Y1"]


def joint_density(
    x: Float[Tensor, "N N"],
    y: Float[Tensor, "N N"],
    bins: int = 40,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
) -> JointDensity:
    """The joint density of two distances over the N (N - 1) / 2 pairs of minima.

    Args:
        x, y: symmetric matrices, for instance the distance in parameter space and the misclassification distance.
        bins: cells along each side, at most.
        x_range, y_range: limits; by default from zero to the largest value. A distance that counts something (the
            misclassification distance: items) is binned between its counts, so many of them in each cell: cells
            that hold now more, now fewer of them would show stripes.

    O(N^2), the number of pairs.

    Reference: Ballard et al. (2017), doi 10.1039/c7cp01108c, Fig. 9.

    Example:
        >>> d = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 2.0], [2.0, 2.0, 0.0]])
        >>> found = joint_density(d, d / 2, bins=2)
        >>> (found.density * found.x_edges.diff()[:, None] * found.y_edges.diff()).sum().item()
        1.0
    """
    COUNT.check("joint_density", bins=bins)
    if x.shape != y.shape or len(x) < 2:
        raise TorchscapeError(f"distances {_shape(x)} and {_shape(y)}: give two matrices over the same minima")
    upper = torch.triu_indices(len(x), len(x), 1, device=x.device)
    a, b = (matrix[upper[0], upper[1]].double() for matrix in (x, y))
    edges = [_edges(values, bins, limits) for values, limits in ((a, x_range), (b, y_range))]
    pairs = torch.stack([a, b], 1).cpu()
    density = torch.histogramdd(pairs, bins=edges, density=True).hist
    return JointDensity(*(part.to(x.device) for part in (density, *edges)))


def _edges(values: Float[Tensor, "P"], bins: int, limits: tuple[float, float] | None) -> Float[Tensor, "K"]:
    low, high = limits or (0.0, float(values.max()) or 1.0)
    unit = None if limits else _unit(values)
    if unit is None:
        return torch.linspace(low, high, bins + 1, dtype=torch.float64)
    counts = round(high / unit) + 1  # from zero on
    each = -(-counts // bins)
    return unit * (each * torch.arange(-(-counts // each) + 1, dtype=torch.float64) - 0.5)


def _unit(values: Float[Tensor, "P"]) -> float | None:
    """What all values are whole multiples of, where they count something; None where they do not."""
    different = torch.cat([values.new_zeros(1), values]).unique()
    steps = different.diff()
    steps = steps[steps > 1e-9 * different[-1]]
    if len(steps) == 0 or float(different[-1] / steps.min()) > _MOST_COUNTED:
        return None
    unit = float(different[-1] / (different[-1] / steps.min()).round())
    multiples = different / unit
    return unit if bool(((multiples - multiples.round()).abs() < 1e-4).all()) else None


def _shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))
