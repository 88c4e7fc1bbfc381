"""``probe``: whether the derivatives of a potential are its derivatives, and its claimed symmetry is one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import torch

from torchscape import random
from torchscape.errors import PotentialError
from torchscape.memory import IN_CACHE
from torchscape.potentials.base import Potential
from torchscape.symmetry.base import Symmetry
from torchscape.symmetry.cluster import ClusterSymmetry
from torchscape.types import Bool, Float, Tensor

__all__ = ["generic_points", "probe", "refuse_false_symmetry", "refuse_wrong_derivatives"]

_POINTS = 3
_STEPS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)  # of the central differences, in length scales
_DOUBT = 10.0  # times its own uncertainty that a difference must disagree by
_CLEAR = 1e-3  # of a slope: a difference that is more uncertain tells little
_IMAGES = 4  # of every point under a claimed symmetry
_MOST_NAMED = 64  # parts of the coordinates that are tried one by one

_REMEDY_GRADIENT = (
    "look for .detach(), torch.no_grad(), .item(), rounding or a straight-through estimator: what is held back "
    "from the gradient must be held fixed in the energy as well"
)
_REMEDY_CURVATURE = (
    "an operation's second derivative is wrong in torch, or a hand-written backward is not differentiable itself: "
    "write the operation out in elementary ones"
)


def probe(potential: Potential) -> None:
    """Try the derivatives and the symmetry of a potential at a few points, once for each potential.

    :func:`torchscape.explore` does this for potentials that users write; those built from modules and functions
    were tried when they were made. It costs about 40 energies with gradients of single rows, and six
    Hessian-vector products.

    Raises:
        PotentialError: as :func:`refuse_wrong_derivatives` and :func:`refuse_false_symmetry`.

    Example:
        >>> class Wrong(Potential):
        ...     ndim = 2
        ...     def energy(self, x):
        ...         return (x * x.detach()).sum(1)
        >>> Wrong.__module__ = "my_model"  # this package's own potentials are not tried each time
        >>> probe(Wrong())
        Traceback (most recent call last):
        torchscape.errors.PotentialError: Wrong: the gradient is not the derivative of the energy: ...
    """
    if getattr(potential, "_probed", False) or type(potential).__module__.startswith("torchscape."):
        return
    x = generic_points(potential)
    refuse_wrong_derivatives(potential, x, "explore(..., check=False)")
    refuse_false_symmetry(potential, x)
    potential._probed = True  # type: ignore[attr-defined]


def generic_points(potential: Potential) -> Float[Tensor, "B D"]:
    """Starts, moved off the kinks on which starts may lie, and well inside a box."""
    x = potential.sample(_POINTS, seed=0)
    noise = random.normal(random.fold(3, torch.arange(len(x), device=x.device)), potential.ndim, x.dtype)
    x = x + 1e-2 * potential.length_scale * noise
    if (box := potential.bounds) is None:
        return x
    middle = 0.5 * (box.lower + box.upper)
    return box.clamp(torch.where(torch.isfinite(middle), middle + 0.9 * (x - middle), x))


def refuse_wrong_derivatives(
    potential: Potential,
    x: Float[Tensor, "B D"],
    switch: str,
    *,
    parts: Mapping[str, slice] | None = None,
    causes: Mapping[str, str] | None = None,
) -> bool:
    """Refuse a potential whose gradient or Hessian-vector product is not that of its energy.

    Both are compared with central differences of six steps along a random direction at every point, and H v with
    H w for symmetry. A difference speaks against a derivative only if it disagrees by ten times its own
    uncertainty, which is how far it is from that of the next step (beside the rounding of the energy): so kinks,
    noise and the unit of energy or length do not matter. A potential is refused if more than half of the points
    speak against it.

    Args:
        potential: what is tried.
        x: points in general position.
        switch: how to go without, for the message.
        parts: names of groups of coordinates, to say which derivatives are wrong.
        causes: what may be wrong with some of them, by name.

    Returns:
        Whether the differences were certain enough to tell (to a thousandth, at half of the points). Where kinks
        or jumps lie closer than the steps, they are not.

    Raises:
        PotentialError: saying which derivative is wrong, by how much, where, and what to do.
    """
    name = type(potential).__name__
    trial = _Trial.of(potential, x)
    if trial is None:
        return False
    parts = parts or {
        f"x[{i}]": slice(i, i + 1) for i in range(potential.ndim if potential.ndim <= _MOST_NAMED else 0)
    }
    if _most(trial.gradient_is_wrong, trial.finite):
        row = int(trial.gradient_is_wrong.nonzero()[0])
        guilty = trial.wrong_parts(row, parts)
        remedy = next((causes[part] for part in guilty if causes and part in causes), _REMEDY_GRADIENT)
        raise PotentialError(
            f"{name}: the gradient is not the derivative of the energy: along a random direction it is "
            f"{float(trial.slope[row]):.6g}, differences of the energy give {float(trial.measured[row]):.6g}"
            f"{_named(guilty)}; {remedy}; {switch} takes it as it is"
        )
    if _most(trial.curvature_is_wrong, trial.finite):
        row = int(trial.curvature_is_wrong.nonzero()[0])
        error = (trial.bend[row] - trial.product[row]).abs()
        guilty = [part for part, where in parts.items() if float(error[where].max()) > 0.1 * float(error.max())]
        raise PotentialError(
            f"{name}: the Hessian-vector product is not the derivative of the gradient: it is off by "
            f"{float(error.max()):.3g} where its largest entry is {float(trial.bend[row].abs().max()):.3g}"
            f"{_named(guilty)}; {_REMEDY_CURVATURE}; {switch} takes it as it is"
        )
    if _most(trial.is_asymmetric, trial.finite):
        raise PotentialError(
            f"{name}: the Hessian is not symmetric: w.Hv and v.Hw differ; hvp must be the derivative of the "
            f"gradient along v; {switch} takes it as it is"
        )
    return not _most(trial.is_unclear, trial.finite)


def refuse_false_symmetry(potential: Potential, x: Float[Tensor, "B D"]) -> None:
    """Refuse a claimed symmetry whose images of a point have other energies than the point.

    Energies may differ by what rounding of the coordinates and of the energy explains.

    Raises:
        PotentialError: saying which part of the symmetry does not hold, and how to claim less.
    """
    symmetry = potential.symmetry
    if type(symmetry) is Symmetry:
        return
    x = x.repeat(_IMAGES, 1)
    key = random.fold(4, torch.arange(len(x), device=x.device))
    if _same(potential, x, symmetry.random_image(x, key)):
        return
    name = type(potential).__name__
    if isinstance(symmetry, ClusterSymmetry):
        broken = [what for what, image in symmetry.elements(x, key).items() if not _same(potential, x, image)]
        broken = broken[:1] if "translation" in broken else broken  # the others are about the centroid
        raise PotentialError(
            f"{name}: U changes under {' and '.join(broken) or 'its symmetries together'}, although its symmetry "
            f"({symmetry.describe()}) claims that it does not; say what holds: translation=False where atoms are "
            f"bound to the origin, species=... where they are not alike, self.symmetry = BlockPermutation(n, 3) "
            f"where only their exchange does, Symmetry() where nothing does; with invariances=, fewer of them"
        )
    raise PotentialError(
        f"{name}: U changes under its claimed symmetry ({symmetry.describe()}); claim what holds, or pass "
        f"symmetry=None for none"
    )


def _same(potential: Potential, x: Float[Tensor, "B D"], image: Float[Tensor, "B D"]) -> bool:
    """Whether images have the energy of their origin, but for rounding (and one in a dozen, for bad luck)."""
    (before, slope), (after, other) = potential.energy_and_grad(x), potential.energy_and_grad(image)
    fine = (
        torch.isfinite(before)
        & torch.isfinite(after)
        & torch.isfinite(slope).all(1)
        & torch.isfinite(other).all(1)
    )
    moved = torch.maximum(slope.norm(dim=1) * x.norm(dim=1), other.norm(dim=1) * image.norm(dim=1))
    rounding = 1e3 * torch.finfo(x.dtype).eps * (before.abs() + after.abs() + moved)
    return int((((after - before).abs() > rounding) & fine).sum()) < 2


def _most(wrong: Bool[Tensor, "B"], judged: Bool[Tensor, "B"]) -> bool:
    return bool(2 * (wrong & judged).sum() > judged.sum())


def _named(parts: list[str]) -> str:
    return f" (in {', '.join(parts[:4])}{', ...' if len(parts) > 4 else ''})" if parts else ""


@dataclasses.dataclass(frozen=True)
class _Trial:
    """Derivatives of a potential along a direction v at every point, claimed and measured.

    Attributes:
        slope, measured: grad U . v, and the difference of the energy that is most certain.
        is_unclear: whether even that is uncertain.
        product, bend: H v, and the difference of the gradient that is most certain.
        step: of the most certain difference of the energy.
    """

    potential: Potential
    x: Float[Tensor, "B D"]
    v: Float[Tensor, "B D"]
    grad: Float[Tensor, "B D"]
    finite: Bool[Tensor, "B"]
    slope: Float[Tensor, "B"]
    measured: Float[Tensor, "B"]
    step: Float[Tensor, "B"]
    product: Float[Tensor, "B D"]
    bend: Float[Tensor, "B D"]
    gradient_is_wrong: Bool[Tensor, "B"]
    curvature_is_wrong: Bool[Tensor, "B"]
    is_asymmetric: Bool[Tensor, "B"]
    is_unclear: Bool[Tensor, "B"]

    @classmethod
    def of(cls, potential: Potential, x: Float[Tensor, "B D"]) -> _Trial | None:
        """The trial at x; None if nothing is finite there."""
        v, w = (_direction(x, seed) for seed in (0, 1))
        v = v * _room(potential, x, v)[:, None]
        energy, grad = potential.energy_and_grad(x)
        finite = torch.isfinite(energy) & torch.isfinite(grad).all(1)
        if not bool(finite.any()):
            return None
        eps, d = torch.finfo(x.dtype).eps, x.shape[1]
        size = v.norm(dim=1)
        slope = (grad * v).sum(1)
        try:
            product, across = potential.hvp(x.repeat(2, 1), torch.cat([v, w])).chunk(2)
        except (RuntimeError, NotImplementedError, PotentialError):  # no second derivatives: said where needed
            product = across = torch.full_like(x, torch.nan)
        best = _Differences(potential, x, v, energy).most_certain(slope, product)
        tolerance = 10 * eps ** (1 / 3)
        # A random direction sees 1/sqrt(D) of a gradient: what is smaller than that cannot be told from chance.
        scale = torch.maximum(torch.maximum(slope.abs(), best.rise.abs()), grad.norm(dim=1) * size / d**0.5)
        wrong = (best.error > _DOUBT * best.doubt) & (best.error > tolerance * scale)
        bent = torch.maximum(product.norm(dim=1), best.bend.norm(dim=1))
        bends = (best.bend_error > _DOUBT * best.bend_doubt) & (best.bend_error > tolerance * bent)
        skew = ((w * product).sum(1) - (v * across).sum(1)).abs()
        typical = (product.norm(dim=1) + across.norm(dim=1) * size) / d**0.5
        crooked = (skew > _DOUBT * best.bend_doubt) & (skew > tolerance * typical)
        unclear = ~(best.doubt <= _CLEAR * scale)
        judged = wrong, bends, crooked, unclear
        return cls(potential, x, v, grad, finite, slope, best.rise, best.step, product, best.bend, *judged)

    def wrong_parts(self, row: int, parts: Mapping[str, slice]) -> list[str]:
        """The parts whose own derivative is wrong, the worst first."""
        x, h = self.x[row], float(self.step[row])
        errors = {}
        for part, where in list(parts.items())[:_MOST_NAMED]:
            u = torch.zeros_like(x)
            u[where] = self.v[row, where]
            with torch.no_grad():
                up, down = self.potential.energy(torch.stack([x + h * u, x - h * u]))
            claimed = float((self.grad[row] * u).sum())
            measured = float(up - down) / (2 * h)
            errors[part] = abs(measured - claimed)
        worst = max(errors.values(), default=0.0)
        return sorted((p for p, e in errors.items() if e > 0.1 * worst), key=lambda p: -errors[p])


@dataclasses.dataclass(frozen=True)
class _Certain:
    """Of every row the differences with the least doubt."""

    rise: Float[Tensor, "B"]
    error: Float[Tensor, "B"]
    doubt: Float[Tensor, "B"]
    step: Float[Tensor, "B"]
    bend: Float[Tensor, "B D"]
    bend_error: Float[Tensor, "B"]
    bend_doubt: Float[Tensor, "B"]


@dataclasses.dataclass(frozen=True)
class _Differences:
    """Central differences of energy and gradient along v, step by step."""

    potential: Potential
    x: Float[Tensor, "B D"]
    v: Float[Tensor, "B D"]
    energy: Float[Tensor, "B"]

    def most_certain(self, slope: Float[Tensor, "B"], product: Float[Tensor, "B D"]) -> _Certain:
        """Those that are closest to the ones of the step before."""
        far = torch.full_like(slope, torch.inf)
        best = _Certain(slope, far * 0, far, far, product, far * 0, far)
        before: tuple[Tensor, Tensor] | None = None
        for h, rise, bend, noise in self._along():
            if before is not None:
                doubt = (rise - before[0]).abs() + noise
                closer = doubt < best.doubt  # false of NaN
                bend_doubt = (bend - before[1]).norm(dim=1)
                bends = bend_doubt < best.bend_doubt
                best = _Certain(
                    torch.where(closer, rise, best.rise),
                    torch.where(closer, (rise - slope).abs(), best.error),
                    torch.where(closer, doubt, best.doubt),
                    torch.where(closer, h, best.step),
                    torch.where(bends[:, None], bend, best.bend),
                    torch.where(bends, (bend - product).norm(dim=1), best.bend_error),
                    torch.where(bends, bend_doubt, best.bend_doubt),
                )
            before = rise, bend
        return best

    def _along(self) -> Iterator[tuple[float, Float[Tensor, "B"], Float[Tensor, "B D"], Float[Tensor, "B"]]]:
        """Steps, and for each the slope of the energy, the change of the gradient, and the rounding of the former.

        All steps are evaluated together, one after the other only where a row is long.
        """
        steps = [step * self.potential.length_scale for step in _STEPS]
        at_once = len(steps) if 2 * len(steps) * self.x.numel() <= IN_CACHE else 1
        for first in range(0, len(steps), at_once):
            some = steps[first : first + at_once]
            rows = torch.cat([self.x + side * h * self.v for h in some for side in (1, -1)])
            energy, grad = self.potential.energy_and_grad(rows)
            ends = zip(some, energy.split(2 * len(self.x)), grad.split(2 * len(self.x)), strict=True)
            for h, two, slopes in ends:
                (high, low), (grad_high, grad_low) = two.chunk(2), slopes.chunk(2)
                eps = torch.finfo(self.x.dtype).eps
                # coordinates are rounded, too
                shifted = grad_high.norm(dim=1) * self.x.norm(dim=1) / self.x.shape[1] ** 0.5
                noise = eps * (torch.maximum(high.abs(), low.abs()) + shifted) / h
                yield h, (high - low) / (2 * h), (grad_high - grad_low) / (2 * h), noise


def _direction(x: Float[Tensor, "B D"], seed: int) -> Float[Tensor, "B D"]:
    key = random.fold(seed, 5, torch.arange(len(x), device=x.device))
    return torch.nn.functional.normalize(random.normal(key, x.shape[1], x.dtype), dim=1)


def _room(potential: Potential, x: Float[Tensor, "B D"], v: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
    """A factor that keeps the longest step of the differences inside the box."""
    if (box := potential.bounds) is None:
        return x.new_ones(len(x))
    wall = torch.minimum(x - box.lower, box.upper - x)
    reach = _STEPS[0] * potential.length_scale * v.abs()
    return torch.where(reach > 0, wall / reach, torch.inf).amin(1).clamp(min=1e-3, max=1.0)
