"""``Posterior``: minus the log of a posterior density over a module's parameters, to be sampled at T = 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torchscape.errors import PotentialError
from torchscape.potentials.base import Potential
from torchscape.potentials.module.potential import ModulePotential
from torchscape.symmetry.base import Symmetry
from torchscape.types import Float, Int, Tensor
from torchscape.validation import POSITIVE

__all__ = ["Posterior"]


class Posterior(Potential):
    """U(theta) = -ln p(Y | X, theta) - ln p(theta) + const = scale (L(theta) + l2 |theta_r|^2).

    Where L is the mean of -ln p(y | x, theta) over N samples (cross entropy), the likelihood asks for scale = N.
    The l2 term is a normal prior N(0, s^2) of the regularised parameters with 1 / (2 s^2) = scale l2; parameters
    that are not regularised have a flat prior. Draws at T = 1 are draws of the posterior, and the minima are those
    of the potential itself, whose temperature would be 1 / scale.

    A mean of squares over m target values with normal noise of variance sigma^2 is -ln p times 2 sigma^2 / m:
    pass scale = m / (2 sigma^2).

    Args:
        potential: the module, its data, a loss that is minus a log likelihood, and l2.
        scale: by default N for a loss that is a mean, and 1 for one that is a sum.
        prior: s; None keeps the potential's own l2.

    Raises:
        PotentialError: for numbers that are not positive, or a loss that needs all samples at once and no scale.

    Example:
        >>> import torch
        >>> data = torch.ones(4, 1), torch.tensor([0.0, 1.0, 1.0, 1.0])
        >>> net, bce = torch.nn.Linear(1, 1, bias=False), torch.nn.functional.binary_cross_entropy_with_logits
        >>> u = Posterior(ModulePotential(torch.nn.Sequential(net, torch.nn.Flatten(0)), data, bce), prior=2.0)
        >>> half = u.energy(torch.zeros(1, 1).double()).item() / 4  # four times -ln 1/2
        >>> round(half, 6), u.scale, round(u.prior, 6)
        (0.693147, 4.0, 2.0)
    """

    def __init__(
        self, potential: ModulePotential, *, scale: float | None = None, prior: float | None = None
    ) -> None:
        self._reduction = potential._evaluator.objective.reduction
        if scale is None:
            if self._reduction == "whole":
                raise PotentialError(
                    "this loss needs all samples at once, and may be no log likelihood: pass scale=..."
                )
            scale = potential.n_samples if self._reduction == "mean" else 1.0
        POSITIVE.check("Posterior", PotentialError, scale=scale)
        POSITIVE.or_none.check("Posterior", PotentialError, prior=prior)
        self.scale = float(scale)
        self.potential = potential if prior is None else potential.with_(l2=1 / (2 * self.scale * prior**2))
        self.ndim, self.dtype, self.device = potential.ndim, potential.dtype, potential.device
        self.length_scale, self.max_rows = potential.length_scale, potential.max_rows

    @property
    def prior(self) -> float:
        """Standard deviation s of the prior; infinite where nothing is regularised."""
        return (2 * self.scale * self.potential.l2) ** -0.5 if self.potential.l2 else float("inf")

    @property
    def n_samples(self) -> int:
        """N."""
        return self.potential.n_samples

    @property
    def symmetry(self) -> Symmetry:  # type: ignore[override]
        """That of the potential."""
        return self.potential.symmetry

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        return self.scale * self.potential.energy(x)

    def energy_and_grad(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        energy, grad = self.potential.energy_and_grad(x)
        return self.scale * energy, self.scale * grad

    def hvp(self, x: Float[Tensor, "B D"], v: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        return self.scale * self.potential.hvp(x, v)

    def products_at(self, x: Float[Tensor, "B D"]) -> Callable[[Tensor], Tensor]:
        products = self.potential.products_at(x)
        return lambda v: self.scale * products(v)

    def hessian(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D D"]:
        return self.scale * self.potential.hessian(x)

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n D"]:
        return self.potential.sample(n, seed)

    def predict(self, x: Float[Tensor, "B D"], inputs: Tensor | tuple[Tensor, ...]) -> Tensor:
        """The module's outputs [B, n, ...] for n inputs at every point."""
        return self.potential.predict(x, inputs)

    def on(self, indices: Int[Tensor, "K"] | Sequence[int] | slice) -> Posterior:
        """An unbiased estimate of U from K of the samples: the likelihood counts N / K times, the prior once."""
        if self._reduction == "whole":
            raise PotentialError("this loss needs all samples at once: there are no minibatches of it")
        part = self.potential.on(indices)
        if self._reduction == "mean":
            return Posterior(part, scale=self.scale)
        share = part.n_samples / self.n_samples
        return Posterior(part.with_(l2=share * self.potential.l2), scale=self.scale / share)

    def settings(self) -> Mapping[str, object]:
        return {"ndim": self.ndim, "scale": self.scale, "potential": dict(self.potential.settings())}
