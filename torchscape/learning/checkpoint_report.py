"""What trained models are to each other: one report of all of them and all pairs."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

import torch

from torchscape.errors import TorchscapeError
from torchscape.explore import ExploreReport, Way
from torchscape.learning.held_out_data import HeldOut
from torchscape.network import Network
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["CheckpointReport"]


@dataclasses.dataclass(frozen=True)
class CheckpointReport:
    """What K checkpoints are to each other.

    Attributes:
        names: of the checkpoints.
        loss: U at each [K].
        grad_rms: RMS gradient there: how far training was from a stationary point [K].
        ids: the minimum of the landscape that each falls into, -1 where there is none [K].
        energy: U of these minima; NaN where there is none [K].
        moved: distance from each checkpoint to where it was quenched to [K].
        plain: distance between these minima, each in the image that its checkpoint fell into [K K].
        distance: the same between closest symmetric images [K K].
        line: highest U on the straight line between them [K K].
        aligned_line: the same from each to the closest image of the other [K K].
        band: the same along a relaxed elastic band to that image; infinite where none was relaxed, because the
            two are one minimum, or their aligned line already is a valley [K K].
        path: highest U on the lowest path of verified transition states; infinite where none is known [K K].
        log_det: sum of ln |mu| over the non-zero Hessian eigenvalues of these minima: small is flat; NaN where it
            was not computed [K].
        log_det_error: its standard error: 0 where it is exact, NaN where it was sampled and nobody noted it [K].
        top: the largest Hessian eigenvalue there [K].
        ways: the lowest paths themselves, by the two numbers of the checkpoints (i < j); of pairs whose minima
            differ and are connected, where they were asked for.
        held_out: loss and predictions of the minima on held-out data; None without such data.
        along: the same along each of ``ways``.
        tolerance: how far a way may rise above the higher of its two ends, in the unit of the potential, to be
            called a valley; None for a hundredth of what U is there.
        exploration: what the search for that did.

    All energies are in the unit of the potential. Where ``ids`` are equal, the checkpoints are one solution up to
    symmetry.
    """

    names: tuple[str, ...]
    loss: Float[Tensor, "K"]
    grad_rms: Float[Tensor, "K"]
    ids: Int[Tensor, "K"]
    energy: Float[Tensor, "K"]
    moved: Float[Tensor, "K"]
    plain: Float[Tensor, "K K"]
    distance: Float[Tensor, "K K"]
    line: Float[Tensor, "K K"]
    aligned_line: Float[Tensor, "K K"]
    band: Float[Tensor, "K K"]
    path: Float[Tensor, "K K"]
    log_det: Float[Tensor, "K"]
    log_det_error: Float[Tensor, "K"]
    top: Float[Tensor, "K"]
    ways: Mapping[tuple[int, int], Way] = dataclasses.field(default_factory=dict)
    held_out: HeldOut | None = None
    along: Mapping[tuple[int, int], HeldOut] = dataclasses.field(default_factory=dict)
    tolerance: float | None = None
    exploration: ExploreReport | None = None

    @property
    def same(self) -> list[tuple[str, ...]]:
        """The names of checkpoints that fall into one minimum, a group for each minimum, by ascending energy."""
        order = sorted({int(i) for i in self.ids if i >= 0}, key=lambda i: float(self.energy[self.ids == i][0]))
        return [tuple(n for n, i in zip(self.names, self.ids.tolist(), strict=True) if i == one) for one in order]

    @property
    def rise(self) -> Float[Tensor, "K K"]:
        """How far the lowest way that is known between two minima rises above the higher of them [K K].

        That way is a path over transition states, a line or a band, whichever is lowest. Nought within one
        minimum.
        """
        return torch.where(self._one, 0.0, self.height - self._higher).clamp(min=0.0)

    @property
    def height(self) -> Float[Tensor, "K K"]:
        """The highest U on the lowest way that is known between two checkpoints' minima [K K]."""
        return torch.stack([self.path, self.line, self.aligned_line, self.band]).amin(0)

    @property
    def in_one_valley(self) -> Bool[Tensor, "K K"]:
        """Whether the lowest way that is known never rises by more than ``tolerance`` [K K].

        A valley with a floor so flat that no transition state stands out is an answer, too: ``height`` is how high
        the way through it is.
        """
        most = self._higher.abs() / 100 if self.tolerance is None else self.tolerance
        return self.rise <= most

    @property
    def valleys(self) -> list[tuple[str, ...]]:
        """The names of checkpoints joined by such ways, over others where need be; the deepest valley first."""
        group = list(range(len(self.names)))
        for i, j in torch.nonzero(self.in_one_valley.triu(1)).tolist():
            group = [group[i] if g == group[j] else g for g in group]
        order = sorted(set(group), key=lambda g: min(float(self._least[k]) for k, h in enumerate(group) if h == g))
        return [tuple(n for n, h in zip(self.names, group, strict=True) if h == g) for g in order]

    @property
    def _one(self) -> Bool[Tensor, "K K"]:
        """Whether two checkpoints fall into one minimum."""
        return (self.ids[:, None] == self.ids) & (self.ids >= 0)

    @property
    def _least(self) -> Float[Tensor, "K"]:
        """U where each was quenched to, a minimum of the landscape or not."""
        return self.line.diagonal()

    @property
    def _higher(self) -> Float[Tensor, "K K"]:
        return torch.maximum(self._least[:, None], self._least)

    @property
    def worst_on_the_way(self) -> Float[Tensor, "K K"]:
        """The lowest accuracy on held-out data along each of ``ways``, or the highest loss where the targets are
        no classes [K K]: of one minimum that of itself, NaN where no way is known.

        Raises:
            TorchscapeError: if there were no held-out data.
        """
        if self.held_out is None:
            raise TorchscapeError("no data were held out: give compare_checkpoints held_out=(inputs, targets)")
        table = torch.full_like(self.path, torch.nan)
        one = self._one
        here = _score(self.held_out).double().cpu()
        table[one] = here.expand_as(one)[one]
        for (i, j), told in self.along.items():
            score = _score(told).double().cpu()
            table[i, j] = table[j, i] = score.max() if told.labels is None else score.min()
        return table

    def network(self) -> Network:
        """The minima of these checkpoints and nothing else, each pair joined at the height of the lowest path
        between them: ``plots.disconnectivity(report.network())`` draws the tree of just these.

        Minima are in the order of :attr:`same`, their ids those of the landscape.
        """
        first = [self.names.index(group[0]) for group in self.same]
        pairs = [(a, b) for a, b in itertools.combinations(range(len(first)), 2)
                 if math.isfinite(self.path[first[a], first[b]])]  # fmt: skip
        heights = [float(self.path[first[a], first[b]]) for a, b in pairs]
        energy, log_det = self.energy[first].double().cpu(), self.log_det[first].double().cpu()
        return Network.of(energy, pairs, heights, log_det=log_det, ids=self.ids[first])

    def describe(self) -> str:
        """A table of the checkpoints, and one of their pairs."""
        width = max(10, *(len(name) for name in self.names))
        heads = [("loss", 12), ("RMS grad", 9), ("minimum", 7), ("loss there", 12), ("moved", 8), ("log det", 13)]
        heads.append(("top curv.", 9))
        scores, worst, kind = None, None, ""
        if self.held_out is not None:
            scores, worst = _score(self.held_out), self.worst_on_the_way
            kind = "loss" if self.held_out.labels is None else "accuracy"
            heads.append(("held out", 9))
        lines = [f"{'checkpoint':{width}s}" + "".join(f"  {head:>{n}s}" for head, n in heads)]
        for k, name in enumerate(self.names):
            at = f"{int(self.ids[k]):7d}" if self.ids[k] >= 0 else "   none"
            lines.append(
                f"{name:{width}s}  {self.loss[k]:12.6g}  {self.grad_rms[k]:9.2g}  {at}  {self.energy[k]:12.6g}  "
                f"{self.moved[k]:8.3g}  {self._log_det(k):>13s}  {self.top[k]:9.4g}"
                + ("" if scores is None else f"  {scores[k]:9.4g}")
            )
        columns = [
            ("apart", 8),
            ("aligned", 8),
            ("line", 10),
            ("aligned", 10),
            ("band", 10),
            ("path", 10),
            ("rise", 9),
        ]
        columns += [] if worst is None else [("held out", 9)]
        rise = self.rise
        width = 2 * width + 3
        lines += ["", f"{'pair':{width}s}" + "".join(f"  {head:>{n}s}" for head, n in columns)]
        for i, j in itertools.combinations(range(len(self.names)), 2):
            found = "the same" if self.ids[i] == self.ids[j] >= 0 else f"{self.path[i, j]:10.5g}"
            pair = f"{self.names[i]} - {self.names[j]}"
            lines.append(
                f"{pair:{width}s}  {self.plain[i, j]:8.3g}  {self.distance[i, j]:8.3g}"
                f"  {self.line[i, j]:10.5g}  {self.aligned_line[i, j]:10.5g}  {_or_dash(self.band[i, j])}"
                f"  {found:>10s}  {rise[i, j]:9.2g}" + ("" if worst is None else f"  {worst[i, j]:9.4g}")
            )
        lines += [
            "line, band, path: the highest loss on the way: straight before and after alignment, along an elastic",
            "band (- where the line is a valley), and over transition states",
            "rise: of the lowest of these ways above the higher of the two minima",
        ]
        limit = "a hundredth of the loss" if self.tolerance is None else f"{self.tolerance:.3g}"
        for valley in self.valleys:
            members = [self.names.index(name) for name in valley]
            if not bool(self._one[members[0], members].all()):
                most = float(self._valley_rise(members))
                lines.append(f"one valley, rising {most:.2g} at most (within {limit}): {', '.join(valley)}")
        if kind:
            extreme = "highest" if kind == "loss" else "lowest"
            lines.append(
                f"held out: {kind} on data that were not trained on, at the minima and {extreme} on the path"
            )
        return "\n".join(lines)

    def _log_det(self, k: int) -> str:
        error = float(self.log_det_error[k])
        if math.isnan(self.log_det[k]):
            return "nan"
        return f"{float(self.log_det[k]):.6g}" + (
            "" if error == 0 else " +- ?" if math.isnan(error) else f" +- {error:.2g}"
        )

    def _valley_rise(self, members: list[int]) -> Tensor:
        """How far one has to rise to come from any of these checkpoints to any other, over the others."""
        rise = self.rise[members][:, members]
        for k in range(len(members)):
            rise = torch.minimum(rise, torch.maximum(rise[:, k, None], rise[k]))
        return rise.max()

    def as_dict(self) -> dict[str, Any]:
        """The same as plain lists and numbers, NaN and infinity as None."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        told = {name: _plain(v.tolist()) for name, v in fields.items() if isinstance(v, Tensor)}
        same = [list(group) for group in self.same]
        told["ways"] = [
            {"pair": [i, j], "arc": way.arc.tolist(), "energy": way.energy.tolist(),
             "minima": list(way.minima), "transition_states": list(way.transition_states)}
            for (i, j), way in self.ways.items()
        ]  # fmt: skip
        if self.held_out is not None:
            told["held_out"] = {"loss": self.held_out.loss.tolist(), "score": _score(self.held_out).tolist()}
            for way, along in zip(told["ways"], self.along.values(), strict=True):
                way["held_out"] = {"loss": along.loss.tolist(), "score": _score(along).tolist()}
        told |= {"rise": _plain(self.rise.tolist()), "height": _plain(self.height.tolist())}
        told |= {"tolerance": self.tolerance, "valleys": [list(valley) for valley in self.valleys]}
        return {"names": list(self.names), "same": same, **told}

    def __repr__(self) -> str:
        return f"CheckpointReport({len(self.names)} checkpoints in {len(self.same)} minima)"


def _score(told: HeldOut) -> Float[Tensor, "M"]:
    """Accuracy, or the loss where the targets are no classes."""
    return told.loss if told.labels is None else told.accuracy


def _or_dash(value: Tensor) -> str:
    return f"{float(value):10.5g}" if math.isfinite(value) else "         -"


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None
