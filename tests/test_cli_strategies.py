"""Strategies and moves from the command line: all that the package has, the user's own, and every setting."""

from __future__ import annotations

import dataclasses
import re

import pytest

from torchscape import Landscape, explore, problems
from torchscape.cli import main
from torchscape.cli.parser import build_parser
from torchscape.cli.strategies import chosen_strategies, moves, strategies
from torchscape.errors import TorchscapeError, UnknownName
from torchscape.explore.moves import Gaussian, Mixture, PerLayer, Restart

OWN = """
import dataclasses
import torchscape as tsc

well = tsc.FunctionPotential(lambda x: ((x**2 - 1) ** 2).sum(), 2)
twice = [tsc.BasinHopping(walkers=2, hops=1), tsc.BasinHopping(walkers=3, hops=1)]
number = 5

def mirrored(potential, x, step, key):
    return -x

@dataclasses.dataclass(frozen=True)
class Mine(tsc.explore.BasinHopping):
    name = "mine"

mine = Mine(walkers=5, hops=2)
"""


def asked(*words: str, suggested=None):
    arguments = build_parser().parse_args(["explore", "himmelblau", "--db", "x.db", *words])
    return [one.strategy for one in chosen_strategies(arguments, suggested or {})]


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own_moves.py").write_text(OWN)
    return f"{tmp_path}/own_moves.py"


def test_a_problem_may_suggest_a_move_in_words():
    words = {"move": "gaussian:0.7,symmetrise:0.3"}
    (hopping, _) = asked(suggested=words)
    assert hopping.move == Mixture(((0.7, Gaussian()), (0.3, explore.Symmetrise())))
    assert asked("--set", "symmetrise.orders=[3]", suggested=words)[0].move.parts[1][1].orders == [3]
    assert asked("--move", "uniform", suggested=words)[0].move == explore.Uniform()
    lj = problems.get("lj38").suggested
    assert [type(move).__name__ for _, move in asked(suggested=lj)[0].move.parts] == [
        "Gaussian", "Angular", "Symmetrise",
    ]  # fmt: skip
    assert "move" not in problems.get("lj", n=7).suggested
    assert "move" not in problems.get("lj", n=20, dim=2).suggested


def test_every_strategy_and_move_has_a_name_and_is_in_the_help(capsys):
    with pytest.raises(SystemExit):
        main(["explore", "--help"])
    told = capsys.readouterr().out
    words = re.sub(r"-\n\s+", "-", told)  # where a line is broken at a hyphen
    exported = [getattr(explore, name) for name in explore.__all__]
    kinds = [one for one in exported if isinstance(one, type)]
    of_strategies = {one for one in kinds if issubclass(one, explore.Strategy)} - {explore.Strategy}
    assert set(strategies().values()) == of_strategies
    assert len(of_strategies) == 10
    of_clusters = {"angular", "compress", "exchange", "group-rotation", "seeding", "symmetrise"}
    assert set(moves()) == {"gaussian", "per-layer", "restart", "uniform"} | of_clusters
    for name in (*strategies(), *moves()):
        assert name in words, name


def test_all_of_them_in_turn_on_a_surface(tmp_path, capsys):
    few = ["--walkers", "4", "--hops", "1", "--searches", "2", "--starts", "8", "--temperature", "50,100"]
    few += ["--set", "basin-hopping.walkers=2", "--set", "tempered-basin-hopping.ladders=1"]
    few += ["--set", "lower-barriers.max_rounds=1", "--move", "uniform:0.7,restart:0.3"]
    names = ",".join(strategies())
    db = str(tmp_path / "h.db")
    assert main(["explore", "himmelblau", "--db", db, "--strategy", names, "--quiet", *few]) == 2
    assert "2 temperatures for 4 walkers" in capsys.readouterr().err
    assert not (tmp_path / "h.db").exists()
    few[1] = "2"
    assert main(["explore", "himmelblau", "--db", db, "--strategy", names, "--quiet", *few]) == 0
    with Landscape.open(db) as landscape:
        assert landscape.counts_by_index()[:2] == [4, 4]  # of Himmelblau's function; one maximum


def test_options_reach_the_strategies_that_have_them():
    first, second = asked(
        "--strategy", "tempered-basin-hopping,lower-barriers", "--neighbours", "3", "--hops", "7"
    )
    assert (first.hops, second.neighbours) == (7, 3)
    assert asked("--strategy", "tempered-basin-hopping", "--temperature", "0.1,0.2,0.4")[0].temperatures == (
        0.1,
        0.2,
        0.4,
    )
    assert [one.name for one in asked()] == ["basin-hopping", "connect"]
    assert asked(suggested={"strategy": ["climb"], "searches": 4})[0].searches == 4


def test_settings_of_settings():
    hopping, connecting = asked(
        *("--set", "connect.attempts=3", "--set", "connect.band.max_images=40", "--set", "basin-hopping.tol=None")
    )
    assert (connecting.attempts, connecting.band.max_images, hopping.tol) == (3, 40, None)
    default = type(connecting)()
    assert connecting.band == dataclasses.replace(default.band, max_images=40)
    (mixed,) = asked(
        "--strategy", "basin-hopping", "--move", "per-layer:0.9,restart:0.1", "--set", "per-layer.floor=0.2"
    )
    assert mixed.move == Mixture(((0.9, PerLayer(floor=0.2)), (0.1, Restart())))
    assert asked("--move", "gaussian")[0].move == Gaussian()


def test_ones_own(own, tmp_path):
    first, second, third = asked("--strategy", f"{own}:mine,{own}:twice")
    assert (first.name, first.walkers, second.walkers, third.walkers) == ("mine", 5, 2, 3)
    (hopping,) = asked("--strategy", "basin-hopping", "--move", f"gaussian:3,{own}:mirrored:1")
    assert [weight for weight, _ in hopping.move.parts] == [3.0, 1.0]
    assert hopping.move.parts[1][1].__name__ == "mirrored"
    db = str(tmp_path / "own.db")
    assert main(["explore", f"{own}:well", "--db", db, "--strategy", f"{own}:mine", "--quiet"]) == 0
    with Landscape.open(db) as landscape:
        assert 1 <= landscape.n_minima <= 4  # fifteen quenches into four wells


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--strategy", "basinhopping"], "did you mean 'basin-hopping'"),
        (["--strategy", "{own}:number"], "is a int: let it be a Strategy"),
        (["--strategy", "{own}:nothing"], "unknown name in .*own_moves.py: 'nothing'"),
        (["--move", "gauss"], "did you mean 'gaussian'"),
        (["--move", "gaussian:0,restart:0"], "give one move at least a positive weight"),
        (["--move", "gaussian:1e"], "unknown move|a weight is a number"),
        (["--move", "{own}:number"], "is no move"),
        (["--strategy", "connect", "--move", "gaussian"], "none of these strategies moves"),
        (["--set", "connect.attempts"], "write NAME.FIELD=VALUE"),
        (["--set", "connect=3"], "write NAME.FIELD=VALUE"),
        (["--set", "connect.attemps=3"], "did you mean 'attempts'"),
        (["--set", "connect.attempts=0"], "connect.attempts=0: .*attempts"),
        (["--set", "connect.attempts='a'"], "connect.attempts='a': "),
        (["--set", "connect.attempts.more=1"], "has no settings of its own"),
        (["--set", "climb.searches=1"], "no climb is among the strategies and moves"),
        (["--set", "restart.floor=1"], "no restart is among"),
    ],
)
def test_what_is_wrong_is_told_with_a_remedy(own, words, told):
    with pytest.raises((TorchscapeError, UnknownName), match=told):
        asked(*(word.format(own=own) for word in words))


def test_nothing_between_two_commas(capsys):
    with pytest.raises(SystemExit):
        asked("--strategy", "connect,,climb")
    assert "nothing between two commas" in capsys.readouterr().err
