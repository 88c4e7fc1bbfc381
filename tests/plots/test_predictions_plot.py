"""Pictures of predictions show the numbers of the analysis, on given or own axes, without a warning."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from torchscape import metrics, plots


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def distances(n_minima: int = 12) -> metrics.MisclassificationDistances:
    return metrics.misclassification_distances(
        torch.as_tensor(np.random.default_rng(0).random((n_minima, 50)) < 0.2)
    )


@pytest.mark.parametrize("n", [1, 2, 12, 50])
@pytest.mark.parametrize("relative", [False, True])
def test_heat_map_shows_the_matrix_in_the_order_it_names(n, relative):
    figure, ax = plt.subplots()
    found = distances(n)
    picture = plots.misclassification(found, relative=relative, ax=ax)
    assert picture.axes is ax
    shown = torch.as_tensor(np.asarray(ax.get_images()[0].get_array()))
    matrix = found.relative if relative else found.value
    assert torch.equal(shown, matrix[picture.order][:, picture.order])
    figure.savefig(io.BytesIO())


def test_heat_map_names_the_minima():
    picture = plots.misclassification(distances(5), ids=torch.arange(5) + 100)
    labels = [int(text.get_text()) for text in picture.axes.get_xticklabels()]
    assert labels == (picture.order + 100).tolist()


def test_densities_stand_side_by_side_on_one_scale():
    points = torch.as_tensor(np.random.default_rng(0).normal(size=(12, 3)))
    d = torch.cdist(points, points)
    given = {"as found": 2 * d, "removed": d}
    picture = plots.distance_densities(metrics.compare_distances(distances().value, given, n_permutations=19))
    assert list(picture.axes) == ["as found", "removed"]
    left, right = picture.axes.values()
    assert left.get_xlim() == right.get_xlim()
    assert picture.tests["as found"] == picture.tests["removed"]  # ranks do not see the factor of two
    picture.figure.savefig(io.BytesIO())


def test_roc_names_its_areas_and_draws_the_others_in_grey():
    random = np.random.default_rng(0)
    labels = torch.as_tensor(random.integers(0, 3, 50))
    probability = torch.as_tensor(random.random((4, 50, 3))).softmax(2)
    figure, ax = plt.subplots(figsize=(8, 5), layout="constrained")
    picture = plots.roc(metrics.roc_report(probability, labels), minimum=2, names=["a", "b", "c"], ax=ax)
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    areas = metrics.auc(probability, labels)
    assert texts[1] == f"b ({areas.per_class[2, 1]:.3f})"
    assert texts[3:] == [
        f"macro average ({areas.macro[2]:.3f})",
        f"micro average ({areas.micro[2]:.3f})",
        "other minima (macro)",
    ]
    assert torch.equal(picture.areas.macro, areas.macro)
    [others] = ax.collections
    assert len(others.get_segments()) == 3
    figure.savefig(io.BytesIO())
