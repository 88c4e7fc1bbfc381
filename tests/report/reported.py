"""Networks that reports are made of in the tests."""

from __future__ import annotations

import torch

from torchscape import Network


def random_network(n: int, seed: int = 0, *, n_trees: int = 1, extra: int | None = None, **more) -> Network:
    """n minima in so many connected components, each a random tree with ``extra`` (n) more transition states."""
    g = torch.Generator().manual_seed(seed)
    energy = torch.rand(n, generator=g, dtype=torch.float64) * 3.0
    tree = torch.arange(n) % n_trees
    edges = []
    for k in range(n_trees, n):
        choices = range(tree[k], k, n_trees)
        edges.append((choices[int(torch.randint(len(choices), (1,), generator=g))], k))
    for _ in range(n if extra is None else extra):
        a, b = torch.randint(n, (2,), generator=g).tolist()
        if a != b and tree[a] == tree[b]:
            edges.append((a, b))
    ends = torch.tensor(edges).reshape(-1, 2)
    top = energy[ends].amax(1) if len(ends) else energy[:0]
    ts = top + torch.rand(len(ends), generator=g, dtype=torch.float64)
    more.setdefault("log_det", torch.randn(n, generator=g, dtype=torch.float64))
    more.setdefault("hits", torch.randint(0, 9, (n,), generator=g))
    return Network.of(energy, edges, ts, n_modes=5, ids=torch.randperm(n, generator=g) + 10**6, **more)
