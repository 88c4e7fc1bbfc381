"""The symmetry of a neural network: permutations, signs and scales of its hidden units, found by tracing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from torchscape import random
from torchscape.devices import HOST
from torchscape.errors import PotentialError
from torchscape.layout import ParameterLayout
from torchscape.memory import rows_that_fit
from torchscape.numerics import DENSE_STEPS
from torchscape.symmetry.action import Action, actions_of
from torchscape.symmetry.alignment import closest_image, known_order
from torchscape.symmetry.base import Symmetry
from torchscape.symmetry.gauge import Gauge, Scaling, Shift, balance, scale_modes
from torchscape.symmetry.groups import Block, Space, UnitGroup
from torchscape.symmetry.invariants import Invariants
from torchscape.symmetry.modules.example import Call, guess_example
from torchscape.symmetry.modules.freedom import blocks_and_groups
from torchscape.symmetry.modules.siblings import with_siblings
from torchscape.symmetry.modules.spaces import Rotation, directions, log_volume_of_orbit, orthonormal
from torchscape.symmetry.modules.trace import Trace, outputs_of, trace
from torchscape.symmetry.modules.verification import verify
from torchscape.symmetry.stabiliser import log_stabiliser
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, NOT_NEGATIVE

__all__ = ["NeuralSymmetry", "detect"]

_MOST_DIRECTIONS = 512  # about what a Krylov space of a saddle search holds anyway
_CHUNK = 1 << 24  # numbers held at once while aligning


def detect(
    module: torch.nn.Module,
    layout: ParameterLayout,
    example: Call | Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    shift: bool = False,
    prefix: str = "",
) -> NeuralSymmetry:
    """The symmetries that one traced forward pass of ``module`` shows.

    Hidden units and channels may be permuted, recurrent ones too; units in front of an odd activation may change
    sign, in front of a positively homogeneous one their scale; attention heads may be permuted. Dimensions that
    only linear maps meet (inside each attention head, of a bottleneck, of a residual stream) may be rotated, and
    without regularisation mapped in any way. Streams that are summed (residual connections) move together;
    parameters that are not in ``layout`` and buffers (the running statistics of batch-norm) are constants, so that
    only units for which they agree may be exchanged. Oddness and homogeneity of activations are found by trying
    them. What is not understood is left out, and listed in ``notes``.

    Args:
        module: in evaluation mode; it is not changed.
        layout: which parameters are coordinates, and where.
        example: arguments of ``forward`` (a sequence, a mapping of keywords, or both: a ``Call``) with a small
            batch; without it, the shape is guessed from the first layer.
        shift: also propose adding a constant to all outputs (the shift that a softmax does not see, where biases
            or last weights are not regularised). Only :meth:`NeuralSymmetry.verified` can tell whether the loss
            sees it.
        prefix: what stands before the names of ``layout`` in those of ``module``.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
        >>> layout = ParameterLayout.of({name: p.shape for name, p in net.named_parameters()})
        >>> print(detect(net, layout).describe())
        0.weight: permutations and signs of 3 units
    """
    if example is None:
        example = guess_example(module)
    if example is None:
        return NeuralSymmetry(layout.ndim, notes=("no example input is known: pass example=(inputs,)",))
    try:
        found = trace(module, [prefix + name for name in layout.names], example).without_prefix(prefix)
    except Exception as trouble:  # whatever the user's forward raises
        note = f"the module could not be run on the example input ({type(trouble).__name__}: {trouble})"
        return NeuralSymmetry(layout.ndim, notes=(note,))
    blocks, groups = blocks_and_groups(found, layout)
    notes: list[str] = []
    try:
        blocks, groups = with_siblings(module, layout, blocks, groups, outputs_of(module, layout, example, prefix))
    except Exception as trouble:  # whatever the user's forward raises at another point
        notes = [f"no exchange of whole submodules was tried ({type(trouble).__name__}: {trouble})"]
    shifts = _shifts(found, layout) if shift else ()
    groups, left_out = _with_few_directions(groups, layout.ndim)
    notes = [*found.notes, *notes, *left_out]
    return NeuralSymmetry(layout.ndim, groups=groups, blocks=blocks, shifts=shifts, notes=notes)


def _with_few_directions(groups: Sequence[UnitGroup], ndim: int) -> tuple[list[UnitGroup], list[str]]:
    """The groups, with the largest spaces as units where their directions are too many to hold for every row."""
    spaces = sorted((g.n_directions, k) for k, g in enumerate(groups) if isinstance(g, Space))
    kept, notes, total = list(groups), [], 0
    for n, k in spaces:
        total += n
        space = groups[k]
        if total > max(_MOST_DIRECTIONS, ndim if ndim <= DENSE_STEPS else 0):
            assert isinstance(space, Space)
            assert space.units is not None
            kept[k] = space.units
            notes.append(
                f"{space.name}: rotations of {space.size} dimensions are left out but for permutations: they have "
                f"{n} directions, and more than {_MOST_DIRECTIONS} in all are not held for every point"
            )
    return kept, notes


def _shifts(found: Trace, layout: ParameterLayout) -> list[Shift]:
    """Adding one number to all outputs: to the whole bias of the last layer, or to a column of its weight; to
    parameters that do not matter; and to one of two biases what is taken from the other.
    """
    shifts = []
    for name in found.head:
        shape = layout.shapes[layout.names.index(name)]
        places = torch.arange(shape.numel()) + layout.coordinates(name).start
        if shape[0] > 1:
            shifts.append(Shift(name, places.reshape(shape[0], -1).T.contiguous()))
    for name, rows in found.idle:
        places = torch.arange(rows.start, rows.stop) + layout.coordinates(name).start
        shifts.append(Shift(name, places[:, None]))
    for name, other, rows in found.summed:
        places = torch.arange(rows.start, rows.stop)
        both = [layout.coordinates(one).start + places for one in (name, other)]
        shifts.append(Shift(f"{name} and {other}", torch.stack(both, 1), torch.tensor([1.0, -1.0])))
    return shifts


class NeuralSymmetry(Symmetry):
    """Permutations, signs and scales of groups of units, and rotations of spaces, acting on rows of coordinates.

    Distances are Euclidean between images of least norm: where units can be rescaled, or outputs shifted, every
    point is first brought to the image of its orbit that is shortest (in a unit with homogeneous activation, in-
    and outgoing weights are then equally long), which makes the distance a metric on orbits.

    Args:
        ndim: number of coordinates D.
        groups, blocks: the groups of units and the coordinates they own (see ``symmetry.groups``).
        shifts: sets of coordinates to which a constant may be added.
        notes: what was left out, and why, in sentences.
        restarts: random starts of the search for the closest image (several groups of units).
        tolerance: units count as equal, in :meth:`log_degeneracy`, if they differ by less than this times the norm
            of the largest unit of their group.
        max_invariants: how many invariants at most.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
        >>> layout = ParameterLayout.of({name: p.shape for name, p in net.named_parameters()})
        >>> symmetry = detect(net, layout)
        >>> x = torch.linspace(-1.0, 1.0, layout.ndim, dtype=torch.float64)[None]
        >>> image = symmetry.random_image(x, random.fold(0, torch.arange(1)))
        >>> bool(symmetry.distance(x, image) < 1e-12), round(symmetry.log_degeneracy(x).exp().item())
        (True, 48)
    """

    def __init__(
        self,
        ndim: int,
        *,
        groups: Sequence[UnitGroup] = (),
        blocks: Sequence[Block] = (),
        shifts: Sequence[Shift] = (),
        notes: Sequence[str] = (),
        restarts: int = 4,
        tolerance: float = 1e-3,
        max_invariants: int = 128,
    ) -> None:
        COUNT.check("NeuralSymmetry", PotentialError, restarts=restarts, max_invariants=max_invariants)
        NOT_NEGATIVE.check("NeuralSymmetry", PotentialError, tolerance=tolerance)
        self.ndim = ndim
        self.groups = tuple(groups)
        self.blocks = tuple(blocks)
        self.shifts = tuple(shifts)
        self.notes = tuple(notes)
        self.restarts = restarts
        self.tolerance = tolerance
        self.max_invariants = max_invariants
        actions = actions_of(self.groups, self.blocks)
        self._invariants = Invariants(self.groups, self.blocks, max_invariants)
        units = [one for one in actions if isinstance(one, Action)]
        self._scaling = Scaling.of(units, ndim)
        owned = {one.number for one in units}
        self._unit_blocks = [  # in which spaces are coordinates like others
            dataclasses.replace(block, owners=tuple(o if o in owned else None for o in block.owners))
            for block in self.blocks
        ]
        # In the axes of inertia the turns of one space are at right angles, and so are those of two without a
        # common coordinate; other generators depend on each other.
        spaces = [one for one in actions if isinstance(one, Rotation)]
        moved = {one.number for one in spaces} | {one.number for one in units if one.group.n_scales}
        self._coupled = frozenset(
            one.number
            for one in spaces
            if self.shifts or one.group.is_general or any(b.others & moved for b in one.bundles)
        )
        self._on = {HOST: (actions, self.shifts)}

    def parts(self, x: Tensor) -> tuple[tuple[Action | Rotation, ...], tuple[Shift, ...]]:
        """Actions and shifts on the device of x."""
        if x.device not in self._on:
            actions, shifts = self._on[HOST]
            there = tuple(shift.to(x.device) for shift in shifts)
            self._on[x.device] = tuple(action.to(x.device) for action in actions), there
        return self._on[x.device]

    @property
    def has_gauge(self) -> bool:
        """Whether there is continuous freedom without bounds: scales, general maps, or shifts."""
        return bool(self.shifts) or any(g.n_scales or (isinstance(g, Space) and g.is_general) for g in self.groups)

    def describe(self) -> str:
        """One line for people: which symmetries are known."""
        parts = [str(group) for group in self.groups] + [f"{shift.name}: shift" for shift in self.shifts]
        return "; ".join(parts) or "none"

    def __repr__(self) -> str:
        return f"NeuralSymmetry({self.describe()})"

    # --- images -----------------------------------------------------------------------------------------

    def gauge(self, x: Float[Tensor, "B D"]) -> Gauge:
        """Every row at least norm under scales, general maps and shifts, and the way back."""
        actions, shifts = self.parts(x)
        spaces = [one for one in actions if isinstance(one, Rotation) and one.group.is_general]
        return balance(self._scaling, spaces, shifts, x)

    def align(self, reference: Float[Tensor, "B D"], x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """The image of each x that lies closest to its reference, with the scales and shifts of the reference.

        Exact for one hidden layer (a linear assignment over units, each pair under its best sign), and for one
        space (Procrustes); for more, the best of several local searches, see
        :func:`torchscape.symmetry.alignment.closest_image`.
        """
        if not self.has_gauge:
            return self._closest(reference, x)
        gauge = self.gauge(reference)
        return gauge.undo(self._closest(gauge.y, self.gauge(x).y))

    def distance(self, a: Float[Tensor, "B D"], b: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """Euclidean distance between ``a`` and the closest image of ``b`` (both at least norm)."""
        if len(a) > 1 and a.stride(0) == 0:
            a = a[:1]  # one point against many: its side is worked out once
        if self.has_gauge:
            a, b = self.gauge(a).y, self.gauge(b).y
        return (self._closest(a, b) - a).norm(dim=1)

    def _closest(self, a: Float[Tensor, "A D"], x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        actions, _ = self.parts(x)
        width = self.ndim + sum((1 << group.n_signs) * (group.copies * group.size) ** 2 for group in self.groups)
        rows = rows_that_fit(width * (3 + self.restarts), x.device, on_host=_CHUNK)
        parts = []
        for start in range(0, max(len(x), 1), rows):
            mine = a if len(a) == 1 else a[start : start + rows]
            parts.append(closest_image(actions, mine, x[start : start + rows], restarts=self.restarts))
        return torch.cat(parts) if len(parts) != 1 else parts[0]

    def canonical(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Least norm; then group after group, units sorted and their signs fixed by a random projection."""
        actions, _ = self.parts(x)
        x = self.gauge(x).y if self.has_gauge else x
        for action, known in known_order(actions):
            x = action.canonical_image(x, known)
        return x

    def random_image(self, x: Float[Tensor, "B D"], key: Int[Tensor, "B"]) -> Float[Tensor, "B D"]:
        """A random permutation and random signs, scales, rotations, maps and shifts for every row."""
        actions, shifts = self.parts(x)
        for action in actions:
            x = action.image(x, random.fold(key, action.number))
        for k, shift in enumerate(shifts):
            amount = random.normal(random.fold(key, -1 - k), len(shift.coordinates), x.dtype)
            x = shift.added(x, amount)
        return x

    # --- numbers ----------------------------------------------------------------------------------------

    def invariants(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Sorted sizes of what the units own: equal for all images, 1-Lipschitz in the point."""
        x = self.gauge(x).y if self.has_gauge else x
        return self._invariants(x)

    def log_degeneracy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """ln of how many images there are: ln |G| - ln |stabiliser of x| for permutations and signs.

        Where there are rotations the images are as many families of Z dimensions. Their volume is measured in
        units of (2 pi)^(Z / 2), so that the harmonic partition function of a family is, as that of a point,
        exp(log_degeneracy - E / T) T^(k / 2) / sqrt(det) of the k directions left: the volume of the group over
        that of the stabiliser, times the root of the determinant of the generators' Gram matrix (as for a rotating
        molecule). Families without bounds (scales, general maps, shifts) have no volume, and count as one.
        """
        actions, _ = self.parts(x)
        y = self.gauge(x).y if self.has_gauge else x
        order = sum(group.log_order for group in self.groups)
        bounded = [one for one in actions if isinstance(one, Rotation) and not one.group.is_general]
        volume = log_volume_of_orbit(bounded, y)
        for one in actions:
            if isinstance(one, Rotation):
                y = one.canonical_image(y, frozenset(range(len(actions))))
        units = [one for one in actions if isinstance(one, Action)]
        return order + volume - log_stabiliser(units, self._unit_blocks, y, self.tolerance)

    def zero_modes(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B Z D"]:
        """Orthonormal tangents of scales, shifts, rotations and maps; rows of zeros where nothing can move."""
        actions, shifts = self.parts(x)
        modes = orthonormal(scale_modes([one for one in actions if isinstance(one, Action)], shifts, x))
        parts: tuple[list[Tensor], list[Tensor]] = [], []
        for one in actions:
            if isinstance(one, Rotation):  # which knows by itself in which planes nothing lives
                parts[one.number in self._coupled].append(directions(one.modes(x)))
        if parts[True]:
            modes = orthonormal(torch.cat([modes, *parts[True]], 1))
        return torch.cat([modes, *parts[False]], 1) if parts[False] else modes

    # --- verification -----------------------------------------------------------------------------------

    def verified(
        self, energy: Callable[[Tensor], Tensor], x: Float[Tensor, "B D"], key: Int[Tensor, "B"] | int = 0
    ) -> NeuralSymmetry:
        """What of this symmetry ``energy`` really has: every part is tried on random images of x by itself.

        Permutations, rotations, each sign change, each rescaling and each shift of every group are applied alone;
        a part that changes any energy is dropped, with a note (an l2 term breaks rescalings, for instance).

        Args:
            energy: [B D] -> [B].
            x: points in general position (several, not stationary points with vanishing weights).
            key: of the random images.
        """
        keys = random.fold(key, torch.arange(len(x), device=x.device))
        passed = verify(*self.parts(x), self.blocks, energy, x, keys)
        return self.replaced(
            groups=passed.groups, blocks=passed.blocks, shifts=passed.shifts, notes=(*self.notes, *passed.notes)
        )

    def replaced(self, **changes: Any) -> NeuralSymmetry:
        """A copy with other groups, blocks, shifts, notes or settings."""
        names = ("groups", "blocks", "shifts", "notes", "restarts", "tolerance", "max_invariants")
        return NeuralSymmetry(self.ndim, **{name: getattr(self, name) for name in names} | changes)
