"""Parameters that a set of minima shares: more alike within the set than chance would make them."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch

from torchscape import random
from torchscape.brief import brief
from torchscape.errors import TorchscapeError, UnknownName
from torchscape.memory import ONE_LARGE, rows_that_fit
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT, PART, SEED

__all__ = ["ConservedParameters", "conserved_parameters", "false_discovery"]


@brief
@dataclasses.dataclass(frozen=True)
class ConservedParameters:
    """What a set of K minima among N has in common.

    Attributes:
        is_conserved: the adjusted p-value is at most ``level`` [D].
        p_value: of each parameter by itself [D].
        adjusted: p-values adjusted for the D tests; declaring all below a level conserved keeps the expected
            share of false ones among them below that level [D].
        variance_ratio: variance within the set over variance among all minima; NaN where nothing varies [D].
        mean: of the set [D].
        level: of the false discovery rate.
    """

    is_conserved: Bool[Tensor, "D"]
    p_value: Float[Tensor, "D"]
    adjusted: Float[Tensor, "D"]
    variance_ratio: Float[Tensor, "D"]
    mean: Float[Tensor, "D"]
    level: float


def conserved_parameters(
    aligned: Float[Tensor, "N D"],
    members: Int[Tensor, "K"] | Bool[Tensor, "N"],
    *,
    level: float = 0.05,
    control: Literal["bh", "by"] = "bh",
    n_permutations: int = 9999,
    seed: int = 0,
) -> ConservedParameters:
    """Which parameters vary less within a funnel, a community or any set of minima than within random sets.

    The statistic of parameter j is its sum of squares about the mean of the set. The null hypothesis: the set is a
    draw of K of the N minima, without replacement, every draw equally likely, so far as the value of parameter j
    goes. Under it p_j = (1 + number of random sets that vary no more) / (1 + n_permutations) satisfies
    P(p_j <= a) <= a, with equality at multiples of 1 / (1 + n_permutations) where there are no ties.

    The N minima must have been aligned together, without regard to the set (``learning.align_all`` over all of
    them). Aligned to each other alone, the members agree better than any random set of the common frame, and
    everything looks conserved. A set chosen for its parameters (a cluster in parameter space) is no test either.

    Args:
        aligned: all minima in one frame, members or not.
        members: positions of the set, or a mask; 2 <= K < N.
        level: of the false discovery rate.
        control: "bh" (Benjamini & Hochberg 1995), for tests that are independent or positively dependent, or "by"
            (Benjamini & Yekutieli 2001), for any dependence, at the price of a factor of about ln D.
        n_permutations: random sets. The smallest p-value is 1 / (1 + n_permutations); of D tests, fewer than
            D / (level n_permutations) conserved parameters cannot be told.
        seed: of the random sets.

    O(n_permutations N D), a matrix product for a block of random sets.

    Raises:
        TorchscapeError: if the set has fewer than two members or holds all minima.

    Reference: Niroomand et al., Digital Discovery 3, 637 (2024), doi 10.1039/d3dd00204g, 5.3; Phipson & Smyth,
    Stat. Appl. Genet. Mol. Biol. 9, 39 (2010), doi 10.2202/1544-6115.1585 (p-values from random permutations).

    Example:
        >>> x = random.normal(torch.arange(40), 5)
        >>> x[:10, 2] = 0.7
        >>> conserved_parameters(x, torch.arange(10)).is_conserved.tolist()
        [False, False, True, False, False]
    """
    PART.check("conserved_parameters", level=level)
    COUNT.check("conserved_parameters", n_permutations=n_permutations)
    SEED.check("conserved_parameters", seed=seed)
    n, d = aligned.shape
    inside = _mask(members, n)
    k = int(inside.sum())
    if not 2 <= k < n:
        raise TorchscapeError(
            f"{k} of {n} minima: a set needs two members or more to agree, and others that chance could have drawn"
        )
    centred = aligned.double() - aligned.double().mean(0)
    squares = centred.square()
    spread = squares.sum(0)
    # What does not vary at all beyond rounding says nothing.
    varies = spread > n * (16 * torch.finfo(aligned.dtype).eps * aligned.abs().amax(0).double()) ** 2

    def within(sets: Float[Tensor, "R N"]) -> Float[Tensor, "R D"]:
        return sets @ squares - (sets @ centred).square() / k

    observed = within(inside.double()[None])[0]
    rows = rows_that_fit(max(n, d), aligned.device, on_host=ONE_LARGE)
    keys = random.fold(seed, torch.arange(n_permutations, device=aligned.device))
    no_more = torch.zeros_like(observed)
    for key in keys.split(rows):
        chosen = random.permutation(key, n)[:, :k]
        sets = torch.zeros(len(key), n, dtype=torch.float64, device=aligned.device).scatter_(1, chosen, 1.0)
        no_more += (within(sets) <= observed + 1e-12 * spread).sum(0)
    p_value = torch.where(varies, (1 + no_more) / (1 + n_permutations), 1.0)
    adjusted = false_discovery(p_value, control)
    ratio = torch.where(varies, (observed / (k - 1)) / (spread / (n - 1)), torch.nan)
    mean = aligned[inside].mean(0)
    return ConservedParameters(adjusted <= level, p_value, adjusted, ratio.clamp(min=0), mean, level)


def false_discovery(p_value: Float[Tensor, "D"], control: Literal["bh", "by"] = "bh") -> Float[Tensor, "D"]:
    """P-values adjusted so that those below a level have at most that expected share of false discoveries.

    q_(i) = min over j >= i of p_(j) D c / j, with c = 1 ("bh") or 1 + 1/2 + ... + 1/D ("by").

    Reference: Benjamini & Hochberg, J. R. Stat. Soc. B 57, 289 (1995), doi 10.1111/j.2517-6161.1995.tb02031.x;
    Benjamini & Yekutieli, Ann. Stat. 29, 1165 (2001), doi 10.1214/aos/1013699998.

    Example:
        >>> false_discovery(torch.tensor([0.01, 0.04, 0.03], dtype=torch.float64)).tolist()
        [0.03, 0.04, 0.04]
    """
    d = len(p_value)
    rank = torch.arange(1, d + 1, dtype=p_value.dtype, device=p_value.device)
    factors = {"bh": 1.0, "by": float((1 / rank).sum())}
    if control not in factors:
        raise UnknownName.of("control of the false discovery rate", control, list(factors))
    ordered, order = p_value.sort(stable=True)
    scaled = ordered * (d * factors[control] / rank)
    lowest = scaled.flip(0).cummin(0).values.flip(0).clamp(max=1.0)
    return torch.empty_like(p_value).scatter_(0, order, lowest)


def _mask(members: Tensor, n: int) -> Bool[Tensor, "N"]:
    if members.dtype == torch.bool:
        return members
    mask = torch.zeros(n, dtype=torch.bool, device=members.device)
    mask[members] = True
    return mask
