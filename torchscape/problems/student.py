"""A student network that learns from a teacher network: a loss whose ground state is known to be zero."""

from __future__ import annotations

import torch
from torch import nn

from torchscape import random
from torchscape.errors import TorchscapeError, UnknownName
from torchscape.optimise import relax
from torchscape.potentials.module.potential import ModulePotential
from torchscape.problems.mnist import mnist_data
from torchscape.problems.networks import digits_data
from torchscape.problems.problem import Known, Problem
from torchscape.types import Float, Int, Tensor

__all__ = ["student_teacher"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "linear": nn.Identity}
_TEACHER_L2 = 1e-4


def student_teacher(
    teacher: int = 10,
    size: float | int = 1.0,
    n: int = 800,
    activation: str = "tanh",
    l2: float = 0.0,
    seed: int = 0,
    data: str | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Problem:
    """Student and teacher: a network learns what another has learned, so that zero is the known ground state.

    Images are split into two halves of ``n`` (fewer, if there are not as many). A teacher with ``teacher`` hidden
    units is trained on the true labels of the first half, then labels the second with its outputs (before the
    softmax). The energy of the student, which has ``size`` times as many hidden units (published: smaller, equal
    and larger ones), is the mean squared difference of its outputs and those labels, plus l2 times the sum of the
    squares of its parameters. Without l2 and for a size of 1 or more it is zero where the student holds a copy of
    the teacher: ``known.lowest`` is such a point. ``Problem.test`` is the first half with the teacher's outputs.

    The images are scikit-learn's digits, or those of MNIST where ``data`` names them (see the problem ``mnist``).
    Pixels that are equal in the whole second half are left out: their weights would be zero modes. So are, without
    l2, the parameters of units that a larger student does not need, and for activation "linear" all changes of
    basis between the layers.

    Raises:
        MissingExtra: without scikit-learn, if ``data`` is not given.
        TorchscapeError: if a size or number is not positive.
        UnknownName: for an activation other than tanh, relu and linear.
    """
    if activation not in _ACTIVATIONS:
        raise UnknownName.of("activation", activation, list(_ACTIVATIONS))
    hidden = round(size * teacher)
    if teacher < 1 or hidden < 1 or n < 1:
        raise TorchscapeError(f"teacher={teacher}, size={size}, n={n}: both networks need a hidden unit, and data")
    x, y = digits_data() if data is None else _mnist(data)
    n = min(n, len(y) // 2)
    first, second = random.permutation(random.fold(seed, torch.arange(1)), len(y))[0][: 2 * n].split(n)
    varies = x[second].amax(0) > x[second].amin(0)
    x = x[:, varies]
    wise = _train(_network(x.shape[1], teacher, activation, seed), x[first], y[first], device)
    with torch.no_grad():
        answers = wise(x)
    net = _network(x.shape[1], hidden, activation, seed + 1)
    examples = (x[second], answers[second])
    potential = ModulePotential(net, examples, nn.functional.mse_loss, l2, dtype=dtype, device=device)
    reachable = hidden >= teacher and l2 == 0
    images = "digits" if data is None else "MNIST"
    return Problem(
        name="student-teacher",
        potential=potential,
        description=f"{x.shape[1]}-{hidden}-10 {activation} student of a teacher with {teacher} hidden units, "
        f"{n} images of {images}",
        source="A. J. Ballard et al., Phys. Chem. Chem. Phys. 19, 12585 (2017), doi 10.1039/c7cp01108c, VII.B; "
        "L. Sagun et al., arXiv:1412.6615 (2014), doi 10.48550/arXiv.1412.6615",
        known=Known(
            minima=(0.0,) if reachable else (),
            note="the lowest, a copy of the teacher" if reachable else "the lowest energy is above zero",
            lowest=_copied(wise, net, potential) if reachable else None,
        ),
        # unregularised, a quench takes thousands of evaluations
        suggested={"walkers": 8, "hops": 2, "temperature": 0.1, "step": 0.5, "neighbours": 4},
        test=(x[first].to(device, dtype), answers[first].to(device, dtype)),
    )


def _mnist(data: str) -> tuple[Float[Tensor, "n d"], Int[Tensor, "n"]]:
    images, labels = mnist_data(data)
    return images.flatten(1).double() / 255, labels


def _network(n_in: int, hidden: int, activation: str, seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = nn.Linear(n_in, hidden), _ACTIVATIONS[activation](), nn.Linear(hidden, 10)
    return nn.Sequential(*layers).double()


def _train(net: nn.Sequential, x: Float[Tensor, "n d"], y: Int[Tensor, "n"], device) -> nn.Sequential:
    """The network at a nearby minimum of the cross-entropy, lightly regularised; what it learns is what counts."""
    u = ModulePotential(net, (x, y), nn.functional.cross_entropy, _TEACHER_L2, symmetry=None, device=device)
    end = relax(u, u.initial, tol=1e-4, max_evaluations=2000)
    u.load_into(net, end.x[0].cpu())
    return net


def _copied(wise: nn.Sequential, net: nn.Sequential, potential: ModulePotential) -> Float[Tensor, "D"]:
    """The coordinates of a student that holds the teacher, its further units silent."""
    parameters = {}
    for (name, small), large in zip(wise.named_parameters(), net.parameters(), strict=True):
        parameters[name] = torch.zeros_like(large).detach()
        parameters[name][tuple(slice(length) for length in small.shape)] = small.detach()
    return potential.layout.flatten(parameters).to(potential.device, potential.dtype)
