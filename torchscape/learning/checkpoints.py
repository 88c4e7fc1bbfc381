"""Trained models compared: which are the same minimum, what lies between the others, and how high."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from torchscape.errors import TorchscapeError
from torchscape.explore import Budget, ConnectMinima, ExploreReport, Strategy, Way, lowest_ways
from torchscape.explore.run import explore
from torchscape.landscape import Landscape
from torchscape.learning.held_out_data import HeldOut, held_out
from torchscape.learning.sharpness import top_eigenvalues
from torchscape.network import Network
from torchscape.optimise import relax
from torchscape.points import StationaryPoints
from torchscape.potentials import ModulePotential
from torchscape.potentials.lines import energies_on_lines
from torchscape.potentials.module.checkpoints import checkpoint_point
from torchscape.saddles import Certificate
from torchscape.types import Float, Int, Tensor
from torchscape.validation import Range

__all__ = ["CheckpointReport", "checkpoint_points", "compare_checkpoints"]


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
        path: highest U on the lowest path of verified transition states; infinite where none is known [K K].
        log_det: sum of ln |mu| over the non-zero Hessian eigenvalues of these minima: small is flat; NaN where it
            was not computed [K].
        top: the largest Hessian eigenvalue there [K].
        ways: the lowest paths themselves, by the two numbers of the checkpoints (i < j); of pairs whose minima
            differ and are connected, where they were asked for.
        held_out: loss and predictions of the minima on held-out data; None without such data.
        along: the same along each of ``ways``.
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
    path: Float[Tensor, "K K"]
    log_det: Float[Tensor, "K"]
    top: Float[Tensor, "K"]
    ways: Mapping[tuple[int, int], Way] = dataclasses.field(default_factory=dict)
    held_out: HeldOut | None = None
    along: Mapping[tuple[int, int], HeldOut] = dataclasses.field(default_factory=dict)
    exploration: ExploreReport | None = None

    @property
    def same(self) -> list[tuple[str, ...]]:
        """The names of checkpoints that fall into one minimum, a group for each minimum, by ascending energy."""
        order = sorted({int(i) for i in self.ids if i >= 0}, key=lambda i: float(self.energy[self.ids == i][0]))
        return [tuple(n for n, i in zip(self.names, self.ids.tolist(), strict=True) if i == one) for one in order]

    @property
    def rise(self) -> Float[Tensor, "K K"]:
        """How far the lowest way that is known between two minima rises above the higher of them [K K].

        That way is a path over transition states, or a line where that is lower: a valley with a floor so flat
        that no transition state stands out is an answer, too. Nought within one minimum.
        """
        one = (self.ids[:, None] == self.ids) & (self.ids >= 0)
        higher = torch.maximum(self.energy[:, None], self.energy).cpu()
        lowest = torch.stack([self.path, self.line, self.aligned_line]).amin(0)
        return torch.where(one, 0.0, lowest - higher).clamp(min=0.0)

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
        one = (self.ids[:, None] == self.ids) & (self.ids >= 0)
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
        heads = [("loss", 12), ("RMS grad", 9), ("minimum", 7), ("loss there", 12), ("moved", 8), ("log det", 8)]
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
                f"{self.moved[k]:8.3g}  {self.log_det[k]:8.4g}  {self.top[k]:9.4g}"
                + ("" if scores is None else f"  {scores[k]:9.4g}")
            )
        columns = [("apart", 8), ("aligned", 8), ("line", 10), ("aligned", 10), ("path", 10), ("rise", 9)]
        columns += [] if worst is None else [("held out", 9)]
        rise = self.rise
        width = 2 * width + 3
        lines += ["", f"{'pair':{width}s}" + "".join(f"  {head:>{n}s}" for head, n in columns)]
        for i, j in itertools.combinations(range(len(self.names)), 2):
            found = "the same" if self.ids[i] == self.ids[j] >= 0 else f"{self.path[i, j]:10.5g}"
            pair = f"{self.names[i]} - {self.names[j]}"
            lines.append(
                f"{pair:{width}s}  {self.plain[i, j]:8.3g}  {self.distance[i, j]:8.3g}"
                f"  {self.line[i, j]:10.5g}  {self.aligned_line[i, j]:10.5g}  {found:>10s}"
                f"  {rise[i, j]:9.2g}" + ("" if worst is None else f"  {worst[i, j]:9.4g}")
            )
        lines.append(
            "line, path: the highest loss on the way, before and after alignment and over transition states"
        )
        lines.append("rise: of the lowest of these ways above the higher of the two minima")
        if kind:
            extreme = "highest" if kind == "loss" else "lowest"
            lines.append(
                f"held out: {kind} on data that were not trained on, at the minima and {extreme} on the path"
            )
        return "\n".join(lines)

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
        return {"names": list(self.names), "same": same, "rise": _plain(self.rise.tolist()), **told}

    def __repr__(self) -> str:
        return f"CheckpointReport({len(self.names)} checkpoints in {len(self.same)} minima)"


def _score(told: HeldOut) -> Float[Tensor, "M"]:
    """Accuracy, or the loss where the targets are no classes."""
    return told.loss if told.labels is None else told.accuracy


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None


def compare_checkpoints(
    landscape: Landscape,
    potential: ModulePotential,
    checkpoints: Mapping[str, Any] | Sequence[str | Path],
    *,
    strategies: Sequence[Strategy] | None = None,
    budget: Budget | None = None,
    held_out: tuple[Tensor, ...] | None = None,
    ways: bool | None = None,
    n_points: int = 51,
    seed: int = 0,
    progress: bool = True,
) -> CheckpointReport:
    """Put checkpoints into a landscape, and find out what they are to each other.

    Each is quenched; its minimum is added, if it is not there yet; the lines between the minima are evaluated as
    they stand and aligned; then minima are connected by transition states. Called again, it goes on.

    Args:
        landscape: opened for this potential; what it holds already takes part in connecting.
        potential: the training loss.
        checkpoints: by name, or files (named by the file). Each may be a file, a state dict, a module or a row.
        strategies: how to connect; by default double-ended searches between all pairs, then missing links; none if
            this is empty.
        budget: of connecting.
        held_out: the inputs of the module and the targets of the loss, of data that were not trained on.
        ways: whether to follow the lowest paths again, point by point; None for where there are held-out data.
        n_points: places on each line, ends included.
        seed, progress: as for :func:`explore`.

    Raises:
        PotentialError: if a checkpoint is not one of this potential.
        TorchscapeError: if there are fewer than two, or a file cannot be read.

    Example:
        >>> import torchscape as tsc
        >>> x, y = torch.randn(20, 2), torch.randn(20, 1)
        >>> def trained(seed):
        ...     torch.manual_seed(seed)
        ...     return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
        >>> u = tsc.ModulePotential(trained(0), (x, y), torch.nn.functional.mse_loss, l2=1e-2)
        >>> with tsc.Landscape.in_memory(u) as landscape:
        ...     report = compare_checkpoints(landscape, u, {"a": trained(1), "b": trained(2)},
        ...                                  strategies=(), progress=False)
        >>> report.names, report.line.shape
        (('a', 'b'), torch.Size([2, 2]))
    """
    Range(low=2, whole=True).check("compare_checkpoints", n_points=n_points)
    named = checkpoint_points(potential, checkpoints)
    x = torch.stack(list(named.values()))
    loss, grad = potential.energy_and_grad(x)
    quenched, ids = _minima(landscape, potential, x, progress)
    report, options = None, dict[str, Any](budget=budget, seed=seed, progress=progress, check=False)
    if strategies is None:
        strategies = [ConnectMinima(neighbours=max(8, len(named) - 1))]
    if strategies:
        report = explore(landscape, potential, strategies=strategies, **options)
    plain, distance, line, aligned = _between(potential, quenched.x, n_points)
    path = _paths(landscape, ids)
    followed = _ways(landscape, potential, ids, path) if ways or (ways is None and held_out is not None) else {}
    said = [] if held_out is None else [_held_out(potential, x, held_out) for x in _places(quenched.x, followed)]
    return CheckpointReport(
        names=tuple(named),
        loss=loss,
        grad_rms=grad.square().mean(1).sqrt(),
        ids=ids,
        energy=torch.where((ids >= 0).to(x.device), quenched.energy, torch.nan),
        moved=(quenched.x - x).norm(dim=1),
        plain=plain,
        distance=distance,
        line=line,
        aligned_line=aligned,
        path=path,
        log_det=_log_det(landscape, ids),
        top=top_eigenvalues(potential, quenched.x, tol=1e-3)[:, 0],
        ways=followed,
        held_out=said[0] if said else None,
        along=dict(zip(followed, said[1:], strict=False)),
        exploration=report,
    )


def _minima(
    landscape: Landscape, potential: ModulePotential, x: Float[Tensor, "K D"], progress: bool
) -> tuple[StationaryPoints, Int[Tensor, "K"]]:
    """Where the checkpoints are quenched to, and the minima of the landscape that these are."""
    quenched = relax(potential, x, progress=progress)
    ids = landscape.find(quenched)
    new = (ids < 0).nonzero()[:, 0]
    if len(new):
        ids[new] = landscape.add_minima(quenched[new.to(x.device)], certify=Certificate())
    return quenched, ids


def checkpoint_points(
    potential: ModulePotential, checkpoints: Mapping[str, Any] | Sequence[str | Path]
) -> dict[str, Float[Tensor, "D"]]:
    """The coordinates of checkpoints by name; arguments and errors as for :func:`compare_checkpoints`."""
    named = checkpoints if isinstance(checkpoints, Mapping) else _named_by_file(checkpoints)
    if len(named) < 2:
        raise TorchscapeError(f"{len(named)} checkpoint(s): two or more can be compared")
    return {name: checkpoint_point(potential, value, name) for name, value in named.items()}


def _named_by_file(paths: Sequence[str | Path]) -> dict[str, Path]:
    """Files by their names, with as much of their folders as tells them apart."""
    files = [Path(path) for path in paths]
    for depth in range(1, 1 + max((len(file.parts) for file in files), default=1)):
        names = ["/".join([*file.parts[-depth:-1], file.stem]) for file in files]
        if len(set(names)) == len(names):
            return dict(zip(names, files, strict=True))
    raise TorchscapeError("the same file is given twice")


def _between(
    potential: ModulePotential, x: Float[Tensor, "K D"], n_points: int
) -> tuple[Float[Tensor, "K K"], Float[Tensor, "K K"], Float[Tensor, "K K"], Float[Tensor, "K K"]]:
    """Distances and highest energies on lines, as they stand and to the closest image."""
    k = len(x)
    i, j = torch.triu_indices(k, k, 1, device=x.device)
    image = potential.symmetry.align(x[i], x[j])
    found = [(image_ - x[i]).norm(dim=1) for image_ in (x[j], image)]
    found += [energies_on_lines(potential, x[i], end, n_points)[1].amax(1) for end in (x[j], image)]
    tables = []
    for values, diagonal in zip(found, (None, None, True, True), strict=True):
        table = x.new_zeros(k, k)
        table[i, j] = table[j, i] = values
        if diagonal:
            table.diagonal().copy_(potential.energy(x).detach())
        tables.append(table.cpu())
    return tables[0], tables[1], tables[2], tables[3]


def _paths(landscape: Landscape, ids: Int[Tensor, "K"]) -> Float[Tensor, "K K"]:
    """The highest energy on the lowest path between each pair of minima that the network knows."""
    from torchscape.analysis import minimax_between

    k = len(ids)
    table = torch.full((k, k), torch.inf, dtype=torch.float64)
    network = landscape.network(coords=False)
    known = (ids >= 0).nonzero()[:, 0]
    if len(known) == 0:
        return table
    place = network.position_of(landscape.represented(ids[known]))
    i, j = torch.triu_indices(len(known), len(known), 0)
    height = minimax_between(network, place[i], place[j]).double().cpu()
    table[known[i], known[j]] = table[known[j], known[i]] = height
    return table


def _log_det(landscape: Landscape, ids: Int[Tensor, "K"]) -> Float[Tensor, "K"]:
    """Log-determinants that the landscape knows, NaN where there is none."""
    found = torch.full((len(ids),), torch.nan, dtype=torch.float64)
    known = (ids >= 0).nonzero()[:, 0]
    if len(known):
        found[known] = landscape.minima(ids[known]).log_det.double().cpu()
    return found


def _ways(
    landscape: Landscape, potential: ModulePotential, ids: Int[Tensor, "K"], path: Float[Tensor, "K K"]
) -> dict[tuple[int, int], Way]:
    """The lowest paths between checkpoints that fall into different minima, and are connected."""
    pairs = [
        (i, j)
        for i, j in itertools.combinations(range(len(ids)), 2)
        if ids[i] != ids[j] and math.isfinite(path[i, j])
    ]
    if not pairs:
        return {}
    return dict(zip(pairs, lowest_ways(landscape, potential, ids[torch.tensor(pairs)]), strict=True))


def _places(x: Float[Tensor, "K D"], ways: Mapping[tuple[int, int], Way]) -> list[Tensor]:
    return [x, *(way.x for way in ways.values())]


def _held_out(potential: ModulePotential, x: Float[Tensor, "M D"], data: tuple[Tensor, ...]) -> HeldOut:
    *inputs, targets = data
    return held_out(potential, x, tuple(inputs), targets)
