"""``PairPotential``: clusters whose energy is a sum over pairs, with closed-form derivatives from those of one
pair."""

from __future__ import annotations

import functools
import logging
import math
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from torchscape import random
from torchscape.devices import asking_is_free, is_host
from torchscape.errors import PotentialError
from torchscape.memory import IN_CACHE, ONE_LARGE, rows_that_fit
from torchscape.native import RowFunction
from torchscape.potentials.clusters import ClusterPotential
from torchscape.potentials.native_pairs import Evaluator, Formula, evaluator
from torchscape.potentials.pairs_on_host import Terms, over_pairs_once
from torchscape.potentials.shifts import beside, gathered, only_once, shifted
from torchscape.types import Float, Tensor

__all__ = ["PairPotential", "wall_hessian"]

_LOG = logging.getLogger(__name__)


class PairPotential(ClusterPotential):
    """U = sum_{i<j} u_ij(r_ij), batched over clusters, with gradient, Hessian and its products written out.

    A subclass writes what one pair needs, for all pairs at once: :meth:`pair_energy` u, :meth:`weight` w = u'/r,
    and :meth:`slope` w'/r. All three get what :meth:`prepared` makes of the squared distances, which are infinite
    between an atom and itself: there all three must be 0.

    Where all pairs are alike, so that the formulas do not ask which atoms a distance belongs to, a subclass says
    ``elementwise = True``: energies and gradients then visit every pair once, and hand the formulas the distances
    as [n // 2, n, B] in place of [B, n, n], which takes half of the time.

    Args:
        n_atoms: number of atoms n.
        container: radius of the container; "auto" for one pair distance beyond :attr:`packing_radius`, None for
            none. It leaves the energies of bound clusters exactly as they are.
        options: of :class:`ClusterPotential`.

    Example:
        >>> import torch
        >>> class Spheres(PairPotential):
        ...     def prepared(self, square):
        ...         return 1 / square
        ...     def pair_energy(self, inverse):
        ...         return inverse
        ...     def weight(self, inverse):
        ...         return -2 * inverse**2
        ...     def slope(self, inverse):
        ...         return 8 * inverse**3
        >>> u = Spheres(2, container=None)
        >>> u.energy_and_grad(torch.tensor([[0.0, 0, 0, 2, 0, 0]]).double())[1].tolist()
        [[0.25, 0.0, 0.0, -0.25, 0.0, 0.0]]
    """

    walls_included = True
    even_curvature = True
    elementwise = False  # whether the formulas treat every distance alike, in tensors of any shape
    reach = math.inf  # where the pair energy ends

    def __init_subclass__(cls, **options: Any) -> None:
        """Formulas that a subclass writes anew are used: what its base says of its own does not hold for them."""
        super().__init_subclass__(**options)
        own = cls.__dict__
        if any(name in own for name in ("prepared", "pair_energy", "weight")):
            if "elementwise" not in own:
                cls.elementwise = False
            if "terms_in_c" not in own:
                cls.terms_in_c = PairPotential.terms_in_c  # type: ignore[method-assign]
            if "terms_on_host" not in own:
                cls.terms_on_host = PairPotential.terms_on_host  # type: ignore[method-assign]
            if "prepared_once" not in own:
                cls.prepared_once = PairPotential.prepared_once  # type: ignore[method-assign]
            if "energy_and_weight" not in own:
                cls.energy_and_weight = PairPotential.energy_and_weight  # type: ignore[method-assign]

    def __init__(self, n_atoms: int, *, container: float | int | str | None = "auto", **options: Any):
        if isinstance(container, str):
            if container != "auto":
                raise PotentialError(f"container={container!r}: give a radius, 'auto' or None")
            super().__init__(n_atoms, **options)
            if self.box is not None:
                self._expect_reach(self.box)
                return
            self.container = self.packing_radius + self.pair_distance
        else:
            super().__init__(n_atoms, container=container, **options)

    def _expect_reach(self, box: tuple[float, ...]) -> None:
        """In a box an atom meets one image of another: the energy must end within half of the shortest side."""
        if self.reach > 0.5 * min(box):
            ends = "does not end" if math.isinf(self.reach) else f"ends at {self.reach:g}"
            raise PotentialError(
                f"the pair energy {ends}, and a box of {min(box):g} has room for {0.5 * min(box):g}: give a "
                "cutoff (LennardJones, BinaryLennardJones), another potential (Dzugutov), or a larger box"
            )

    # --- what a subclass writes -------------------------------------------------------------------------

    def prepared(self, square: Float[Tensor, "*P"]) -> Any:
        """What energies, weights and slopes share, from r^2."""
        return square

    def prepared_once(self, square: Float[Tensor, "S n B"]) -> Any:
        """The same of the pairs of atoms i and i + s, s = 1 .. n // 2, where those are visited once."""
        return self.prepared(square)

    def pair_energy(self, prepared: Any) -> Float[Tensor, "*P"]:
        """u of every pair."""
        raise NotImplementedError(f"{type(self).__name__} must define pair_energy(prepared)")

    def weight(self, prepared: Any) -> Float[Tensor, "*P"]:
        """w = (du/dr)/r = 2 du/d(r^2)."""
        raise NotImplementedError(f"{type(self).__name__} must define weight(prepared)")

    def slope(self, prepared: Any) -> Float[Tensor, "*P"]:
        """(dw/dr)/r = 2 dw/d(r^2)."""
        raise NotImplementedError(f"{type(self).__name__} must define slope(prepared)")

    def energy_and_weight(self, prepared: Any) -> tuple[Tensor, Tensor]:
        """u and w of every pair; to be overridden where both have something in common."""
        return self.pair_energy(prepared), self.weight(prepared)

    def terms_on_host(self) -> Terms | None:
        """u and w as a function of r^2 in NumPy arrays, for host memory; None to use the formulas above."""
        return None

    def terms_in_c(self) -> Formula | None:
        """u and w in C, for host memory where there is a compiler; None to use the formulas above."""
        return None

    # --- what follows -----------------------------------------------------------------------------------

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        return 0.5 * self.pair_energy(self._pairs(self.atoms(x))[1]).sum((1, 2))

    def atom_energies(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B n"]:
        """Half of the energies of the pairs that each atom is in."""
        return 0.5 * self.pair_energy(self._pairs(self.atoms(x))[1]).sum(2)

    def energy_and_grad(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        """dU/dx_i = sum_j w_ij (x_i - x_j)."""
        if self.compile and self._in_c(x) is None:
            return self._by_code(x, self._evaluated, self._over_pairs_beside)
        return self._evaluated(x)

    def _in_c(self, x: Tensor) -> Any:
        """The package's own compiled code, where there is any for these rows."""
        return _compiled(self) if x.dtype == torch.float64 and asking_is_free(x) else None

    def _said_of_code(self) -> str:
        if self.compile and self.dtype == torch.float64 and is_host(self.device) and _compiled(self) is not None:
            return "gradients are computed by C code of this package"
        return super()._said_of_code()

    def _rows_of_code(self) -> int:
        return rows_that_fit(self.dim * self.n_atoms**2, self.device, on_host=IN_CACHE)

    def _evaluated(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        x = x.detach()
        if len(x) == 0:
            return self._over_all_pairs(x)
        compiled = self._in_c(x)
        return self._by_arrays(x) if compiled is None else compiled(x, self.container or 0.0)

    def in_c(self) -> RowFunction | None:
        compiled = _compiled(self)
        return None if compiled is None else compiled.at(self.container or 0.0)

    def _by_arrays(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        if not self.elementwise:
            return self._over_all_pairs(x)
        rows = rows_that_fit(self.dim * self.n_atoms**2, x.device, on_host=IN_CACHE)
        terms = self.terms_on_host() if self.box is None and asking_is_free(x) else None
        evaluate = self._over_pairs_once if terms is None else functools.partial(self._on_host, terms)
        if len(x) <= rows:
            return evaluate(x)
        energy, grad = zip(*(evaluate(part) for part in x.split(rows)), strict=True)
        return torch.cat(energy), torch.cat(grad)

    def _over_all_pairs(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        p = self.atoms(x)
        apart, prepared = self._pairs(p)
        pair_energy, weight = self.energy_and_weight(prepared)
        energy = 0.5 * pair_energy.sum((1, 2))
        grad = (weight[..., None] * apart).sum(2)
        if self.wall is not None:
            energy, grad = energy + self.wall.energy(p), grad + self.wall.grad(p)
        return energy, grad.flatten(1)

    def _over_pairs_once(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        """The same from every pair once, rows side by side (``shifts.py``)."""
        apart = shifted(beside(x, self.dim))
        if self.box is not None:
            sides = self._sides.to(x)[:, None, None, None]
            apart = apart - sides * (apart / sides).round()
        square = apart[0].square()
        for component in apart[1:]:
            square.addcmul_(component, component)
        wall = self.wall
        if wall is not None and asking_is_free(x) and bool(square.amax() <= wall.radius**2):
            wall = None  # no atom is further from the centroid than from all others
        pair_energy, weight = self.energy_and_weight(self.prepared_once(only_once(square)))
        energy = pair_energy.sum((0, 1))
        grad = gathered(weight, apart).permute(2, 1, 0)
        if wall is not None:
            p = self.atoms(x)
            energy, grad = energy + wall.energy(p), grad + wall.grad(p)
        return energy, grad.reshape(x.shape)

    def _over_pairs_beside(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        """The same from all pairs in operations that a compiler makes one loop of: rows side by side, each
        component of the differences by itself."""
        p = self.atoms(x)
        apart = [c[:, None] - c for c in p.permute(2, 1, 0).contiguous()]  # [n n B]
        if self.box is not None:
            apart = [a - side * (a / side).round() for a, side in zip(apart, self.box, strict=True)]
        never = torch.diag(x.new_full((self.n_atoms,), torch.inf))
        square = sum((a * a for a in apart[1:]), apart[0] * apart[0]) + never[:, :, None]
        pair_energy, weight = self.energy_and_weight(self.prepared(square.permute(2, 0, 1)))
        energy = 0.5 * pair_energy.sum((1, 2))
        grad = torch.stack([(weight * a.permute(2, 0, 1)).sum(2) for a in apart], 2)
        if self.wall is not None:
            energy, grad = energy + self.wall.energy(p), grad + self.wall.grad(p)
        return energy, grad.flatten(1)

    def _on_host(self, terms: Terms, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        """The same by NumPy (``pairs_on_host.py``)."""
        with np.errstate(all="ignore"):
            energy, grad = over_pairs_once(x.numpy(), self.dim, terms, self.container)
        return torch.from_numpy(energy), torch.from_numpy(grad)

    def _hvp(self, x: Float[Tensor, "B D"], v: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """(H v)_i = sum_j [w_ij + w'_ij/r_ij d d^T] (v_i - v_j), d = x_i - x_j."""
        p, v = self.atoms(x.detach()), self.atoms(v.detach())
        apart, prepared = self._pairs(p)
        turn = v[:, :, None] - v[:, None]
        along = (apart * turn).sum(3)
        product = self.weight(prepared)[..., None] * turn + (self.slope(prepared) * along)[..., None] * apart
        total = product.sum(2)
        if self.wall is not None:
            total = total + self.wall.hvp(p, v)
        return total.flatten(1)

    def hessian(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D D"]:
        """Blocks H_ij = -(w_ij + w'_ij/r_ij d d^T) off the diagonal, H_ii = -sum_j H_ij on it."""
        rows = rows_that_fit(self.dim**2 * self.n_atoms**2, x.device, on_host=ONE_LARGE)
        parts = [self._hessian(part) for part in x.detach().split(rows)]
        return torch.cat(parts)

    def _hessian(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D D"]:
        p, n = self.atoms(x), self.n_atoms
        apart, prepared = self._pairs(p)
        eye = torch.eye(self.dim, dtype=x.dtype, device=x.device)
        outer = (self.slope(prepared)[..., None] * apart)[..., None] * apart[..., None, :]
        blocks = self.weight(prepared)[..., None, None] * eye + outer
        h = -blocks
        here = torch.arange(n, device=x.device)
        h[:, here, here] = blocks.sum(2)
        h = h.transpose(2, 3).reshape(len(x), self.ndim, self.ndim)
        if self.wall is not None:
            h = h + wall_hessian(self, p)
        return 0.5 * (h + h.mT)

    def _pairs(self, p: Float[Tensor, "B n k"]) -> tuple[Float[Tensor, "B n n k"], Any]:
        """x_i - x_j for all pairs, and what is prepared from their squares, infinite on the diagonal."""
        apart = self.apart(p[:, :, None], p[:, None])
        never = torch.diag(p.new_full((self.n_atoms,), torch.inf))  # no interaction with oneself
        return apart, self.prepared(apart.square().sum(3) + never)


def _compiled(potential: PairPotential) -> Evaluator | None:
    """The evaluation in C, believed only as far as it agrees with the formulas; None where there is none."""
    if potential not in _IN_C:
        formula = potential.terms_in_c() if potential.box is None else None
        found = None if formula is None else evaluator(formula, potential.n_atoms, potential.dim)
        _IN_C[potential] = found if found is not None and _agrees(potential, found) else None
    return _IN_C[potential]


_IN_C: WeakKeyDictionary[PairPotential, Evaluator | None] = WeakKeyDictionary()


def _agrees(potential: PairPotential, evaluate: Evaluator) -> bool:
    """At three clusters cut out of a simple cubic crystal, each distorted in its own way."""
    n, dim = potential.n_atoms, potential.dim
    side = math.ceil(n ** (1 / dim))
    site = torch.arange(n)[:, None] // side ** torch.arange(dim) % side
    noise = random.normal(random.fold(0, torch.arange(3)), potential.ndim)
    x = potential.pair_distance * site.flatten() + 0.1 * noise
    theirs, ours = potential._by_arrays(x), evaluate(x, potential.container or 0.0)
    if all(torch.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in zip(ours, theirs, strict=True)):
        return True
    _LOG.warning("%s: its pairs in C are not those of its formulas, and are not used", type(potential).__name__)
    return False


def wall_hessian(potential: ClusterPotential, p: Float[Tensor, "B n k"]) -> Tensor:
    """The Hessian [B D D] of the container of a cluster that has one; the number 0 where no atom touches it."""
    assert potential.wall is not None
    if not asking_is_free(p):
        return _of_the_wall(potential, p)
    rows = torch.nonzero(potential.wall.energy(p) > 0)[:, 0]  # few, if any: bound clusters keep off it
    if len(rows) == 0:
        return p.new_zeros(())
    h = p.new_zeros(len(p), potential.ndim, potential.ndim)
    h[rows] = _of_the_wall(potential, p[rows])
    return h


def _of_the_wall(potential: ClusterPotential, p: Float[Tensor, "B n k"]) -> Float[Tensor, "B D D"]:
    assert potential.wall is not None
    d, shape = potential.ndim, (-1, potential.n_atoms, potential.dim)
    unit = torch.eye(d, dtype=p.dtype, device=p.device).repeat(len(p), 1).reshape(shape)
    return potential.wall.hvp(p.repeat_interleave(d, 0), unit).reshape(len(p), d, d)
