"""What an explored landscape gives to ensembles: every way of choosing and combining minima, on one test set."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import torch

from torchscape import analysis, metrics, random
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.learning.held_out_data import HeldOut, held_out
from torchscape.network import Network
from torchscape.optimise import relax
from torchscape.potentials.module.potential import ModulePotential
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, COUNT_OR_ZERO, POSITIVE, SEED

__all__ = ["EnsembleReport", "ensemble_report"]

_SAME = 1e-4  # of a loss: by how much two minimisations to the same minimum may differ on other data


@brief
@dataclasses.dataclass(frozen=True)
class EnsembleReport:
    """Ensembles of minima beside single minima, and beside the same recipes among networks trained independently.

    Attributes:
        comparison: loss and accuracy of each on the test items; printed as a table.
        members: positions of the minima of each ensemble that has fixed ones, by name.
        weights: of these members, where they are not equal.
        temperature: of the Boltzmann weights.
        predictions: probabilities on the test items by name, to be compared with another baseline by
            :func:`torchscape.metrics.compare_ensembles`.
        control: the name of each recipe's control: the same recipe among the independent networks, and for what
            only a landscape offers ``"trained independently"``.
        remains: loss of the control minus that of the recipe, and its standard error: what exploring is worth.
        n_independent: networks that the controls chose from.
    """

    comparison: metrics.EnsembleComparison
    members: Mapping[str, Int[Tensor, "K"]]
    weights: Mapping[str, Float[Tensor, "K"]]
    temperature: float
    predictions: Mapping[str, Tensor]
    control: Mapping[str, str]
    remains: Mapping[str, tuple[float, float]]
    n_independent: int

    def __str__(self) -> str:
        width = max(map(len, self.remains))
        lines = [self.comparison.table(), ""]
        lines.append(f"loss below that of the same recipe among {self.n_independent} independent networks:")
        for name, (gain, error) in self.remains.items():
            other = "" if self.control[name].startswith(name) else f"  (beside {self.control[name]})"
            lines.append(f"{name:{width}}  {gain:+.4f} ± {error:.4f}{other}")
        return "\n".join(lines)

    def beyond(self, sigmas: float = 2.0) -> list[str]:
        """The recipes that beat their control by more than so many standard errors, the largest gain first.

        A minimum that both sides have reached predicts the same but for the tolerance of the minimisations, on all
        items alike, so that the standard error is as small: less than 1e-4 of the loss is no gain.
        """
        least = _SAME * float(self.comparison.loss.max())
        ahead = [name for name, (gain, error) in self.remains.items() if gain > max(sigmas * error, least)]
        return sorted(ahead, key=lambda name: -self.remains[name][0])


def ensemble_report(
    potential: ModulePotential,
    network: Network,
    validation: tuple[Tensor | tuple[Tensor, ...], Tensor],
    test: tuple[Tensor | tuple[Tensor, ...], Tensor],
    *,
    size: int = 10,
    n_draws: int = 4,
    temperature: float | None = None,
    independent: Float[Tensor, "M D"] | None = None,
    n_bootstrap: int = 2000,
    seed: int = 0,
    progress: bool = False,
) -> EnsembleReport:
    """Select minima, combine them, and compare the ensembles on data that neither training nor selection saw.

    Single networks: the lowest minimum (the baseline) and the one with the least loss on the validation data.
    Mean probabilities of ``size`` minima selected by energy, at random, by heat-capacity peaks, by community, by
    funnel, greedily on the validation data, and for diversity (farthest-first in misclassification distance among
    the better half on the validation data, from the best one). The lowest ``size`` minima combined by vote, by
    Boltzmann weights, and by stacking; all minima, by mean and by stacking.

    The control: as many networks as there are minima, trained independently from random starts, and the same
    recipes among them. Choosing on validation data from many networks is a gain by itself, whoever made them; only
    what remains against the control is owed to the landscape. ``size`` of them taken as they come are
    "trained independently".

    Selections that the landscape does not offer (no peak, fewer than two communities or funnels) are left out;
    where there are fewer groups than members, groups hand over their second lowest minima too.

    Args:
        potential: the model, whose outputs are class scores.
        network: of its minima, with coordinates.
        validation: (inputs, labels) for choices and weights.
        test: (inputs, labels) for the comparison, and for nothing else.
        size: members of an ensemble; all minima if there are fewer.
        n_draws: realisations of the selections at random.
        temperature: of the Boltzmann weights; None for the one with the least validation loss.
        independent: parameters of networks trained elsewhere, for a fair control as many as there are minima (M);
            None to train so many here.
        n_bootstrap: samples of test items.
        seed: of the draws, starts and samples.
        progress: show a progress bar while training.

    Raises:
        TorchscapeError: if the network has no coordinates, or fewer than two minima.

    Reference: Niroomand et al., Digital Discovery 3, 637 (2024), doi 10.1039/d3dd00204g, 5.2; independent
    training: Lakshminarayanan, Pritzel & Blundell, NeurIPS (2017), doi 10.48550/arXiv.1612.01474.
    """
    COUNT.check("ensemble_report", size=size, n_draws=n_draws)
    POSITIVE.or_none.check("ensemble_report", temperature=temperature)
    COUNT_OR_ZERO.check("ensemble_report", n_bootstrap=n_bootstrap)
    SEED.check("ensemble_report", seed=seed)
    if network.coords is None or network.n_minima < 2:
        raise TorchscapeError(
            "ensembles need two minima or more, with coordinates: landscape.network(coords=True)"
        )
    x = network.coords.to(potential.device, potential.dtype)
    network = network.to(x.device)
    known, unknown = (held_out(potential, x, *data) for data in (validation, test))
    k = min(size, network.n_minima)
    draws = metrics.select_at_random(network.n_minima, k, n_draws=n_draws, seed=seed).to(x.device)
    members, weights, temperature, predictions = _of_landscape(network, known, unknown, draws, temperature)
    if independent is None:
        independent = _train(potential, network.n_minima, seed, progress)
    others, n_others = _independent(potential, independent.to(x), validation, test, k), len(independent)
    control = {
        name: f"{name}{_INDEPENDENT}" if f"{name}{_INDEPENDENT}" in others else "trained independently"
        for name in predictions
    }
    predictions |= others
    compare = functools.partial(metrics.compare_ensembles, n_bootstrap=n_bootstrap, seed=seed)
    truth = _labels(unknown)
    comparison = compare(predictions, truth, baseline="lowest minimum")
    remains = {}
    for name, other in control.items():
        found = compare({other: predictions[other], name: predictions[name]}, truth, baseline=other)
        remains[name] = (float(found.loss_gain[1]), float(found.loss_gain_error[1]))
    return EnsembleReport(comparison, members, weights, temperature, predictions, control, remains, n_others)


_INDEPENDENT = " (independent)"


def _of_landscape(
    network: Network,
    known: HeldOut,
    unknown: HeldOut,
    draws: Int[Tensor, "R K"],
    temperature: float | None,
) -> tuple[dict[str, Tensor], dict[str, Tensor], float, dict[str, Tensor]]:
    """The ensembles of minima: members and weights by name, the temperature of the latter, and predictions."""
    labels, p, q = _labels(known), known.probability, unknown.probability
    members = _selections(network, known, draws.shape[1])
    lowest, everyone = members["lowest"], torch.arange(network.n_minima, device=q.device)
    if temperature is None:
        temperature = _best_temperature(network, lowest, p, labels)
    weights = {
        "lowest, Boltzmann": analysis.boltzmann_weights(network, lowest, temperature),
        "lowest, stacked": metrics.stacking_weights(p[lowest], labels).weights,
        "all, stacked": metrics.stacking_weights(p, labels).weights,
    }
    best = known.loss.nan_to_num(nan=torch.inf).argmin()
    predictions = {"lowest minimum": q[network.global_minimum], "best on validation": q[best]}
    predictions |= {name: metrics.mean_probability(q[chosen]) for name, chosen in members.items()}
    predictions["random"] = torch.stack([metrics.mean_probability(q[chosen]) for chosen in draws])
    predictions["lowest, vote"] = metrics.vote(q[lowest])
    members |= {"lowest, vote": lowest, "lowest, Boltzmann": lowest, "lowest, stacked": lowest}
    members |= {"all": everyone, "all, stacked": everyone}
    predictions["all"] = metrics.mean_probability(q)
    predictions |= {name: metrics.mean_probability(q[members[name]], w) for name, w in weights.items()}
    return members, weights, temperature, predictions


def _train(potential: ModulePotential, n: int, seed: int, progress: bool) -> Float[Tensor, "M D"]:
    """Parameters of as many networks, trained from random starts."""
    starts = potential.sample(n, int(random.fold(seed, 1)))
    return relax(potential, starts, progress=progress).x


def _independent(
    potential: ModulePotential,
    x: Float[Tensor, "M D"],
    validation: tuple[Tensor | tuple[Tensor, ...], Tensor],
    test: tuple[Tensor | tuple[Tensor, ...], Tensor],
    k: int,
) -> dict[str, Tensor]:
    """The recipes that need no landscape, among networks trained independently; all choices on validation data."""
    if len(x) < k:
        raise TorchscapeError(f"{len(x)} independently trained networks for ensembles of {k}: give {k} or more")
    known, unknown = (held_out(potential, x, *data) for data in (validation, test))
    with torch.no_grad():
        energy = potential.energy(x).nan_to_num(nan=torch.inf)
    labels, p, q = _labels(known), known.probability, unknown.probability
    members = {"lowest": energy.argsort(stable=True)[:k], **_by_validation(known, k)}
    lowest = members["lowest"]
    best = known.loss.nan_to_num(nan=torch.inf).argmin()
    predictions = {"lowest minimum": q[lowest[0]], "best on validation": q[best]}
    predictions |= {name: metrics.mean_probability(q[chosen]) for name, chosen in members.items()}
    predictions["lowest, vote"] = metrics.vote(q[lowest])
    predictions["all"] = metrics.mean_probability(q)
    for name, chosen in (("lowest, stacked", lowest), ("all, stacked", torch.arange(len(x), device=x.device))):
        weights = metrics.stacking_weights(p[chosen], labels).weights
        predictions[name] = metrics.mean_probability(q[chosen], weights)
    groups = q[: len(x) // k * k].unflatten(0, (-1, k))
    named = {f"{name}{_INDEPENDENT}": values for name, values in predictions.items()}
    return {"trained independently": metrics.mean_probability(groups), **named}


def _selections(network: Network, known: HeldOut, k: int) -> dict[str, Int[Tensor, "K"]]:
    """The members by every rule that the landscape has an answer for."""
    chosen = {"lowest": analysis.select_lowest(network, k)}
    if analysis.heat_capacity_peaks(network):
        chosen["heat-capacity peaks"] = analysis.select_by_peaks(network, k)
    for name, label in (
        ("communities", analysis.communities(network).label),
        ("funnels", analysis.funnels(network).label),
    ):
        if len(label.unique()) > 1:
            chosen[name] = metrics.select_by_group(network.levels, label, k)
    return chosen | _by_validation(known, k)


def _by_validation(known: HeldOut, k: int) -> dict[str, Int[Tensor, "K"]]:
    """The members by the rules that look at validation data alone."""
    good = known.loss <= known.loss.nanmedian()
    distances = metrics.misclassification_distances(known.wrong).value
    first = int(known.loss.nan_to_num(nan=torch.inf).argmin())
    return {
        "greedy": metrics.select_greedily(known.probability, _labels(known), k),
        "diverse": metrics.select_diverse(distances, k, first=first, among=good),
    }


def _best_temperature(
    network: Network, members: Int[Tensor, "K"], p: Float[Tensor, "N n C"], labels: Int[Tensor, "n"]
) -> float:
    """Of temperatures from a hundredth to a hundred times the range of the members' energies, the best one."""
    energy = network.levels[members]
    scale = float(energy.max() - energy.min()) or analysis.energy_scale(network)
    grid = [scale * 10.0 ** (k / 10) for k in range(-20, 21)]
    weights = torch.stack([analysis.boltzmann_weights(network, members, t) for t in grid]).to(p)
    of_truth = p[members].gather(2, labels[None, :, None].expand(len(members), -1, 1))[:, :, 0]
    return grid[int((weights @ of_truth).log().mean(1).argmax())]


def _labels(data: HeldOut) -> Int[Tensor, "n"]:
    if data.labels is None:
        raise TorchscapeError("ensembles are compared as classifiers: the targets must be class indices")
    return data.labels
