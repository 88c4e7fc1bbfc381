"""K-means clustering: the cost as a function of the centres."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from torchscape import random
from torchscape.errors import MissingExtra, PotentialError, TorchscapeError
from torchscape.memory import SOME_LARGE, rows_that_fit
from torchscape.potentials.bounds import Bounds
from torchscape.potentials.checks import available_device, available_dtype
from torchscape.potentials.closed_form import ClosedForm
from torchscape.problems.problem import Known, Problem
from torchscape.symmetry.blocks import BlockPermutation
from torchscape.types import Float, Int, Tensor
from torchscape.validation import NOT_NEGATIVE, POSITIVE, Range

__all__ = ["KMeans", "kmeans"]

_MARGIN = 0.1  # of the data's range, on every side of the box
_IRIS = {2: 152.347952, 3: 78.851441, 4: 57.228473, 5: 46.446182, 6: 39.039987}


class KMeans(ClosedForm):
    """U(C) = sum_i softmin_k |x_i - c_k|^2 + t sum_k |c_k - m|^2: the K-means cost of centres C = (c_1, ..., c_K).

    The exact cost (``sharpness=None, tether=0``) takes the minimum over k: a minimum of parabolas, smooth while no
    point changes its centre, with Hessian 2 n_k on the diagonal (n_k points of centre k), and with a kink,
    downward, where a point is as far from one centre as from another. Its gradient and Hessian are those of the
    current assignment. All of its minima are therefore found as usual, but *every* pass between two of them lies
    on kinks, where there is no gradient to vanish: the exact cost has no transition states in the sense of
    Murrell and Laidler, and searches for them cannot converge.

    The soft minimum -(1/b) ln sum_k exp(-b |x_i - c_k|^2) with b = ``sharpness`` / v, where v is the mean squared
    distance of the points from their mean, is analytic, and lies below the exact cost by between 0 and
    n ln(K) / b. The kinks become ridges about 1/b wide, with saddles of index one on them, which tend to the
    passes of the exact cost as b grows; minima tend to exact minima. That is the one to search for transition
    states. Neighbouring exact minima whose barrier is below about 1/b are one minimum of it;
    ``relax`` of its minima under the exact cost says which.
    (It is the free energy of deterministic annealing at temperature 1/b, and up to constants the negative log
    likelihood of an equal mixture of Gaussians with variance 1/(2 b).)

    A centre without points (exact), or with points that are all much closer to others (soft), would feel no force:
    whole regions of the minima of fewer centres would be flat. The ``tether`` t to the mean m of the data pulls it
    to m, where it finds points or stays as one isolated minimum. It counts as t further points at m in every
    cluster: energies rise by about t times the squared distance of centres from m.

    Args:
        data: x, [n d].
        k: number of centres.
        sharpness: of the soft minimum; None for the exact cost.
        tether: strength of the pull to the mean; 0 for the bare cost, with d zero modes (``n_zero``) for every
            centre that has no points.
        dtype, device: of the centres.

    Raises:
        PotentialError: unless the data are finite, and k and the sharpness positive.

    References: L. Dicks and D. J. Wales (landscapes of the iris data), J. Chem. Phys. 156, 054109 (2022),
    doi 10.1063/5.0078793; K. Rose (soft assignment), Proc. IEEE 86, 2210 (1998), doi 10.1109/5.726788.

    Example:
        >>> u = KMeans([[0.0], [1.0], [10.0]], k=2, sharpness=None, tether=0)
        >>> energy, grad = u.energy_and_grad(torch.tensor([[0.0, 10.0], [0.5, 10.0]], dtype=torch.float64))
        >>> energy.tolist(), grad.tolist()
        ([1.0, 0.5], [[-2.0, 0.0], [0.0, 0.0]])
    """

    def __init__(
        self,
        data,
        k: int = 3,
        *,
        sharpness: float | int | None = 500.0,
        tether: float | int = 1e-3,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        x = torch.as_tensor(data, dtype=torch.float64).cpu()
        if x.ndim != 2 or not x.numel() or not bool(torch.isfinite(x).all()):
            raise PotentialError(f"data must be finite numbers [n d], not {list(x.shape)}: clean or reshape them")
        Range(low=1, high=len(x), whole=True).check("KMeans", PotentialError, k=k)  # more would coincide
        POSITIVE.or_none.check("KMeans", PotentialError, sharpness=sharpness)
        NOT_NEGATIVE.check("KMeans", PotentialError, tether=tether)
        spread = x.amax(0) - x.amin(0)
        variance = float((x - x.mean(0)).square().sum(1).mean())
        if not variance > 0:
            raise PotentialError("all points are equal: there is nothing to cluster")
        self.beta = None if sharpness is None else float(sharpness) / variance
        self.k, self.ndim, self.tether = k, k * x.shape[1], float(tether)
        self.sharpness = None if sharpness is None else float(sharpness)
        self.dtype, self.device = available_dtype(dtype), available_device(device)
        self._data, self._middle = x, x.mean(0).to(device, dtype)
        self._x = (x - x.mean(0)).to(device, dtype)  # centred, so that squares lose no digits
        self.symmetry = BlockPermutation(k, x.shape[1])
        margin = torch.where(spread > 0, _MARGIN * spread, _MARGIN * math.sqrt(variance))
        box = torch.stack([x.amin(0) - margin, x.amax(0) + margin], 1).repeat(k, 1)
        self.bounds = Bounds.of(box, dtype=dtype, device=self.device)
        self.length_scale = math.sqrt(variance / k)
        self.max_rows = rows_that_fit(len(x) * self.ndim, self.device, on_host=SOME_LARGE)

    def settings(self):
        return {
            "ndim": self.ndim,
            "k": self.k,
            "data": self._data,
            "sharpness": self.sharpness,
            "tether": self.tether,
        }

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n D"]:
        """Centres on k points of the data (different ones, if enough), moved towards others by up to half."""
        key = random.keys(seed, n, self.device)
        turns = math.ceil(self.k / len(self._x))
        near = torch.cat([random.permutation(random.fold(key, t), len(self._x)) for t in range(turns)], 1)
        far = (random.uniform(random.fold(key, -1), self.k) * len(self._x)).long()
        share = 0.5 * random.uniform(random.fold(key, -2), self.k, self.dtype)[..., None]
        x = self._x + self._middle
        return torch.lerp(x[near[:, : self.k]], x[far], share).flatten(1)

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        parts = [self._energy(*self._squares(part)) for part in x.split(self.max_rows)]
        return torch.cat(parts) if parts else x.sum(1)

    def cost(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """The exact K-means cost of every row, whatever the sharpness."""
        with torch.no_grad():
            parts = [self._squares(part)[0].amin(2).sum(1) for part in x.split(self.max_rows)]
        return torch.cat(parts) if parts else x.sum(1)

    def assignment(self, x: Float[Tensor, "B D"]) -> Int[Tensor, "B n"]:
        """The nearest centre of every point."""
        with torch.no_grad():
            parts = [self._squares(part)[0].argmin(2) for part in x.split(self.max_rows)]
        return torch.cat(parts) if parts else torch.empty(0, len(self._x), dtype=torch.int64, device=x.device)

    # --- one group of rows at a time --------------------------------------------------------------------

    def _squares(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B n K"], Float[Tensor, "B K d"]]:
        """Squared distances of points and centres, and the centres relative to the mean of the data."""
        centres = x.unflatten(1, (self.k, -1)) - self._middle
        cross = self._x @ centres.mT
        return self._x.square().sum(1)[:, None] - 2 * cross + centres.square().sum(2)[:, None], centres

    def _energy(self, squares: Float[Tensor, "B n K"], centres: Float[Tensor, "B K d"]) -> Float[Tensor, "B"]:
        if self.beta is None:
            cost = squares.amin(2).sum(1)
        else:
            cost = -torch.logsumexp(-self.beta * squares, 2).sum(1) / self.beta
        return cost + self.tether * centres.square().sum((1, 2))

    def _shares(self, squares: Float[Tensor, "B n K"]) -> Float[Tensor, "B n K"]:
        """How much of every point belongs to every centre."""
        if self.beta is None:
            return torch.nn.functional.one_hot(squares.argmin(2), self.k).to(squares.dtype)
        return torch.softmax(-self.beta * squares, 2)

    def _energy_and_grad(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        """dU/dc_k = 2 sum_i r_ik (c_k - x_i) + 2 t (c_k - m)."""
        squares, centres = self._squares(x)
        shares = self._shares(squares)
        grad = 2 * ((shares.sum(1) + self.tether)[:, :, None] * centres - shares.mT @ self._x)
        # argmin of NaN is a number: say that the row is sick
        energy = self._energy(squares, centres)
        return energy, torch.where(torch.isnan(x).any(1, keepdim=True), torch.nan, grad.flatten(1))

    def _hessian(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D D"]:
        """2 delta_kl (n_k + t) - 4 b sum_i r_ik (delta_kl - r_il) (c_k - x_i)(c_l - x_i)^T."""
        squares, centres = self._squares(x)
        shares = self._shares(squares)
        size = centres.shape[2]
        hessian = torch.diag_embed(2 * (shares.sum(1) + self.tether).repeat_interleave(size, 1))
        if self.beta is not None:
            offset = centres[:, None] - self._x[:, None]  # [B n K d]
            pulled = shares[..., None] * offset
            own = torch.einsum("bnki,bnkj->bkij", pulled, offset)
            rank = pulled.flatten(2).mT @ pulled.flatten(2)
            hessian = hessian + 4 * self.beta * rank
            blocks = hessian.unflatten(2, (self.k, size)).unflatten(1, (self.k, size))
            blocks.diagonal(dim1=1, dim2=3).sub_(4 * self.beta * own.permute(0, 2, 3, 1))
        return torch.where(torch.isnan(x).any(1)[:, None, None], torch.nan, hessian)


def kmeans(
    k: int = 3,
    data: str | None = None,
    sharpness: float | int | None = 500.0,
    tether: float | int = 1e-3,
    standardise: bool = False,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Problem:
    """K-means clustering of Fisher's iris data, or of a file: the cost as a function of K centres.

    ``data`` is a CSV file of numbers (with or without a line of names) or an .npz file with one array [n d], or
    several of which one is called ``x`` or ``data``. ``standardise`` scales every column to mean 0 and variance 1.
    With a finite ``sharpness`` the minimum over centres is a soft one, which is what transition states need;
    ``sharpness=none,tether=0`` is the exact cost, for minima only (see :class:`KMeans`).

    Raises:
        MissingExtra: without scikit-learn, which brings the iris data.
        TorchscapeError: if the file is missing or holds no such table.
    """
    x = _iris() if data is None else _read(Path(data))
    if standardise:
        spread = x.std(0, correction=0)
        x = (x - x.mean(0)) / torch.where(spread > 0, spread, 1.0)
    potential = KMeans(x, k, sharpness=sharpness, tether=tether, dtype=dtype, device=device)
    lowest = _IRIS.get(k) if data is None and not standardise else None
    exact = sharpness is None
    note = "" if lowest is None else f"the lowest exact cost is {lowest}"
    if potential.beta is not None:
        note += "; " * bool(note) + f"the soft cost lies up to {len(x) * math.log(k) / potential.beta:.3g} below"
    return Problem(
        name="kmeans",
        potential=potential,
        description=f"{k} centres for {len(x)} points of {'iris' if data is None else Path(data).name}, "
        + ("exact cost" if exact else f"soft minimum of sharpness {sharpness:g}"),
        source="M. P. Niroomand et al., Digital Discovery 3, 637 (2024), doi 10.1039/d3dd00204g, 5.4; "
        "R. A. Fisher, Ann. Eugen. 7, 179 (1936), doi 10.1111/j.1469-1809.1936.tb02137.x",
        known=Known(minima=(lowest,) if exact and not tether and lowest is not None else (), note=note),
        suggested={"walkers": 64, "hops": 10, "temperature": 5.0, "step": 1.0, "neighbours": 8},
    )


def _iris() -> Float[Tensor, "n d"]:
    try:
        from sklearn.datasets import load_iris
    except ImportError as error:
        raise MissingExtra.of("scikit-learn", "demo") from error
    return torch.as_tensor(load_iris(return_X_y=True)[0])


def _read(path: Path) -> Float[Tensor, "n d"]:
    if not path.is_file():
        raise TorchscapeError(f"there is no file {path}: leave data out for the iris data instead")
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            names = [name for name in ("x", "data") if name in arrays.files] or arrays.files
            if len(arrays.files) > 1 and len(names) > 1:
                raise TorchscapeError(f"{path} holds {', '.join(names)}: call the points x")
            table = np.asarray(arrays[names[0]])
    else:
        try:
            table = _table(path)
        except ValueError as error:
            raise TorchscapeError(f"{path} is no table of numbers ({error})") from error
    if table.ndim != 2 or not np.issubdtype(table.dtype, np.number) or not np.isfinite(table).all():
        raise TorchscapeError(f"{path} must hold finite numbers [n d], not {table.dtype} {list(table.shape)}")
    return torch.as_tensor(table.astype(np.float64))


def _table(path: Path) -> np.ndarray:
    """The numbers of a CSV file, below a line of names if there is one."""
    with path.open() as lines:
        first = lines.readline()
    try:
        np.array(first.split(","), dtype=float)
        skip = 0
    except ValueError:
        skip = 1
    return np.loadtxt(path, delimiter=",", skiprows=skip, ndmin=2)
