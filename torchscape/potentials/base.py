"""``Potential``: a deterministic function U: R^D -> R, evaluated on batches of rows."""

from __future__ import annotations

import functools
import hashlib
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch

from torchscape import random
from torchscape.errors import PotentialError
from torchscape.memory import Limits, attempt, halving, limits_of, note
from torchscape.native import RowFunction
from torchscape.potentials.batching import pulled_back
from torchscape.potentials.bounds import Bounds
from torchscape.potentials.compiled import Compiled, Setting
from torchscape.potentials.preconditioner import Preconditioner
from torchscape.potentials.scale import estimated_energy_scale
from torchscape.potentials.twin import twin
from torchscape.symmetry.base import Symmetry
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["Potential", "hash_settings"]

_SCALES: weakref.WeakKeyDictionary[Potential, float] = weakref.WeakKeyDictionary()  # a copy is asked anew
_CODES: weakref.WeakKeyDictionary[Potential, Compiled] = weakref.WeakKeyDictionary()
_STEPS: weakref.WeakKeyDictionary[Potential, str] = weakref.WeakKeyDictionary()
_TWINS: weakref.WeakKeyDictionary[Potential, dict[torch.dtype, Potential | str]] = weakref.WeakKeyDictionary()


def _products(potential: Potential, x: Float[Tensor, "B D"]) -> Callable[[Tensor], Tensor]:
    """H(x_b) V_b as a function of V, each product computed from scratch: nothing is kept."""

    def products(v: Float[Tensor, "B K D"]) -> Float[Tensor, "B K D"]:
        return potential.hvp(x.repeat_interleave(v.shape[1], 0), v.flatten(0, 1)).reshape(v.shape)

    return products


def _keeping_less(method: Callable[..., Callable]) -> Callable[..., Callable]:
    """Decorates ``products_at``: where memory cannot hold what is kept between products, nothing is kept."""
    if getattr(method, "__halving__", False):
        return method

    @functools.wraps(method)
    def careful(self: Potential, x: Float[Tensor, "B D"]) -> Callable[[Tensor], Tensor]:
        key = "products_at", x.device, x.dtype
        if len(x) > limits_of(self).get(key, len(x)):
            return _products(self, x)
        kept: list[Callable] = []  # whatever is kept, so that it can be let go
        if (made := attempt(method, self, x))[0]:
            kept.append(made[1])
        del made

        def products(v: Float[Tensor, "B K D"]) -> Float[Tensor, "B K D"]:
            if kept:
                fits, product = attempt(kept[0], v)
                if fits:
                    return product
                let_go()
            return _products(self, x)(v)

        def let_go() -> None:
            kept.clear()
            limits_of(self)[key] = len(x) // 2
            note(f"memory ran out with the graphs of {len(x)} gradients: their Hessian products keep none")

        if not kept:
            let_go()
        return products

    careful.__halving__ = True  # type: ignore[attr-defined]
    return careful


_EVALUATIONS: dict[str, Callable[[Callable], Callable]] = {
    "energy": halving(1, "energies", graph=True),
    "energy_and_grad": halving(1, "gradients"),
    "hvp": halving(2, "Hessian-vector products"),
    "products_at": _keeping_less,
    "hessian": halving(1, "Hessians"),
}


class Potential:
    """What is explored. A subclass sets ``ndim`` (and what else differs) and writes :meth:`energy`.

    ``energy`` must be differentiable by autograd and treat every row on its own; gradients,
    Hessian-vector products and Hessians then follow, each batched over rows.

    Attributes:
        ndim: number of coordinates D.
        dtype, device: of the points it takes and the energies it gives.
        bounds: the box it is defined on, or None.
        symmetry: which points are the same (default: none).
        length_scale: a distance over which U changes appreciably; the unit of step caps, matching tolerances
            and trial moves (1 for network weights, about 0.4 for atoms in sigma).
        energy_scale: an energy by which U changes over such a distance; the unit of default tolerances.
        max_rows: most rows evaluated at once by :meth:`hvp` and :meth:`hessian` (memory).
        preconditioner: what minimisers may start from in place of the identity, or None.
        precision: "double" is ``dtype`` throughout. In "mixed" descents to minima go down in float32 as far as
            that tells, and end in float64 (where ``dtype`` is that); in searches for saddles bands and Krylov
            spaces are of float32, gradients and whatever is verified of float64.
        compile: whether energies and gradients are computed by compiled code, in host memory: True from the first
            one on, "auto" where they have taken long, False never. They are the same to rounding; where there can
            be no such code, they are computed as ever, and :attr:`compiled` says why.
        even_curvature: whether curvatures differ by a few hundred at most, as those of clusters of atoms, so that
            minimisers need remember little.

    Example:
        >>> import torch
        >>> class Quadratic(Potential):
        ...     ndim = 2
        ...     def energy(self, x):
        ...         return 0.5 * (x**2).sum(1)
        >>> u = Quadratic()
        >>> u.energy_and_grad(torch.tensor([[1.0, 2.0]], dtype=torch.float64))[1].tolist()
        [[1.0, 2.0]]
        >>> u.hessian(torch.zeros(1, 2, dtype=torch.float64))[0].tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """

    ndim: int
    dtype: torch.dtype = torch.float64
    device: torch.device = torch.device("cpu")
    bounds: Bounds | None = None
    symmetry: Symmetry = Symmetry()
    length_scale: float = 1.0
    max_rows: int = 65536
    preconditioner: Preconditioner | None = None
    precision: Literal["double", "mixed"] = "double"
    compile: Setting = False
    even_curvature: bool = False
    _limits: Limits | None = None  # rows at once that did not fit into memory, by evaluation

    def __init_subclass__(cls, **options: object) -> None:
        """Where memory runs out, every evaluation goes on with fewer rows, whoever wrote it (``memory.py``)."""
        super().__init_subclass__(**options)
        for name, decorate in _EVALUATIONS.items():
            if name in cls.__dict__:
                setattr(cls, name, decorate(cls.__dict__[name]))

    # --- what a subclass writes -------------------------------------------------------------------------

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """U of every row, differentiable (twice) in x."""
        raise NotImplementedError(f"{type(self).__name__} must define energy(x): [B D] -> [B]")

    def settings(self) -> Mapping[str, object]:
        """Everything that decides which landscape this is: numbers, strings, tensors (not code)."""
        return {"ndim": self.ndim}

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n D"]:
        """``n`` random starting points: uniform in a finite box, otherwise normal with ``length_scale``."""
        return self._drawn(random.keys(seed, n, self.device))

    def sample_by_seed(self, seeds: Int[Tensor, "n"]) -> Float[Tensor, "n D"]:
        """One starting point for each seed: that of ``sample(1, seed)``, in one batch where ``sample`` is this
        class's own; an initialiser draws from one seed at a time."""
        if type(self).sample is Potential.sample:
            return self._drawn(random.fold(seeds, 0))
        return torch.cat([self.sample(1, seed=seed) for seed in seeds.tolist()])

    def _drawn(self, key: Int[Tensor, "n"]) -> Float[Tensor, "n D"]:
        if self.bounds is not None and bool(torch.isfinite(self.bounds.upper - self.bounds.lower).all()):
            u = random.uniform(key, self.ndim, self.dtype)
            return self.bounds.lower + u * (self.bounds.upper - self.bounds.lower)
        return self.length_scale * random.normal(key, self.ndim, self.dtype)

    @property
    def energy_scale(self) -> float:
        """The unit of default tolerances on energies and gradients: 1 for potentials of ordinary size, and for
        others a power of two near to how much U changes over a ``length_scale`` at its starting points.

        Found out at first use (32 evaluations), or set: ``potential.energy_scale = 1e-21``.

        Example:
            >>> class Weak(Potential):
            ...     ndim = 1
            ...     def energy(self, x):
            ...         return 1e-21 * ((x**2 - 1) ** 2).sum(1)
            >>> 1e-22 < Weak().energy_scale < 1e-20
            True
        """
        given = self.__dict__.get("_energy_scale")
        if given is not None:
            return given
        if self not in _SCALES:
            try:
                energy, grad = self.energy_and_grad(self.sample(32))
            except NotImplementedError:  # only its curvature is known
                return 1.0
            _SCALES[self] = estimated_energy_scale(energy, grad, self.length_scale)
        return _SCALES[self]

    @energy_scale.setter
    def energy_scale(self, energy: float) -> None:
        if not 0 < energy < float("inf"):
            raise PotentialError(f"energy_scale must be positive, not {energy}: give an energy that matters")
        self.__dict__["_energy_scale"] = float(energy)

    def double(self) -> Potential:
        """This potential in float64: itself, or a copy that is made once. What rounding decides (whether a point
        is a minimum, the sign of a small curvature) is asked of it, where the coordinates are float32.

        Raises:
            PotentialError: if there is none: the energy keeps numbers in float32, or the device has no float64.
        """
        return self.in_precision(torch.float64)

    def single(self) -> Potential | None:
        """This potential in float32, for searches in mixed precision; None where there is none, because a function
        keeps numbers in float64."""
        try:
            return self.in_precision(torch.float32)
        except PotentialError:
            return None

    def in_precision(self, dtype: torch.dtype) -> Potential:
        """This potential in another precision: itself, or a copy that is made once.

        Raises:
            PotentialError: if there is none: the energy keeps numbers in a precision of its own.
        """
        if self.dtype == dtype:
            return self
        twins = _TWINS.setdefault(self, {})
        if dtype not in twins:
            try:
                twins[dtype] = self._converted(dtype)
            except PotentialError as error:  # asked for at every step
                twins[dtype] = str(error)
        found = twins[dtype]
        if isinstance(found, str):
            raise PotentialError(found)
        found.compile = self.compile
        return found

    def _converted(self, dtype: torch.dtype) -> Potential:
        return twin(self, dtype)

    def in_c(self) -> RowFunction | None:
        """Energies and gradients in float64 as compiled code for host memory, which steps of minimisers in C can
        call; None where there is none."""
        return None

    @property
    def compiled(self) -> str:
        """What :attr:`compile` has come to, in a line: whether there is compiled code, or why there is none. Empty
        before the first gradient, and where none was asked for."""
        twins = [one for one in _TWINS.get(self, {}).values() if isinstance(one, Potential)]
        said = [self._said_of_code(), *(one._said_of_code() for one in twins), _STEPS.get(self)]
        return "; ".join(filter(None, said))

    def tell_of_steps(self, line: str) -> None:
        """How steps are taken with it on a device, for :attr:`compiled`."""
        _STEPS[self] = line

    def _said_of_code(self) -> str:
        return _CODES[self].said if self in _CODES else ""

    def _by_code(
        self, x: Float[Tensor, "B D"], plain: Callable[..., Any], function: Callable[..., Any] | None = None
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        """What ``plain(x)`` is, by compiled code of it, or of ``function``, as :attr:`compile` says."""
        if self not in _CODES:
            _CODES[self] = Compiled("gradients", rows=self._rows_of_code())
        energy, grad = _CODES[self](self.compile, x, plain, function)
        return energy, grad

    def _rows_of_code(self) -> int:
        return self.max_rows

    def is_bound(self, x: Float[Tensor, "B D"]) -> Bool[Tensor, "B"]:
        """Whether each point hangs together; clusters tell those that have fallen apart, of which none is a
        minimum."""
        return torch.ones(len(x), dtype=torch.bool, device=x.device)

    # --- what follows by autograd -----------------------------------------------------------------------

    @_EVALUATIONS["energy_and_grad"]
    def energy_and_grad(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        """U and its gradient, detached. The gradient of sum_b U(x_b) is every row's own gradient."""
        return self._by_code(x, self._by_autograd) if self.compile else self._by_autograd(x)

    def _by_autograd(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        x = x.detach().requires_grad_(True)
        with torch.enable_grad():
            energy = self.energy(x)
            (grad,) = torch.autograd.grad(energy.sum(), x)
        return energy.detach(), grad

    @_EVALUATIONS["hvp"]
    def hvp(self, x: Float[Tensor, "B D"], v: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Hessian-vector product H(x_b) v_b of every row, reverse over reverse."""
        parts = [self._hvp(a, b) for a, b in zip(x.split(self.max_rows), v.split(self.max_rows), strict=True)]
        return torch.cat(parts) if len(parts) != 1 else parts[0]

    def _hvp(self, x: Float[Tensor, "B D"], v: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        x = x.detach().requires_grad_(True)
        with torch.enable_grad():
            (grad,) = torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)
            if not grad.requires_grad:  # an energy that is linear in x
                return torch.zeros_like(v)
        return pulled_back(grad, x, v.detach())

    @_EVALUATIONS["products_at"]
    def products_at(self, x: Float[Tensor, "B D"]) -> Callable[[Tensor], Tensor]:
        """H(x_b) V_b for blocks of vectors V [B K D], as a function of V: for many products at the same points."""

        return _products(self, x)

    @_EVALUATIONS["hessian"]
    def hessian(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D D"]:
        """The dense Hessian of every row, symmetrised: D products per row, in one batch per chunk."""
        d = self.ndim
        eye = torch.eye(d, dtype=x.dtype, device=x.device)
        rows = max(1, self.max_rows // d)
        blocks = [self.hvp(part.repeat_interleave(d, 0), eye.repeat(len(part), 1)) for part in x.split(rows)]
        h = torch.cat(blocks).reshape(len(x), d, d)
        return (h + h.mT).mul_(0.5)

    # --- identity ---------------------------------------------------------------------------------------

    def fingerprint(self) -> str:
        """A hash of :meth:`settings`: which landscape this is, independent of code, chunking and device."""
        return hash_settings({"kind": type(self).__name__, **self.settings()})

    def __repr__(self) -> str:
        return f"{type(self).__name__}(ndim={self.ndim}, dtype={self.dtype}, device={self.device})"


def hash_settings(value: object) -> str:
    """SHA-256 over numbers, strings, arrays and nested mappings or sequences of them, order of keys aside.

    Example:
        >>> hash_settings({"a": 1, "b": [2.0]}) == hash_settings({"b": [2.0], "a": 1})
        True
    """
    digest = hashlib.sha256()
    for token in _tokens(value):
        digest.update(len(token).to_bytes(8, "little"))
        digest.update(token)
    return digest.hexdigest()


def _tokens(value: object) -> Iterator[bytes]:
    if isinstance(value, Mapping):
        yield b"map"
        for name in sorted(value):
            yield str(name).encode()
            yield from _tokens(value[name])
    elif isinstance(value, Tensor):
        yield from _tokens(value.detach().cpu().numpy())
    elif isinstance(value, np.ndarray):
        yield f"array{value.dtype}{value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, (list, tuple)):
        yield b"list"
        for item in value:
            yield from _tokens(item)
    else:
        yield f"{type(value).__name__}:{value!r}".encode()
