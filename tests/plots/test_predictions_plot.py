"""Pictures of predictions show the numbers of the analysis, on given or own axes, without a warning."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from torchscape import analysis, plots


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def distances(n_minima: int = 12) -> analysis.MisclassificationDistances:
    return analysis.misclassification_distances(
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
    picture = plots.distance_densities(distances().value, {"as found": 2 * d, "removed": d}, n_permutations=19)
    assert list(picture.axes) == ["as found", "removed"]
    left, right = picture.axes.values()
    assert left.get_xlim() == right.get_xlim()
    assert picture.tests["as found"] == picture.tests["removed"]  # ranks do not see the factor of two
    picture.figure.savefig(io.BytesIO())
