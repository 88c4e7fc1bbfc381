"""Moves of clusters: what each leaves alone and what it changes, by geometry; that runs with them can be
resumed."""

from __future__ import annotations

import math

import pytest
import torch
from clusters_data import icosahedron
from explore_doubles import Wells

import torchscape as tsc
from torchscape import random
from torchscape.errors import OptionError, TorchscapeError
from torchscape.explore import (
    Angular,
    BasinHopping,
    Compress,
    Exchange,
    Gaussian,
    GroupRotation,
    Mixture,
    Restart,
    Seeding,
    Symmetrise,
    check_strategy,
)
from torchscape.explore.placements import repeated
from torchscape.optimise import relax
from torchscape.potentials import BinaryLennardJones, LennardJones

B = 40
KEY = random.fold(5, torch.arange(B))
STEP = torch.full((B,), 0.5, dtype=torch.float64)


def clusters(potential, seed: int = 0) -> torch.Tensor:
    """Minima below random starts: of all shapes."""
    return relax(potential, potential.sample(B, seed=seed), tol=1e-3).x


@pytest.fixture(scope="module")
def lj13():
    potential = LennardJones(13)
    return potential, clusters(potential)


def centred(p: torch.Tensor) -> torch.Tensor:
    return p - p.mean(1, keepdim=True)


# --- loosely bound atoms ------------------------------------------------------------------------------------


def test_angular_moves_put_loose_atoms_on_the_outermost_sphere(lj13):
    potential, x = lj13
    p, q = potential.atoms(x), potential.atoms(Angular(looseness=0.4)(potential, x, STEP, KEY))
    share = potential.atom_energies(x)
    moved = (p != q).any(2)
    loosest = share.argmax(1)
    assert bool(moved[torch.arange(B), loosest].all())
    assert bool(
        (moved == ((share > 0.4 * share.amin(1, keepdim=True)) | (share == share.amax(1, keepdim=True)))).all()
    )
    centre = p.mean(1, keepdim=True)
    radius, outermost = (q - centre).norm(dim=2), (p - centre).norm(dim=2).amax(1, keepdim=True)
    torch.testing.assert_close(radius[moved], outermost.expand_as(radius)[moved])
    assert 1 < float(moved.double().mean()) * 13 < 12


def test_angular_moves_may_keep_the_radius_of_each_atom(lj13):
    potential, x = lj13
    p = potential.atoms(x)
    q = potential.atoms(Angular(looseness=0.6, outermost=False)(potential, x, STEP, KEY))
    centre = p.mean(1, keepdim=True)
    torch.testing.assert_close((p - centre).norm(dim=2), (q - centre).norm(dim=2))
    assert not torch.allclose(p, q)


def test_angular_moves_find_the_icosahedron_of_a_defect():
    """LJ_13 with one vertex of the icosahedron put on a face: angular moves heal it, where small shakes do not."""
    potential = LennardJones(13)
    ico = torch.tensor(icosahedron()).reshape(1, -1)
    ideal = relax(potential, ico).x
    broken = potential.atoms(ideal).clone()
    outer = (broken[0] - broken[0].mean(0)).norm(dim=1).argmax()
    broken[0, outer] = -1.7 * broken[0, outer]
    start = relax(potential, broken.flatten(1))
    assert float(start.energy) > -42.5
    jumped = Angular()(potential, start.x.expand(B, -1).clone(), STEP, KEY)
    energy = relax(potential, jumped).energy
    assert int((energy < -44.326).sum()) >= 3


def test_angular_moves_ask_for_energies_of_atoms():
    with pytest.raises(TorchscapeError, match=r"Angular moves need a cluster, a ClusterPotential; use Gaussian"):
        Angular()(Wells(2), torch.zeros(B, 2).double(), STEP, KEY)
    trimer = tsc.potentials.Trimer()
    with pytest.raises(TorchscapeError, match=r"write atom_energies\(x\)"):
        Angular()(trimer, trimer.sample(B), STEP, KEY)
    with pytest.raises(OptionError, match="looseness=2"):
        Angular(looseness=2)


# --- unlike atoms -------------------------------------------------------------------------------------------


def rows_as_sets(p: torch.Tensor) -> list[set[tuple[float, ...]]]:
    return [set(map(tuple, row)) for row in p.tolist()]


def test_exchange_keeps_the_set_of_positions():
    potential = BinaryLennardJones(6, 7, sigma=1.3)
    x = potential.sample(B, seed=1)
    p, q = potential.atoms(x), potential.atoms(Exchange()(potential, x, STEP, KEY))
    assert rows_as_sets(p) == rows_as_sets(q)
    changed = (p != q).any(2)
    assert changed.sum(1).tolist() == [2] * B
    assert changed[:, :6].sum(1).tolist() == [1] * B  # one of each kind
    assert len({tuple(row.nonzero()[:, 0].tolist()) for row in changed}) > 20
    several = potential.atoms(Exchange(pairs=5)(potential, x, STEP, KEY))
    assert rows_as_sets(p) == rows_as_sets(several)
    assert int((p != several).any(2).sum(1).max()) > 2


def test_exchange_needs_two_kinds():
    u = LennardJones(4)
    with pytest.raises(TorchscapeError, match="atoms of two kinds"):
        Exchange()(u, u.sample(B), STEP, KEY)


def test_exchange_finds_the_small_atom_in_the_middle():
    """A large atom in the middle of twelve: one exchange puts the one small atom there, and that is much lower."""
    potential = BinaryLennardJones(1, 12, sigma=1.2)
    p = torch.tensor(icosahedron()) * 1.15
    p[[0, 5]] = p[[5, 0]]  # atom 0 is the small one
    start = relax(potential, p.reshape(1, -1))
    jumped = Exchange()(potential, start.x.expand(B, -1).clone(), STEP, KEY)
    energy = relax(potential, jumped).energy
    best = relax(potential, (torch.tensor(icosahedron()) * 1.15).reshape(1, -1)).energy
    assert float(energy.min()) == pytest.approx(float(best), abs=1e-8)
    assert float(best) < float(start.energy) - 1.0


# --- seeds --------------------------------------------------------------------------------------------------


def test_seeding_keeps_the_core_and_places_the_rest_on_it():
    small = relax(LennardJones(6), LennardJones(6).sample(1, seed=2)).x[0]
    potential = LennardJones(9)
    q = potential.atoms(Seeding(core=small.tolist())(potential, potential.sample(B), STEP, KEY))
    core = small.reshape(6, 3) - small.reshape(6, 3).mean(0)
    assert bool((q[:, :6] == core).all())
    radius = core.norm(dim=1).max() + 0.5 * potential.pair_distance
    assert float((q[:, 6].norm(dim=1) - radius).abs().max()) < 1e-12
    apart = torch.cdist(q, q) + torch.eye(9) * 9
    assert float(apart.min()) > 0.6
    assert len({tuple(row) for row in q[:, 6:].flatten(1).tolist()}) == B


def test_seeding_from_the_file_of_a_smaller_cluster(tmp_path):
    """LJ_12 is LJ_13 without one vertex: from there every walker is at the icosahedron after its first hop."""
    small = LennardJones(12)
    with tsc.Landscape.open(tmp_path / "lj12.db", small) as landscape:
        landscape.add_minima(relax(small, torch.tensor(icosahedron())[:12].reshape(1, -1)))
        assert float(landscape.minimum_energies()[0]) == pytest.approx(-37.967600, abs=1e-6)
    seeding = Seeding(core=tmp_path / "lj12.db")
    assert seeding == Seeding(core=seeding.core)  # the numbers decide, not where they came from
    potential = LennardJones(13)
    energy = relax(potential, seeding(potential, potential.sample(B), STEP, KEY)).energy
    assert int((energy < -44.326).sum()) >= 4


@pytest.mark.parametrize("core", [(), (1.0, 2.0), tuple(range(39))])
def test_a_core_is_a_smaller_cluster(core):
    u = LennardJones(13)
    with pytest.raises(TorchscapeError, match="give a cluster of 1 to 12 atoms in 3 dimensions"):
        Seeding(core=core)(u, u.sample(B), STEP, KEY)


def test_unlike_atoms_of_a_seed_are_drawn():
    u = BinaryLennardJones(3, 3)
    core = tuple(LennardJones(4).sample(1)[0].tolist())
    q = u.atoms(Seeding(core=core)(u, u.sample(B), STEP, KEY))
    first = centred(torch.tensor(core).reshape(1, 4, 3).double())[0, 0]
    place = torch.isclose(q, first, atol=1e-9).all(2)  # to rounding: other atoms are 0.7 away and more
    assert len(set(place.double().argmax(1).tolist())) > 3


# --- compression --------------------------------------------------------------------------------------------


def test_compression_makes_clusters_compact():
    potential, n = LennardJones(26), 12
    x = potential.sample(n, seed=3)
    plain = Gaussian()(potential, x, STEP[:n], KEY[:n])
    squeezed = Compress(strength=2.0)(potential, x, STEP[:n], KEY[:n])

    def size(y: torch.Tensor) -> torch.Tensor:
        return centred(potential.atoms(y)).square().sum((1, 2))

    assert float(size(squeezed).mean()) < 0.9 * float(size(relax(potential, plain, tol=1e-3).x).mean())
    # The two phases together: minima of U that are lower on average than those of one phase from the same points.
    two, one = relax(potential, squeezed), relax(potential, plain)
    assert bool(two.converged.all())
    assert float(two.energy.mean()) < float(one.energy.mean()) - 1.0


def test_compression_leaves_a_stationary_point_of_the_squeezed_energy():
    """Where the first phase has converged, the force of U is 2 k times the way to the centre."""
    potential = LennardJones(7)
    k = 0.3
    x = Compress(strength=k, max_evaluations=1000)(potential, potential.sample(B), STEP, KEY)
    pull = 2 * k * centred(potential.atoms(x)).flatten(1)
    grad = potential.energy_and_grad(x)[1]
    assert float((grad + pull).square().mean(1).sqrt().max()) < 2e-2
    assert float(grad.square().mean(1).sqrt().min()) > 0.1


def test_compression_says_what_it_needs():
    with pytest.raises(TorchscapeError, match="Compress moves need a cluster"):
        Compress()(Wells(2), torch.zeros(B, 2).double(), STEP, KEY)
    with pytest.raises(OptionError, match="strength=0"):
        Compress(strength=0)


# --- symmetry -----------------------------------------------------------------------------------------------


def test_repeated_sites_map_onto_themselves(lj13):
    potential, x = lj13
    q = centred(potential.atoms(x))
    axis = torch.nn.functional.normalize(q[:, 3], dim=1)
    order = 2 + torch.arange(B) % 5
    sites, count = repeated(q, axis, order, potential.pair_distance, 6)
    assert bool((count <= 13).all())
    assert float(count.double().mean()) > 6
    for row in range(B):
        mine, n, m = sites[row, : count[row]], axis[row], int(order[row])
        turn = torch.linalg.matrix_exp(2 * math.pi / m * torch.linalg.cross(torch.eye(3).double(), n.expand(3, 3)))
        nearest = torch.cdist(mine @ turn, mine).amin(1)
        assert float(nearest.max()) < 1e-6
        apart = torch.cdist(mine, mine) + 9 * torch.eye(len(mine))
        assert float(apart.min()) > 0.6 * potential.pair_distance


def test_symmetrised_clusters_have_all_their_atoms(lj13):
    potential, x = lj13
    q = potential.atoms(Symmetrise()(potential, x, STEP, KEY))
    assert bool(torch.isfinite(q).all())
    apart = torch.cdist(q, q) + 9 * torch.eye(13)
    assert float(apart.flatten(1).amin(1).median()) > 0.6
    torch.testing.assert_close(q.isfinite().all(2).sum(1), torch.full((B,), 13))


def test_symmetrisation_finds_the_icosahedron(lj13):
    potential, x = lj13
    starts = relax(potential, x).energy
    rows = starts > -44.0
    jumped = Symmetrise(orders=(3, 5))(potential, x[rows], STEP[rows], KEY[rows])
    assert int((relax(potential, jumped).energy < -44.326).sum()) >= 2


def test_symmetrise_is_for_like_atoms_in_space():
    for u in (BinaryLennardJones(2, 2), LennardJones(4, dim=2)):
        with pytest.raises(TorchscapeError, match="like atoms in three dimensions"):
            Symmetrise()(u, u.sample(B), STEP, KEY)


# --- groups -------------------------------------------------------------------------------------------------


def test_group_rotation_turns_a_group_about_its_bond():
    potential = LennardJones(8)
    x = potential.sample(B, seed=4)
    groups = ((0, 1, (2, 3, 4)), (5, 6, (7,)))
    move = GroupRotation(groups=groups)
    p, q = potential.atoms(x), potential.atoms(move(potential, x, STEP, KEY))
    assert torch.equal(p[:, [0, 1, 5, 6]], q[:, [0, 1, 5, 6]])
    some = [0, 1, 2, 3, 4]
    torch.testing.assert_close(torch.cdist(p[:, some], p[:, some]), torch.cdist(q[:, some], q[:, some]))
    assert float((p - q).norm(dim=2)[:, 2].min()) > 1e-6
    # the angle about the bond, measured between the planes before and after
    axis = torch.nn.functional.normalize(p[:, 1] - p[:, 0], dim=1)

    def across(r: torch.Tensor) -> torch.Tensor:
        d = r[:, 2] - r[:, 0]
        return torch.nn.functional.normalize(d - (d * axis).sum(1, keepdim=True) * axis, dim=1)

    angle = (across(p) * across(q)).sum(1).clamp(-1, 1).acos()
    assert float(angle.max()) <= 0.5 * math.pi + 1e-9
    assert float(angle.max()) > 0.4 * math.pi
    sign = (torch.linalg.cross(across(p), across(q)) * axis).sum(1).sign()
    assert 8 < int((sign > 0).sum()) < 32


def test_groups_turn_with_their_probability():
    potential = LennardJones(4)
    x = potential.sample(B)
    move = GroupRotation(groups=((0, 1, (2, 3)),), probability=0.25)
    turned = (move(potential, x, STEP, KEY) != x).any(1)
    assert 3 <= int(turned.sum()) <= 18


@pytest.mark.parametrize(
    ("groups", "told"),
    [((), "give groups="), (((0, 1, (9,)),), "with atoms that are there"), (((0, 1, (-1,)),), "that are there")],
)
def test_groups_name_atoms_that_are_there(groups, told):
    u = LennardJones(4)
    with pytest.raises(TorchscapeError, match=told):
        GroupRotation(groups=groups)(u, u.sample(B), STEP, KEY)


def test_an_axis_is_no_part_of_its_group():
    with pytest.raises(OptionError, match="the two atoms of an axis differ"):
        GroupRotation(groups=((0, 1, (1, 2)),))


# --- what all moves promise ---------------------------------------------------------------------------------

ALL = {
    "angular": (Angular(), LennardJones(8)),
    "exchange": (Exchange(), BinaryLennardJones(3, 3)),
    "seeding": (Seeding(core=(0, 0, 0, 1.1, 0, 0, 0, 1.1, 0)), LennardJones(6)),
    "compress": (Compress(max_evaluations=20), LennardJones(6)),
    "symmetrise": (Symmetrise(), LennardJones(8)),
    "group-rotation": (GroupRotation(groups=((0, 1, (2, 3)),)), LennardJones(6)),
}


@pytest.mark.parametrize("name", ALL)
def test_a_walker_does_not_depend_on_its_neighbours(name):
    move, potential = ALL[name]
    x = clusters(potential)[:6]
    whole = move(potential, x, STEP[:6], KEY[:6])
    parts = torch.cat([move(potential, x[i : i + 1], STEP[i : i + 1], KEY[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-9)  # sums of other batches differ in last digits
    assert not torch.equal(whole, x)
    assert torch.equal(move(potential, x, STEP[:6], KEY[:6]), whole)


QUICK = ("angular", "exchange")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in ALL])
def test_runs_with_each_can_be_resumed_and_divided(name):
    move, potential = ALL[name]
    mixed = Mixture(((0.5, Gaussian()), (0.5, move)))
    check_strategy(BasinHopping(walkers=3, hops=1, round_hops=1, move=mixed), potential)


# --- steps of mixtures --------------------------------------------------------------------------------------


class Refused:
    """Jumps so far up that nothing is accepted."""

    def __call__(self, potential, x, step, key):
        return 0 * x + 50.0

    def __repr__(self) -> str:
        return "Refused()"


class Tilted(tsc.Potential):
    """Wells that get higher to the right, so that a jump far there is never accepted at T = 0.01."""

    ndim = 1

    def energy(self, x):
        return (3.0 * x.cos() + x).sum(1)


def test_each_move_of_a_mixture_adapts_by_its_own_acceptance():
    potential = Tilted()
    mixture = Mixture(((0.5, Gaussian()), (0.5, Refused())))
    hopping = BasinHopping(
        walkers=8, hops=20, temperature=1e-2, step=0.01, move=mixture, adapt=0.2, acceptance=0.5
    )
    with tsc.Landscape.in_memory(potential) as landscape:
        tsc.explore(landscape, potential, strategies=[hopping], progress=False)
        (key,) = landscape.state_keys("basin-hopping")
        state = landscape.load_state(key)
    steps = state["step"]
    assert steps.shape == (8, 2)
    assert bool((steps[:, 0] > 0.012).all())  # always accepted: it grows
    assert bool((steps[:, 1] < 0.009).all())  # never accepted: it shrinks
    # by exp(0.2 * 0.5) for each acceptance and the inverse for each refusal
    ups = (steps[:, 0] / 0.01).log() / 0.1
    downs = -(steps[:, 1] / 0.01).log() / 0.1
    torch.testing.assert_close(ups + downs, torch.full((8,), 20.0).double(), atol=1e-10, rtol=0)


def test_a_run_of_old_with_one_step_for_all_moves_goes_on():
    potential = Wells(2)
    hopping = BasinHopping(walkers=4, hops=3, move=Mixture(((0.9, Gaussian()), (0.1, Restart()))))
    state = dict(hopping.start(None, potential, 0))
    state["step"] = torch.full((4,), 0.3).double()
    round_ = hopping.propose(None, potential, state)
    found = round_.tasks[0].run(potential)
    assert found.state["step"].shape == (4, 2)
