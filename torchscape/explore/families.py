"""Which minima are one: members of continuous families, told by walks along their flat directions."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.even import even_bmv
from torchscape.explore.neighbours import nearest
from torchscape.landscape import Landscape
from torchscape.landscape.families import doubtful, known_zero_modes
from torchscape.memory import PRODUCTS, in_chunks
from torchscape.numerics import DENSE_SPECTRUM
from torchscape.optimise.newton import conjugate_step
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.saddles import characterise
from torchscape.saddles.certify import exact_twin, in_dtype, with_rows
from torchscape.saddles.decomposition import finite_rows, rows_within
from torchscape.saddles.families import FamilyWalk, are_joined, extends
from torchscape.sparse import links
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["merge_families"]

_MEMBERS = 512  # of known families that new minima are compared with; fewer, but _FEW, of many coordinates
_FEW, _NUMBERS = 32, 1 << 24
_ROUNDS = 8
_DOUBT = 30.0  # eigenvalues below so many times |gradient| / length_scale are left alone while polishing
_CG_STEPS = 200
_REFUSALS = 2  # walks between two families that may fail before they are left apart


def merge_families(landscape: Landscape, potential: Potential, *, walk: FamilyWalk | None = None) -> int:
    """Join the minima that were characterised since the last call to families; how many were merged into others.

    Minima whose Hessian has flat directions beyond those of the declared symmetry (or small eigenvalues that may
    be zero at the stationary point itself: those are polished first) are paired with their nearest neighbours of
    equal energy and as many flat directions, among each other and among the members of known families; walks
    along the flat directions tell which pairs are one family. What is joined is paired as one in the next round.
    Families that no walk joins stay apart. Beyond the ``dense_limit`` of the walk no Hessian is formed for it.
    Where coordinates are float32, all of this is asked of the float64 twin.

    Where nothing is flat this is one look at an index of the file.
    """
    ids = landscape.without_family()
    if len(ids) == 0:
        return 0
    walk = walk or FamilyWalk()
    potential = exact_twin(potential)
    points, again = _looked_at(landscape.minima(ids), potential, walk)
    radius = landscape.matching.distance_tol * potential.length_scale
    n_flat = points.n_zero.cpu() - known_zero_modes(potential, points)
    flat = (points.index.cpu() == 0) & (n_flat > 0)
    before = after = ids
    if bool(flat.any()):
        rows = flat.nonzero()[:, 0]
        before, after = _labels(landscape, potential, ids[rows], points[rows.to(points.x.device)], radius, walk)
        # What has met no other may be a minimum of fourth order, whose eigenvalue is zero as well.
        met = torch.isin(ids, torch.cat([before[before != after], after[before != after]]))
        alone = (flat & ~met).nonzero()[:, 0]
        flat[alone] = extends(potential, points[alone.to(points.x.device)], 2 * radius, walk=walk).cpu()
        n_flat = torch.where(flat, n_flat, 0)
    with landscape.transaction():
        landscape.set_flat_directions(ids, n_flat.clamp(min=0))
        landscape.set_flat_directions(ids[again], n_flat[again].clamp(min=0), points[again.to(points.x.device)])
        landscape.set_families(ids, ids)
        landscape.set_families(before, after)
    return int((before != after).sum())


def _labels(
    landscape: Landscape,
    potential: Potential,
    ids: Int[Tensor, "K"],
    points: StationaryPoints,
    radius: float,
    walk: FamilyWalk,
) -> tuple[Int[Tensor, "L"], Int[Tensor, "L"]]:
    """Representatives before (new minima by themselves) and after their families were compared."""
    member, own = _known_members(landscape, points).T
    others = in_dtype(landscape.minima(member).to(points.x.device), points.x.dtype)
    nodes = StationaryPoints.cat([part.replace(eigenvalues=None) for part in (points, others)])
    label = torch.cat([ids, own])
    fresh = torch.arange(len(label)) < len(ids)
    comparable = _comparable(landscape, nodes)
    same = torch.empty(0, 2, dtype=torch.int64)
    refused = torch.empty(0, 2, dtype=torch.int64)
    for number in range(_ROUNDS):
        component = _components(label, same)
        n = int(component.max()) + 1
        touched = torch.zeros(n, dtype=torch.bool).index_fill_(0, component[fresh], True)
        failures = torch.zeros(n * n, dtype=torch.int64)
        failures.index_add_(
            0, component[refused] @ torch.tensor([n, 1]), torch.ones(len(refused), dtype=torch.int64)
        )
        failures = failures.reshape(n, n)
        open_ = (failures + failures.T < _REFUSALS) & (touched[:, None] | touched)
        open_.fill_diagonal_(False)
        allowed = comparable & open_[component[:, None], component]
        pairs, _ = nearest(potential, nodes.x, allowed, 1)
        if not len(pairs):
            break
        a, b = (nodes[end.to(nodes.x.device)] for end in pairs.T)
        # The straight way first, for everybody: what is joined then needs no wandering.
        way = dataclasses.replace(walk, tries=2) if number < 2 else walk
        met = are_joined(potential, a, b, radius, walk=way, seed=number).cpu()
        same, refused = torch.cat([same, pairs[met]]), torch.cat([refused, pairs[~met]])
    component = _components(label, same)
    least = torch.full((int(component.max()) + 1,), torch.iinfo(torch.int64).max)
    least = least.scatter_reduce(0, component, label, "amin")
    before, position = label.unique(return_inverse=True)
    after = torch.zeros_like(before).index_copy_(0, position, least[component])
    return before, after


def _known_members(landscape: Landscape, points: StationaryPoints) -> Int[Tensor, "M 2"]:
    """Members of the known families of these energies, each with its representative."""
    known = landscape.minimum_ids()
    known = known[landscape.flat_directions(known) > 0]
    energy = landscape.minimum_energies(known)
    window = landscape.matching.window(energy, landscape.minima(known[:0]).energy.dtype)
    near = ((points.energy.cpu()[:, None] - energy).abs() <= window).any(0)
    return landscape.members(known[near], min(_MEMBERS, max(_FEW, _NUMBERS // points.ndim)))


def _comparable(landscape: Landscape, nodes: StationaryPoints) -> Bool[Tensor, "N N"]:
    """Of equal energy, with as many zero modes."""
    energy, n_zero = nodes.energy.cpu(), nodes.n_zero.cpu()
    window = landscape.matching.window(energy, energy.dtype)
    return ((energy[:, None] - energy).abs() <= window[:, None]) & (n_zero[:, None] == n_zero)


def _components(label: Int[Tensor, "N"], same: Int[Tensor, "P 2"]) -> Int[Tensor, "N"]:
    """Number of the component of each node: equal labels and joined pairs belong together."""

    from scipy.sparse.csgraph import connected_components

    _, group = label.unique(return_inverse=True)
    n = len(label)
    i = torch.cat([torch.arange(n), same[:, 0]]).numpy()
    j = torch.cat([n + group, same[:, 1]]).numpy()
    graph = links(True, i, j, 2 * n)
    component = torch.as_tensor(connected_components(graph, directed=False)[1]).long()[:n]
    number: Tensor = component.unique(return_inverse=True)[1]
    return number


def _looked_at(
    points: StationaryPoints, potential: Potential, walk: FamilyWalk
) -> tuple[StationaryPoints, Int[Tensor, "K"]]:
    """Minima with flat directions that are certain, and which of them were looked at again for that.

    Where an eigenvalue may be zero at the stationary point itself, points are brought nearer to it. Beyond
    ``DENSE_SPECTRUM`` coordinates spectra are not known well enough to ask for more.
    """
    points = points.to(potential.device)
    unclear = doubtful(points, torch.zeros_like(points.n_zero).cpu(), potential.length_scale).to(points.x.device)
    rows = torch.nonzero(unclear | (points.x.dtype != potential.dtype))[:, 0]
    if len(rows) == 0:
        return points, rows.cpu()
    some = in_dtype(points[rows], potential.dtype)
    settled = _settled(potential, some, dense=potential.ndim <= walk.dense_limit)
    if potential.ndim <= DENSE_SPECTRUM:
        fresh = characterise(potential, settled)
    else:  # what a quadrature says of the stiff directions does not depend on those that are flat
        fresh = characterise(potential, settled, n_probes=0).replace(log_det=some.log_det)
    return with_rows(points, rows, fresh), rows.cpu()


def _settled(potential: Potential, points: StationaryPoints, *, dense: bool) -> StationaryPoints:
    """Polished by Newton's method across everything that may be flat, so that what is flat has eigenvalue zero."""
    x = points.x
    for _ in range(2):
        grad = potential.energy_and_grad(x)[1]
        trial = x + (_dense_step(potential, x, grad) if dense else _krylov_step(potential, x))
        better = potential.energy_and_grad(trial)[1].norm(dim=1) < grad.norm(dim=1)
        inside = better if potential.bounds is None else better & potential.bounds.interior(trial)
        x = torch.where(inside[:, None], trial, x)
    energy, grad = potential.energy_and_grad(x)
    return points.replace(x=x, energy=energy, grad_rms=grad.square().mean(1).sqrt())


def _dense_step(potential: Potential, x: Float[Tensor, "B D"], grad: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    steps = []
    for part in torch.arange(len(x), device=x.device).split(rows_within(potential.ndim, x.dtype, x.device)):
        mu, v = torch.linalg.eigh(finite_rows(potential.hessian(x[part]))[0])
        size = mu.abs()
        rounding = torch.finfo(x.dtype).eps ** (2 / 3) * size.amax(1)
        floor = torch.maximum(rounding, _DOUBT * grad[part].norm(dim=1) / potential.length_scale)[:, None]
        along = even_bmv(v.mT, grad[part])
        along = torch.where(size > floor, along / torch.where(size > floor, mu, 1.0), 0.0)
        steps.append(even_bmv(v, along))
    return -torch.cat(steps)


def _krylov_step(potential: Potential, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """Conjugate gradients end before they ask what flat directions say."""
    rows = in_chunks(torch.arange(len(x), device=x.device), potential.ndim, on_host=PRODUCTS)
    return torch.cat([conjugate_step(potential, x[part], _CG_STEPS) for part in rows])
