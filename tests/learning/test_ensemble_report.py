"""The report: what it says is what its parts say, chosen without a look at the test data."""

from __future__ import annotations

import dataclasses
import functools

import pytest
import torch
from learning_models import blobs, classifier
from sklearn.metrics import log_loss

from torchscape import Network, analysis, learning, metrics, relax
from torchscape.errors import TorchscapeError
from torchscape.saddles import characterise

VALIDATION, TEST = blobs(90, seed=1), blobs(120, seed=2)
OPTIONS = {"size": 3, "n_draws": 3, "n_bootstrap": 200}


@functools.cache
def explored():
    """Minima with their curvature, and made-up transition states so that there are funnels and communities."""
    u = classifier(hidden=6, l2=3e-4)
    points = relax(u, u.sample(40), tol=1e-6)
    points = points[points.energy.argsort()]
    points = characterise(u, points[points.energy.diff(prepend=points.energy[:1] - 1) > 1e-5])
    n = len(points)
    ends = torch.stack([torch.arange(n - 1), torch.arange(n - 1) // 2 * 2 + 1])
    ends = ends[:, ends[0] != ends[1]]
    energy = points.energy[ends].amax(0) + 0.05 * (ends[0] % 3)
    return u, Network.of(points.energy, ends, energy, coords=points.x, log_det=points.log_det, n_modes=u.ndim)


@functools.cache
def report():
    u, network = explored()
    trained = relax(u, u.sample(6, seed=9)).x
    return learning.ensemble_report(u, network, VALIDATION, TEST, independent=trained, **OPTIONS), trained


def test_the_report_has_every_recipe():
    names = set(report()[0].comparison.names)
    assert names >= {
        "lowest minimum", "best on validation", "lowest", "random", "greedy", "diverse", "lowest, vote",
        "lowest, Boltzmann", "lowest, stacked", "all", "all, stacked", "trained independently",
    }  # fmt: skip
    of_minima = {name for name in names if not name.endswith("(independent)")}
    assert of_minima - set(report()[0].members) == {
        "lowest minimum", "best on validation", "random", "trained independently"
    }  # fmt: skip
    assert str(report()[0]).startswith("predictor")


def test_its_numbers_are_those_of_the_networks_one_by_one():
    u, network = explored()
    found, trained = report()
    loss = dict(zip(found.comparison.names, found.comparison.loss.tolist(), strict=True))

    def p(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([u.load_into(u.module, row)(TEST[0]).softmax(1) for row in x]).detach()

    assert loss["lowest minimum"] == pytest.approx(log_loss(TEST[1], p(network.coords[:1])[0]))
    for name in ("lowest", "greedy", "diverse"):
        mixture = p(network.coords[found.members[name]]).mean(0)
        assert loss[name] == pytest.approx(log_loss(TEST[1], mixture))
    mixture = torch.einsum("k,knc->nc", found.weights["all, stacked"], p(network.coords))
    assert loss["all, stacked"] == pytest.approx(log_loss(TEST[1], mixture))
    halves = [log_loss(TEST[1], p(part).mean(0)) for part in trained.split(3)]
    assert loss["trained independently"] == pytest.approx(sum(halves) / 2)


def test_every_recipe_is_measured_against_the_same_recipe_among_independent_networks():
    """Chosen by the same rule on the same validation data, from as many networks as were given."""
    u, _ = explored()
    found, trained = report()
    assert found.n_independent == len(trained) == 6
    known = learning.held_out(u, trained, *VALIDATION)
    unknown = learning.held_out(u, trained, *TEST)
    chosen = metrics.select_greedily(known.probability, VALIDATION[1], 3)
    loss = dict(zip(found.comparison.names, found.comparison.loss.tolist(), strict=True))
    expected = log_loss(TEST[1], unknown.probability[chosen].mean(0))
    assert loss["greedy (independent)"] == pytest.approx(expected)
    lowest = u.energy(trained).argmin()
    assert loss["lowest minimum (independent)"] == pytest.approx(log_loss(TEST[1], unknown.probability[lowest]))
    weights = metrics.stacking_weights(known.probability, VALIDATION[1]).weights
    stacked = torch.einsum("k,knc->nc", weights, unknown.probability)
    assert loss["all, stacked (independent)"] == pytest.approx(log_loss(TEST[1], stacked))
    for name, (gain, error) in found.remains.items():
        assert gain == pytest.approx(loss[found.control[name]] - loss[name])
        assert error > 0
    assert found.control["greedy"] == "greedy (independent)"
    assert found.control["funnels"] == found.control["random"] == "trained independently"
    ahead = {name for name, (gain, _) in found.remains.items() if gain > 1e-4 * max(loss.values())}
    assert set(found.beyond(0.0)) == ahead
    assert "loss below that of the same recipe among 6 independent networks" in str(found)


def test_one_minimum_reached_twice_is_not_ahead_of_itself():
    """Two minimisations to the lowest minimum differed by 1e-7 in the loss, and in all items alike."""
    found, _ = report()
    told = dataclasses.replace(found, remains={"lowest minimum": (3e-7, 1e-8), "all": (0.02, 0.005)})
    assert told.beyond() == ["all"]


def test_choices_do_not_look_at_the_test_data():
    u, network = explored()
    found, trained = report()
    other = learning.ensemble_report(u, network, VALIDATION, blobs(60, seed=7), independent=trained, **OPTIONS)
    assert other.temperature == found.temperature
    for name, chosen in found.members.items():
        assert torch.equal(other.members[name], chosen)
    for name, weights in found.weights.items():
        assert torch.equal(other.weights[name], weights)


def test_weights_are_at_their_optimum_on_the_validation_data():
    u, network = explored()
    found, _ = report()
    known = learning.held_out(u, network.coords, *VALIDATION)

    def loss(members, weights=None) -> float:
        return log_loss(VALIDATION[1], metrics.mean_probability(known.probability[members], weights))

    lowest = found.members["lowest"]
    names = ("all, stacked", "lowest, stacked", "lowest, Boltzmann")
    losses = [loss(found.members[name], found.weights[name]) for name in names]
    assert losses[0] <= losses[1] + 2e-6 <= losses[2] + 4e-6
    boltzmann = [
        loss(lowest, analysis.boltzmann_weights(network, lowest, found.temperature * f)) for f in (0.5, 1.0, 2.0)
    ]
    assert min(boltzmann) >= boltzmann[1] - 1e-3
    given = learning.ensemble_report(
        u, network, VALIDATION, TEST, independent=report()[1], temperature=0.5, **OPTIONS
    )
    expected = analysis.boltzmann_weights(network, lowest, 0.5)
    assert torch.allclose(given.weights["lowest, Boltzmann"], expected)


def test_networks_are_trained_where_none_are_given():
    u, network = explored()
    found = learning.ensemble_report(u, network, VALIDATION, TEST, size=2, n_draws=2, n_bootstrap=20)
    k = found.comparison.names.index("trained independently")
    assert bool(found.comparison.loss[k].isfinite())
    assert found.n_independent == network.n_minima


def test_what_the_report_needs():
    u, network = explored()
    with pytest.raises(TorchscapeError, match="coordinates"):
        learning.ensemble_report(u, network.subset(torch.tensor([0])), VALIDATION, TEST)
    with pytest.raises(TorchscapeError, match="give 3 or more"):
        learning.ensemble_report(u, network, VALIDATION, TEST, independent=network.coords[:1], **OPTIONS)
