"""``Family``: landscapes along a control parameter, the branches through them, and where these begin and end."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["KINDS", "Family", "FamilyEvent"]

KINDS = ("fold", "pitchfork", "transcritical", "left the box", "lost")


@brief
@dataclasses.dataclass(frozen=True)
class FamilyEvent:
    """What happened to branches at one value of the control parameter.

    Attributes:
        kind: "fold" (a minimum and a transition state, or two saddles of neighbouring index, meet and annihilate:
            one eigenvalue vanishes like the root of the distance in the parameter), "pitchfork" (two branches
            become one, whose index changes there: an eigenvalue vanishes linearly), "transcritical" (two branches
            pass through each other and exchange their index; of one of them the part below and the part above
            are two branches here), "left the box" (the point walked into a wall of the bounds; no eigenvalue
            vanishes) or "lost".
        value: of the control parameter.
        uncertainty: of ``value``: the last correction of a root-finding, or half of what brackets the event.
        branches: rows of the :class:`Family` that begin or end here.
        appears: whether these exist above ``value`` (a birth) rather than below (a death).
        through: rows whose index changes here while they go on.
        energy: U there; NaN where nothing was located.
        x: coordinates there; None where nothing was located.
        eigenvalue: what is left of the vanishing Hessian eigenvalue at ``x``; NaN where none vanishes.
        reason: in words, what the finding rests on.
    """

    kind: str
    value: float
    uncertainty: float
    branches: tuple[int, ...]
    appears: bool
    through: tuple[int, ...] = ()
    energy: float = float("nan")
    x: Float[Tensor, "D"] | None = dataclasses.field(default=None, compare=False, repr=False)
    eigenvalue: float = float("nan")
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.kind} at {self.value:.8g} +- {self.uncertainty:.1g}: {self._sentence} ({self.reason})"

    @property
    def _sentence(self) -> str:
        """What happens to whom."""
        several = len(self.branches) > 1
        who = f"branch{'es' * several} {', '.join(map(str, self.branches))}"
        through = f"index of {', '.join(map(str, self.through))} changes"
        if self.kind == "transcritical" and several:
            told = f"branch {self.branches[0]} goes on as {self.branches[1]}"
        else:
            told = f"{who} {'begin' if self.appears else 'end'}{'' if several else 's'}"
        if not self.branches:
            return through
        return f"{told}, {through}" if self.through else told


@brief
@dataclasses.dataclass(frozen=True)
class Family:
    """K landscapes of one control parameter, and R branches of stationary points through them.

    A branch is one minimum or transition state followed from value to value. Its index may change where another
    branch meets it (see :class:`FamilyEvent`).

    Attributes:
        values: of the control parameter, ascending.
        networks: the landscape at each value.
        energy: U of each branch at each value; NaN where the branch does not exist, as in the other columns.
        log_det: sum of ln |mu| over the non-zero Hessian eigenvalues.
        softest: the Hessian eigenvalue nearest to zero, known zero modes aside.
        index: number of negative Hessian eigenvalues; -1 where absent.
        ids: database id of the point in its landscape: of a minimum or, where ``index`` is 1, of a transition
            state; -1 where absent or not stored.
        coords: coordinates, for each value an array [R D]; along a branch they are of the closest images.
        events: births, deaths and mergers, by value.
        followed: whether branches were followed from each value to the next [K - 1]. They cannot be where the
            number of coordinates changes: the landscapes on both sides then share no branch.
        notes: what could not be done, in words.
    """

    values: Float[Tensor, "K"]
    networks: tuple[Network, ...]
    energy: Float[Tensor, "R K"]
    log_det: Float[Tensor, "R K"]
    softest: Float[Tensor, "R K"]
    index: Int[Tensor, "R K"]
    ids: Int[Tensor, "R K"]
    coords: tuple[Tensor, ...] = dataclasses.field(repr=False)
    events: tuple[FamilyEvent, ...]
    followed: Bool[Tensor, "G"]
    notes: tuple[str, ...] = ()

    @property
    def n_branches(self) -> int:
        return len(self.energy)

    @property
    def present(self) -> Bool[Tensor, "R K"]:
        """Where each branch exists."""
        return self.energy.isfinite()

    def branch_of(self, k: int) -> Int[Tensor, "N"]:
        """The branch of every minimum of ``networks[k]``, in the order of that network.

        Raises:
            TorchscapeError: if the network holds a minimum that no branch passes through.
        """
        here = torch.nonzero(self.index[:, k] == 0)[:, 0]
        stored = self.ids[here, k]
        wanted = self.networks[k].ids.cpu()
        match = stored[None] == wanted[:, None]
        if not bool(match.any(1).all()):
            raise TorchscapeError(f"the network at {float(self.values[k]):g} is not the one that was followed")
        return here[match.to(torch.uint8).argmax(1)] if len(here) else wanted

    def counts(self) -> Int[Tensor, "K 2"]:
        """Number of minima and of transition states at each value."""
        return torch.stack([(self.index == 0).sum(0), (self.index == 1).sum(0)], 1)

    def events_of(self, kind: str) -> tuple[FamilyEvent, ...]:
        """The events of one kind.

        Raises:
            TorchscapeError: if there is no such kind.
        """
        if kind not in KINDS:
            raise TorchscapeError(f"no events are called {kind!r}: known are {', '.join(KINDS)}")
        return tuple(event for event in self.events if event.kind == kind)

    def __str__(self) -> str:
        lines = [f"{self.n_branches} branches over {len(self.values)} values of the control parameter"]
        rows = zip(self.values.tolist(), self.counts().tolist(), strict=True)
        lines += [
            f"  {value:.8g}: {minima} minima, {saddles} transition states" for value, (minima, saddles) in rows
        ]
        return "\n".join([*lines, *(f"  {event}" for event in self.events), *(f"  {note}" for note in self.notes)])
