"""``check_contract``: what every potential promises, tried out on a few points."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from torchscape import random
from torchscape.errors import NotDeterministic, PotentialError
from torchscape.potentials.base import Potential
from torchscape.types import Float, Tensor

__all__ = ["check_contract", "difference_errors"]

# Steps of the central differences, in units of the length scale: the largest shows the order, and one of the
# smaller ones sits near eps^(1/3), where truncation and rounding balance.
_STEPS = tuple(0.1 * 0.5**k for k in range(18))
_MAX_DENSE = 400


def check_contract(
    potential: Potential,
    n: int = 3,
    seed: int = 0,
    x: Float[Tensor, "B D"] | None = None,
    *,
    smooth: bool = True,
) -> None:
    """Try every promise of a :class:`Potential` on a few points, and say which one is broken.

    Shapes, dtype and device; the gradient against central differences of the energy and the Hessian-vector
    product against central differences of the gradient, (f(x + h v) - f(x - h v)) / 2h, both with an error that
    falls as h^2; ``hvp`` against the dense Hessian and ``products_at``; a symmetric Hessian; rows that never
    notice each other, also beside a row of NaN; equal answers when asked twice; a stable fingerprint; starts
    inside the bounds; a preconditioner, if any, that is linear, symmetric and positive; a symmetry whose images
    keep the energy, align with their origin, and whose zero modes are orthonormal and flat.

    Args:
        potential: what to check.
        n: how many points to sample where ``x`` is not given.
        seed: of the sampled points and of the directions.
        x: the points to check at, if sampled starts will not do.
        smooth: whether U is smooth, so that the order of the difference errors is checked too. Say False for
            networks with kinks (ReLU, max pooling), whose errors fall irregularly.

    Raises:
        PotentialError: naming the broken promise, and by how much it is broken.
        NotDeterministic: if two evaluations differ, or rows depend on their neighbours.

    Example:
        >>> from torchscape import Potential
        >>> class Wrong(Potential):
        ...     ndim = 2
        ...     def energy(self, x):
        ...         return (x**2).sum(1) * (1 + 0.01 * x.detach()[:, 0])
        >>> check_contract(Wrong())
        Traceback (most recent call last):
        torchscape.errors.PotentialError: Wrong: the gradient is not the derivative of the energy: ...
    """
    _check_sample(potential, n, seed)
    if x is None:
        x = _inside(potential, potential.sample(n, seed))
    x = x.detach().to(potential.device, potential.dtype)
    trial = _Trial(potential, x, _directions(x, seed), smooth)
    trial.shapes()
    trial.determinism()
    trial.rows()
    trial.gradient()
    trial.curvature()
    trial.preconditioning()
    trial.symmetric_images(seed)
    trial.zero_modes()


def difference_errors(
    f: Callable[[Tensor], Tensor],
    slope: Float[Tensor, "B *K"],
    x: Float[Tensor, "B D"],
    v: Float[Tensor, "B D"],
    steps: Float[Tensor, "S"],
) -> Float[Tensor, "S B"]:
    """Largest deviation of (f(x + h v) - f(x - h v)) / 2h from the claimed ``slope``, for every step h and row.

    Example:
        >>> x = torch.zeros(1, 1, dtype=torch.float64)
        >>> steps = torch.tensor([0.1, 0.05], dtype=x.dtype)
        >>> e = difference_errors(lambda x: x.sin()[:, 0], torch.ones(1), x, torch.ones_like(x), steps)
        >>> round(float(e[0] / e[1]), 2)
        4.0
    """
    errors = []
    for h in steps:
        difference = (f(x + h * v) - f(x - h * v)) / (2 * h)
        errors.append((difference - slope).abs().reshape(len(x), -1).amax(1))
    return torch.stack(errors)


@dataclasses.dataclass(frozen=True)
class _Trial:
    """One potential at a few points ``x`` with one unit direction ``v`` for each."""

    potential: Potential
    x: Float[Tensor, "B D"]
    v: Float[Tensor, "B D"]
    smooth: bool

    @property
    def eps(self) -> float:
        return torch.finfo(self.x.dtype).eps

    def fail(self, what: str, error: type[PotentialError] = PotentialError) -> PotentialError:
        return error(f"{type(self.potential).__name__}: {what}")

    def close(self, a: Tensor, b: Tensor, what: str, *, rounding: float = 1e4, error=PotentialError) -> None:
        """``a`` and ``b`` agree to ``rounding`` units in the last place of the largest number of their row."""
        if a.shape != b.shape:
            raise self.fail(f"{what}: shapes {tuple(a.shape)} and {tuple(b.shape)}", error)
        both = torch.stack([a, b]).reshape(2, len(a), -1)
        scale = both.abs().amax((0, 2)) if both.shape[2] else both.new_zeros(len(a))
        gap = (both[0] - both[1]).abs().amax(1) if both.shape[2] else scale
        bad = ~(gap <= rounding * self.eps * scale.clamp_min(1e-3))
        if bool(bad.any()):
            row = int(bad.nonzero()[0])
            raise self.fail(
                f"{what}: off by {float(gap[row]):.3g} at point {row}, scale {float(scale[row]):.3g}", error
            )

    # --- one promise each ------------------------------------------------------------------------------

    def shapes(self) -> None:
        """Energies [B], gradients and products [B D], Hessians [B D D], all of the dtype and device of x."""
        u, x, (b, d) = self.potential, self.x, self.x.shape
        if d != u.ndim:
            raise self.fail(f"ndim is {u.ndim}, but the points have {d} coordinates")
        scalar = u.energy(x).detach()
        if tuple(scalar.shape) != (b,):
            raise self.fail(f"energy has shape {tuple(scalar.shape)} instead of {(b,)}")
        energy, grad = u.energy_and_grad(x)
        results: list[tuple[str, Tensor, tuple[int, ...]]] = [
            ("energy", scalar, (b,)),
            ("energy_and_grad's energy", energy, (b,)),
            ("the gradient", grad, (b, d)),
            ("hvp", u.hvp(x, self.v), (b, d)),
        ]
        if d <= _MAX_DENSE:
            results.append(("hessian", u.hessian(x), (b, d, d)))
        for name, value, shape in results:
            if tuple(value.shape) != shape:
                raise self.fail(f"{name} has shape {tuple(value.shape)} instead of {shape}")
            if value.dtype != x.dtype or value.device != x.device:
                raise self.fail(f"{name} is {value.dtype} on {value.device}, the points {x.dtype} on {x.device}")
            if value.requires_grad:
                raise self.fail(f"{name} is attached to the autograd graph; detach it")
            if not bool(torch.isfinite(value).all()):
                raise self.fail(f"{name} is not finite at the sampled points; pass points x where it is")
        if u.energy(x[:0]).shape != (0,) or u.energy_and_grad(x[:0])[1].shape != (0, d):
            raise self.fail("an empty batch must give empty results")

    def determinism(self) -> None:
        """Asked twice, the same answer; and evaluating changes neither the points nor the fingerprint."""
        u, before = self.potential, self.x.clone()
        name = u.fingerprint()
        first, second = u.energy(self.x).detach(), u.energy(self.x).detach()
        self.close(first, second, "two evaluations differ", rounding=100.0, error=NotDeterministic)
        u.energy_and_grad(self.x)
        u.hvp(self.x, self.v)
        if not torch.equal(before, self.x):
            raise self.fail("evaluating the energy changed the points in place")
        if u.fingerprint() != name:
            raise self.fail("the fingerprint changed by evaluating; settings() must not depend on evaluations")

    def rows(self) -> None:
        """Alone, reversed, or beside a row of NaN: a row has the same energy, gradient and product."""
        u, x, v = self.potential, self.x, self.v
        whole = self._everything(x, v)
        singles = [self._everything(x[[b]], v[[b]]) for b in range(len(x))]
        alone = [torch.cat(column) for column in zip(*singles, strict=True)]
        turned = [column.flip(0) for column in self._everything(x.flip(0), v.flip(0))]
        sick = torch.cat([torch.full_like(x[:1], torch.nan), x])
        beside = [column[1:] for column in self._everything(sick, torch.cat([v[:1], v]))]
        cases = (("evaluated alone", alone), ("in another order", turned), ("beside a row of NaN", beside))
        for how, others in cases:
            for name, a, b in zip(("energy", "gradient", "hvp"), whole, others, strict=True):
                self.close(a, b, f"rows interact: the {name} of a row differs {how}", error=NotDeterministic)
        self.close(u.energy(x).detach(), whole[0], "energy and energy_and_grad disagree about U")

    def gradient(self) -> None:
        """grad U . v is the derivative of U along v."""
        energy, grad = self.potential.energy_and_grad(self.x)
        slope = (grad * self.v).sum(1)
        with torch.no_grad():
            self._derivative(self.potential.energy, slope, energy, grad, "the gradient", "the energy")

    def curvature(self) -> None:
        """H v is the derivative of grad U along v; H is symmetric; the dense Hessian agrees."""
        u, x, v = self.potential, self.x, self.v
        product = u.hvp(x, v)
        grad = u.energy_and_grad(x)[1]
        self._derivative(lambda y: u.energy_and_grad(y)[1], product, grad, product, "hvp", "the gradient")
        w = v.roll(1, 1) if x.shape[1] > 1 else 2 * v
        scale = product.norm(dim=1)[:, None]
        left, right = ((a * b).sum(1)[:, None] for a, b in ((w, product), (v, u.hvp(x, w))))
        self.close(
            torch.cat([left, scale], 1),
            torch.cat([right, scale], 1),
            "the Hessian is not symmetric: w.Hv and v.Hw",
        )
        block, apart = u.products_at(x)(torch.stack([v, w], 1)), torch.stack([product, u.hvp(x, w)], 1)
        self.close(block.flatten(1), apart.flatten(1), "products_at and hvp differ")
        if x.shape[1] <= _MAX_DENSE:
            dense = u.hessian(x)
            self.close(dense, dense.mT, "hessian is not symmetric")
            self.close(torch.einsum("bij,bj->bi", dense, v), product, "hessian @ v and hvp differ")

    def preconditioning(self) -> None:
        """P (a v + b w) = a P v + b P w,  w . P v = v . P w,  v . P v > 0."""
        if (p := self.potential.preconditioner) is None:
            return
        v, w = self.v, self.v.flip(1) + 0.5 * self.v
        pv, pw = p(v), p(w)
        self.close(p(2.0 * v - 3.0 * w), 2.0 * pv - 3.0 * pw, "the preconditioner is not linear")
        scale = (pv.norm(dim=1) * w.norm(dim=1))[:, None]
        left, right = ((a * b).sum(1)[:, None] for a, b in ((w, pv), (v, pw)))
        self.close(
            torch.cat([left, scale], 1), torch.cat([right, scale], 1), "the preconditioner is not symmetric"
        )
        if not bool(((v * pv).sum(1) > 0).all()):
            raise self.fail("the preconditioner is not positive: a descent would go uphill")

    def symmetric_images(self, seed: int) -> None:
        """Images have the energy of their origin, align with it, and share its invariants and degeneracy."""
        u, x, g = self.potential, self.x, self.potential.symmetry
        image = g.random_image(x, random.fold(seed, 1, torch.arange(len(x), device=x.device)))
        energy = u.energy(x).detach()
        canonical = g.canonical(x)
        for what, y in (("random_image", image), ("canonical", canonical), ("align", g.align(image, x))):
            self.close(u.energy(y).detach(), energy, f"symmetry.{what} changes the energy", rounding=1e5)
        # An alignment is a least-squares fit: it is exact to about the root of the rounding error.
        reach = 100 * self.eps**0.5 * x.norm(dim=1).clamp_min(u.length_scale)
        for what, distance in (("distance", g.distance(x, image)), ("align", (g.align(x, image) - x).norm(dim=1))):
            if not bool((distance <= reach).all()):
                raise self.fail(f"symmetry.{what} leaves a point {float(distance.max()):.3g} from its own image")
        invariants = g.invariants(x)
        self.close(invariants, g.invariants(image), "symmetry.invariants differ between images", rounding=1e6)
        other = x + 0.1 * u.length_scale * self.v
        gap = (g.invariants(other) - invariants).norm(dim=1)
        if not bool((gap <= g.distance(x, other) + reach).all()):
            raise self.fail("symmetry.invariants move further than the point does")
        self.close(g.log_degeneracy(x), g.log_degeneracy(image), "symmetry.log_degeneracy differs between images")

    def zero_modes(self) -> None:
        """Orthonormal (or absent), with grad U . z = 0 everywhere, and H z = 0 where the gradient vanishes."""
        u, x, modes = self.potential, self.x, self.potential.symmetry.zero_modes(self.x)
        if modes.ndim != 3 or modes.shape[::2] != x.shape:
            raise self.fail(f"symmetry.zero_modes has shape {tuple(modes.shape)} instead of [B, Z, D]")
        gram = torch.einsum("bzd,byd->bzy", modes, modes)
        present = gram.diagonal(dim1=1, dim2=2).round().clamp(0, 1)
        self.close(gram, torch.diag_embed(present), "symmetry.zero_modes are not orthonormal", rounding=1e5)
        grad = u.energy_and_grad(x)[1]
        size = grad.norm(dim=1) + u.energy(x).detach().abs() * 1e-3 / u.length_scale
        along = torch.einsum("bzd,bd->bz", modes, grad).abs()
        if not bool((along <= 1e5 * self.eps * size[:, None]).all()):
            raise self.fail(f"the energy changes along a zero mode: slope {float(along.max()):.3g}")
        stationary = grad.norm(dim=1) <= 1e-6 * u.length_scale
        for z in modes.unbind(1):
            bent, stiff = u.hvp(x, z).norm(dim=1), u.hvp(x, self.v).norm(dim=1)
            if bool((stationary & (bent > 1e-5 * stiff)).any()):
                raise self.fail(f"a zero mode of a stationary point is curved: |H z| = {float(bent.max()):.3g}")

    # --- helpers ---------------------------------------------------------------------------------------

    def _everything(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return *self.potential.energy_and_grad(x), self.potential.hvp(x, v)

    def _derivative(self, f, slope: Tensor, value: Tensor, total: Tensor, claimed: str, of: str) -> None:
        """``slope`` against central differences of ``f``: small at the best step, and falling as h^2."""
        scale = self.potential.length_scale
        steps = scale * torch.tensor(_STEPS, dtype=self.x.dtype, device=self.x.device) * self._room()
        errors = difference_errors(f, slope, self.x, self.v, steps)
        nearby = torch.stack([value, f(self.x + steps[0] * self.v)])  # the value alone may be exactly zero
        size = nearby.abs().reshape(2, len(value), -1).amax((0, 2))
        noise = 10 * self.eps * size / steps[:, None] + 10 * self.eps * total.norm(dim=1)
        best = torch.where(errors.isfinite(), errors, torch.inf).amin(0)
        allowed = 3e3 * self.eps ** (2 / 3) * (total.norm(dim=1) + size / scale)
        if not bool((best <= allowed).all()):
            row = int((~(best <= allowed)).nonzero()[0])
            raise self.fail(
                f"{claimed} is not the derivative of {of}: central differences deviate by {float(best[row]):.3g} "
                f"at point {row} where {float(allowed[row]):.3g} is allowed"
            )
        # The order, from the smallest pair of steps at which truncation still stands well above rounding.
        orders = torch.log2(errors[:-1] / errors[1:])
        clear = (errors[1:] > 100 * noise[1:]).int().flip(0)
        last = len(clear) - 1 - clear.argmax(0)
        order = orders.gather(0, last[None])[0]
        if self.smooth and bool(((order < 1.5) & clear.bool().any(0)).any()):
            raise self.fail(
                f"central differences approach {claimed} with order {float(order.min()):.2f} instead of 2; "
                f"if the energy has kinks (ReLU), say smooth=False"
            )

    def _room(self) -> float:
        """A factor that keeps the difference steps inside the bounds."""
        box = self.potential.bounds
        if box is None:
            return 1.0
        wall = float(torch.minimum(self.x - box.lower, box.upper - self.x).min())
        if wall <= 0:
            raise self.fail("the points to check must lie inside the bounds")
        return min(1.0, wall / (_STEPS[0] * self.potential.length_scale))


def _directions(x: Float[Tensor, "B D"], seed: int) -> Float[Tensor, "B D"]:
    key = random.fold(seed, 2, torch.arange(len(x), device=x.device))
    return torch.nn.functional.normalize(random.normal(key, x.shape[1], x.dtype), dim=1)


def _check_sample(potential: Potential, n: int, seed: int) -> None:
    """Starts have the right shape, dtype and device, are inside the bounds, and depend on the seed alone."""
    name, before = type(potential).__name__, torch.get_rng_state()
    x = potential.sample(n, seed)
    if x.shape != (n, potential.ndim) or x.dtype != potential.dtype or x.device.type != potential.device.type:
        raise PotentialError(
            f"{name}: sample({n}) gives {tuple(x.shape)}, {x.dtype}, {x.device} instead of "
            f"{(n, potential.ndim)}, {potential.dtype}, {potential.device}"
        )
    if not torch.equal(x, potential.sample(n + 1, seed)[:n]):
        raise NotDeterministic(f"{name}: sample(n, seed) must give the same first rows for every n and every call")
    if n and torch.equal(x, potential.sample(n, seed + 1)):
        raise PotentialError(f"{name}: sample gives the same starts for another seed")
    if not torch.equal(before, torch.get_rng_state()):
        raise PotentialError(f"{name}: sample disturbs the global random state; use torchscape.random")
    box = potential.bounds
    if box is not None and not torch.equal(box.clamp(x), x):
        raise PotentialError(f"{name}: sample starts outside the bounds")


def _inside(potential: Potential, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """Sampled points, drawn a little towards the middle of a finite box, so that differences have room."""
    box = potential.bounds
    if box is None:
        return x
    middle = 0.5 * (box.lower + box.upper)
    return torch.where(torch.isfinite(middle), middle + 0.95 * (x - middle), x)
