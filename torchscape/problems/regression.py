"""Nonlinear regression with a damped product of two sines."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from torchscape import random
from torchscape.errors import PotentialError, TorchscapeError
from torchscape.memory import MANY_LARGE, rows_that_fit
from torchscape.potentials.bounds import Bounds
from torchscape.potentials.checks import available_device, available_dtype
from torchscape.potentials.closed_form import ClosedForm
from torchscape.problems.problem import Known, Problem
from torchscape.symmetry.sines import SineProductSymmetry
from torchscape.types import Float, Tensor

__all__ = ["NonlinearRegression", "regression"]

_TRUTH = (0.1, 2.13, 0.0, 1.34, 0.0)
_N_POINTS = 100


def regression(
    seed: int = 0,
    noise: float | int = 0.02,
    data: str | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Problem:
    """Nonlinear regression: five parameters of a damped product of two sines, about a hundred minima.

    The data are t = y(x; q*) + noise at 100 points of a regular grid on [0, 3 pi], with
    q* = (0.1, 2.13, 0, 1.34, 0) and normal noise that depends on ``seed`` alone; or the columns x and t of the
    CSV file ``data`` (one line of names first).

    Raises:
        TorchscapeError: if the file is missing or holds no such columns.
    """
    x, t = _generated(seed, float(noise)) if data is None else _read(Path(data))
    return Problem(
        name="regression",
        potential=NonlinearRegression(x, t, dtype=dtype, device=device),
        description=f"y = exp(-q1 x) sin(q2 x + q3) sin(q4 x + q5) fitted to {len(x)} points, sum of squares",
        source="A. J. Ballard et al., Phys. Chem. Chem. Phys. 19, 12585 (2017), doi 10.1039/c7cp01108c, IV",
        known=Known(
            note="published, for other random numbers and an unpublished way of counting: 89 minima, "
            "121 transition states, 113 edges, mean degree 2.54, mean shortest path 6.0641, diameter 15; where "
            "the model vanishes identically there are curves of degenerate saddles at exactly the sum of t^2; "
            "minima with n_zero > 0 belong to curves of minima just below"
        ),
        suggested={"walkers": 512, "hops": 10, "temperature": 1.0, "step": 2.0, "neighbours": 12},
    )


class NonlinearRegression(ClosedForm):
    """U(q) = sum_k [exp(-q1 x_k) sin(q2 x_k + q3) sin(q4 x_k + q5) - t_k]^2.

    On a regular grid the frequencies are only defined up to aliasing; together with the other exact symmetries
    of the model (:class:`~torchscape.symmetry.SineProductSymmetry`) that leaves a compact domain for q2, ..., q5.
    Two families of stationary points are not isolated: where the model vanishes identically there are saddles at
    exactly sum t^2; and where one frequency is 0 and the other 0 or half a period of aliasing, the two phases
    enter as one product of sines, which gives curves of minima a little below. Their Hessians have a zero mode
    (``n_zero``) by which they can be told.

    Args:
        x, t: data.
        decay: (low, high) bounds of q1. Beyond them U is flat in everything but a few data points: the first
            one or two (q1 large), or the last (q1 very negative).
        dtype, device: of the parameters.

    Raises:
        PotentialError: unless x and t are two lists of at least two finite numbers, equally long.

    Example:
        >>> u = NonlinearRegression([0.0, 1.0, 2.0], [0.0, 0.1, 0.2])
        >>> round(u.energy(torch.zeros(1, 5, dtype=torch.float64)).item(), 12)
        0.05
    """

    ndim = 5

    def __init__(
        self,
        x,
        t,
        *,
        decay: tuple[float | int, float | int] = (-1.0, 10.0),
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        at, value = (np.asarray(column, dtype=np.float64) for column in (x, t))
        if at.ndim != 1 or at.shape != value.shape or len(at) < 2 or not np.isfinite([at, value]).all():
            raise PotentialError(
                f"x and t must be lists of finite numbers, equally long, not {at.shape}, {value.shape}"
            )
        self.dtype, self.device = available_dtype(dtype), available_device(device)
        self._data = {"x": at, "t": value}
        self._decay = (float(decay[0]), float(decay[1]))
        self._x, self._t = (torch.as_tensor(column, dtype=dtype, device=self.device) for column in (at, value))
        self._powers = torch.stack([torch.ones_like(self._x), self._x, self._x**2], 1)
        self.spacing = _spacing(at)
        self.symmetry = SineProductSymmetry(self.spacing)
        free = [(-math.inf, math.inf)] * 4
        self.bounds = Bounds.of([decay, *free], dtype=dtype, device=self.device)
        # Over this change of a frequency the model slips by half a turn from one end of the data to the other.
        self.length_scale = float(math.pi / (at.max() - at.min()))
        self.max_rows = rows_that_fit(len(at), self.device, on_host=MANY_LARGE)

    def settings(self):
        return {"ndim": self.ndim, "decay": list(self._decay), **self._data}

    def model(self, q: Float[Tensor, "B 5"]) -> Float[Tensor, "B K"]:
        """y(x_k; q) for every row."""
        q1, q2, q3, q4, q5 = q[:, :, None].unbind(1)
        return torch.exp(-q1 * self._x) * torch.sin(q2 * self._x + q3) * torch.sin(q4 * self._x + q5)

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        return (self.model(x) - self._t).square().sum(1)

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n D"]:
        """Uniform: q1 in [-1, 3], frequencies over one period of aliasing, phases over 2 pi.

        Where x is no regular grid, frequencies up to that of sign changes from point to point.
        """
        u = random.uniform(random.keys(seed, n, self.device), self.ndim, self.dtype)
        spacing = self.spacing or float(np.ptp(self._data["x"]) / (len(self._data["x"]) - 1))
        top = math.pi / spacing
        middle = u.new_tensor([1.0, 0.0, 0.0, 0.0, 0.0])
        half = u.new_tensor([2.0, top, math.pi, top, math.pi])
        q = middle + half * (2 * u - 1)
        return q if self.bounds is None else self.bounds.clamp(q)

    # --- derivatives in closed form ---------------------------------------------------------------------

    def _energy_and_grad(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        residual, parts = self._parts(x)
        return residual.square().sum(1), 2 * self._slopes(residual, parts)

    def _parts(self, q: Float[Tensor, "B 5"]) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B 4 K"]]:
        """The residuals; and exp(-q1 x) times ss, cs, sc, cc of the two angles (s sine, c cosine)."""
        q1, q2, q3, q4, q5 = q[:, :, None].unbind(1)
        a, b = q2 * self._x + q3, q4 * self._x + q5
        decay = torch.exp(-q1 * self._x)
        sine, cosine = decay * a.sin(), decay * a.cos()
        parts = torch.stack([sine * b.sin(), cosine * b.sin(), sine * b.cos(), cosine * b.cos()], 1)
        return parts[:, 0] - self._t, parts

    def _jacobian(self, parts: Float[Tensor, "B 4 K"]) -> Float[Tensor, "B 5 K"]:
        """dy/dq: -x ss, x cs, cs, x sc, sc."""
        first, second = parts[:, 1], parts[:, 2]
        x = self._x
        return torch.stack([-x * parts[:, 0], x * first, first, x * second, second], 1)

    def _slopes(self, residual: Float[Tensor, "B K"], parts: Float[Tensor, "B 4 K"]) -> Float[Tensor, "B 5"]:
        moments = (residual[:, None] * parts[:, :3]) @ self._powers[:, :2]  # [B 3 2]: sums of r part x^j
        return torch.stack(
            [-moments[:, 0, 1], moments[:, 1, 1], moments[:, 1, 0], moments[:, 2, 1], moments[:, 2, 0]], 1
        )

    def _hessian(self, q: Float[Tensor, "B 5"]) -> Float[Tensor, "B 5 5"]:
        """2 J^T J + 2 sum_k r_k d^2 y_k / dq^2; the second derivatives are +- parts times a power of x."""
        residual, parts = self._parts(q)
        jacobian = self._jacobian(parts)
        moments = ((residual[:, None] * parts) @ self._powers).flatten(1)  # [B 12]: part-major, then power
        where, sign = (table.to(q.device) for table in (_WHERE, _SIGN))
        curved = (moments[:, where.flatten()] * sign.flatten().to(q.dtype)).reshape(-1, 5, 5)
        return 2 * (torch.bmm(jacobian, jacobian.mT) + curved)


# d^2 y / dq_i dq_j = sign * exp(-q1 x) part x^power, with the parts ss, cs, sc, cc numbered from 0.
_SS, _CS, _SC, _CC = 0, 1, 2, 3
_SECOND = {
    (0, 0): (1, _SS, 2), (0, 1): (-1, _CS, 2), (0, 2): (-1, _CS, 1), (0, 3): (-1, _SC, 2), (0, 4): (-1, _SC, 1),
    (1, 1): (-1, _SS, 2), (1, 2): (-1, _SS, 1), (1, 3): (1, _CC, 2), (1, 4): (1, _CC, 1),
    (2, 2): (-1, _SS, 0), (2, 3): (1, _CC, 1), (2, 4): (1, _CC, 0),
    (3, 3): (-1, _SS, 2), (3, 4): (-1, _SS, 1), (4, 4): (-1, _SS, 0),
}  # fmt: skip
_WHERE = torch.zeros(5, 5, dtype=torch.int64)
_SIGN = torch.zeros(5, 5, dtype=torch.int64)
for (_i, _j), (_s, _part, _power) in _SECOND.items():
    _WHERE[_i, _j] = _WHERE[_j, _i] = 3 * _part + _power
    _SIGN[_i, _j] = _SIGN[_j, _i] = _s


def _spacing(x: np.ndarray) -> float | None:
    """The spacing of a regular grid whose points are multiples of it; None for any other points."""
    steps = np.diff(np.sort(x))
    step = float(steps.mean())
    if step <= 0 or np.abs(steps - step).max() > 1e-9 * step:
        return None
    whole = x / step
    return step if np.abs(whole - whole.round()).max() < 1e-6 else None


def _generated(seed: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    x = np.linspace(0, 3 * math.pi, _N_POINTS)
    q1, q2, q3, q4, q5 = _TRUTH
    clean = np.exp(-q1 * x) * np.sin(q2 * x + q3) * np.sin(q4 * x + q5)
    return x, clean + noise * random.normal(random.fold(seed, torch.arange(1)), _N_POINTS)[0].numpy()


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if not path.is_file():
        raise TorchscapeError(f"there is no file {path}: leave data out to generate it instead")
    try:
        columns = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    except ValueError as error:
        raise TorchscapeError(f"{path} is no table of numbers ({error}): it needs the columns x,t") from error
    if columns.shape[1] != 2 or len(columns) < 6:
        raise TorchscapeError(
            f"{path} holds a table {columns.shape}: it needs the columns x,t and six rows or more"
        )
    return columns[:, 0], columns[:, 1]
