#!/usr/bin/env python3
"""Explore the landscape of a digits classifier and draw it: the main job of torchscape, once, on real data."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch

import torchscape as tsc
from torchscape import plots
from torchscape.explore import Gaussian
from torchscape.outputs import whole_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the database and the pictures")
    parser.add_argument("--hidden", type=int, default=4, help="hidden tanh units")
    parser.add_argument("--train", type=int, default=400, help="training images (the rest is held back)")
    parser.add_argument("--l2", type=float, default=1e-3, help="weight of |parameters|^2 in the loss")
    parser.add_argument("--walkers", type=int, default=24, help="basin-hopping walkers")
    parser.add_argument("--hops", type=int, default=1, help="hops per walker")
    parser.add_argument("--neighbours", type=int, default=1, help="nearest neighbours each minimum is joined to")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    problem = tsc.problems.get("digits", hidden=args.hidden, n_train=args.train, l2=args.l2, device=args.device)
    potential = problem.potential
    print(f"{problem.description}\n{potential.ndim} parameters; symmetry: {potential.symmetry.describe()}\n")

    began = time.monotonic()
    strategies = [
        tsc.BasinHopping(
            walkers=args.walkers, hops=args.hops, temperature=0.02, step=0.5, move=Gaussian(), tol=1e-7
        ),
        tsc.ConnectMinima(neighbours=args.neighbours, bridges=2, tol=1e-7),
    ]
    with tsc.Landscape.open(args.out / "digits.db", potential) as landscape:
        report = tsc.explore(landscape, potential, strategies=strategies, seed=args.seed)
        minima = landscape.minima()
        accuracy = test_accuracy(potential, minima.x, *problem.test)
        landscape.set_property("test accuracy", accuracy)
        landscape.set_property("test error", 1 - accuracy)
        network = landscape.network(coords=False)
    print(f"\nexplored: {report}\n")

    summary = summarise(network, accuracy)
    print("\n".join(f"{name:>28}  {value}" for name, value in summary.items()))
    with whole_file(args.out / "summary.json") as beside:
        beside.write_text(json.dumps(summary, indent=1) + "\n")
    draw(network, args.out)
    pictures = "digits.png, disconnectivity.png and network.png"
    print(f"\n{time.monotonic() - began:.0f} s in all; look at {args.out}/{pictures}")


def test_accuracy(potential: tsc.ModulePotential, x: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor):
    """Share of held-back images that the network at each minimum classifies right."""
    predicted = potential.predict(x, inputs).argmax(-1)
    return (predicted == labels.to(predicted.device)).double().mean(1).cpu()


def summarise(network: tsc.Network, accuracy: torch.Tensor) -> dict:
    component = network.components()
    barriers = network.ts_energy - network.energy[network.edges].max(0).values  # from the higher side
    return {
        "minima": network.n_minima,
        "transition states": network.n_edges + network.n_degenerate_rearrangements,
        "of which join two minima": network.n_edges,
        "connected fraction": round(float((component == 0).double().mean()), 4),
        "lowest loss": float(network.energy.min()),
        "highest loss of a minimum": float(network.energy.max()),
        "lowest barrier": float(barriers.min()) if len(barriers) else None,
        "highest barrier": float(barriers.max()) if len(barriers) else None,
        "test accuracy of the lowest": round(float(accuracy[network.global_minimum]), 4),
        "best test accuracy": round(float(accuracy.max()), 4),
        "worst test accuracy": round(float(accuracy.min()), 4),
    }


def draw(network: tsc.Network, folder: Path) -> None:
    tree = plots.disconnectivity(network, colour="test error", unit="loss")
    with whole_file(folder / "disconnectivity.png") as beside:
        tree.figure.savefig(beside, dpi=160, bbox_inches="tight")
    graph = plots.network(network, colour="energy", size="degree", unit="loss")
    with whole_file(folder / "network.png") as beside:
        graph.figure.savefig(beside, dpi=160, bbox_inches="tight")
    both, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    plots.disconnectivity(network, colour="test error", unit="loss", ax=left)
    plots.network(network, colour="test error", size="degree", ax=right)
    with whole_file(folder / "digits.png") as beside:
        both.savefig(beside, dpi=110)


if __name__ == "__main__":
    main()
