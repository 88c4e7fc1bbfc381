"""The two functions that all programs are given, in NumPy: energy and gradient of one point.

Written without reference to any of the programs; the gradients are analytic and hold for complex arguments, so
that :func:`hessian` has no truncation error (complex-step differentiation, Squire & Trapp 1998,
doi 10.1137/S003614459631241X).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Network", "Regression", "hessian", "load"]


class Regression:
    """U(q) = sum_k [exp(-q1 x_k) sin(q2 x_k + q3) sin(q4 x_k + q5) - t_k]^2, five parameters, in a box."""

    kind = "regression"
    ndim = 5
    length = 0.5  # a distance over which U changes appreciably

    def __init__(self, x: np.ndarray, t: np.ndarray) -> None:
        self.x, self.t = x, t
        self.lower = np.array([-1.0, 0.0, -np.pi, 0.0, -np.pi])
        self.upper = np.array([3.0, 3.0, np.pi, 3.0, np.pi])
        self.box = True  # part of the problem: what lies on a wall or outside does not count

    def __call__(self, q: np.ndarray) -> tuple[Any, np.ndarray]:
        x = self.x
        a, b = q[1] * x + q[2], q[3] * x + q[4]
        decay = np.exp(-q[0] * x)
        sine, other = decay * np.sin(a), np.sin(b)
        model = sine * other
        r = model - self.t
        ra, rb = r * decay * np.cos(a) * other, r * sine * np.cos(b)
        return r @ r, 2 * np.array([-(r * model) @ x, ra @ x, ra.sum(), rb @ x, rb.sum()])

    def start(self, random: Any) -> np.ndarray:
        """A random starting point: uniform in the box."""
        return random.uniform(self.lower, self.upper)

    def images(self, q: np.ndarray) -> np.ndarray:
        """Points that count as the same one: only itself, so that no program has to know a symmetry."""
        return q[None]

    def save(self, path: Path) -> None:
        np.savez(path, kind=self.kind, x=self.x, t=self.t)


class Network:
    """Mean cross-entropy of a tanh network with one hidden layer, plus l2 times the parameters' sum of squares.

    Parameters in the order W1 [h i], b1 [h], W2 [o h], b2 [o].
    """

    kind = "network"
    length = 1.0

    def __init__(self, inputs: np.ndarray, labels: np.ndarray, hidden: int, n_out: int, l2: float) -> None:
        self.inputs, self.labels, self.hidden, self.n_out, self.l2 = inputs, labels, hidden, n_out, l2
        n_in = inputs.shape[1]
        self.shapes = [(hidden, n_in), (hidden,), (n_out, hidden), (n_out,)]
        self.sizes = [int(np.prod(s)) for s in self.shapes]
        self.cuts = np.cumsum(self.sizes)
        self.ndim = int(self.cuts[-1])
        self.onehot = np.eye(n_out)[labels]
        # topsearch cannot do without a box. No stationary point that anybody found is near its walls.
        self.lower, self.upper = np.full(self.ndim, -60.0), np.full(self.ndim, 60.0)
        self.box = False

    def parts(self, w: np.ndarray) -> list[np.ndarray]:
        return [p.reshape(s) for p, s in zip(np.split(w, self.cuts[:-1]), self.shapes, strict=True)]

    def __call__(self, w: np.ndarray) -> tuple[Any, np.ndarray]:
        w1, b1, w2, b2 = self.parts(w)
        n = len(self.inputs)
        h = np.tanh(self.inputs @ w1.T + b1)
        logits = h @ w2.T + b2
        shifted = logits - logits.real.max(1, keepdims=True)
        e = np.exp(shifted)
        total = e.sum(1, keepdims=True)
        energy = (np.log(total[:, 0]) - (shifted * self.onehot).sum(1)).sum() / n + self.l2 * (w @ w)
        d = (e / total - self.onehot) / n
        back = (d @ w2) * (1 - h * h)
        grad = np.concatenate([(back.T @ self.inputs).ravel(), back.sum(0), (d.T @ h).ravel(), d.sum(0)])
        return energy, grad + 2 * self.l2 * w

    def start(self, random: Any) -> np.ndarray:
        """A random starting point: uniform within 1 / sqrt(fan-in), as torch initialises such layers."""
        fan_in = [self.inputs.shape[1], self.inputs.shape[1], self.hidden, self.hidden]
        return random.uniform(-1.0, 1.0, self.ndim) / np.sqrt(np.repeat(fan_in, self.sizes))

    def images(self, w: np.ndarray) -> np.ndarray:
        """The 2^h h! points that differ by permutations of hidden units and by their signs."""
        from itertools import permutations, product

        w1, b1, w2, b2 = self.parts(w)
        out = []
        for order in map(list, permutations(range(self.hidden))):
            for signs in product((1.0, -1.0), repeat=self.hidden):
                s = np.array(signs)
                out.append(np.concatenate([(s[:, None] * w1[order]).ravel(), s * b1[order],
                                           (w2[:, order] * s).ravel(), b2]))  # fmt: skip
        return np.array(out)

    def save(self, path: Path) -> None:
        np.savez(path, kind=self.kind, inputs=self.inputs, labels=self.labels, hidden=self.hidden,
                 n_out=self.n_out, l2=self.l2)  # fmt: skip


def load(path: Path) -> Regression | Network:
    """What :meth:`save` has written."""
    with np.load(path) as data:
        if str(data["kind"]) == Regression.kind:
            return Regression(data["x"], data["t"])
        return Network(data["inputs"], data["labels"], int(data["hidden"]), int(data["n_out"]), float(data["l2"]))


def hessian(function: Regression | Network, q: np.ndarray, step: float = 1e-30) -> np.ndarray:
    """The second derivatives from the analytic gradient at q + i step e_k: Im g / step, exact to rounding."""
    h = np.array([function(q + 1j * step * e)[1].imag / step for e in np.eye(len(q))])
    return 0.5 * (h + h.T)
