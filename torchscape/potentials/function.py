"""``FunctionPotential``: any torch function of a point, or of a batch of points, as a potential."""

from __future__ import annotations

import contextlib
import functools
import math
import warnings
from collections.abc import Callable, Sequence

import torch
from torch.overrides import TorchFunctionMode

from torchscape import random
from torchscape.errors import NotDeterministic, PotentialError
from torchscape.potentials.base import Potential
from torchscape.potentials.batching import RowsOfStates, WrittenOut, decomposed, differentiable_twice
from torchscape.potentials.bounds import Bounds
from torchscape.potentials.checks import available_device, available_dtype
from torchscape.potentials.compiled import Setting, check_setting
from torchscape.potentials.periodic import expect_translations, invariant_under, sample_periods, with_periods
from torchscape.potentials.probe import generic_points, refuse_false_symmetry, refuse_wrong_derivatives
from torchscape.symmetry.base import Symmetry
from torchscape.symmetry.translations import Translations
from torchscape.types import Float, Tensor
from torchscape.validation import COUNT, POSITIVE

__all__ = ["FunctionPotential"]


class FunctionPotential(Potential):
    """U(x) = fn(x), for a function written in torch operations.

    ``fn`` takes one point [D] and returns a scalar (it is then vectorised by ``torch.func.vmap``, or called
    row by row, with one warning, where an operation has no batching rule), or it takes a batch [B, D] and
    returns [B]. Which of the two is found out by trying; ``batched`` settles it.

    Args:
        fn: the function.
        ndim: number of coordinates D.
        bounds: (low, high) pairs, one per coordinate, or a :class:`Bounds`; None for no box.
        batched: True if ``fn`` maps [B, D] to [B], False if it maps [D] to a scalar, None to find out.
        periods: the period of every coordinate (None where it has none), or one number for all: points are the
            same modulo periods, and starts are drawn from one period.
        symmetry: which points are the same; None for no symmetry. With periods, :class:`Translations`, which
            also takes directions along which U is constant.
        invariances: motions of all particles together that leave U unchanged, in place of ``symmetry``: one or
            several of "translation", "rotation" (with reflection; about the origin where there is no translation)
            and "permutation" (of all of them). All angles turned together are a translation.
        dim: with invariances, coordinates of a particle: a row is (x_1, y_1, ..., x_2, ...).
        length_scale: a distance over which U changes appreciably; by default a tenth of the shortest finite
            side of the box or period, and 1 without one.
        name: goes into the fingerprint; by default the function's qualified name. The code of ``fn`` and
            what it closes over cannot be hashed: name functions that differ only in those.
        chunk_size: most points evaluated by one vectorised call.
        dtype, device: of the points.
        compile: whether gradients are computed by compiled code, as of every :class:`Potential`.
        check: try the derivatives, and a symmetry that is given: 36 gradients of single rows, six Hessian-vector
            products.

    Raises:
        PotentialError: if ``fn`` cannot take a point of ``ndim`` coordinates, returns anything but a scalar,
            leaves torch's autograd, gives NaN everywhere, or reads both ways with different answers; if a
            derivative is not that of U, or U changes under the symmetry or the periods that it is said to have.
        NotDeterministic: if two evaluations of one point differ, or a row depends on its neighbours.

    Example:
        >>> import torch
        >>> u = FunctionPotential(lambda x: (x[0] - 1) ** 2 + 4 * x[1] ** 2, ndim=2, bounds=[(-5, 5), (-5, 5)])
        >>> energy, grad = u.energy_and_grad(torch.tensor([[0.0, 1.0]], dtype=torch.float64))
        >>> energy.tolist(), grad.tolist(), u.length_scale
        ([5.0], [[-2.0, 8.0]], 1.0)
    """

    def __init__(
        self,
        fn: Callable[[Tensor], Tensor],
        ndim: int,
        bounds=None,
        *,
        batched: bool | None = None,
        periods: float | int | Sequence[float | int | None] | Tensor | None = None,
        symmetry: Symmetry | None = None,
        invariances: str | Sequence[str] | None = None,
        dim: int = 1,
        length_scale: float | int | None = None,
        name: str | None = None,
        chunk_size: int = 4096,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
        compile: Setting = False,
        check: bool = True,
    ):
        COUNT.check("FunctionPotential", PotentialError, ndim=ndim, chunk_size=chunk_size, dim=dim)
        POSITIVE.or_none.check("FunctionPotential", PotentialError, length_scale=length_scale)
        check_setting("FunctionPotential", compile)
        self.fn, self.ndim = fn, int(ndim)
        self.dtype, self.device = available_dtype(dtype), available_device(device)
        self.name = name if name is not None else _qualified_name(fn)
        self.chunk_size = self.max_rows = int(chunk_size)
        if invariances is not None:
            if symmetry is not None:
                raise PotentialError("symmetry= and invariances= say the same: give one of them")
            symmetry = invariant_under(invariances, self.ndim, int(dim))
        if symmetry is not None:
            self.symmetry = symmetry
        if periods is not None:
            self.symmetry = with_periods(symmetry, self.ndim, periods)
        if bounds is not None:
            self.bounds = Bounds.of(bounds, dtype=dtype, device=self.device)
            if len(self.bounds.lower) != ndim:
                raise PotentialError(
                    f"{len(self.bounds.lower)} bounds for ndim={ndim}: give one pair per coordinate"
                )
        self.length_scale = float(length_scale) if length_scale is not None else _length_scale(self)
        points = _probe_points(self)
        self.batched = _detect(fn, points) if batched is None else bool(batched)
        self._evaluate = self._choose(points)
        if _calls_fused(self._evaluate, points):
            self._evaluate = _without_fused(self._evaluate)
        _check(self._evaluate, points)
        expect_translations(self, points)
        if check:
            x = generic_points(self)
            refuse_wrong_derivatives(self, x, "check=False")
            refuse_false_symmetry(self, x)
        self.compile = compile

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        return self._evaluate(x) if x.shape[0] else x.sum(1)

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n D"]:
        """As of every potential, but periodic coordinates uniform in one period."""
        return sample_periods(self, super().sample(n, seed), seed)

    def settings(self):
        box = None if self.bounds is None else [self.bounds.lower.tolist(), self.bounds.upper.tolist()]
        own = {"ndim": self.ndim, "name": self.name, "bounds": box}
        if isinstance(self.symmetry, Translations):
            own |= {"periods": self.symmetry.periods.tolist(), "directions": self.symmetry.directions.tolist()}
        return own

    def _choose(self, points: Float[Tensor, "B D"]) -> Callable[[Tensor], Tensor]:
        """How to evaluate a batch: as given, vectorised, or row by row."""
        if self.batched:
            _expect_batch(_call(self.fn, points, "a batch"), points)
            return self.fn
        rows, reason = _by_rows(self.fn), ""
        by_rows = rows(points)
        plain = _mapped(self.fn, self.chunk_size)
        for vectorised in (plain, _nested(self.fn, self.chunk_size), _without_fused(plain)):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")  # vmap's own fallback announces itself with a warning
                    together = vectorised(points)
            except Exception as error:
                reason = reason or str(error).strip().splitlines()[0]
                continue
            if _close(together, by_rows):
                return vectorised
            if not _close(rows(points), by_rows):
                raise NotDeterministic(_NOT_DETERMINISTIC)
            reason = reason or "vectorised values differ from those of single points"
        warnings.warn(
            f"{self.name} is evaluated row by row, because vmap cannot vectorise it ({reason})", stacklevel=3
        )
        return rows


# Kernels without batching rules or with false second derivatives, which have a plain form.
_FUSED = frozenset(
    [
        "scaled_dot_product_attention",
        "multi_head_attention_forward",
        "_native_multi_head_attention",
        "_transformer_encoder_layer_fwd",
        "_weight_norm",
    ]
)


class _Watch(TorchFunctionMode):
    """Whether a fused kernel is called."""

    seen = False

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen = self.seen or getattr(func, "__name__", "") in _FUSED
        return func(*args, **(kwargs or {}))


def _calls_fused(evaluate: Callable[[Tensor], Tensor], points: Float[Tensor, "B D"]) -> bool:
    with _Watch() as watch, contextlib.suppress(Exception):  # what is wrong is said by _check
        evaluate(points)
    return watch.seen


def _without_fused(evaluate: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """With the mathematical form of attention, and weight normalisation written out."""

    def plain(x: Tensor) -> Tensor:
        with differentiable_twice(), WrittenOut():
            return evaluate(x)

    return plain


def _mapped(fn: Callable[[Tensor], Tensor], chunk_size: int) -> Callable[[Tensor], Tensor]:
    """Vectorised, at most so many points at once."""
    whole, parts = torch.func.vmap(fn), torch.func.vmap(fn, chunk_size=chunk_size)
    # In parts it cannot be recorded for any number of rows.
    return lambda x: whole(x) if x.shape[0] <= chunk_size else parts(x)


def _nested(fn: Callable[[Tensor], Tensor], chunk_size: int) -> Callable[[Tensor], Tensor]:
    """Vectorised below a level of differentiation, where torch takes recurrent layers apart."""
    inside = _mapped(lambda point: torch.func.vjp(fn, point)[0], chunk_size)

    def vectorised(x: Tensor) -> Tensor:
        with decomposed(x.device), RowsOfStates():
            return inside(x)

    return vectorised


_NOT_DETERMINISTIC = (
    "two evaluations of one point differ: remove the randomness from the function, or fix its draws"
)


def _qualified_name(fn: Callable) -> str:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return getattr(fn, "__qualname__", type(fn).__qualname__)


def _length_scale(potential: FunctionPotential) -> float:
    bounds, shortest = potential.bounds, math.inf
    if bounds is not None:
        shortest = float((bounds.upper - bounds.lower).min())
    if isinstance(potential.symmetry, Translations):
        shortest = min(shortest, float(potential.symmetry.periods.min()))
    return 0.1 * shortest if math.isfinite(shortest) else 1.0


def _probe_points(potential: FunctionPotential) -> Float[Tensor, "B D"]:
    """A few points of the box (or around the origin); never D of them, so that shapes [B] and [D] differ."""
    n = 5 if potential.ndim != 5 else 6
    normal = random.normal(random.fold(0, torch.arange(n)), potential.ndim).to(potential.device, potential.dtype)
    if potential.bounds is None:
        return potential.length_scale * normal
    finite = bool(torch.isfinite(potential.bounds.upper - potential.bounds.lower).all())
    return potential.sample(n) if finite else potential.bounds.clamp(potential.length_scale * normal)


def _detect(fn: Callable, points: Float[Tensor, "B D"]) -> bool:
    """Whether ``fn`` takes batches, found out by trying both."""
    single = together = trouble = None
    try:
        single = fn(points[0])
    except Exception as error:
        trouble = error
    try:
        together = fn(points)
    except Exception as error:
        trouble = trouble or error
    takes_points = isinstance(single, Tensor) and single.shape == ()
    takes_batches = isinstance(together, Tensor) and together.shape == points.shape[:1]
    if takes_points and takes_batches:
        each = torch.stack([fn(point) for point in points])
        if _close(each, together):
            return True
        if not _close(fn(points), together):
            raise NotDeterministic(_NOT_DETERMINISTIC)
        raise PotentialError(
            "the function takes one point [D] as well as a batch [B, D], with different answers: "
            "pass batched=True if it was written for batches, batched=False if it was written for one point"
        )
    if takes_points or takes_batches:
        return takes_batches
    if isinstance(together, Tensor) and trouble is not None and together.shape[:1] != points.shape[:1]:
        together = None  # the batch went through by accident; what went wrong with one point is the news
    raise PotentialError(_neither(single, together, trouble, points.shape[1]))


def _neither(single, together, trouble: Exception | None, ndim: int) -> str:
    """Why a function is neither [D] -> scalar nor [B, D] -> [B], and what to do."""
    if trouble is None and single is None and together is None:
        return "the function returns None: does it end with return?"
    for value in (single, together):
        if value is not None and not isinstance(value, Tensor):
            kind = type(value).__name__
            return f"the function returns {kind}, not a tensor: compute the energy with torch operations"
    if single is not None:
        return (
            f"the function returns shape {tuple(single.shape)} for one point: the energy must be a scalar; "
            "reduce it with .sum() or .mean(), or drop a length-one axis with .squeeze()"
        )
    if trouble is not None and together is None:
        return f"the function cannot be evaluated at {ndim} coordinates (is ndim={ndim} right?): {trouble}"
    return (
        f"the function returns shape {tuple(together.shape)} for a batch [B, D]: return one energy per row [B]; "
        "reduce over the last axes only, for example .sum(-1)"
    )


def _by_rows(fn: Callable) -> Callable[[Tensor], Tensor]:
    """The batch as a loop over single points."""

    def rows(x: Tensor) -> Tensor:
        return torch.stack([_expect_scalar(_call(fn, point, "one point")) for point in x])

    return rows


def _call(fn: Callable, x: Tensor, what: str) -> Tensor:
    try:
        value = fn(x)
    except Exception as error:
        ndim = x.shape[-1]
        raise PotentialError(
            f"the function cannot be evaluated at {what} with {ndim} coordinates (is ndim={ndim} right?): {error}"
        ) from error
    if not isinstance(value, Tensor):
        raise PotentialError(_neither(value, None, None, x.shape[-1]))
    return value


def _expect_scalar(value: Tensor) -> Tensor:
    if value.shape != ():
        raise PotentialError(_neither(value, None, None, 0))
    return value


def _expect_batch(value: Tensor, points: Float[Tensor, "B D"]) -> None:
    if value.shape != points.shape[:1]:
        raise PotentialError(_neither(None, value, None, points.shape[1]))


def _check(evaluate: Callable[[Tensor], Tensor], points: Float[Tensor, "B D"]) -> None:
    """Finite somewhere, of the points' dtype, differentiable, deterministic, rows independent."""
    leaf = points.clone().requires_grad_(True)
    with torch.enable_grad():
        try:
            energy = evaluate(leaf)
        except Exception as error:
            raise PotentialError(f"the function fails while autograd is recording: {error}") from error
        if energy.dtype != points.dtype:
            raise PotentialError(
                f"the function turns {points.dtype} points into {energy.dtype} energies: "
                f"keep the dtype of x, or pass dtype={energy.dtype}"
            )
        if not energy.requires_grad:
            raise PotentialError(
                "the energy does not depend on x through torch operations, so there is no gradient: "
                "avoid .item(), .detach(), numpy and torch.no_grad() inside the function"
            )
        (grad,) = torch.autograd.grad(energy.sum(), leaf, allow_unused=True)
    energy = energy.detach()
    if not bool(torch.isfinite(energy).any()):
        raise PotentialError(
            "the energy is NaN or infinite at every probe point: check the function and its bounds"
        )
    if grad is None or not bool(torch.isfinite(grad).all(1).any()):
        raise PotentialError(
            "the gradient is NaN or infinite at every probe point: check the function for 0/0 or sqrt(0)"
        )
    if not _close(evaluate(points), energy):
        raise NotDeterministic(_NOT_DETERMINISTIC)
    alone = torch.cat([evaluate(points[i : i + 1]) for i in range(len(points))])
    if not _close(alone, energy):
        raise NotDeterministic(
            "a row's energy depends on the other rows of the batch: reduce over the last axis only (dim=-1), "
            "or write the function for one point and pass batched=False"
        )


def _close(a: Tensor, b: Tensor | None) -> bool:
    """Equal but for the rounding of a differently ordered sum."""
    if b is None or a.shape != b.shape:
        return False
    a, b = a.detach(), b.detach()
    scale = torch.nan_to_num(b, nan=0.0, posinf=0.0, neginf=0.0).abs().max()
    return torch.allclose(a, b, rtol=0.0, atol=float(torch.finfo(b.dtype).eps ** 0.75 * scale), equal_nan=True)
