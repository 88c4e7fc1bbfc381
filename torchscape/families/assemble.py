"""From followed members to a :class:`Family`: branches numbered, endings of the same event put together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from torchscape.analysis.family import Family, FamilyEvent
from torchscape.families.bifurcations import Bifurcation, softest_modes
from torchscape.families.branches import Crossing, Sweeps
from torchscape.families.endings import Ending
from torchscape.families.members import DOWN, UP, Member
from torchscape.landscape.summary import explain_no_minima
from torchscape.types import Bool, Tensor

__all__ = ["assemble"]


def assemble(sweeps: Sweeps) -> Family:
    """The family that the sweeps have found."""
    members = sweeps.members
    labels = _numbered(members)
    n = 1 + max((int(label.max()) for label in labels if len(label)), default=-1)
    shape = (n, len(members))
    columns = {
        name: torch.full(shape, torch.nan, dtype=torch.float64) for name in ("energy", "log_det", "softest")
    }
    index, ids = torch.full(shape, -1), torch.full(shape, -1)
    coords: list[Tensor] = []
    for k, (member, label) in enumerate(zip(members, labels, strict=True)):
        points = member.points
        columns["energy"][label, k] = points.energy.double().cpu()
        columns["log_det"][label, k] = points.log_det.double().cpu()
        if len(points) and points.ndim <= sweeps.options.dense_limit:
            columns["softest"][label, k] = softest_modes(member.potential, points.x)[0].double().cpu()
        index[label, k], ids[label, k] = points.index.cpu(), member.ids
        place = torch.full((n, points.ndim), torch.nan, dtype=points.x.dtype)
        place[label] = points.x.cpu()
        coords.append(_continued(place, coords[-1] if k else None, member))
    followed = torch.tensor([sweeps.can_follow(k, UP) for k in range(len(members) - 1)], dtype=torch.bool)
    return Family(
        values=torch.tensor([member.value for member in members], dtype=torch.float64),
        networks=tuple(member.landscape.network() for member in members),
        index=index,
        ids=ids,
        coords=tuple(coords),
        events=_events(sweeps, labels),
        followed=followed,
        notes=_notes(members, followed),
        **columns,
    )


def _numbered(members: Sequence[Member]) -> list[Tensor]:
    """A branch number for every point of every member: those of the first member first, then as they begin."""
    labels: list[Tensor] = []
    n = 0
    for k, member in enumerate(members):
        behind = member.link[:, DOWN]
        label = torch.full_like(behind, -1)
        if k:
            label = torch.where(behind >= 0, labels[-1][behind.clamp(min=0)], label) if len(labels[-1]) else label
        new = torch.nonzero(label < 0)[:, 0]
        label[new] = n + torch.arange(len(new))
        n += len(new)
        labels.append(label)
    return labels


def _continued(place: Tensor, before: Tensor | None, member: Member) -> Tensor:
    """Coordinates as the images closest to those at the value before."""
    if before is None or before.shape != place.shape:
        return place
    both = torch.nonzero((place.isfinite() & before.isfinite()).all(1))[:, 0]
    if len(both):
        device = member.points.x.device
        place[both] = member.nearest_image(place[both].to(device), before[both].to(device)).cpu()
    return place


@dataclasses.dataclass
class _Group:
    """Endings that are one event."""

    first: Ending
    appears: bool
    endings: list[Ending]
    branches: list[int]
    through: list[int]


def _events(sweeps: Sweeps, labels: list[Tensor]) -> tuple[FamilyEvent, ...]:
    """One event for all the branches that end in the same place."""
    groups: list[_Group] = []
    for (k, row, way), ending in sorted(sweeps.endings.items(), key=lambda item: item[0]):
        branch, appears = int(labels[k][row]), way == DOWN
        group = next((g for g in groups if _same_event(sweeps, g, ending, appears)), None)
        if group is None:
            groups.append(_Group(ending, appears, [ending], [branch], []))
        elif branch not in group.branches:
            group.endings.append(ending)
            group.branches.append(branch)
    alone = _join_crossings(sweeps, labels, groups)
    groups, exchanges = _exchanges(sweeps, groups)
    events = [*(_event(group) for group in groups), *exchanges, *alone]
    return tuple(sorted(events, key=lambda event: event.value))


def _same_event(sweeps: Sweeps, group: _Group, ending: Ending, appears: bool) -> bool:
    """Same kind, value and place; what was only extrapolated must have been lost between the same members."""
    one = group.first
    if one.kind != ending.kind or group.appears != appears or one.x.shape != ending.x.shape:
        return False
    if one.kind == "unmet fold":
        return len(group.endings) == 1 and one.bracket == ending.bracket and _meet(sweeps, one, ending)
    if one.kind not in ("fold", "pitchfork"):
        return False
    width = abs(one.bracket[1] - one.bracket[0]) + abs(ending.bracket[1] - ending.bracket[0])
    return abs(one.value - ending.value) <= width and _distance(sweeps, one, ending) <= 1e-2


def _exchanges(sweeps: Sweeps, groups: list[_Group]) -> tuple[list[_Group], list[FamilyEvent]]:
    """Where one branch ends and one begins on the same third branch, the two are one that passes through it."""
    deaths, births = (
        [g for g in groups if g.first.kind == "pitchfork" and g.appears == appears and len(g.branches) == 1]
        for appears in (False, True)
    )
    events = []
    for death in deaths:
        for birth in births:
            width = abs(death.first.bracket[1] - death.first.bracket[0])
            if abs(death.first.value - birth.first.value) <= 2 * width and (
                _distance(sweeps, death.first, birth.first) <= 1e-2
            ):
                groups = [g for g in groups if g is not death and g is not birth]
                reason = "one branch goes on as the other: two branches pass through each other"
                one = _event(death)
                events.append(
                    dataclasses.replace(
                        one,
                        kind="transcritical",
                        branches=(*death.branches, *birth.branches),
                        through=tuple(sorted({*death.through, *birth.through})),
                        uncertainty=max(one.uncertainty, abs(death.first.value - birth.first.value)),
                        reason=reason,
                    )
                )
    return groups, events


def _meet(sweeps: Sweeps, one: Ending, other: Ending) -> bool:
    """Whether two branches whose indices differ by one are on their way to the same place."""
    return abs(one.index - other.index) == 1 and _distance(sweeps, one, other) <= 1.0


def _distance(sweeps: Sweeps, one: Ending, other: Ending) -> float:
    """Between closest images, in length scales."""
    u = sweeps.at(one.bracket[0])
    return float(u.symmetry.distance(one.x[None], other.x[None])) / u.length_scale


def _join_crossings(sweeps: Sweeps, labels: Sequence[Tensor], groups: list[_Group]) -> list[FamilyEvent]:
    """Tell groups which branches change their index there; all other crossings are events of their own."""
    alone: list[FamilyEvent] = []
    for crossing in sweeps.crossings:
        branch, found = int(labels[crossing.k][crossing.row]), crossing.found
        forks = [g for g in groups if g.first.kind == "pitchfork"]
        met = [g for g in forks if _at(sweeps, crossing, g.first.value, g.first.x)]
        for group in met:
            group.through.append(branch)
        if met:
            continue
        twins = [n for n, e in enumerate(alone) if e.x is not None and _at(sweeps, crossing, e.value, e.x)]
        if twins:
            one, reason = alone[twins[0]], "two branches pass through each other"
            through = (*one.through, branch)
            alone[twins[0]] = dataclasses.replace(one, kind="transcritical", through=through, reason=reason)
            continue
        alone.append(_lone(branch, found))
    return alone


def _at(sweeps: Sweeps, crossing: Crossing, value: float, x: Tensor) -> bool:
    """Whether an event lies where the crossing does; interpolated ones, between the same members."""
    low, high = sweeps.members[crossing.k], sweeps.members[crossing.k + 1]
    if not sweeps.between:
        return low.value <= value <= high.value
    near = float((x.cpu() - crossing.found.x.cpu()).norm()) <= 1e-2 * low.potential.length_scale
    return near and abs(value - crossing.found.value) <= 1e-3 * (high.value - low.value)


def _lone(branch: int, found: Bifurcation) -> FamilyEvent:
    """A branch that changes its index while no other one is known to end there."""
    return FamilyEvent(
        kind="pitchfork",
        value=found.value,
        uncertainty=found.uncertainty,
        branches=(),
        appears=False,
        through=(branch,),
        energy=found.energy,
        x=found.x.cpu(),
        eigenvalue=found.eigenvalue,
        reason="an eigenvalue passes through zero",
    )


def _event(group: _Group) -> FamilyEvent:
    """What all endings of a group say together; the best located one speaks for them."""
    best = min(group.endings, key=lambda ending: ending.uncertainty)
    kind, reason, value = best.kind, best.reason, best.value
    if kind == "unmet fold":
        value = sum(ending.value for ending in group.endings) / len(group.endings)
        met = len(group.endings) > 1
        kind = "fold" if met else "lost"
        reason += ", of both branches" if met else ", but no other branch ends there"
    return FamilyEvent(
        kind=kind,
        value=value,
        uncertainty=best.uncertainty,
        branches=tuple(sorted(group.branches)),
        appears=group.appears,
        through=tuple(sorted(set(group.through))),
        energy=best.energy,
        x=best.x.cpu(),
        eigenvalue=best.eigenvalue,
        reason=reason,
    )


def _notes(members: Sequence[Member], followed: Bool[Tensor, "G"]) -> tuple[str, ...]:
    """Which members have no minima, and between which of them nothing could be followed; and why."""
    bare = [
        (member.value, explain_no_minima(member.landscape.refusals())) for member in members if not len(member)
    ]
    apart = [
        f"{a.potential.ndim} coordinates at {a.value:g}, {b.potential.ndim} at {b.value:g}: "
        "no branch can be followed from one to the other"
        for a, b, done in zip(members[:-1], members[1:], followed.tolist(), strict=True)
        if not done
    ]
    return (*(f"at {value:g}: {advice or 'no stationary points'}" for value, advice in bare), *apart)
