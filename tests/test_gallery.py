"""The gallery: its pages say what the figures say, and the scripts say it again."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
GALLERY = ROOT / "docs" / "gallery"
sys.path.insert(0, str(ROOT / "scripts"))

from architectures.__main__ import main  # noqa: E402  (scripts are no package of the project)
from architectures.bare import BareLoss  # noqa: E402
from architectures.newton import newton  # noqa: E402
from architectures.pages import index, page, read  # noqa: E402
from architectures.registry import ENTRIES  # noqa: E402
from architectures.run import carry_out  # noqa: E402
from test_docs import missing_names  # noqa: E402

import torchscape as tsc  # noqa: E402

FACTS = read(GALLERY)


def test_every_architecture_has_been_run_in_full():
    assert list(FACTS) == list(ENTRIES)
    assert {facts["run"] for facts in FACTS.values()} == {"full"}


@pytest.mark.parametrize("name", ENTRIES)
def test_a_page_is_what_its_figures_and_the_script_say(name):
    """Numbers, sentences and the source of the model: written anew they are the same."""
    text = (GALLERY / f"{name}.md").read_text()
    assert text == page(ENTRIES[name], FACTS[name])
    assert missing_names(text) == []
    other = {**FACTS[name], "minima": FACTS[name]["minima"] + 1}
    assert text != page(ENTRIES[name], other)


@pytest.mark.parametrize("name", ENTRIES)
def test_the_figures_are_of_the_settings_on_the_page(name):
    assert [repr(strategy) for strategy in ENTRIES[name].strategies(False)] == FACTS[name]["strategies"]


def test_the_index_is_what_the_figures_say():
    assert (GALLERY / "README.md").read_text() == index(ENTRIES, FACTS)


def test_pictures_and_pages_that_are_linked_exist_and_are_small():
    for document in GALLERY.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            path = document.parent / target
            assert path.exists(), f"{document.name}: {target}"
            assert path.suffix != ".png" or path.stat().st_size <= 150_000


@pytest.mark.parametrize("name", ENTRIES)
def test_the_figures_hold_together(name):
    """Every point passed Newton's method with its index, and images count once."""
    facts = FACTS[name]
    assert len(facts["energies"]) == facts["minima"] == facts["newton"]["minima"]["n"]
    assert len(facts["transition_state_energies"]) == facts["transition_states"]
    for points in (facts["newton"]["minima"], facts["newton"]["transition_states"]):
        assert points["n"] == 0 or points["of_another_index"] == 0
        assert points["n"] == 0 or points["worst_residual"] < 1e-10
    assert facts["newton"]["of_which_with_equal_outputs"] == 0
    quenches = facts["quenches"]
    assert quenches["known"] == quenches["known_by_matching"]
    assert quenches["ended_in_minima"] + quenches["ended_in_saddles"] + quenches["not_converged"] == quenches["n"]
    assert quenches["ended_in_minima"] > 0


@pytest.mark.parametrize("name", ENTRIES)
def test_the_loss_without_torchscape_is_the_same_function(name):
    """Energies, gradients and Hessians, the oscillator's by torch.autograd where the potential uses torch.func."""
    given = ENTRIES[name].given()
    potential, loss = tsc.ModulePotential(**given), BareLoss(**{**given, **ENTRIES[name].bare})
    assert np.allclose(loss.theta, potential.flatten(loss.module).numpy())
    x = potential.sample(1, seed=5)
    energy, grad = loss.energy_and_grad(x[0].numpy())
    theirs = potential.energy_and_grad(x)
    assert energy == pytest.approx(float(theirs[0]), abs=1e-12)
    np.testing.assert_allclose(grad, theirs[1][0].numpy(), atol=1e-12)
    along = torch.randn(1, potential.ndim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    hessian = loss.hessian(x[0].numpy())
    np.testing.assert_allclose(hessian @ along[0].numpy(), potential.hvp(x, along)[0].numpy(), atol=1e-10)


def test_newton_solves_ridge_regression_in_one_step():
    """Its closed form, by NumPy; the index and the flat directions are those of the matrix."""
    generator = np.random.default_rng(0)
    a, b = generator.standard_normal((9, 4)), generator.standard_normal((9, 1))
    a[:, 3] = a[:, 2]
    net = torch.nn.Linear(4, 1, bias=False)
    data = (torch.as_tensor(a), torch.as_tensor(b))
    for l2, flat in ((0.1, 0), (0.0, 1)):
        loss = BareLoss(net, data, torch.nn.functional.mse_loss, l2)
        end = newton(loss, np.ones(4))
        expected = np.linalg.lstsq(
            np.vstack([a / 3, np.sqrt(l2) * np.eye(4)]), np.concatenate([b[:, 0] / 3, np.zeros(4)]), rcond=None
        )[0]
        assert (end.index, end.n_flat) == (0, flat)
        assert end.residual < 1e-13
        if not flat:
            np.testing.assert_allclose(end.x, expected, atol=1e-12)
    saddle = newton(BareLoss(net, data, lambda y, t: -torch.nn.functional.mse_loss(y, t), 0.01), np.ones(4))
    assert saddle.index == 3


def test_an_unknown_architecture_is_refused_with_the_nearest_name(tmp_path, capsys):
    assert main(["karat", "--out", str(tmp_path)]) == 1
    assert "'karate'" in capsys.readouterr().err
    assert main(["karate", "--words", "--out", str(tmp_path)]) == 1
    assert "without --words" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ENTRIES)
def test_a_quick_run_finds_what_the_page_has(name, tmp_path):
    """Its walkers are the first of the full run, and so are its quenches; all its points pass Newton's method."""
    path = carry_out(ENTRIES[name], tmp_path, quick=True)
    quick, full = json.loads(path.with_suffix(".json").read_text()), FACTS[name]
    assert quick["newton"]["minima"]["of_another_index"] == 0
    assert quick["newton"]["of_which_with_equal_outputs"] == 0
    assert quick["quenches"]["known"] == quick["quenches"]["known_by_matching"]
    known = np.array(full["energies"])
    for energy, hits in zip(quick["energies"], quick["hits"], strict=True):
        if hits or not full["coverage"]["minima"]["is_growing"]:
            assert np.abs(known - energy).min() < 1e-6
    if not full["coverage"]["minima"]["is_growing"]:
        assert quick["energies"][0] == pytest.approx(full["energies"][0], abs=1e-6)
    assert all(picture.stat().st_size <= 150_000 for picture in tmp_path.glob("*.png"))
