"""Where the gradient flow ends, by SciPy's LSODA and gradients written by hand in NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.integrate import LSODA

from torchscape import Potential
from torchscape.potentials import ModulePotential
from torchscape.problems.regression import NonlinearRegression
from torchscape.saddles.decomposition import dense_spectrum
from torchscape.saddles.projector import Projector

__all__ = ["at_rest", "ended", "flow_end", "in_numpy"]


def in_numpy(u: Potential) -> Callable[[np.ndarray], np.ndarray]:
    """The gradient at one point, written by hand; compared with the potential's own."""
    if isinstance(u, ModulePotential):
        gradient = network_gradient(u)
    elif isinstance(u, NonlinearRegression):
        gradient = regression_gradient(u)
    else:
        gradient = lennard_jones_gradient
    x = u.sample(3, seed=5)
    ours = u.energy_and_grad(x)[1]
    theirs = torch.from_numpy(np.stack([gradient(row) for row in x.numpy()]))
    assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9 * float(ours.abs().max()))
    return gradient


def regression_gradient(u: Potential) -> Callable[[np.ndarray], np.ndarray]:
    """Of sum [exp(-a x) sin(b x + c) sin(d x + e) - t]^2."""
    x, t = u.settings()["x"], u.settings()["t"]

    def gradient(q: np.ndarray) -> np.ndarray:
        decay, one, two = np.exp(-q[0] * x), q[1] * x + q[2], q[3] * x + q[4]
        first, second = decay * np.cos(one) * np.sin(two), decay * np.sin(one) * np.cos(two)
        y = decay * np.sin(one) * np.sin(two)
        return 2 * np.stack([-x * y, x * first, first, x * second, second]) @ (y - t)

    return gradient


def lennard_jones_gradient(q: np.ndarray) -> np.ndarray:
    """Of 4 sum (r^-12 - r^-6)."""
    x = q.reshape(-1, 3)
    apart = x[:, None] - x
    square = (apart**2).sum(2)
    np.fill_diagonal(square, 1.0)
    weight = 24 * square**-4 - 48 * square**-7
    np.fill_diagonal(weight, 0.0)
    return (weight[:, :, None] * apart).sum(1).ravel()


def network_gradient(u: Potential) -> Callable[[np.ndarray], np.ndarray]:
    """Of the mean cross-entropy of a network with one hidden tanh layer, plus l2 times the sum of squares."""
    inputs_of, target = u._evaluator.objective.samples.tree
    data, target, l2 = inputs_of.double().numpy(), target.numpy(), float(u._l2)
    n, outputs = len(data), int(target.max()) + 1
    inputs = data.shape[1]
    wanted = np.eye(outputs)[target]

    def gradient(q: np.ndarray) -> np.ndarray:
        hidden = (len(q) - outputs) // (inputs + 1 + outputs)
        parts = np.split(q, np.cumsum([hidden * inputs, hidden, outputs * hidden]))
        w, b, v, c = parts[0].reshape(hidden, inputs), parts[1], parts[2].reshape(outputs, hidden), parts[3]
        y = np.tanh(data @ w.T + b)
        z = y @ v.T + c
        p = np.exp(z - z.max(1, keepdims=True))
        error = (p / p.sum(1, keepdims=True) - wanted) / n
        back = error @ v * (1 - y * y)
        flat = [(back.T @ data).ravel(), back.sum(0), (error.T @ y).ravel(), error.sum(0)]
        return np.concatenate(flat) + 2 * l2 * q

    return gradient


def flow_end(u: Potential, gradient: Callable[[np.ndarray], np.ndarray], x: torch.Tensor) -> torch.Tensor:
    """Where dx/dt = -grad U ends; NaN where it leaves the box or comes to nothing in 20000 steps.

    It has ended where the curvature is positive and Newton's step is shorter than 10^-3 length scales. That is
    looked at once the gradient has grown, which at a soft saddle is small from the beginning, and fallen again.
    """
    low, high = (-np.inf, np.inf) if u.bounds is None else (u.bounds.lower.numpy(), u.bounds.upper.numpy())
    tolerance = {"rtol": 1e-10, "atol": 1e-10 * u.length_scale}

    def slope(_t: float, y: np.ndarray) -> np.ndarray:
        return -u.hessian(torch.from_numpy(y)[None])[0].numpy()

    solver = LSODA(lambda _t, y: -gradient(y), 0.0, x.numpy(), t_bound=1e15, jac=slope, **tolerance)
    largest, look = 0.0, 0
    for n in range(20000):
        if solver.status != "running":
            break
        solver.step()
        if not np.all((solver.y > low) & (solver.y < high)):
            break
        size = np.linalg.norm(gradient(solver.y))
        largest = max(largest, size)
        if size < 0.1 * largest and n >= look:
            end = ended(u, torch.from_numpy(solver.y.copy()))
            if end is not None:
                return end
            look = n + 10
    return torch.full_like(x, torch.nan)


def at_rest(u: Potential, x: torch.Tensor) -> torch.Tensor:
    """The stationary point next to x [1 D], by Newton's method: what is left of a gradient of 10^-8 may be more
    than the slope that a soft mode has so close to it."""
    for _ in range(3):
        grad = u.energy_and_grad(x)[1]
        projector = Projector.at(u, x, grad)
        values, vectors = (part[0] for part in dense_spectrum(u.hessian(x), projector)[:2])
        noise = 10 * torch.finfo(values.dtype).eps * values.abs().amax()
        grad = projector.apply_one(grad)[0]
        step = vectors.T @ torch.where(values.abs() > noise, vectors @ grad / values, 0.0)
        if float(step.norm()) > 0.1 * u.length_scale:
            break
        x = x - step
    return x


def ended(u: Potential, x: torch.Tensor) -> torch.Tensor | None:
    """The minimum to which Newton's method leads from close by; None where there is none."""
    start, size = x, torch.inf
    for _ in range(6):
        grad = u.energy_and_grad(x[None])[1]
        projector = Projector.at(u, x[None], grad)  # along motions of the whole cluster nothing changes
        values, vectors = (part[0] for part in dense_spectrum(u.hessian(x[None]), projector)[:2])
        vectors, grad = vectors.T, projector.apply_one(grad)[0]
        noise = 10 * torch.finfo(values.dtype).eps * values.abs().amax()
        if bool((values < -noise).any()):
            return None
        slope = vectors.T @ grad
        # Along what is too soft to be told from rounding, the step is at least as long as this.
        step = vectors @ (slope / values.abs().clamp(min=noise))
        if float(step.norm()) > 1e-3 * u.length_scale or float(step.norm()) > size:
            return None if x is start else x
        size = float(step.norm())
        x = x - step
    return x
