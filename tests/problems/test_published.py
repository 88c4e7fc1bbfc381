"""Published figures: attached to the problems that have some, complete, and shown."""

from __future__ import annotations

import json

import pytest

from torchscape import problems
from torchscape.cli import main
from torchscape.errors import UnknownName
from torchscape.problems.published_figures import PUBLISHED


def test_figures_belong_to_problems_and_name_their_source():
    assert set(PUBLISHED) <= set(problems.names())
    for figures in PUBLISHED.values():
        for one in figures:
            assert one.what
            assert any(where in one.source for where in ("doi 10.", "slides", "github.com/"))
            assert not isinstance(one.value, tuple) or one.value[0] < one.value[1]


def test_a_problem_carries_its_figures_however_it_was_built():
    built, called = problems.get("regression"), problems.regression.regression()
    assert built.published == called.published == problems.published("regression")
    values = {one.what: one.value for one in built.published}
    assert (values["minima"], values["edges"], values["diameter"]) == (89, 113, 15)
    # mean degree is twice the edges over the minima
    assert 2 * values["edges"] / values["minima"] == pytest.approx(values["mean degree"], abs=0.005)
    digits = {one.what: one.value for one in problems.published("mnist")}
    assert 2 * digits["edges"] / digits["minima"] == pytest.approx(digits["mean degree"], abs=0.005)
    assert problems.get("himmelblau").published == ()


@pytest.mark.parametrize("name", ["mueller-brown", "rosenbrock", "lj6", "lj7", "lj13", "lj38"])
def test_what_is_published_is_what_the_problem_has(name):
    """Figures of surfaces and clusters against the stationary points that the package knows by other means."""
    problem = problems.get(name, **({"ndim": 5} if name == "rosenbrock" else {}))
    found = {"energy of a minimum": problem.known.minima, "energy of a saddle": problem.known.saddles}
    for one in problem.published:
        if one.what == "minima":
            assert problem.known.n_minima == one.value
        else:
            among = found.get(one.what, problem.known.minima)
            assert min(abs(value - one.value) for value in among) < 1e-3, one


def test_on_the_command_line(capsys):
    assert main(["problems", "regression"]) == 0
    shown = capsys.readouterr().out
    assert "minima: 89" in shown
    assert "10.1039/c7cp01108c" in shown
    assert main(["problems", "mnist", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert one["published"][0] | {"remark": ""} == {
        "what": "minima", "value": 142, "setting": "784-10-10, 1000 images to train", "remark": "",
        "source": one["published"][0]["source"],
    }  # fmt: skip
    assert main(["problems", "--json"]) == 0
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)] == problems.names()
    assert main(["problems", "himmelblau"]) == 0
    assert "no figures" in capsys.readouterr().out
    with pytest.raises(UnknownName, match="regression"):
        problems.published("regresion")
