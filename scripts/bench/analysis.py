#!/usr/bin/env python3
"""Analysis: seconds against the number of minima N, with the fitted exponent of each function.

    scripts/bench/analysis.py                    # N = 10^2 to 10^5, about ten minutes on 2 cores
    scripts/bench/analysis.py --largest 10000    # a minute
    scripts/bench/analysis.py --only minimax     # functions whose name contains this
    scripts/bench/analysis.py --json FILE        # also write the figures, with machine, versions and date
    scripts/bench/analysis.py --device cuda      # on a GPU

The landscape: N minima scattered in three dimensions, on two funnels with noise, each joined to its five nearest
neighbours (about 3 N pairs) and a few random ones to others. At full size, topology is timed once more with nine
neighbours: 10^5 minima and 5x10^5 transition states. A function that would exceed the limit, as it grew before, is
not tried at larger N, nor is what its docstring calls quadratic or cubic. The exponent is the slope of
ln seconds against ln N over the last three sizes: 1 is linear, and N log N shows as about 1.1. Times below a few
milliseconds are mostly overhead, and exponents of such rows mean little.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.spatial import cKDTree

sys.path.insert(0, str(Path(__file__).parent))
from _record import record

from torchscape import Network, analysis, metrics, plots

SIZES = [100, 316, 1000, 3162, 10_000, 31_623, 100_000]
TEMPERATURE = 0.3
QUADRATIC, CUBIC = 10_000, 2000  # largest N for what is stated to grow so, or draws each minimum


def landscape(n: int, neighbours: int = 5, seed: int = 0) -> Network:
    """N minima on two funnels in space, each joined to its nearest neighbours."""
    random = np.random.default_rng(seed)
    place = random.normal(size=(n, 3))
    place[: n // 3, 0] += 5.0
    bottoms = np.array([[0.0, 0.0, 0.0], [5.0, 0.0, 0.0]])
    away = ((place[:, None] - bottoms) ** 2).sum(-1)
    energy = (0.5 * away + np.array([0.0, 0.3])).min(1) + 0.2 * random.normal(size=n)
    i = np.repeat(np.arange(n), neighbours)
    j = cKDTree(place).query(place, neighbours + 1)[1][:, 1:].reshape(-1)
    far = random.integers(0, n, (2, max(n // 50, 4)))
    far = far[:, far[0] != far[1]]
    edges = np.unique(np.sort(np.concatenate([np.stack([i, j]), far], 1), axis=0), axis=1)
    ts = energy[edges].max(0) + random.exponential(0.5, edges.shape[1])
    return Network.of(
        energy,
        torch.as_tensor(edges),
        ts,
        log_det=torch.as_tensor(random.normal(30.0, 2.0, n)),
        ts_log_det=torch.as_tensor(random.normal(28.0, 2.0, edges.shape[1])),
        n_modes=12,
    )


def functions(network: Network) -> dict[str, Callable[[], object]]:
    """What is timed, each as a call without arguments; a comma sets the function apart from how it is called."""
    joined = main_component(network)
    return {
        **thermodynamics(network, joined),
        **topology(network, joined),
        **graph(network),
        **kinetics(network, joined),
        **pictures(network, joined),
        **predictions(network.n_minima, network.energy.device),
    }


def main_component(network: Network) -> Network:
    component = network.components()
    return network.subset((component == component[network.global_minimum]).nonzero()[:, 0])


def thermodynamics(network: Network, joined: Network) -> dict[str, Callable[[], object]]:
    t = torch.logspace(-1.5, 0.5, 50, dtype=torch.float64, device=network.energy.device)
    groups = network.components()
    calls = {
        "log_partition": analysis.log_partition,
        "log_partition_by_minimum": analysis.log_partition_by_minimum,
        "log_occupation": analysis.log_occupation,
        "occupation": analysis.occupation,
        "mean_energy": analysis.mean_energy,
        "shannon_entropy": analysis.shannon_entropy,
        "free_energy": analysis.free_energy,
        "heat_capacity": analysis.heat_capacity,
        "heat_capacity_contributions": analysis.heat_capacity_contributions,
    }
    timed: dict[str, Callable[[], object]] = {f"{name}, 50 T": partial(f, network, t) for name, f in calls.items()}
    return timed | {
        "group_free_energy, 50 T": lambda: analysis.group_free_energy(network, t, groups),
        "partial_heat_capacities, 50 T of N/2": lambda: analysis.partial_heat_capacities(
            network, t, [network.n_minima // 2]
        ),
        "energy_scale": lambda: analysis.energy_scale(network),
        "heat_capacity_peaks": lambda: analysis.heat_capacity_peaks(network),
        "crossing_temperatures": lambda: analysis.crossing_temperatures(network),
        "lpphe": lambda: analysis.lpphe(network, zero_mode_curvature=1e-3),
        "frustration, 50 T": lambda: analysis.frustration(joined, t),
        "select_lowest, 10 members": lambda: analysis.select_lowest(network, 10),
        "select_by_peaks, 10 members": lambda: analysis.select_by_peaks(network, 10),
        "boltzmann_weights, 10 members": lambda: analysis.boltzmann_weights(
            network, torch.arange(10), TEMPERATURE
        ),
    }


def topology(network: Network, joined: Network) -> dict[str, Callable[[], object]]:
    n, device = network.n_minima, network.energy.device
    levels = torch.linspace(0.0, 5.0, 20, dtype=torch.float64, device=device)
    a, b = torch.randint(n, (2, n), generator=torch.Generator().manual_seed(0)).to(device)
    start, end = int(joined.energy.argmax()), joined.global_minimum
    calls: dict[str, Callable[[], object]] = {
        "merge_tree": lambda: analysis.merge_tree(network),
        "spanning_forest": lambda: analysis.spanning_forest(network),
        "minimax_to": lambda: analysis.minimax_to(network),
        "minimax_between, N pairs": lambda: analysis.minimax_between(network, a, b),
        "minimax_path": lambda: analysis.minimax_path(joined, start, end),
        "superbasins, 20 levels": lambda: analysis.superbasins(network, levels),
        "monotonic_basins": lambda: analysis.monotonic_basins(network),
        "persistence": lambda: analysis.persistence(network),
        "funnels": lambda: analysis.funnels(network),
        "merge_minima": lambda: analysis.merge_minima(network, 0.3),
        "barriers": lambda: analysis.barriers(network),
        "landscape_summary": lambda: analysis.landscape_summary(network),
        "compare": lambda: analysis.compare(network, joined),
        "completeness": lambda: analysis.completeness(network.hits),
        "coverage": lambda: analysis.coverage(network),
        "rarefaction_curve": lambda: analysis.rarefaction_curve(network.hits),
    }
    if n <= QUADRATIC:
        calls["minimax, all N^2 pairs"] = lambda: analysis.minimax(network)
    return calls


def graph(network: Network) -> dict[str, Callable[[], object]]:
    pairs, n = analysis.neighbour_pairs(network), network.n_minima
    label, ones = network.components(), torch.ones_like(network.ts_energy)[: pairs.shape[1]]
    return {
        "neighbour_pairs": lambda: analysis.neighbour_pairs(network),
        "degrees": lambda: analysis.degrees(network),
        "degree_distribution": lambda: analysis.degree_distribution(network),
        "hubs": lambda: analysis.hubs(network),
        "clustering": lambda: analysis.clustering(network),
        "degree_law, 20 samples": lambda: analysis.degree_law(network, n_bootstrap=20),
        "rewired": lambda: analysis.rewired(pairs, n, seed=0),
        "graph_statistics, 1 random graph, 16 sources": lambda: analysis.graph_statistics(
            network, n_random=1, n_sources=16
        ),
        "edge_betweenness, 16 sources": lambda: analysis.edge_betweenness(network, n_sources=16),
        "edge_features, 16 sources": lambda: analysis.edge_features(network, n_sources=16),
        "modularity": lambda: analysis.modularity(label, pairs, ones),
        "communities": lambda: analysis.communities(network),
        "communities, weighted by rates": lambda: analysis.communities(network, temperature=TEMPERATURE),
        "graph_features": lambda: analysis.graph_features(network),
        "annotated": lambda: analysis.annotated(network),
    }


def kinetics(network: Network, joined: Network) -> dict[str, Callable[[], object]]:
    a, b = joined.global_minimum, int(joined.energy.argmax())
    chain = analysis.rates(joined, TEMPERATURE)
    here = torch.zeros_like(chain.log_occupation)
    here[b] = 1.0
    soon = 100.0 / float(chain.log_escape_rates.exp().max())
    keep = torch.arange(0, joined.n_minima, max(joined.n_minima // 10, 1), device=here.device)
    sides, thirds = [[a], [b]], torch.arange(joined.n_minima, device=here.device) * 3 // joined.n_minima
    calls: dict[str, Callable[[], object]] = {
        "rates": lambda: analysis.rates(network, TEMPERATURE),
        "rate_weights": lambda: analysis.rate_weights(network, TEMPERATURE),
        "kinetic_lumping": lambda: analysis.kinetic_lumping(network, TEMPERATURE),
        "log_mean_first_passage_times": lambda: analysis.log_mean_first_passage_times(chain, a),
        "mean_first_passage_times": lambda: analysis.mean_first_passage_times(chain, a),
        "log_committors": lambda: analysis.log_committors(chain, a, b),
        "committors": lambda: analysis.committors(chain, a, b),
        "rate_constants": lambda: analysis.rate_constants(chain, a, b),
        "net_flux": lambda: analysis.net_flux(chain, a, b),
        "community_rates, 2 sets": lambda: analysis.community_rates(chain, sides),
        "free_energy_groups, 3 groups": lambda: analysis.free_energy_groups(joined, TEMPERATURE, thirds),
        "regroup": lambda: analysis.regroup(network, TEMPERATURE, 4 * TEMPERATURE),
        "reduced_network, 3 groups": lambda: analysis.reduced_network(chain, thirds),
        "graph_transformation, to 10 minima": lambda: analysis.graph_transformation(chain, keep),
        "fastest_path": lambda: analysis.fastest_path(joined, TEMPERATURE, a, b),
        "fastest_paths, 3 paths": lambda: analysis.fastest_paths(joined, TEMPERATURE, a, b, n_paths=3),
        "evolve, to 100 times the fastest": lambda: analysis.evolve(chain, here, soon),
    }
    if joined.n_minima <= CUBIC:
        spectrum = analysis.relaxation_spectrum(chain)
        calls["relaxation_spectrum"] = lambda: analysis.relaxation_spectrum(chain)
        calls["slow_memberships"] = lambda: analysis.slow_memberships(spectrum, chain.log_occupation, 3)
    return calls


def pictures(network: Network, joined: Network) -> dict[str, Callable[[], object]]:
    t = torch.logspace(-1.5, 0.5, 50, dtype=torch.float64, device=network.energy.device)
    ends = joined.global_minimum, int(joined.energy.argmax())
    return {
        "plots.disconnectivity": lambda: plots.disconnectivity(network, colour="energy"),
        "plots.disconnectivity, all branches": lambda: plots.disconnectivity(network, min_barrier=0.0),
        "plots.network": lambda: plots.network(network),
        "plots.heat_capacity, 50 T": lambda: plots.heat_capacity(network, t),
        "plots.heat_capacity_trees": lambda: plots.heat_capacity_trees(network, TEMPERATURE),
        "plots.occupation, 50 T": lambda: plots.occupation(network, t),
        "plots.entropy, 50 T": lambda: plots.entropy(network, t),
        "plots.frustration, 50 T": lambda: plots.frustration(network, t),
        "plots.degree_distribution": lambda: plots.degree_distribution(network, n_bootstrap=20),
        "plots.barriers": lambda: plots.barriers(network),
        "plots.profile": lambda: plots.profile(joined, *ends, temperature=TEMPERATURE),
        "plots.coverage": lambda: plots.coverage(network),
    }


def predictions(n: int, device: torch.device) -> dict[str, Callable[[], object]]:
    """Of n minima on 30 items of 3 classes, and of numbers that go with minima."""
    random = torch.Generator().manual_seed(0)
    probability = torch.rand(n, 30, 3, generator=random, dtype=torch.float64).softmax(2).to(device)
    labels = torch.randint(3, (30,), generator=random).to(device)
    x, y = torch.rand(2, n, generator=random, dtype=torch.float64).to(device)
    t = torch.linspace(0.0, 1.0, 20, dtype=torch.float64, device=device)
    wrong, first, curves = (
        metrics.misclassified(probability, labels), probability[:, :, 0], metrics.class_roc(probability, labels)
    )  # fmt: skip
    ranked = metrics.rank_correlation({"x": x}, y, n_permutations=20, n_bootstrap=20)
    calls: dict[str, Callable[[], object]] = {
        "predicted_classes": lambda: metrics.predicted_classes(probability),
        "misclassified": lambda: metrics.misclassified(probability, labels),
        "accuracy": lambda: metrics.accuracy(wrong),
        "misclassification_index": lambda: metrics.misclassification_index(wrong, 0),
        "roc": lambda: metrics.roc(first, labels == 0),
        "class_roc": lambda: metrics.class_roc(probability, labels),
        "micro_roc": lambda: metrics.micro_roc(probability, labels),
        "macro_roc": lambda: metrics.macro_roc(curves),
        "auc": lambda: metrics.auc(probability, labels),
        "roc_report": lambda: metrics.roc_report(probability, labels),
        "loss_lines, 20 places": lambda: metrics.loss_lines(t, first[:, :20]),
        "ranks": lambda: metrics.ranks(x),
        "spearman": lambda: metrics.spearman(x, y),
        "rank_correlation, 20 permutations": lambda: metrics.rank_correlation(
            x[None], y, n_permutations=20, n_bootstrap=20
        ),
        "conserved_parameters, 20 permutations": lambda: metrics.conserved_parameters(
            first, torch.arange(n // 2, device=device), n_permutations=20
        ),
        "false_discovery": lambda: metrics.false_discovery(x),
        "select_by_group, 10 members": lambda: metrics.select_by_group(x, (10 * y).long(), 10),
        "select_at_random, 10 members": lambda: metrics.select_at_random(n, 10),
        "select_greedily, 10 members": lambda: metrics.select_greedily(probability, labels, 10),
        "mean_probability": lambda: metrics.mean_probability(probability),
        "vote": lambda: metrics.vote(probability),
        "stacking_weights, 20 steps": lambda: metrics.stacking_weights(probability, labels, max_steps=20),
        "plots.correlations": lambda: plots.correlations(ranked),
    }
    if n <= QUADRATIC:  # with tables of all pairs
        far = metrics.misclassification_distances(wrong)
        calls["misclassification_distances"] = lambda: metrics.misclassification_distances(wrong)
        calls["cluster_order"] = lambda: metrics.cluster_order(far.value)
        calls["joint_density"] = lambda: metrics.joint_density(far.value, far.value)
        calls["select_diverse, 10 members"] = lambda: metrics.select_diverse(far.value, 10, first=0)
        calls["kendall"] = lambda: metrics.kendall(x, y)
        calls["mantel, 5 permutations"] = lambda: metrics.mantel(far.value, far.value, n_permutations=5)
        calls["compare_distances, 5 permutations"] = lambda: metrics.compare_distances(
            far.value, {"x": far.value}, n_permutations=5
        )
    if n <= CUBIC:  # with a line or a column for each minimum
        calls["plots.misclassification"] = lambda: plots.misclassification(far)
        compared = metrics.compare_distances(far.value, {"x": far.value}, n_permutations=5)
        calls["plots.distance_densities"] = lambda: plots.distance_densities(compared)
        calls["plots.roc"] = lambda: plots.roc(metrics.roc_report(probability, labels))
        calls["plots.loss_lines"] = lambda: plots.loss_lines(metrics.loss_lines(t, first[:, :20]))
        calls["plots.robustness"] = lambda: plots.robustness(t[1:], first[:, 1:20])
    return calls


def seconds(call: Callable[[], object], device: str) -> float:
    """The shortest of a few runs, fewer where they are long."""
    best, spent = math.inf, 0.0
    for _ in range(5):
        began = time.perf_counter()
        call()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        took = time.perf_counter() - began
        plt.close("all")
        best, spent = min(best, took), spent + took
        if spent > 1.0:
            break
    return best


def expected(times: dict[int, float]) -> float:
    """Of the next size, if the time grows as it did last; sizes grow by one factor."""
    last = list(times.values())[-2:]
    return last[-1] * max(last[-1] / last[0], 1.0) if last else 0.0


def exponent(sizes: list[int], times: list[float]) -> float:
    """Slope of ln t against ln N over the last three sizes."""
    if len(sizes) < 3:
        return math.nan
    return float(np.polyfit(np.log(sizes[-3:]), np.log(times[-3:]), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="largest number of minima")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds that a call may be expected to take")
    parser.add_argument("--only", default="", help="only functions whose name contains this")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    sizes = [n for n in SIZES if n <= options.largest]
    found: dict[str, dict[int, float]] = {}
    edges: dict[int, int] = {}
    for n in sizes:
        network = landscape(n).to(options.device)
        edges[n] = network.n_edges
        for name, call in functions(network).items():
            times = found.setdefault(name, {})
            if options.only in name and len(times) == sizes.index(n) and expected(times) <= options.limit:
                try:
                    times[n] = seconds(call, options.device)
                except Exception as error:  # one function's refusal must not cost the others their figures
                    print(f"{name} at N = {n}: {type(error).__name__}: {error}", file=sys.stderr)
        print(f"N = {n} done", file=sys.stderr)
    rows = [
        {"function": name, "seconds": times, "exponent": exponent(list(times), list(times.values()))}
        for name, times in found.items()
        if times
    ]
    show(rows, sizes, edges)
    wide = crowded(options) if sizes == SIZES else {}
    if options.json:
        record(options.json, options.device, transition_states=edges, rows=rows, crowded=wide)


def crowded(options: argparse.Namespace) -> dict:
    """Seconds of each function of topology with five transition states to a minimum, at the largest N."""
    network = landscape(SIZES[-1], neighbours=9).to(options.device)
    print(f"N = {network.n_minima} with {network.n_edges} transition states")
    times = {}
    for name, call in topology(network, main_component(network)).items():
        if options.only in name:
            times[name] = seconds(call, options.device)
            print(f"{name:40}{times[name]:>10.4f}", flush=True)
    return {"transition_states": network.n_edges, "seconds": times}


def show(rows: list[dict], sizes: list[int], edges: dict[int, int]) -> None:
    width = max(len(row["function"]) for row in rows)
    print(f"{'N':{width}}" + "".join(f"{n:>10}" for n in sizes))
    print(f"{'transition states':{width}}" + "".join(f"{edges[n]:>10}" for n in sizes) + "  exponent")
    for row in rows:
        cells = (f"{row['seconds'][n]:>10.4f}" if n in row["seconds"] else f"{'-':>10}" for n in sizes)
        print(f"{row['function']:{width}}" + "".join(cells) + f"{row['exponent']:>10.2f}")


if __name__ == "__main__":
    main()
