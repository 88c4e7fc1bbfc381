"""A physics-informed network for the harmonic oscillator u'' = -u: the loss differentiates by the input."""

from __future__ import annotations

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

import torchscape as tsc
from architectures.entry import Entry, Explored
from torchscape.explore import BasinHopping, ClimbFromMinima, ConnectMinima

__all__ = ["OSCILLATOR"]


def residual(model: nn.Module, batch: tuple[torch.Tensor]) -> torch.Tensor:
    """mean (u'' + u)^2 over the times, plus u(0)^2 + (u'(0) - 1)^2: zero for u = sin t alone."""
    (t,) = batch

    def u(s: torch.Tensor) -> torch.Tensor:
        return model(s[None, None])[0, 0]

    slope = torch.func.grad(u)
    inside = torch.func.vmap(torch.func.grad(slope))(t[:, 0]) + model(t)[:, 0]
    return inside.square().mean() + u(t[0, 0]).square() + (slope(t[0, 0]) - 1).square()


def residual_by_autograd(model: nn.Module, batch: tuple[torch.Tensor]) -> torch.Tensor:
    """The same by torch.autograd.grad, which serves one network at a time: for the check."""
    t = batch[0].clone().requires_grad_()
    u = model(t)
    (du,) = torch.autograd.grad(u.sum(), t, create_graph=True)
    (ddu,) = torch.autograd.grad(du.sum(), t, create_graph=True)
    return (ddu + u).square().mean() + u[0, 0].square() + (du[0, 0] - 1).square()


def given() -> dict[str, Any]:
    """Four tanh units, and 24 times from 0 to 2 pi that belong together: the first is the start."""
    net = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
    times = torch.linspace(0, 2 * math.pi, 24, dtype=torch.float64)[:, None]
    return {"module": net, "data": (times,), "loss": residual, "l2": 1e-3, "reduction": "whole"}


def strategies(quick: bool) -> list[tsc.explore.Strategy]:
    """Narrow valleys make quenches long, and climbs longer: few of these."""
    hopping = BasinHopping(walkers=64 if quick else 192, hops=1 if quick else 3, temperature=0.02, step=1.0)
    return [hopping, ConnectMinima(), ClimbFromMinima(searches=2 if quick else 10)]


def curves(explored: Explored, t: torch.Tensor) -> np.ndarray:
    """u(t) at every minimum [N n]; its sign is fixed by u'(0) = 1."""
    return explored.potential.predict(explored.network.coords, t[:, None])[..., 0].numpy()


def picture(explored: Explored) -> Figure:
    """u at the minima, and how far it is from sin t."""
    t = torch.linspace(0, 2 * math.pi, 200, dtype=torch.float64)
    u, exact = curves(explored, t)[:6], torch.sin(t).numpy()
    figure, (left, below) = plt.subplots(1, 2, figsize=(10, 4))
    left.plot(t, exact, color="0.7", linewidth=5, label="sin t")
    for number, curve in enumerate(u):
        label = f"minimum {number}: {float(explored.network.energy[number]):.4f}"
        left.plot(t, curve, linewidth=1.4, label=label)
        below.plot(t, curve - exact, linewidth=1.4)
    below.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    left.set(xlabel="t", ylabel="u(t)")
    below.set(xlabel="t", ylabel="u(t) - sin t")
    left.legend(frameon=False, fontsize=8, loc="lower left")
    figure.tight_layout()
    return figure


def measured(explored: Explored) -> dict[str, Any]:
    """How far u is from sin t, and from nought, at most, at every minimum."""
    t = torch.linspace(0, 2 * math.pi, 200, dtype=torch.float64)
    u = curves(explored, t)
    errors, sizes = np.abs(u - np.sin(t.numpy())).max(1), np.abs(u).max(1)
    return {"furthest": [round(x, 4) for x in errors.tolist()], "largest": [round(x, 4) for x in sizes.tolist()]}


def told(own: dict[str, Any]) -> str:
    nought = [number for number, size in enumerate(own["largest"]) if size < 0.2]
    errors = ", ".join(map(str, own["furthest"]))
    return (
        f"Largest distances from sin t, by ascending loss: {errors}. {len(nought)} of them are nearly u = 0, "
        "which solves the equation and not the start, but for a bend between the first times."
    )


OSCILLATOR = Entry(
    name="oscillator",
    title="A physics-informed network for an oscillator",
    about=(
        "A network of four tanh units learns u'' = -u, u(0) = 0, u'(0) = 1 on one period from the equation alone "
        "(Raissi, Perdikaris & Karniadakis 2019, doi 10.1016/j.jcp.2018.10.045): the loss differentiates it twice "
        "by its input, the search for minima once more by its parameters, and transition states need that a "
        "second time. Written with `torch.func` it runs for all walkers at once; with `torch.autograd.grad` in "
        "the loss it would be evaluated for one after the other, of which the package warns. Such networks are "
        "known to fall for fixed points of the equation (Rohrhofer et al. 2023, arXiv:2203.13648), here u = 0."
    ),
    given=given,
    shown=(residual, given),
    strategies=strategies,
    quenches=60,
    second="curves",
    picture=picture,
    caption="u(t) at the minima, and its error: the same equation, learnt in different ways.",
    measures=measured,
    remarks=told,
    bare={"loss": residual_by_autograd},
)
