"""``ModulePotential``: the loss of a PyTorch module on a data set, as a function of its parameters."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import nn

from torchscape import random
from torchscape.devices import HOST
from torchscape.errors import PotentialError
from torchscape.potentials import checks
from torchscape.potentials.base import Potential
from torchscape.potentials.batching import Plan
from torchscape.potentials.compiled import Setting, check_setting
from torchscape.potentials.module import initial
from torchscape.potentials.module.data import Samples
from torchscape.potentials.module.evaluator import Evaluator
from torchscape.potentials.module.inputs import input_preconditioner
from torchscape.potentials.module.objective import Objective
from torchscape.potentials.module.recognition import recognised
from torchscape.potentials.module.selection import ParameterFilter, choose_layout, choose_mask
from torchscape.potentials.module.state import copied, copied_to, energy_of_constants, refuse_other_state
from torchscape.potentials.preconditioner import Preconditioner
from torchscape.potentials.probe import refuse_false_symmetry, refuse_wrong_derivatives
from torchscape.symmetry.base import Symmetry
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, NOT_NEGATIVE

__all__ = ["ModulePotential"]

_N_VERIFY = 64  # samples on which derivatives and a symmetry of the parameters are tried
_N_ROUGH = 4  # samples on which derivatives are tried where those are too rough


class ModulePotential(Potential):
    """U(theta) = L(f_theta(X), Y) + l2 |theta_r|^2: what training minimises, as a function of all parameters.

    L is the given loss as it reduces the whole data set at once (a mean or a sum over samples), evaluated in
    chunks that change nothing but rounding. theta are the trainable parameters of the module, or those that
    ``parameters`` selects, laid out by ``layout``; tied weights count once; everything else, with the buffers,
    is constant. theta_r are the coordinates that ``regularise`` selects (default: all). The module is copied and
    never changed.

    Args:
        module: the model, in the mode in which it is to be evaluated (``model.eval()`` where that matters).
        data: (inputs, ..., targets) tensors, a ``Dataset``, or an iterable of batches such as a ``DataLoader``;
            for a loss(model, batch), any tensor, tuple or dict of tensors. Samples along the first dimension.
        loss: a functional or criterion called as loss(output, target), or a function loss(model, batch),
            recognised by the name or annotation of its arguments.
        l2: the strength of the regularisation.
        parameters: which parameters are coordinates: f(name, parameter) -> bool, or names, or patterns such as
            "*.weight"; by default all that require a gradient.
        regularise: which of them are in the l2 term; given in the same way.
        reduction: "mean" or "sum" over samples, or "whole" for a loss that needs all samples at once; by
            default what the loss itself does.
        symmetry: which points are the same; "auto" finds the permutations, signs and scalings of the module.
        chunk_size, max_rows: most samples, and walkers, evaluated at once; by default what memory and caches hold.
        dtype: of the coordinates, the constants and floating-point data.
        device: where to evaluate; by default where the module is.
        compile: whether gradients are computed by compiled code, as of every :class:`Potential`.
        check: try the derivatives on at most 64 samples (in float64), and a symmetry that is given: 36 gradients,
            six Hessian-vector products; twice that, on four samples too, where kinks lie too close to tell.

    Raises:
        NotDeterministic: if the module or loss is random or depends on the batch (dropout, batch statistics).
        PotentialError: if module, data and loss do not fit together, or a derivative is not that of the energy;
            the message names the remedy.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        >>> x, y = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), torch.tensor([0, 1, 1])
        >>> u = ModulePotential(net, (x, y), torch.nn.functional.cross_entropy, l2=1e-3)
        >>> theta = u.flatten(net)
        >>> loss = torch.nn.functional.cross_entropy(net(x), y) + 1e-3 * (theta**2).sum()
        >>> u.ndim, bool(torch.isclose(u.energy(theta[None])[0], loss.double()))
        (17, True)
    """

    length_scale = 1.0

    def __init__(
        self,
        module: nn.Module,
        data: object,
        loss: Callable[..., Tensor],
        l2: float = 0.0,
        *,
        parameters: ParameterFilter = None,
        regularise: ParameterFilter = None,
        reduction: Literal["mean", "sum", "whole"] | None = None,
        symmetry: Symmetry | Literal["auto"] | None = "auto",
        chunk_size: int | None = None,
        max_rows: int | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
        compile: Setting = False,
        check: bool = True,
    ) -> None:
        NOT_NEGATIVE.check("ModulePotential", PotentialError, l2=l2)
        COUNT.or_none.check("ModulePotential", PotentialError, chunk_size=chunk_size, max_rows=max_rows)
        check_setting("ModulePotential", compile)
        checks.refuse_unfit(module)
        self.dtype = checks.available_dtype(dtype)
        self.device = checks.available_device(_device_of(module) if device is None else device)
        own = copied_to(module, self.device, dtype)
        self.layout = choose_layout(own, parameters)
        self.ndim = self.layout.ndim
        self.initial = self._flattened(own)[None]
        own.requires_grad_(False)
        samples = Samples.of(data, dtype=dtype, device=self.device)
        objective = Objective(own, loss, samples, reduction).to(self.device, dtype)
        self._l2, self._mask = l2, choose_mask(self.layout, regularise, own).to(self.device, dtype)
        plan = Plan(len(samples), chunk_size, max_rows)
        self._evaluator = Evaluator(objective, self.layout, l2 * self._mask, plan)
        trial = torch.cat([self.initial, self.initial + 0.1 * self._noise(1), self.sample(1)])
        self._evaluator = checks.tried_out(self._evaluator, trial)
        self._preconditioner: Preconditioner | Literal["auto"] | None = "auto"
        self._choice = checks.chosen_symmetry(symmetry)
        self._symmetry = None if isinstance(self._choice, str) else self._choice
        if check:
            self._probe()
        self.compile = compile  # not for the few evaluations before

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """U of every row; differentiable in x, at the price of keeping every chunk's graph."""
        return self._evaluator.energy(self._fitting(x))

    def energy_and_grad(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        """U and its gradient, detached, one chunk of samples after the other."""
        return self._evaluator.energy_and_grad(self._fitting(x), self.compile)

    def _said_of_code(self) -> str:
        return self._evaluator.written.said

    def hvp(self, x: Float[Tensor, "B D"], v: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """H(x_b) v_b, reverse over reverse (forward over reverse where a backward has no derivative)."""
        return self._evaluator.hvp(self._fitting(x), v)

    def products_at(self, x: Float[Tensor, "B D"]) -> Callable[[Tensor], Tensor]:
        """H(x_b) V_b for blocks V [B K D], as a function of V: from graphs of the gradients, where they fit."""
        return self._evaluator.products_at(self._fitting(x)) or super().products_at(x)

    def hessian(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D D"]:
        """The dense Hessian of every row: one pass over the data for many columns at once."""
        if self._evaluator.second == "reverse" and self._evaluator.vmapped:
            return self._evaluator.hessian(self._fitting(x))
        return super().hessian(self._fitting(x))

    # --- between points and modules --------------------------------------------------------------------

    def flatten(self, module: nn.Module) -> Float[Tensor, "D"]:
        """The coordinates of a module of the same architecture, for example a trained one.

        Raises:
            PotentialError: if its buffers (running statistics) or frozen parameters are not the potential's own:
                its coordinates would be evaluated in another model.
        """
        self._refuse_other_state(
            module, "build the potential from that module, as in ModulePotential(module, data, loss)"
        )
        return self._flattened(module)

    def _flattened(self, module: nn.Module) -> Float[Tensor, "D"]:
        values = {name: value.detach() for name, value in module.named_parameters()}
        return self.layout.flatten(values).to(self.device, self.dtype)

    def load_into(self, module: nn.Module, x: Float[Tensor, "*R D"]) -> nn.Module:
        """Write one point into the parameters of ``module`` (in place, keeping its dtype) and return it.

        Raises:
            PotentialError: if the module has other parameters, or other buffers (running statistics) or frozen
                parameters than the potential: it would be another model than the one that was evaluated.

        Example:
            >>> import torch
            >>> net = torch.nn.Linear(1, 1)
            >>> u = ModulePotential(net, (torch.ones(2, 1), torch.ones(2, 1)), torch.nn.functional.mse_loss)
            >>> u.load_into(net, torch.tensor([2.0, 3.0], dtype=torch.float64)).weight.item()
            2.0
        """
        if x.numel() != self.ndim:
            raise PotentialError(f"load_into takes one point of {self.ndim} coordinates, not {tuple(x.shape)}")
        self._refuse_other_state(module, "load the point into a copy of the potential's own module, u.module")
        own = dict(module.named_parameters())
        with torch.no_grad():
            for name, value in self.layout.unflatten(x.detach().reshape(-1)).items():
                if name not in own or own[name].shape != value.shape:
                    raise PotentialError(f"the module has no parameter {name!r} of shape {tuple(value.shape)}")
                own[name].copy_(value)
        return module

    def predict(self, x: Float[Tensor, "B D"], inputs: Tensor | tuple[Tensor, ...]) -> Tensor:
        """The module's outputs [B, n, ...] for n inputs at every point, without gradients.

        Example:
            >>> import torch
            >>> net = torch.nn.Linear(2, 3)
            >>> u = ModulePotential(net, (torch.ones(4, 2), torch.ones(4, 3)), torch.nn.functional.mse_loss)
            >>> u.predict(u.sample(5), torch.zeros(7, 2)).shape
            torch.Size([5, 7, 3])
        """
        inputs = inputs if isinstance(inputs, tuple) else (inputs,)
        given = Samples.of(inputs, dtype=self.dtype, device=self.device)
        return self._evaluator.outputs(self._fitting(x), given)

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n D"]:
        """``n`` random starts from the module's own initialisers; row k depends on (seed, k) alone."""
        return initial.draw(self._evaluator.objective.module, self.layout, n, seed).to(self.device, self.dtype)

    # --- relatives -------------------------------------------------------------------------------------

    def on(self, indices: Int[Tensor, "K"] | Sequence[int] | slice) -> ModulePotential:
        """The same module and loss on some of the samples: a minibatch is another potential."""
        if isinstance(indices, slice):
            indices = range(*indices.indices(self.n_samples))
        chosen = self.samples.take(torch.as_tensor(indices, dtype=torch.int64))
        other = copy.copy(self)
        other._evaluator = self._evaluator.on(chosen)
        other._preconditioner = "auto"
        return other

    def with_data(self, data: object) -> ModulePotential:
        """The same module and loss on other data, for instance on a test set.

        Example:
            >>> import torch
            >>> data = torch.ones(2, 1), torch.ones(2, 1)
            >>> u = ModulePotential(torch.nn.Linear(1, 1), data, torch.nn.functional.mse_loss)
            >>> u.with_data((torch.zeros(1, 1), torch.ones(1, 1))).energy(torch.zeros(1, 2).double()).item()
            1.0
        """
        other = copy.copy(self)
        other._evaluator = self._evaluator.on(Samples.of(data, dtype=self.dtype, device=self.device))
        other._preconditioner = "auto"
        return other

    def with_(
        self,
        *,
        l2: float | None = None,
        regularise: ParameterFilter = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> ModulePotential:
        """A relative with another regularisation, dtype or device: l2 is a control parameter of a family.

        Example:
            >>> import torch
            >>> data = torch.ones(2, 1), torch.ones(2, 1)
            >>> u = ModulePotential(torch.nn.Linear(1, 1), data, torch.nn.functional.mse_loss)
            >>> u.with_(l2=0.5).energy(torch.ones(1, 2, dtype=torch.float64)).item()  # (2 - 1)^2 + 0.5 * 2
            2.0
        """
        NOT_NEGATIVE.or_none.check("with_", PotentialError, l2=l2)
        other = copy.copy(self)
        other.dtype = self.dtype if dtype is None else checks.available_dtype(dtype)
        other.device = self.device if device is None else checks.available_device(device)
        evaluator = self._evaluator
        if (other.dtype, other.device) != (self.dtype, self.device):
            evaluator = evaluator.to(dtype=other.dtype, device=other.device)
        other._l2 = self._l2 if l2 is None else l2
        if regularise is not None:
            other._mask = choose_mask(self.layout, regularise, evaluator.objective.module)
        other._mask, other.initial = (t.to(other.device, other.dtype) for t in (other._mask, self.initial))
        other._evaluator = dataclasses.replace(evaluator, decay=other._l2 * other._mask)
        other._preconditioner = "auto"
        if self._choice == "auto":  # regularisation may break a symmetry, or restore it
            other._symmetry = None
        return other

    def _converted(self, dtype: torch.dtype) -> ModulePotential:
        return self.with_(dtype=dtype)

    @property
    def l2(self) -> float:
        """Strength of the regularisation."""
        return self._l2

    @property
    def module(self) -> nn.Module:
        """A fresh copy of the module, its parameters as at construction."""
        return copied(self._evaluator.objective.module)

    @property
    def n_samples(self) -> int:
        """How many samples the energy is a mean or sum over."""
        return len(self.samples)

    def settings(self) -> Mapping[str, object]:
        """Data, parameters, constants, loss and regularisation; not the code, the dtype, or chunk sizes."""
        coordinates = {*self.layout.names, *self.layout.aliases}
        return {
            "ndim": self.ndim,
            "names": list(self.layout.names),
            "shapes": [list(shape) for shape in self.layout.shapes],
            "l2": float(self._l2),
            "regularised": self._mask.bool().cpu() if self._l2 else None,
            **self._evaluator.objective.settings(coordinates),
        }

    # --- what a minimiser may know beforehand ------------------------------------------------------------

    @property
    def preconditioner(self) -> Preconditioner | None:
        """From the second moments of what the layers see that the data go into; found at first use."""
        if isinstance(self._preconditioner, str):
            self._preconditioner = input_preconditioner(self._evaluator, self.initial[0])
        return self._preconditioner

    @preconditioner.setter
    def preconditioner(self, preconditioner: Preconditioner | None) -> None:
        self._preconditioner = preconditioner

    # --- symmetry --------------------------------------------------------------------------------------

    @property
    def symmetry(self) -> Symmetry:
        """Which points are the same; found at first use, and believed only as far as the energy agrees."""
        if self._symmetry is None:
            self._symmetry = self._detected()
        return self._symmetry

    @symmetry.setter
    def symmetry(self, symmetry: Symmetry) -> None:
        self._symmetry = symmetry

    def _detected(self) -> Symmetry:
        few = self._few(_N_VERIFY)

        def energy(x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
            return few.energy(x.to(self.device)).to(HOST)

        # The host makes the images, and the device sees them once.
        x = self.initial.to(HOST) + 0.3 * self._noise(4, HOST)
        return recognised(self._evaluator.objective, self.layout, energy, x, regularised=bool(self._l2))

    # --- helpers ---------------------------------------------------------------------------------------

    def _probe(self) -> None:
        """Refuse false derivatives and a false symmetry, tried on some of the samples.

        In float64 where that can be had, and on four samples where the kinks or jumps of more are too close to
        each other: the smaller the steps of the differences and the fewer the kinks, the more certain they are.
        """
        few = self._few(_N_VERIFY)
        noise = self._noise(2) * (0.1 * self.initial.abs() + 0.01)
        x = torch.cat([self.initial + noise, self.sample(1, seed=1) + noise[:1]])
        parts = {name: self.layout.coordinates(name) for name in self.layout.names}
        causes = checks.causes_of_wrong_gradients(self._evaluator.objective.module)
        precise = checks.in_double(few, x)
        for tried in (precise, precise._few(_N_ROUGH)):
            at = x.to(tried.dtype)
            if refuse_wrong_derivatives(tried, at, "check=False", parts=parts, causes=causes):
                break
        if self._symmetry is not None:
            refuse_false_symmetry(few, x)

    def _few(self, most: int) -> ModulePotential:
        """The potential on so many samples at most, evenly spread."""
        n = self.n_samples
        if not self.samples.separable or self._evaluator.objective.reduction == "whole" or n <= most:
            return self
        try:
            return self.on(torch.linspace(0, n - 1, most, dtype=torch.float64).long())
        except PotentialError:  # all of these are ignored targets
            return self

    def _refuse_other_state(self, module: nn.Module, remedy: str) -> None:
        few = self._few(_N_VERIFY)._evaluator.objective
        batch, _ = next(iter(few.chunks(_N_VERIFY)))
        energy = energy_of_constants(few, self.layout, self.initial[0], batch)
        refuse_other_state(few.module, module, self.layout, energy, remedy)

    @property
    def samples(self) -> Samples:
        """The data that the energy is a mean or sum over."""
        return self._evaluator.objective.samples

    def _noise(self, n: int, device: torch.device | None = None) -> Float[Tensor, "n D"]:
        return random.normal(random.fold(0, torch.arange(n)), self.ndim).to(device or self.device, self.dtype)

    def _fitting(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """``x``, if it can be evaluated here."""
        if x.ndim != 2 or x.shape[1] != self.ndim:
            raise PotentialError(f"points must have shape [B, {self.ndim}], not {tuple(x.shape)}")
        if x.dtype != self.dtype or x.device.type != self.device.type:
            raise PotentialError(
                f"points are {x.dtype} on {x.device}, the potential is {self.dtype} on {self.device}; convert the "
                f"points, or the potential with potential.with_(dtype=..., device=...)"
            )
        return x


def _device_of(module: nn.Module) -> torch.device:
    return next((one.device for one in (*module.parameters(), *module.buffers())), torch.device("cpu"))
