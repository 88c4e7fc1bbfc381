"""How complete a landscape is: what its hit counts say about the points that nothing has found yet."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Protocol, runtime_checkable

import torch

from torchscape.analysis.rarefaction import RarefactionCurve, rarefaction_curve
from torchscape.analysis.unseen import (
    Unseen,
    coverage_interval,
    frequencies,
    quantile,
    richness_interval,
    turing_coverage,
)
from torchscape.brief import brief
from torchscape.network import Network
from torchscape.types import Int, Tensor
from torchscape.validation import PART

__all__ = ["Completeness", "Coverage", "HasNetwork", "completeness", "coverage"]


@runtime_checkable
class HasNetwork(Protocol):
    """Anything that hands out its network, as a :class:`~torchscape.landscape.Landscape` does."""

    def network(self) -> Network: ...


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
        unseen = Unseen.of(self.n_once, self.n_twice)
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


@brief
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

    def curves(self) -> dict[str, RarefactionCurve]:
        """The rarefaction curve of each kind of point that was hit at all, at the level of the estimates."""
        hits = {"minima": self.minima_hits, "transition states": self.transition_state_hits}
        return {
            name: rarefaction_curve(hits[name], level=estimate.level) for name, estimate in self.found().items()
        }

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
    doi 10.1890/11-1952.1; the equations are with :func:`completeness` and :func:`rarefaction_curve`.

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
    z = quantile(level)
    n, s, f1, f2 = frequencies(hits)
    known = (len(hits), s, n, f1, f2)
    if n == 0:
        nothing = (math.nan, math.nan)
        return Completeness(*known, math.nan, nothing, math.nan, nothing, level)
    unseen = Unseen.of(f1, f2)
    return Completeness(
        *known,
        coverage=turing_coverage(n, f1, f2),
        coverage_interval=coverage_interval(n, f1, f2, z),
        richness=s + unseen.f0,
        richness_interval=richness_interval(n, s, unseen, z),
        level=level,
    )
