"""Random connected networks for the tests of kinetics."""

from __future__ import annotations

import numpy as np
import torch

from torchscape import Network


def connected_network(n: int, n_extra: int, seed: int = 0, barrier: float = 1.0, spread: float = 3.0) -> Network:
    """A random tree of n minima with extra edges (some parallel), random curvatures and degeneracies.

    Energies are uniform on [0, spread], barriers above the higher end exponential with mean ``barrier``.
    """
    rng = np.random.default_rng(seed)
    tree = np.stack([np.arange(1, n), (rng.random(n - 1) * np.arange(1, n)).astype(int)])
    extra = rng.integers(0, n, (2, n_extra))
    edges = np.concatenate([tree, extra[:, extra[0] != extra[1]]], 1)
    energy = spread * rng.random(n)
    return Network.of(
        energy,
        torch.as_tensor(edges),
        energy[edges].max(0) + rng.exponential(barrier, edges.shape[1]),
        log_det=rng.normal(size=n),
        ts_log_det=rng.normal(size=edges.shape[1]),
        log_degeneracy=np.log(rng.integers(1, 9, n)),
        ts_log_degeneracy=np.log(rng.integers(1, 9, edges.shape[1])),
        n_modes=5,
    )
