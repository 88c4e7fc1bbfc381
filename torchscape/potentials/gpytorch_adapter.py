"""A GPyTorch marginal likelihood as a potential."""

from __future__ import annotations

from typing import Any

from torchscape.errors import MissingExtra, PotentialError
from torchscape.potentials.gaussian_process import factorised
from torchscape.potentials.module.potential import ModulePotential
from torchscape.types import Tensor

__all__ = ["from_gpytorch"]


def from_gpytorch(mll: Any, **options: Any) -> ModulePotential:
    """The negative log marginal likelihood, minus log priors, of an exact GPyTorch model on its training data.

    The coordinates are the model's and the likelihood's own (raw, unconstrained) parameters, by the names that
    GPyTorch gives them. U is the total over data points, where GPyTorch's own objective is divided by their
    number. The covariance matrix is GPyTorch's, in dense form; its factorisation is not, so that no jitter is
    added, nothing is random however many points there are (GPyTorch's own objective is beyond 800), and a matrix
    that is not positive definite makes one energy infinite rather than stop a batch.

    Args:
        mll: an ``ExactMarginalLogLikelihood`` of an ``ExactGP`` with one output.
        options: as for :class:`ModulePotential` (``parameters``, ``l2``, ``dtype``, ``device``, ...).

    Raises:
        MissingExtra: without GPyTorch.
        PotentialError: for another kind of objective or model.

    Reference: J. R. Gardner et al., Advances in Neural Information Processing Systems 31 (2018),
    doi 10.48550/arXiv.1809.11165.
    """
    try:
        import gpytorch
    except ImportError as error:
        raise MissingExtra.of("gpytorch", "gpytorch") from error
    if not isinstance(mll, gpytorch.mlls.ExactMarginalLogLikelihood):
        raise PotentialError(
            f"{type(mll).__name__} is no ExactMarginalLogLikelihood: pass one of an ExactGP model"
        )
    inputs, targets = mll.model.train_inputs, mll.model.train_targets
    if inputs is None or targets is None or targets.ndim != 1:
        raise PotentialError("the model needs training inputs, and one training target for each: set_train_data")
    if any(True for _ in mll.model.added_loss_terms()):
        raise PotentialError("the model adds loss terms of its own (a sparse approximation?), which have no place")
    data = (*inputs, targets)

    def marginal_likelihood(model: Any, batch: tuple[Tensor, ...]) -> Tensor:
        *x, y = batch
        # Outside trace_mode some kernels take derivatives of their own, whose derivatives are wrong: those of
        # RBFKernel and MaternKernel have the wrong sign for a single length scale (GPyTorch 1.15).
        with gpytorch.settings.debug(False), gpytorch.settings.trace_mode():
            distribution = model.likelihood(model.model.forward(*x))
            # Kernels are evaluated when their matrix is asked for: that must happen inside, too.
            covariance, mean = distribution.covariance_matrix, distribution.mean
        energy = factorised(covariance, y - mean)[0]
        for _, owner, prior, parameter, _ in model.named_priors():
            energy = energy - prior.log_prob(parameter(owner)).sum()
        return energy

    return ModulePotential(mll, data, marginal_likelihood, reduction="whole", symmetry=None, **options)
