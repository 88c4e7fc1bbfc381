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
from torchscape.explore import Budget, ConnectMinima, ConnectPair, ExploreReport, Strategy, Way, lowest_ways
from torchscape.explore.run import explore
from torchscape.landscape import Landscape
from torchscape.learning.checkpoint_report import CheckpointReport
from torchscape.learning.held_out_data import held_out
from torchscape.learning.sharpness import top_eigenvalues
from torchscape.numerics import DENSE_SPECTRUM
from torchscape.optimise import relax
from torchscape.points import StationaryPoints
from torchscape.potentials import ModulePotential
from torchscape.potentials.lines import energies_on_lines
from torchscape.potentials.module.checkpoints import checkpoint_point
from torchscape.saddles import Certificate
from torchscape.saddles.characterisation import Wanted, curvatures
from torchscape.saddles.determinant import fits
from torchscape.saddles.valleys import band_heights
from torchscape.types import Float, Int, Tensor
from torchscape.validation import NOT_NEGATIVE, Range

__all__ = ["checkpoint_points", "compare_checkpoints"]

_ERROR = "log_det_error"  # the property of minima whose log-determinants are estimates


def compare_checkpoints(
    landscape: Landscape,
    potential: ModulePotential,
    checkpoints: Mapping[str, Any] | Sequence[str | Path],
    *,
    strategies: Sequence[Strategy] | None = None,
    budget: Budget | None = None,
    held_out: tuple[Tensor, ...] | None = None,
    ways: bool | None = None,
    tolerance: float | None = None,
    n_points: int = 51,
    seed: int = 0,
    progress: bool = True,
) -> CheckpointReport:
    """Put checkpoints into a landscape, and find out what they are to each other.

    Each is quenched; its minimum is added, if it is not there yet; the lines between the minima are evaluated as
    they stand and aligned; where these are no valleys, elastic bands are relaxed; then minima are connected by
    transition states. Called again, it goes on.

    Args:
        landscape: opened for this potential; what it holds already takes part in connecting.
        potential: the training loss.
        checkpoints: by name, or files (named by the file). Each may be a file, a state dict, a module or a row.
        strategies: how to connect; by default double-ended searches along the tree of shortest distances until all
            are connected, and where that is not enough between all neighbours; none if this is empty.
        budget: of connecting.
        held_out: the inputs of the module and the targets of the loss, of data that were not trained on.
        ways: whether to follow the lowest paths again, point by point; None for where there are held-out data.
        tolerance: how far a way may rise above the higher of its two ends to be called a valley, in the unit of
            the potential; None for a hundredth of what U is there.
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
        ...     return torch.nn.Linear(2, 1)
        >>> u = tsc.ModulePotential(trained(0), (x, y), torch.nn.functional.mse_loss, l2=1e-2)
        >>> with tsc.Landscape.in_memory(u) as landscape:
        ...     report = compare_checkpoints(landscape, u, {"a": trained(1), "b": trained(2)},
        ...                                  strategies=(), progress=False)
        >>> report.names, report.line.shape
        (('a', 'b'), torch.Size([2, 2]))
    """
    Range(low=2, whole=True).check("compare_checkpoints", n_points=n_points)
    NOT_NEGATIVE.or_none.check("compare_checkpoints", tolerance=tolerance)
    named = checkpoint_points(potential, checkpoints)
    x = torch.stack(list(named.values()))
    loss, grad = potential.energy_and_grad(x)
    quenched, ids = _minima(landscape, potential, x, progress)
    tables = _between(potential, quenched.x, n_points)
    lowest_line = torch.minimum(tables["line"], tables["aligned_line"])
    tables["band"] = _bands(potential, quenched.x, ids, lowest_line, tolerance)
    lots = _default(ids, tables["distance"]) if strategies is None else [strategies]
    report = _connected(landscape, potential, ids, lots, budget, seed=seed, progress=progress)
    path = _paths(landscape, ids)
    followed = _ways(landscape, potential, ids, path) if ways or (ways is None and held_out is not None) else {}
    return CheckpointReport(
        names=tuple(named),
        loss=loss,
        grad_rms=grad.square().mean(1).sqrt(),
        ids=ids,
        energy=torch.where((ids >= 0).to(x.device), quenched.energy, torch.nan),
        moved=(quenched.x - x).norm(dim=1),
        path=path,
        **_log_dets(landscape, ids, potential.ndim),
        top=top_eigenvalues(potential, quenched.x, tol=1e-3)[:, 0],
        ways=followed,
        tolerance=tolerance,
        exploration=report,
        **tables,
        **_on_held_out(potential, quenched.x, followed, held_out),
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
    _learn_curvatures(landscape, potential, ids)
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


def _between(potential: ModulePotential, x: Float[Tensor, "K D"], n_points: int) -> dict[str, Any]:
    """Distances and highest energies on lines, as they stand and to the closest image."""
    k = len(x)
    i, j = torch.triu_indices(k, k, 1, device=x.device)
    image = potential.symmetry.align(x[i], x[j])
    found = [(image_ - x[i]).norm(dim=1) for image_ in (x[j], image)]
    found += [energies_on_lines(potential, x[i], end, n_points)[1].amax(1) for end in (x[j], image)]
    tables = {}
    for name, values in zip(("plain", "distance", "line", "aligned_line"), found, strict=True):
        table = x.new_zeros(k, k)
        table[i, j] = table[j, i] = values
        if "line" in name:
            table.diagonal().copy_(potential.energy(x).detach())
        tables[name] = table.cpu()
    return tables


def _bands(
    potential: ModulePotential,
    x: Float[Tensor, "K D"],
    ids: Int[Tensor, "K"],
    line: Float[Tensor, "K K"],
    tolerance: float | None,
) -> Float[Tensor, "K K"]:
    """Highest energies along relaxed bands, of pairs whose lines are no valleys; infinite elsewhere."""
    table = torch.full_like(line, torch.inf)
    higher = torch.maximum(line.diagonal()[:, None], line.diagonal())
    steep = line - higher > (higher.abs() / 100 if tolerance is None else tolerance)
    same = (ids[:, None] == ids) & (ids >= 0)
    i, j = torch.nonzero((steep & ~same).triu(1), as_tuple=True)
    if len(i):
        height = band_heights(potential, x[i.to(x.device)], x[j.to(x.device)]).to(table)
        table[i, j] = table[j, i] = height
    return table


def _default(ids: Int[Tensor, "K"], distance: Float[Tensor, "K K"]) -> list[Sequence[Strategy]]:
    """What is tried in turn, until all are connected."""
    return [_joining(ids, distance), [ConnectMinima(neighbours=max(8, len(ids) - 1))]]


def _connected(
    landscape: Landscape,
    potential: ModulePotential,
    ids: Int[Tensor, "K"],
    lots: Sequence[Sequence[Strategy]],
    budget: Budget | None,
    **options: Any,
) -> ExploreReport | None:
    """One lot of strategies after the other, until a path between all minima is known or the budget is spent."""
    left, report = budget or Budget(), None
    for strategies in lots:
        if len(lots) > 1 and bool(torch.isfinite(_paths(landscape, ids[ids >= 0])).all()):
            break
        if report is not None:
            if not report.status.startswith("complete"):  # the budget is spent, or somebody has had enough
                break
            left = _less(left, report)
        if strategies:
            report = explore(landscape, potential, strategies=strategies, budget=left, check=False, **options)
    return report


def _less(budget: Budget, report: ExploreReport) -> Budget:
    """What is left of it."""
    spent = {"seconds": report.seconds, "quenches": report.n_quenches, "evaluations": report.n_evaluations}
    limits = {name: getattr(budget, name) for name in spent}
    left = {name: max(0, limit - spent[name]) for name, limit in limits.items() if limit is not None}
    return dataclasses.replace(budget, **left)


def _joining(ids: Int[Tensor, "K"], distance: Float[Tensor, "K K"]) -> list[Strategy]:
    """Searches that join all minima: along the minimum spanning tree of their distances, its edges by turns.

    Each ends with the first path, whose links lead over whatever minima turn up.
    """
    from scipy.sparse.csgraph import minimum_spanning_tree

    first = [k for k, i in enumerate(ids.tolist()) if i >= 0 and i not in ids[:k].tolist()]
    tree = minimum_spanning_tree(distance[first][:, first].double().numpy()).tocoo()
    return [ConnectPair(*ids[[first[i], first[j]]].tolist()) for i, j in zip(tree.row, tree.col, strict=True)]


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


def _learn_curvatures(landscape: Landscape, potential: ModulePotential, ids: Int[Tensor, "K"]) -> None:
    """Curvatures of the minima that have none yet, where their Hessians fit into memory, to an error of 1: there
    are few checkpoints, and sampled as others are their determinants are wrong by as much as they differ."""
    known = ids[ids >= 0].unique()
    if len(known) == 0 or not fits(potential.ndim, potential.dtype, potential.device):
        return
    known = known[landscape.minima(known).log_det.isnan().cpu()]
    if len(known):
        points = landscape.minima(known).to(potential.device)
        done, _, error = curvatures(potential, points, Wanted(log_det_error=1.0))
        landscape.set_curvature(known, done)
        if potential.ndim > DENSE_SPECTRUM:
            landscape.set_property(_ERROR, dict(zip(known.tolist(), error.tolist(), strict=True)))


def _log_dets(landscape: Landscape, ids: Int[Tensor, "K"], ndim: int) -> dict[str, Any]:
    """Log-determinants that the landscape knows, NaN where there is none, and their errors, NaN if unknown."""
    value, error = torch.full((2, len(ids)), torch.nan, dtype=torch.float64)
    known = (ids >= 0).nonzero()[:, 0]
    if len(known):
        value[known] = landscape.minima(ids[known]).log_det.double().cpu()
        all_of_them = landscape.minimum_ids()
        noted = landscape.properties().get(_ERROR, torch.full((len(all_of_them),), torch.nan)).tolist()
        errors = dict(zip(all_of_them.tolist(), noted, strict=True)) if ndim > DENSE_SPECTRUM else {}
        otherwise = math.nan if ndim > DENSE_SPECTRUM else 0.0
        told = [errors.get(i, otherwise) for i in landscape.represented(ids[known]).tolist()]
        error[known] = torch.tensor(told, dtype=torch.float64)
    return {"log_det": value, "log_det_error": torch.where(value.isnan(), torch.nan, error)}


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


def _on_held_out(
    potential: ModulePotential,
    x: Float[Tensor, "K D"],
    ways: Mapping[tuple[int, int], Way],
    data: tuple[Tensor, ...] | None,
) -> dict[str, Any]:
    """What the minima and the ways between them make of the data."""
    if data is None:
        return {}
    *inputs, targets = data
    here, *there = (
        held_out(potential, some, tuple(inputs), targets) for some in (x, *(w.x for w in ways.values()))
    )
    return {"held_out": here, "along": dict(zip(ways, there, strict=True))}
