"""``Problem``: a potential with what is known about its landscape, and how to explore it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torchscape.brief import brief
from torchscape.potentials.base import Potential
from torchscape.problems.published_figures import PUBLISHED, Published
from torchscape.types import Float, Tensor

__all__ = ["Known", "Problem"]


@brief
@dataclasses.dataclass(frozen=True)
class Known:
    """What others have found, distinct up to the symmetry of the potential; None or empty where no source says.

    Attributes:
        minima: energies of minima, ascending; complete if there are ``n_minima`` of them.
        saddles: energies of index-1 saddles, ascending; complete if there are ``n_saddles`` of them.
        n_minima, n_saddles: how many there are.
        n_connected_pairs: how many pairs of different minima are joined by at least one saddle.
        note: what to know about these numbers.
        lowest: the coordinates of a lowest minimum, where others have them.
    """

    minima: tuple[float, ...] = ()
    saddles: tuple[float, ...] = ()
    n_minima: int | None = None
    n_saddles: int | None = None
    n_connected_pairs: int | None = None
    note: str = ""
    lowest: Float[Tensor, "D"] | None = dataclasses.field(default=None, compare=False, repr=False)


@brief
@dataclasses.dataclass(frozen=True)
class Problem:
    """A potential ready to be explored.

    Attributes:
        name: its name in the registry.
        potential: what is explored.
        description: one sentence.
        source: where it comes from, with DOI.
        known: what is known about its minima and saddles.
        suggested: settings that work, under the names of the fields of the strategies (walkers, hops,
            temperature, step, neighbours, searches), a "move" in the words of ``--move``, and under "strategy"
            the names of the strategies where they are not basin-hopping and connect.
        options: the options it was built with.
        test: (inputs, targets) that were held back, for problems of machine learning.
    """

    name: str
    potential: Potential
    description: str
    source: str
    known: Known = Known()
    suggested: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    test: tuple[Tensor, Tensor] | None = None

    @property
    def published(self) -> tuple[Published, ...]:
        """Figures from the literature on such a landscape, to be compared with; empty where there are none."""
        return PUBLISHED.get(self.name, ())
