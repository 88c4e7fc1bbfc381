"""Searches that are asked for: two minima joined, short cuts, ways out of traps, climbs from chosen minima,
targets."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from explore_doubles import Ripple, Wells

import torchscape as tsc
from torchscape.cli import main
from torchscape.errors import OptionError
from torchscape.explore import BasinHopping, Budget, ClimbFromChosen, ConnectPair, Shortcut, Untrap, check_strategy
from torchscape.optimise import relax
from torchscape.points import StationaryPoints, Status
from torchscape.potentials import LennardJones

HOPPING = BasinHopping(walkers=8, hops=0)


def searched(landscape, *strategies, **options):
    return tsc.explore(landscape, landscape.potential, strategies=list(strategies), progress=False, **options)


def filled(potential, starts):
    landscape = tsc.Landscape.in_memory(potential)
    landscape.add_minima(relax(potential, torch.as_tensor(starts, dtype=torch.float64)))
    return landscape


def tried(landscape) -> set[tuple[int, int]]:
    return set(map(tuple, landscape.tried_pairs().pairs.tolist()))


# --- connect-pair -------------------------------------------------------------------------------------------


def wells_of_ripple(*numbers: int) -> list[list[float]]:
    return [[3.0 + 2 * torch.pi * i] for i in numbers]


def test_two_ends_of_a_row_are_joined_link_by_link():
    """The direct way would be one link of three gaps: three links of one gap each cost a third of it."""
    with filled(Ripple(6), wells_of_ripple(*range(6))) as landscape:
        report = searched(landscape, ConnectPair(1, 4))
        assert report.is_complete
        assert tried(landscape) == {(i, i + 1) for i in range(1, 4)}
        network = landscape.network()
        way = tsc.explore.lowest_way(landscape, landscape.potential, 1, 4)
        assert way.minima == (1, 2, 3, 4)
        assert network.n_edges == 3  # what lies outside is left alone


def test_minima_that_are_not_known_turn_up_on_the_way():
    with filled(Ripple(6), wells_of_ripple(0, 5)) as landscape:
        searched(landscape, ConnectPair(0, 1))
        assert landscape.n_minima == 6
        assert landscape.network().n_components == 1


def test_known_links_are_free():
    with filled(Ripple(6), wells_of_ripple(*range(6))) as landscape:
        searched(landscape, ConnectPair(1, 4))
        before = tried(landscape)
        searched(landscape, ConnectPair(0, 5))
        assert tried(landscape) - before == {(0, 1), (4, 5)}
        again = searched(landscape, ConnectPair(0, 3))
        assert again.n_evaluations == 0  # joined already


class Kinked(tsc.Potential):
    """Two wells that meet in a kink: no transition state lies between them."""

    ndim = 2

    def energy(self, x):
        return (x[:, 0].abs() - 1) ** 2 + x[:, 1] ** 2


def test_what_cannot_be_joined_ends_after_its_attempts():
    with filled(Kinked(), [[-1.0, 0.0], [1.0, 0.0]]) as landscape:
        assert searched(landscape, ConnectPair(0, 1, attempts=3)).is_complete
        assert landscape.tried_pairs().times.tolist() == [3]
        assert landscape.network().n_components == 2
        searched(landscape, ConnectPair(1, 0, attempts=5, max_rounds=1))
        assert landscape.tried_pairs().times.tolist() == [4]


def test_groups_of_neighbours_far_apart_are_bridged():
    """Four wells near each end: the nearest neighbours of each lie in its own group, and one bridge is needed."""
    near = [[3.0 + 2 * torch.pi * i] for i in (0, 1, 2, 9, 10, 11)]
    with filled(Ripple(12), near) as landscape:
        searched(landscape, ConnectPair(0, 5, neighbours=1, max_rounds=1))
        assert tried(landscape) == {(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)}


def test_two_minima_of_a_cluster():
    """LJ_7: the pentagonal bipyramid and the highest of its four minima, joined whatever lies between."""
    potential = LennardJones(7)
    with tsc.Landscape.in_memory(potential) as landscape:
        searched(landscape, BasinHopping(walkers=32, hops=0))
        assert landscape.n_minima == 4
        highest = int(landscape.minimum_ids()[-1])
        lowest = int(landscape.minimum_ids()[0])
        searched(landscape, ConnectPair(lowest, highest))
        network = landscape.network()
        position = network.position_of([lowest, highest])
        assert bool(network.connected_to(int(position[0]))[position[1]])


def test_places_in_order_of_energy():
    """The numbers mean what they meant when the search began, although lower minima turn up."""
    with filled(Ripple(6), wells_of_ripple(1, 3)) as landscape:
        searched(landscape, ConnectPair(0, 1, numbering="energy"))
        assert landscape.n_minima == 3
        assert tried(landscape) == {(0, 1)}
        landscape.add_minima(relax(landscape.potential, torch.tensor([[3.0]]).double()))
        assert searched(landscape, ConnectPair(0, 1, numbering="energy")).n_evaluations == 0
        with pytest.raises(
            OptionError, match=r"no minimum has the number 9 .there are 4, 0 to 3.: find minima first"
        ):
            searched(landscape, ConnectPair(0, 9, numbering="energy"))
        with pytest.raises(
            OptionError, match=r"no minimum has the number 9 .there are 4, landscape.network\(\).ids"
        ):
            searched(landscape, ConnectPair(0, 9))


# --- short cuts ---------------------------------------------------------------------------------------------


class Ring(tsc.Potential):
    """Wells on a circle, U = -cos(n phi) + slope (1 - cos phi) + stiff (r - radius)^2, with a gap that no path
    bridges.

    Between neighbours there is one barrier; between the two ends of the horseshoe that is searched first, too."""

    ndim = 2
    length_scale = 0.5

    def __init__(self, n: int = 6) -> None:
        self.n = n

    def energy(self, x):
        phi, r = torch.atan2(x[:, 1], x[:, 0]), x.norm(dim=1)
        return -torch.cos(self.n * phi) + 0.2 * torch.cos(phi) + 20 * (r - 2) ** 2

    def wells(self) -> torch.Tensor:
        phi = 2 * torch.pi * torch.arange(self.n).double() / self.n
        return 2 * torch.stack([phi.cos(), phi.sin()], 1)

    def settings(self):
        return {"n": self.n}


@pytest.fixture
def horseshoe():
    """Five of six links of a ring are known, so that the way from the first well to the last is round the
    ring."""
    potential = Ring()
    landscape = filled(potential, potential.wells())
    ids = landscape.minimum_ids().sort().values.tolist()
    assert ids == list(range(6))
    for i, j in itertools.pairwise(ids):
        searched(landscape, ConnectPair(i, j, max_rounds=1))
    landscape.potential = potential
    yield landscape
    landscape.close()


@pytest.mark.parametrize("by", ["rate", "barrier"])
def test_a_short_cut_closes_the_ring(horseshoe, by):
    edges = {tuple(sorted(e)) for e in horseshoe.network().ids[horseshoe.network().edges].T.tolist()}
    assert edges == {(i, i + 1) for i in range(5)}
    searched(horseshoe, Shortcut(5, 0, by=by, round_pairs=1, rate_temperature=0.3))
    assert (0, 5) in tried(horseshoe)
    network = horseshoe.network()
    a, b = network.position_of([5, 0]).tolist()
    path = tsc.analysis.fastest_path(network, 0.3, a, b)
    assert network.ids[path.minima].tolist() == [0, 5]


def test_the_first_pair_by_rate_is_the_nearest_of_the_path(horseshoe):
    """Of all pairs of the path that are two or more steps apart, the ends: nearest neighbours on the circle."""
    searched(horseshoe, Shortcut(5, 0, round_pairs=1, max_rounds=1, rate_temperature=0.3))
    assert tried(horseshoe) == {(i, i + 1) for i in range(5)} | {(0, 5)}


def test_the_first_pair_by_barrier_climbs_most_for_its_distance():
    """A made-up network: the pair over the high barrier is far nearer, for its climb, than any other."""
    landscape = filled(Wells(1), [[-1.0], [1.0]])
    with landscape:
        strategy = Shortcut(0, 1, by="barrier")
        network = tsc.Network.of(
            [0.0, 0.1, 0.2, 0.3],
            [(0, 1), (1, 2), (2, 3)],
            [1.0, 5.0, 1.5],
        )
        climbs = strategy._climbs(network, torch.arange(4), network.ts_energy)
        assert climbs[0, 2] == pytest.approx(5.0 - 0.2)
        assert climbs[1, 3] == pytest.approx(5.0 - 0.3)
        assert climbs[2, 3] == pytest.approx(1.5 - 0.3)


def test_without_a_path_there_is_no_short_cut():
    with filled(Ripple(4), wells_of_ripple(0, 3)) as landscape:
        assert searched(landscape, Shortcut(0, 1), Untrap(0)).n_evaluations == 0


# --- traps --------------------------------------------------------------------------------------------------


def test_the_ratio_of_barrier_to_energy_ranks_the_traps():
    network = tsc.Network.of(
        [0.0, 1.0, 0.5, 2.0, 0.3],
        [(0, 1), (1, 2), (2, 3)],
        [1.5, 4.0, 2.1],
    )
    height, ratio = Untrap(0)._ranked(network, torch.tensor([0]))
    assert height.tolist() == [0.0, 1.5, 4.0, 4.0, torch.inf]
    # (H - E) / (E - E_0); the product itself and what is apart from it are no traps
    assert ratio.tolist() == pytest.approx([0.0, 0.5 / 1.0, 3.5 / 0.5, 2.0 / 2.0, 0.0])


def test_a_trap_is_left_over_a_lower_barrier(horseshoe):
    """The last well of the horseshoe is reached round the ring only; the search finds its way straight to the
    first."""
    before = tsc.analysis.minimax_to(horseshoe.network(), horseshoe.network().position_of([0]).item())
    searched(horseshoe, Untrap(0, round_minima=8, neighbours=1))
    network = horseshoe.network()
    assert (0, 5) in tried(horseshoe)
    after = tsc.analysis.minimax_to(network, network.position_of([0]).item())
    last = network.position_of([5]).item()
    assert float(after[last]) <= float(before[last]) + 1e-9
    assert bool((after <= before + 1e-9).all())


def test_partners_lie_beyond_the_barrier(horseshoe):
    potential = horseshoe.potential
    strategy = Untrap(0, round_minima=2, neighbours=3)
    state = strategy.start(horseshoe, potential, 0)
    pairs = strategy.suspicious(horseshoe, potential, state)
    network = horseshoe.network()
    height, _ = strategy._ranked(network, network.position_of([0]))
    of_pair = height[network.position_of(pairs.flatten())].reshape(-1, 2)
    assert len(pairs) > 0
    assert bool((of_pair[:, 0] != of_pair[:, 1]).all())


# --- climbs from chosen minima ------------------------------------------------------------------------------


def test_climbs_from_one_minimum_only_find_its_own_saddles():
    with filled(Wells(2), list(itertools.product((-1.0, 1.0), repeat=2))) as landscape:
        searched(landscape, ClimbFromChosen(minima=(2,), searches=8))
        ends = landscape.ends(landscape.transition_state_ids())
        assert len(ends) == 2  # of four: those at either side of it
        assert bool((ends == 2).any(1).all())


# --- a target -----------------------------------------------------------------------------------------------


def test_a_target_energy_ends_the_search():
    potential = LennardJones(13)
    with tsc.Landscape.in_memory(potential) as landscape:
        hopping = BasinHopping(walkers=16, hops=400, temperature=0.8, step=0.9, round_hops=2)
        report = searched(landscape, hopping, budget=Budget(energy=-44.326801))
        assert report.status == "budget: energy"
        assert report.n_quenches < 16 * 200
        assert float(landscape.minimum_energies()[0]) == pytest.approx(-44.326801, abs=1e-6)
        again = searched(landscape, hopping, budget=Budget(energy=-44.326801))
        assert (again.status, again.n_evaluations) == ("budget: energy", 0)


def test_a_target_is_met_to_the_digits_that_are_printed():
    spent = {"seconds": 0.0, "quenches": 0, "evaluations": 0}
    assert Budget(energy=-42.439863).exceeded(**spent, lowest=-42.4398628) == "energy"
    assert Budget(energy=-42.439863).exceeded(**spent, lowest=-42.43985) is None
    with pytest.raises(OptionError, match="energy=nan; give a finite number"):
        Budget(energy=float("nan"))


# --- promises, options and words ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "strategy",
    [
        ConnectPair(0, 2, numbering="energy"),
        ClimbFromChosen(minima=(0, 1), searches=2, round_searches=2),
        pytest.param(Shortcut(0, 3, numbering="energy", round_pairs=1), marks=pytest.mark.slow),
        pytest.param(Untrap(0, round_minima=1, neighbours=1), marks=pytest.mark.slow),
    ],
    ids=["connect-pair", "climb-from", "shortcut", "untrap"],
)
def test_they_keep_the_promises_of_a_strategy(strategy):
    before = (
        [] if strategy.name in ("connect-pair", "climb-from") else [tsc.ConnectMinima(neighbours=1, attempts=1)]
    )
    check_strategy(strategy, Promise(), before=[BasinHopping(walkers=8, hops=0), *before])


class Promise(Ring):
    """A ring of wells with their starts near them; the first search knows the horseshoe only."""

    def __init__(self) -> None:
        super().__init__(6)

    def sample(self, n, seed=0):
        return super().sample(n, seed) * 4


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: ConnectPair(1, 1), "a minimum is in both a and b"),
        (lambda: ConnectPair(-1, 1), "a=-1; give a whole number"),
        (lambda: ConnectPair(0, 1, numbering="rank"), "give 'id' or 'energy'"),
        (lambda: Shortcut(0, (1, 0)), "a minimum is in both"),
        (lambda: Shortcut(0, 1, by="speed"), "give 'rate' or 'barrier'"),
        (lambda: Shortcut(0, 1, min_steps=1), "min_steps=1"),
        (lambda: Untrap(()), "at least one number"),
        (lambda: ClimbFromChosen(minima=(-2,)), "minima=.-2,.; give a whole number of at least 0"),
    ],
)
def test_what_is_wrong_is_told(make, told):
    with pytest.raises(OptionError, match=told):
        make()


OWN = """
import torch
import torchscape as tsc

class Ripple(tsc.Potential):
    ndim = 1
    bounds = tsc.Bounds.of([(0.0, 12 * torch.pi)])

    def energy(self, x):
        return (x.cos() + 0.05 * x).sum(1)

ripple = Ripple()
"""


def test_from_the_shell(tmp_path, capsys):
    (tmp_path / "row.py").write_text(OWN)
    db, spec = str(tmp_path / "row.db"), f"{tmp_path}/row.py:ripple"

    def run(*words: str) -> int:
        return main(["explore", spec, "--db", db, "--quiet", *words])

    assert run("--strategy", "basin-hopping,connect-pair:0,5", "--walkers", "32", "--hops", "1") == 0
    with tsc.Landscape.open(db) as landscape:
        network = landscape.network()
        assert (network.n_minima, network.n_components) == (6, 1)
    again = ["explore", spec, "--db", db, "--strategy", "connect-pair:1,4", "--target-energy=1e3"]
    assert main(again) == 0
    assert "minima 1 and 4 are joined over 3 transition states, the highest at" in capsys.readouterr().out
    assert run("--strategy", "untrap:0,shortcut:0,4+5,climb-from:1,2", "--searches", "2") == 0
    with tsc.Landscape.open(db) as landscape:
        assert landscape.n_tasks("climb") > 0
        assert not landscape.state_keys(
            "asked:"
        )  # what the numbers meant is forgotten where the command has ended
    capsys.readouterr()
    for words, told in (
        ("connect-pair:0", "write connect-pair:I,J"),
        ("connect-pair:0,x", "unknown strategy 'x'|write connect-pair:I,J"),
        ("connect:0,1", "connect takes no minima"),
        ("connect-pair:0,77", "no minimum has the number 77"),
    ):
        assert run("--strategy", words) == 2
        error = capsys.readouterr().err
        assert any(part in error for part in told.split("|")), error


def test_an_interrupted_command_means_the_same_minima_when_it_is_repeated(tmp_path):
    from torchscape.cli.numbered import forget, with_ids

    potential = Ripple(6)
    asked = [ConnectPair(0, 1, numbering="energy"), Untrap((0, 1), numbering="energy")]
    with filled(potential, wells_of_ripple(2, 4)) as landscape:
        first = with_ids(landscape, asked)
        assert [(one.numbering) for one in first] == ["id", "id"]
        assert (first[0].a, first[0].b, first[1].product) == (0, 1, (0, 1))
        landscape.add_minima(relax(potential, torch.tensor(wells_of_ripple(0)).double()))  # lower than both
        assert with_ids(landscape, asked) == first
        forget(landscape, asked)
        assert (with_ids(landscape, asked)[0].a, with_ids(landscape, asked)[0].b) == (2, 0)


def test_minima_of_a_family_stand_for_it():
    """Ids that a family has swallowed name the family."""
    x = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    points = StationaryPoints.of(x, torch.zeros(2).double(), status=torch.full((2,), int(Status.CONVERGED)))
    with tsc.Landscape.in_memory(Wells(1, tilt=0.0)) as landscape:
        landscape.add_minima(points)
        state = ConnectPair(0, 1).start(landscape, landscape.potential, 0)
        assert state["ids"].tolist() == [0, 1]
    assert dataclasses.replace(ConnectPair(0, 1), b=2).b == 2
