"""The process that compiles in the background, ``python -m torchscape.potentials.compiling``.

It reads a graph from its standard input. What it makes goes into Inductor's cache on disk, from which whoever
started it reads it.
"""

from __future__ import annotations

import os
import pickle
import sys

import torch
import torch._dynamo  # a graph from ``make_fx`` is not read without it

from torchscape.potentials.compiled import _alone, compiled_graph

__all__ = ["main"]


def main() -> None:
    """Compile what comes as bytes on the standard input: a graph, tensors, a number of threads, a niceness."""
    graph, tensors, threads, niceness = pickle.load(sys.stdin.buffer)
    os.nice(niceness)
    torch.set_num_threads(threads)
    with _alone(graph, tensors):
        compiled_graph(graph, tensors)


if __name__ == "__main__":
    main()
