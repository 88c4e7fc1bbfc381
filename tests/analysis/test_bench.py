"""The benchmark times every public function of a network, and every one of them runs."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from torchscape import analysis, metrics, plots

BENCH = Path(__file__).parents[2] / "scripts" / "bench"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(BENCH))
    try:
        spec = importlib.util.spec_from_file_location("bench_analysis", BENCH / "analysis.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCH))
    return module


def test_every_public_function_of_a_network_is_timed(bench):
    timed = {name.partition(",")[0] for name in bench.functions(bench.landscape(100))}
    public = {name: getattr(analysis, name) for name in analysis.__all__ if name.islower()}
    public |= {name: getattr(metrics, name) for name in metrics.__all__ if name.islower()}
    public |= {f"plots.{name}": getattr(plots, name) for name in plots.__all__ if name.islower()}
    assert timed <= public.keys()
    of_networks = {name for name, function in public.items() if _takes_a_network(function)}
    assert len(of_networks) > 60
    assert of_networks - timed == set()


def _takes_a_network(function) -> bool:
    first = next(iter(inspect.signature(function).parameters.values()))
    return str(first.annotation).partition(" ")[0] in ("Network", "Rates")


def test_every_one_runs(bench):
    for name, call in bench.functions(bench.landscape(60)).items():
        assert call() is not None, name
        plt.close("all")


def test_the_exponent_is_the_slope(bench):
    sizes = [100, 1000, 10_000, 100_000]
    assert bench.exponent(sizes, [9.0, *(1e-6 * n**1.5 for n in sizes[1:])]) == pytest.approx(1.5)


def test_what_would_take_too_long_is_foreseen(bench):
    assert bench.expected({}) == 0.0
    assert bench.expected({100: 2.0}) == 2.0
    assert bench.expected({100: 1.0, 316: 2.0, 1000: 20.0}) == 200.0
    assert bench.expected({100: 3.0, 316: 2.0}) == 2.0
