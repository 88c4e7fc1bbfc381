"""The page of reliability diagrams shows the numbers that it was given."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from torchscape import metrics, plots


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def predictions() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(500, 4, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return {f"power {k}": (k * logits).softmax(1) for k in (1.0, 3.0, 0.3)}, labels


def test_points_are_the_bins():
    given, labels = predictions()
    found = metrics.calibration(given["power 3.0"], labels, bins=8)
    _, axes = plt.subplots()
    picture = plots.reliability(found, name="sharp", ax=axes)
    assert picture.axes is axes
    points = picture.axes.containers[0].lines[0].get_xydata()
    some = (found.count > 0).numpy()
    np.testing.assert_allclose(points[:, 0], found.confidence.numpy()[some])
    np.testing.assert_allclose(points[:, 1], found.frequency.numpy()[some])
    heights = [bar.get_height() for bar in picture.below.patches]
    np.testing.assert_allclose(heights, (found.count / 500).numpy())
    assert "sharp" in repr(picture)


def test_the_table_holds_all_scores_and_marks_the_best():
    given, labels = predictions()
    compared = metrics.compare_calibration(given, labels)
    picture = plots.calibration(compared)
    assert list(picture.axes) == list(given)
    assert [row[0] for row in picture.rows] == list(given)
    texts = {text.get_text(): text.get_weight() for text in picture.table.texts}
    for name, row in zip(given, picture.rows, strict=True):
        assert row[3] == f"{compared.calibration[name].ece:.3f}"
        assert set(row) <= set(texts)
    assert texts[picture.rows[1][1]] == "normal"
    assert all(texts[row[3]] == "normal" for row in picture.rows)  # an error of the calibration error is not known


def test_a_score_is_in_bold_only_where_it_is_better_beyond_its_error():
    """The best of two within an error of each other is the best by chance."""
    given, labels = predictions()
    near = plots.calibration(
        metrics.compare_calibration(
            {
                "a": given["power 1.0"],
                "b": given["power 1.0"] ** 1.001 / (given["power 1.0"] ** 1.001).sum(1, keepdim=True),
            },
            labels,
        )
    )
    assert {text.get_weight() for text in near.table.texts} == {"normal"}
    uniform = torch.full_like(given["power 1.0"], 1.0 / given["power 1.0"].shape[1])
    far = plots.calibration(metrics.compare_calibration({"a": given["power 1.0"], "b": uniform}, labels))
    bold = {text.get_text() for text in far.table.texts if text.get_weight() == "bold"}
    assert far.rows[0][1] in bold
    assert far.rows[0][4] in bold
    assert not bold & set(far.rows[1])


@pytest.mark.parametrize("n", [1, 2, 5])
def test_any_number_of_predictors_is_drawn(n):
    given, labels = predictions()
    some = {f"{k}": given["power 1.0"] for k in range(n)}
    picture = plots.calibration(metrics.compare_calibration(some, labels))
    picture.figure.canvas.draw()
    assert len(picture.axes) == n
