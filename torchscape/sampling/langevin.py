"""Langevin dynamics by splitting: a scheme is a word, and its letters are what is integrated exactly in turn.

    A: dx = p dt                B: dp = -grad U dt                O: dp = -gamma p dt + sqrt(2 gamma T) dW

A letter that stands k times in a word moves by h/k each time. One gradient a step, whichever the word. On a
harmonic mode of frequency omega, with y = (h omega)^2, the stationary moments are exactly

    ==============  ================  =============
    scheme          omega^2 <x^2>/T   <p^2>/T
    ==============  ================  =============
    BAOAB           1                 1 - y/4
    ABOBA           1                 1/(1 - y/4)
    BAOA            1                 1
    OBABO, GLA2     1/(1 - y/4)       1
    SGLD            1/(1 - h omega^2/2)   -
    GLA1            (1+c)^2/(2(1+c)-y)    1 + c^2 (y/2)/(1+c-y/2)
    ==============  ================  =============

So the kinetic temperature of BAOAB is too low by y/4 although its positions are exact: that is the scheme, not a
fault of the run. In GLA1 c = exp(-gamma h); to leading order it errs by -gamma h / 2 in <x^2> and y/4 in <p^2>.
Stability needs h omega < 2 (SGLD: h omega^2 < 2).

References: B. Leimkuhler and C. Matthews, Appl. Math. Res. Express 2013, 34, doi 10.1093/amrx/abs010, and
*Molecular Dynamics* (Springer, 2015), doi 10.1007/978-3-319-16375-8; GLA: N. Bou-Rabee and H. Owhadi, SIAM J.
Numer. Anal. 48, 278 (2010), doi 10.1137/090758842; OBABO: G. Bussi and M. Parrinello, Phys. Rev. E 75, 056707
(2007), doi 10.1103/PhysRevE.75.056707; BAOA: S. Kieninger and B. G. Keller, J. Chem. Theory Comput. 18, 5792
(2022), doi 10.1021/acs.jctc.2c00585; SGLD: M. Welling and Y. W. Teh, ICML 28, 681 (2011).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import ClassVar

from torchscape import random
from torchscape.potentials.base import Potential
from torchscape.sampling.chains import Chains, Sampler, reflect
from torchscape.validation import NOT_NEGATIVE, POSITIVE, check_fields

__all__ = ["ABOBA", "BAOA", "BAOAB", "GLA1", "GLA2", "OBABO", "SGLD", "Splitting"]


@dataclasses.dataclass(frozen=True)
class Splitting(Sampler):
    """Underdamped Langevin dynamics by the scheme ``word``.

    Attributes:
        step_size: h; stable below 2 / (largest frequency).
        friction: gamma, an inverse time.

    Raises:
        TorchscapeError: unless the step size is positive and the friction is not negative.

    Example:
        >>> import torch
        >>> from torchscape.potentials import Quadratic
        >>> sampler, u = BAOAB(step_size=0.5), Quadratic([1.0])
        >>> state = sampler.init(u, torch.zeros(1000, 1).double(), seed=1)
        >>> for _ in range(100):
        ...     state = sampler.step(u, state)
        >>> abs(state.x.var().item() - 1) < 0.2
        True
    """

    step_size: float
    friction: float = 1.0

    word: ClassVar[str]

    def __post_init__(self) -> None:
        check_fields(self, step_size=POSITIVE, friction=NOT_NEGATIVE)

    def step(self, potential: Potential, state: Chains) -> Chains:
        h = {letter: self.step_size / self.word.count(letter) for letter in self.word}
        x, p, energy, grad = state.x, state.p, state.energy, state.grad
        key = random.fold(state.key, state.n_steps)
        n_noises = 0
        for letter in _plan(self.word):
            if letter == "A":
                x, p = reflect(potential.bounds, x.add(p, alpha=h["A"]), p)
            elif letter == "B":
                p = p.sub(grad, alpha=h["B"])
            elif letter == "O":
                decay = math.exp(-self.friction * h["O"])
                noise = random.normal(random.fold(key, n_noises), potential.ndim, x.dtype)
                p = (p * decay).addcmul_(noise, ((1 - decay**2) * state.temperature).sqrt()[:, None])
                n_noises += 1
            else:
                energy, grad = potential.energy_and_grad(x)
        return self.advanced(state, 1, x=x, p=p, energy=energy, grad=grad)


@functools.cache
def _plan(word: str) -> str:
    """The word with an E (evaluate) after every A that is followed by a B before another A, going round.

    Example:
        >>> _plan("BAOAB"), _plan("BAO"), _plan("ABOBA")
        ('BAOAEB', 'BAEO', 'AEBOBA')
    """
    following = [(word[i + 1 :] + word).replace("O", "")[0] for i in range(len(word))]
    return "".join(
        letter + "E" * (letter == "A" and after == "B") for letter, after in zip(word, following, strict=True)
    )


class GLA1(Splitting):
    """Geometric Langevin algorithm of first order: B A O."""

    word = "BAO"


class GLA2(Splitting):
    """Geometric Langevin algorithm of second order: B/2 A B/2 O."""

    word = "BABO"


class BAOAB(Splitting):
    """B/2 A/2 O A/2 B/2: positions exact on a harmonic mode, of fourth order for large friction."""

    word = "BAOAB"


class BAOA(Splitting):
    """B A/2 O A/2: positions as of BAOAB, and momenta exact on a harmonic mode too."""

    word = "BAOA"


class OBABO(Splitting):
    """O/2 B/2 A B/2 O/2: a velocity Verlet step between two halves of thermostat."""

    word = "OBABO"


class ABOBA(Splitting):
    """A/2 B/2 O B/2 A/2: the gradient is that of mid-step, so what is recorded costs an evaluation more."""

    word = "ABOBA"
    is_evaluated = False


@dataclasses.dataclass(frozen=True)
class SGLD(Sampler):
    """Stochastic-gradient Langevin dynamics, overdamped: x -= h grad U, x += sqrt(2 h T) G.

    Attributes:
        step_size: h, of the dimension length^2 / energy; stable below 2 / (largest curvature).

    Raises:
        TorchscapeError: unless the step size is positive.

    Example:
        >>> import torch
        >>> from torchscape.potentials import Quadratic
        >>> state = SGLD(0.1).init(Quadratic([1.0]), torch.zeros(2, 1).double())
        >>> SGLD(0.1).step(Quadratic([1.0]), state).n_evaluations
        2
    """

    step_size: float

    has_momenta = False

    def __post_init__(self) -> None:
        check_fields(self, step_size=POSITIVE)

    def step(self, potential: Potential, state: Chains) -> Chains:
        noise = random.normal(random.fold(state.key, state.n_steps), potential.ndim, state.x.dtype)
        x = state.x.sub(state.grad, alpha=self.step_size)
        x = x.addcmul_(noise, (2 * self.step_size * state.temperature).sqrt()[:, None])
        x, _ = reflect(potential.bounds, x, state.p)
        energy, grad = potential.energy_and_grad(x)
        return self.advanced(state, 1, x=x, energy=energy, grad=grad)
