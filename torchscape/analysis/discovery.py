"""How complete a landscape is: what its hit counts say about the points that nothing has found yet."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, Protocol, runtime_checkable

import torch

from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.types import Float, Int, Tensor
from torchscape.validation import PART

__all__ = ["Completeness", "Coverage", "HasNetwork", "Saturation", "completeness", "coverage", "saturation"]

_POINTS = 120  # of a saturation curve, where no sizes are asked for


@runtime_checkable
class HasNetwork(Protocol):
    """Anything that hands out its network, as a :class:`~torchscape.landscape.Landscape` does."""

    def network(self) -> Network: ...


@dataclasses.dataclass(frozen=True)
class Saturation:
    """Number of distinct points found against number of searches: rarefied up to what was done, extrapolated on.

    Attributes:
        searches: m [T].
        found: expected number of distinct points that m searches find, S(m).
        lower, upper: confidence limits of S(m), for searches made anew.
        n_searches: n, the searches that were made; larger m are extrapolated.
        level: of the confidence limits.
    """

    searches: Int[Tensor, "T"]
    found: Float[Tensor, "T"]
    lower: Float[Tensor, "T"]
    upper: Float[Tensor, "T"]
    n_searches: int
    level: float


@dataclasses.dataclass(frozen=True)
class Completeness:
    """How much of one kind of point (minima, or transition states) has been found.

    Attributes:
        n_known: points known, with or without a hit.
        n_found: S, points that at least one search ended in.
        n_hits: n, searches that ended in one of them.
        n_once, n_twice: f1 and f2, points hit exactly once and exactly twice.
        coverage: estimated probability that the next search ends in a point that was hit before.
        coverage_interval: confidence limits of the coverage.
        richness: estimated lower bound of the number of points that such searches can find at all (Chao1).
        richness_interval: confidence limits of that bound, for draws of equal probability limits of the number.
        level: of the confidence limits.

    All estimates are NaN where nothing was hit.
    """

    n_known: int
    n_found: int
    n_hits: int
    n_once: int
    n_twice: int
    coverage: float
    coverage_interval: tuple[float, float]
    richness: float
    richness_interval: tuple[float, float]
    level: float

    @property
    def at_least(self) -> float:
        """At least so many points exist: the larger of what the estimate says and of what is known already."""
        return max(self.richness, float(self.n_known)) if self.n_hits else math.nan

    @property
    def is_growing(self) -> bool:
        """Whether as many searches again are expected to find at least one point more."""
        return bool(self.n_hits) and self.expected_new(self.n_hits) >= 1.0

    @property
    def n_missing(self) -> float:
        """At least so many points are not known yet: ``richness - n_known``, or 0 where more are known."""
        return max(self.richness - self.n_known, 0.0) if self.n_hits else math.nan

    def expected_new(self, searches: int) -> float:
        """Expected number of points without a hit so far that so many further searches end in.

        f0 [1 - (1 - f1 / (n f0 + f1))^m] with f0 = ``richness`` - S; good for m up to about n.

        Reference: Colwell et al. (2012), doi 10.1093/jpe/rtr044, eq. 9.
        """
        if not self.n_hits:
            return math.nan
        unseen = _Unseen.of(self.n_once, self.n_twice)
        return float(unseen.emerging(self.n_hits, torch.tensor([searches], dtype=torch.float64)))

    def summary(self) -> dict[str, Any]:
        """Everything as plain numbers, with what as many searches again are expected to add."""
        plain = dataclasses.asdict(self)
        plain.update({name: list(plain[name]) for name in ("coverage_interval", "richness_interval")})
        return {
            **plain,
            "at_least": self.at_least,
            "n_missing": self.n_missing,
            "expected_new": self.expected_new(self.n_hits),
            "is_growing": self.is_growing,
        }

    def said(self, of: str = "points") -> list[str]:
        """What the numbers mean, in two sentences: the share of searches, and the number of points.

        Example:
            >>> for sentence in completeness(torch.tensor([7, 2, 1, 0])).said("minima"):
            ...     print(sentence)
            91.8% of searches end in minima already known (...)
            at least 4 minima in all, 1 of them without a hit
        """
        if not self.n_hits:
            return [f"no search has ended in any of the {of}"]
        low, high = self.coverage_interval
        share = f"{self.coverage:.1%} of searches end in {of} already known ({low:.1%} to {high:.1%})"
        without = self.n_known - self.n_found
        number = f"at least {math.ceil(self.at_least - 1e-9)} {of} in all"
        if without:
            number += f", {without} of them without a hit"
        if self.is_growing:
            number += f", still growing (as many searches again: {self.expected_new(self.n_hits):.0f} more)"
        return [share, number]


@dataclasses.dataclass(frozen=True)
class Coverage:
    """Completeness of the minima and of the transition states, degenerate rearrangements included.

    Attributes:
        minima, transition_states: how much of each has been found.
        minima_hits, transition_state_hits: searches that ended in each of them.
    """

    minima: Completeness
    transition_states: Completeness
    minima_hits: Int[Tensor, "N"] = dataclasses.field(compare=False, repr=False)
    transition_state_hits: Int[Tensor, "E"] = dataclasses.field(compare=False, repr=False)

    def found(self) -> dict[str, Completeness]:
        """The completeness of each kind of point that was hit at all ("minima", "transition states")."""
        both = {"minima": self.minima, "transition states": self.transition_states}
        return {name: estimate for name, estimate in both.items() if estimate.n_hits}

    def curves(self) -> dict[str, Saturation]:
        """The saturation curve of each kind of point that was hit at all, at the level of the estimates."""
        hits = {"minima": self.minima_hits, "transition states": self.transition_state_hits}
        return {name: saturation(hits[name], level=estimate.level) for name, estimate in self.found().items()}

    def summary(self) -> dict[str, dict[str, Any]]:
        """Everything as plain numbers."""
        return {"minima": self.minima.summary(), "transition_states": self.transition_states.summary()}


def coverage(network: Network | HasNetwork, *, level: float = 0.95) -> Coverage:
    """Estimates of how complete a network is, from how often its minima and transition states were hit.

    A minimum has one hit for every quench that ended in it, a transition state one for every search (a climb, or
    the path between a pair of minima) that did. What is only known as the end of some downhill path has none: such
    ends come in correlated twos and would count the neighbourhood of what was found as if it had been searched.

    The estimates take hits for independent draws that end in point i with a fixed probability p_i. What searches
    really do makes them err on a known side, and this is how to read them:

    - The p_i differ by orders of magnitude (basins have all sizes, and basin-hopping is drawn downhill), and
      nothing can be learnt about points whose p_i n is far below 1. ``richness`` is a lower bound even for perfect
      draws, and points outside the reach of the searches made are in no estimate at all.
    - Successive quenches of one walker repeat each other. Repeats raise counts without looking elsewhere, which
      makes ``coverage`` too high, ``richness`` too low and all intervals too narrow; restarts and many short
      walks suffer least.
    - Pairs of minima to connect are chosen, each once, not drawn: for transition states found by paths alone
      ``coverage`` speaks about pairs like those that were chosen.
    - ``coverage`` is a share of *searches*, not of points: with 99 % there may be as many unknown points as known
      ones, that one search in a hundred ends in. Of the 12 transition states of LJ_7, some 220 climbs in random
      directions from its minima hit 11, nearly all of them often: coverage 99.5 %, richness 11.0, and one missing.

    A low coverage is always news; a high one deserves a check by searches of another kind.

    Args:
        network: a network, or anything with a ``network()``, as a landscape.
        level: of the confidence limits.

    References: Good (1953), doi 10.1093/biomet/40.3-4.237; Chao (1987), doi 10.2307/2531532; Chao & Jost (2012),
    doi 10.1890/11-1952.1; the equations are with :func:`completeness` and :func:`saturation`.

    Example:
        >>> network = Network.of([0.0, 0.1, 0.2], [(0, 1), (1, 2)], [1.0, 1.1], hits=[7, 2, 1], ts_hits=[3, 0])
        >>> estimate = coverage(network)
        >>> round(estimate.minima.coverage, 3), estimate.minima.richness
        (0.918, 3.0)
        >>> estimate.transition_states.n_known, estimate.transition_states.n_found
        (2, 1)
    """
    PART.check("coverage", level=level)
    if not isinstance(network, Network):
        network = network.network()
    minima, ts = network.hits, network.all_ts_hits
    return Coverage(completeness(minima, level=level), completeness(ts, level=level), minima, ts)


def completeness(hits: Int[Tensor, "N"], *, level: float = 0.95) -> Completeness:
    """Sample coverage and richness from the number of hits of every known point.

    With n hits on S points, f1 of them hit once and f2 twice:

    - coverage C = 1 - (f1 / n) (n - 1) f1 / ((n - 1) f1 + 2 f2), the Good-Turing estimate with the correction of
      Chao & Jost (eq. 4a; without f2, the form with f1 - 1 in the place of f1 and 1 in that of f2). Its limits
      solve (f1 - e)^2 = z^2 (e - e^2 / n + 2 f2) for e = n (1 - C): the variance is Esty's, in the score form
      that does not shrink to nothing where f1 does.
    - richness S + f1 (f1 - 1) / (2 (f2 + 1)), Chao1 in its bias-corrected form, with its log-normal interval. The
      number of points being whole, read the limits outwards: 49.2 to 52.1 is 49 to 53.

    Args:
        hits: searches that ended in each point; 0 for known points that none did.
        level: of the confidence limits.

    References: Chao & Jost (2012), doi 10.1890/11-1952.1; Esty (1983), doi 10.1214/aos/1176346256; Chao (1987),
    doi 10.2307/2531532, and for the bias-corrected form with its variance Colwell, EstimateS user's guide,
    appendix B, eqs. 2, 6-8, 13 and 14.

    Example:
        >>> counts = torch.tensor([1, 1, 4, 2, 5, 2, 4, 1, 2])
        >>> estimate = completeness(counts)
        >>> estimate.richness, [round(limit, 2) for limit in estimate.richness_interval]
        (9.75, [9.07, 17.45])
    """
    PART.check("completeness", level=level)
    z = _z(level)
    n, s, f1, f2 = _frequencies(hits)
    known = (len(hits), s, n, f1, f2)
    if n == 0:
        nothing = (math.nan, math.nan)
        return Completeness(*known, math.nan, nothing, math.nan, nothing, level)
    unseen = _Unseen.of(f1, f2)
    return Completeness(
        *known,
        coverage=_coverage(n, f1, f2),
        coverage_interval=_coverage_interval(n, f1, f2, z),
        richness=s + unseen.f0,
        richness_interval=_richness_interval(n, s, unseen, z),
        level=level,
    )


def saturation(
    hits: Int[Tensor, "N"],
    searches: Sequence[int] | Int[Tensor, "T"] | None = None,
    *,
    level: float = 0.95,
) -> Saturation:
    """The number of distinct points against the number of searches, with confidence limits.

    For m up to the n searches that were made, what m of them drawn at random would have found (rarefaction),

        S(m) = S - sum_k f_k C(n - k, m) / C(n, m),

    beyond, what m - n more are expected to add, S(m) = S + f0 [1 - (1 - f1 / (n f0 + f1))^(m - n)], which tends
    to the Chao1 richness S + f0. The limits are S(m) -+ z sigma(m), with the variance of a repeated experiment.
    Trust extrapolation to about 2 n.

    Args:
        hits: searches that ended in each point.
        searches: the numbers m; by default from 1 to 2 n, more of them early, with n among them.
        level: of the confidence limits.

    Raises:
        TorchscapeError: if nothing was hit, or some m is below 1.

    Reference: Colwell et al. (2012), doi 10.1093/jpe/rtr044, eqs. 4, 5, 9 and 10.

    Example:
        >>> curve = saturation(torch.tensor([3, 1, 1]), [1, 5, 10])
        >>> [round(s, 4) for s in curve.found.tolist()]
        [1.0, 3.0, 3.8141]
    """
    PART.check("saturation", level=level)
    z = _z(level)
    n, s, f1, f2 = _frequencies(hits)
    if n == 0:
        raise TorchscapeError("no search has hit anything: a saturation curve needs at least one hit")
    if searches is None:
        evenly = torch.linspace(1, max(2 * n, 2), _POINTS, dtype=torch.float64)
        early = torch.logspace(0, math.log10(n), _POINTS // 3, dtype=torch.float64)
        m = torch.cat([evenly, early, evenly.new_tensor([n])]).round().long().unique()
    else:
        m = torch.as_tensor(searches, dtype=torch.int64, device="cpu").reshape(-1)
    if bool((m < 1).any()):
        raise TorchscapeError("a saturation curve begins with one search: give numbers of searches >= 1")
    unseen = _Unseen.of(f1, f2)
    counts, f = hits[hits > 0].cpu().unique(return_counts=True)
    inside, variance_inside = _rarefied(m.clamp(max=n), counts, f.double(), n, s + unseen.f0)
    further = (m - n).clamp(min=0).double()
    beyond, variance_beyond = unseen.emerging(n, further), unseen.variance(n, s, further)
    sigma = torch.where(m <= n, variance_inside, variance_beyond).clamp(min=0).sqrt()
    found = inside + beyond
    return Saturation(m, found, (found - z * sigma).clamp(min=0), found + z * sigma, n, level)


@dataclasses.dataclass(frozen=True)
class _Unseen:
    """Chao1's number f0 of points without a hit, and its derivatives by f1 and f2."""

    f1: int
    f2: int
    f0: float
    d1: float
    d2: float

    @classmethod
    def of(cls, f1: int, f2: int) -> _Unseen:
        f0 = f1 * (f1 - 1) / (2 * (f2 + 1))
        return cls(f1, f2, f0, (2 * f1 - 1) / (2 * (f2 + 1)) if f1 else 0.0, -f0 / (f2 + 1))

    def emerging(self, n: int, m: Float[Tensor, "T"]) -> Float[Tensor, "T"]:
        """How many of the f0 come up in m further searches."""
        return self.f0 * -torch.expm1(m * self._log_missed(n))

    def variance(self, n: int, s: int, m: Float[Tensor, "T"]) -> Float[Tensor, "T"]:
        """Variance of S + :meth:`emerging` by the delta method, for multinomial f_k around S + f0 points."""
        share = -torch.expm1(m * self._log_missed(n))
        # emerging = f0 (1 - (1 - u)^m) with u = f1 / (n f0 + f1)
        by_u = self.f0 * m * torch.exp((m - 1) * self._log_missed(n)) if self.f0 else 0 * m
        scale = n / (n * self.f0 + self.f1) ** 2 if self.f1 else 0.0
        g1 = 1 + self.d1 * share + by_u * scale * (self.f0 - self.f1 * self.d1)
        g2 = 1 + self.d2 * share - by_u * scale * self.f1 * self.d2
        square = (s - self.f1 - self.f2) + self.f1 * g1**2 + self.f2 * g2**2
        mean = (s - self.f1 - self.f2) + self.f1 * g1 + self.f2 * g2
        return square - mean**2 / (s + self.f0)

    def _log_missed(self, n: int) -> float:
        """ln(1 - u): a point that is still unseen stays so in one more search."""
        return math.log1p(-self.f1 / (n * self.f0 + self.f1)) if self.f0 else 0.0


def _frequencies(hits: Int[Tensor, "N"]) -> tuple[int, int, int, int]:
    """n, S, f1, f2."""
    return tuple(int(x) for x in (hits.sum(), (hits > 0).sum(), (hits == 1).sum(), (hits == 2).sum()))  # type: ignore[return-value]


def _z(level: float) -> float:
    if not 0 < level < 1:
        raise TorchscapeError(f"level={level} is no probability: give one between 0 and 1, such as 0.95")
    return NormalDist().inv_cdf((1 + level) / 2)


def _coverage(n: int, f1: int, f2: int) -> float:
    if f1 == 0:
        return 1.0
    others = (n - 1) * f1 / ((n - 1) * f1 + 2 * f2) if f2 else 1.0
    if f2 == 0 and f1 > 1:
        others = (n - 1) * (f1 - 1) / ((n - 1) * (f1 - 1) + 2)
    return 1 - f1 / n * others


def _coverage_interval(n: int, f1: int, f2: int, z: float) -> tuple[float, float]:
    # (1 + z^2/n) e^2 - (2 f1 + z^2) e + f1^2 - 2 z^2 f2 = 0
    a, b, c = 1 + z * z / n, 2 * f1 + z * z, f1 * f1 - 2 * z * z * f2
    root = math.sqrt(max(b * b - 4 * a * c, 0.0))
    low, high = (b - root) / (2 * a), (b + root) / (2 * a)
    middle = _coverage(n, f1, f2)  # corrected, so that it may leave the limits of f1 / n where n is tiny
    return min(max(1 - high / n, 0.0), middle), max(min(1 - low / n, 1.0), middle)


def _richness_interval(n: int, s: int, unseen: _Unseen, z: float) -> tuple[float, float]:
    f0, f1, f2 = unseen.f0, unseen.f1, unseen.f2
    if f0 == 0:  # as if all points were alike: each is missed with probability exp(-n/S)
        missed = math.exp(-n / s)
        middle, half = s / (1 - missed), z * math.sqrt(s * missed * (1 - missed)) / (1 - missed)
        return max(float(s), middle - half), middle + half
    variance = f0 + f1 * unseen.d1**2 + f2 * unseen.d2**2
    if f2 == 0:
        variance -= f1**4 / (4 * (s + f0))
    spread = math.exp(z * math.sqrt(math.log1p(variance / f0**2)))
    return s + f0 / spread, s + f0 * spread


def _rarefied(
    m: Int[Tensor, "T"], counts: Int[Tensor, "K"], f: Float[Tensor, "K"], n: int, richness: float
) -> tuple[Float[Tensor, "T"], Float[Tensor, "T"]]:
    """S(m) and its unconditional variance, where f points were hit ``counts`` times each."""
    left = n - counts - m[:, None]
    log_missed = (
        torch.lgamma((n - counts + 1).double())
        - torch.lgamma((left.clamp(min=0) + 1).double())
        - math.lgamma(n + 1)
        + torch.lgamma((n - m + 1).double())[:, None]
    )
    missed = torch.where(left >= 0, log_missed.exp(), 0.0)
    found = ((1 - missed) * f).sum(1)
    return found, ((1 - missed) ** 2 * f).sum(1) - found**2 / richness
