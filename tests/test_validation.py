"""Options out of range are refused where they are given, in one line that says what they take."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

import torchscape as tsc
from torchscape import optimise, problems, random, saddles, sampling
from torchscape.cli.entry import main
from torchscape.errors import OptionError, PotentialError, TorchscapeError
from torchscape.explore import ConnectPair, Shortcut, Untrap
from torchscape.explore.barriers import LowerBarriers
from torchscape.explore.moves import Gaussian, Mixture, Restart
from torchscape.landscape.matching import Matching
from torchscape.learning.directions import Plane
from torchscape.learning.planes import plane_surface
from torchscape.potentials import FunctionPotential, LennardJones, ModulePotential
from torchscape.sampling import basins
from torchscape.validation import COUNT, FINITE, NOT_NEGATIVE, PART, POSITIVE, SEED, UNIT

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("allowed", "inside", "outside"),
    [
        (POSITIVE, [1e-300, 1, np.float32(2.0), torch.tensor(0.5)], [0, -1.0, NAN, INF, None, "1", True]),
        (NOT_NEGATIVE, [0, 0.0, 3], [-1e-300, NAN, INF]),
        (POSITIVE.or_infinite, [INF], [-INF, NAN]),
        (FINITE, [-5, 0.0], [INF, NAN, "a", 1j]),
        (COUNT, [1, np.int64(4), torch.tensor(3)], [0, 2.5, 2.0, True, None, NAN]),
        (COUNT.or_none, [None, 1], [0]),
        (UNIT, [0, 1, 0.5], [-0.1, 1.1]),
        (PART, [0.5], [0, 1]),
        (SEED, [0, 2**63 - 1], [-1, 2**63, 0.0]),
        (
            POSITIVE.or_several,
            [[1, 2.0], (3,), np.ones(2), torch.ones(2), 1.0],
            [[], [1, 0], "12", torch.zeros(1)],
        ),
    ],
)
def test_ranges(allowed, inside, outside):
    assert [v for v in inside if not allowed.holds(v)] == []
    assert [v for v in outside if allowed.holds(v)] == []
    with pytest.raises(PotentialError, match=r"Some: option=.*; give a"):
        allowed.check("Some", PotentialError, option=outside[0])


OPTIONS = [
    (
        tsc.BasinHopping,
        ["walkers", "hops", "temperature", "step", "acceptance", "adapt", "tol", "round_hops", "from_lowest"],
    ),
    (tsc.TemperedBasinHopping, ["ladders", "hops", "every", "step", "acceptance", "adapt", "tol"]),
    (
        tsc.ConnectMinima,
        ["neighbours", "bridges", "attempts", "max_rounds", "round_pairs", "max_minima", "tol"],
    ),
    (tsc.ClimbFromMinima, ["searches", "patience", "round_searches", "max_minima", "tol"]),
    (ConnectPair, ["neighbours", "attempts", "max_rounds", "max_minima", "tol"]),
    (Shortcut, ["rate_temperature", "min_steps", "round_pairs", "max_rounds", "patience", "attempts", "tol"]),
    (Untrap, ["round_minima", "neighbours", "least_difference", "max_rounds", "patience", "attempts", "tol"]),
    (LowerBarriers, ["neighbours", "round_pairs", "max_rounds", "patience", "attempts", "tol"]),
    (tsc.StationarySearch, ["starts", "patience", "round_starts", "tol"]),
    (tsc.Budget, ["seconds", "quenches", "evaluations"]),
    (optimise.LBFGS, ["memory", "rescale", "max_step", "tol", "max_evaluations", "max_idle"]),
    (optimise.BFGS, ["rescale", "renew_after", "max_step", "tol", "max_evaluations", "max_idle"]),
    (
        saddles.Band,
        ["density", "min_images", "max_images", "spring", "tol", "max_steps", "max_step", "memory", "seed"],
    ),
    (saddles.Follow, ["max_step", "first_step", "tol", "max_evaluations", "accept_error", "max_convex"]),
    (saddles.Descent, ["path_tol", "remeasure", "max_step", "tol", "max_evaluations"]),
    (saddles.NewtonSearch, ["max_step", "first_step", "tol", "max_evaluations", "accept", "max_lost"]),
    (sampling.HMC, ["step_size", "n_leapfrog", "jitter", "target"]),
    (sampling.BAOAB, ["step_size", "friction"]),
    (sampling.AdaptiveLangevin, ["step_size", "friction", "inertia"]),
    (Matching, ["energy_tol", "distance_tol"]),
    (basins.SteepestDescent, ["path_tol", "max_step", "tol", "capture", "max_evaluations"]),
    (basins.Quenched, ["capture"]),
]


@pytest.mark.parametrize(
    ("options", "name", "bad"),
    [
        (options, field.name, bad)
        for options, names in OPTIONS
        for field in dataclasses.fields(options)
        if field.name in names
        for bad in ((-3.0, NAN) if "float" in str(field.type) else (-3,))
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_options_of_strategies_and_steppers(options, name, bad):
    settings = {"step_size": 0.1} if options in (sampling.BAOAB, sampling.AdaptiveLangevin) else {}
    with pytest.raises(OptionError, match=rf"{options.__name__}: {name}="):
        options(**{**settings, name: bad})


@pytest.mark.parametrize(
    "wrong",
    [
        lambda u, x: tsc.relax(u, x, max_evaluations=0),
        lambda u, x: tsc.relax(u, x, tol=NAN),
        lambda u, x: tsc.relax(u, x, pool_size=-1),
        lambda u, x: u.sample(3, seed=2**63),
        lambda u, x: random.fold(-(2**63) - 1, torch.arange(2)),
        lambda u, x: sampling.sample(u, x, steps=-1),
        lambda u, x: sampling.sample(u, x, temperature=NAN),
        lambda u, x: sampling.sample(u, x, temperature=0.0),
        lambda u, x: FunctionPotential(lambda x: x.sum(), 0),
        lambda u, x: FunctionPotential(lambda x: x.square().sum(), 2, chunk_size=-3),
        lambda u, x: FunctionPotential(lambda x: x.square().sum(), 2, length_scale=INF),
        lambda u, x: LennardJones(1),
        lambda u, x: LennardJones(3, container=-1.0),
        lambda u, x: saddles.Band(max_images=5),
        lambda u, x: Mixture(((-1.0, Gaussian()), (2.0, Restart()))),
        lambda u, x: Mixture(((0.0, Gaussian()),)),
        lambda u, x: basins.Noisy(0.1, -1.0, 3),
        lambda u, x: basins.Noisy(NAN, 0.1, 3),
        lambda u, x: basins.radial_volume(u, x[0], basins.Sublevel(9.0), n_rays=2),
        lambda u, x: basins.radial_volume(u, x[0], basins.Sublevel(9.0), growth=NAN),
        lambda u, x: plane_surface(u, Plane(x[0], torch.eye(2).double()), (0.0, INF, 0.0, 1.0)),
    ],
)
def test_arguments(wrong):
    u = FunctionPotential(lambda x: x.square().sum(), 2)
    with pytest.raises(TorchscapeError, match=r"give|must be"):
        wrong(u, u.sample(2))


@pytest.mark.parametrize(
    "wrong", [{"l2": -1.0}, {"l2": NAN}, {"chunk_size": -3}, {"max_rows": 0}, {"device": "meta"}]
)
def test_arguments_of_modules(wrong):
    """A chunk size of -3 once gave the energy of no samples at all."""
    data = torch.ones(4, 1), torch.ones(4, 1)
    with pytest.raises(PotentialError, match=r"give|use cpu"):
        ModulePotential(torch.nn.Linear(1, 1), data, torch.nn.functional.mse_loss, **wrong)
    u = ModulePotential(torch.nn.Linear(1, 1), data, torch.nn.functional.mse_loss)
    if "chunk_size" not in wrong and "max_rows" not in wrong:
        with pytest.raises(PotentialError, match=r"give|use cpu"):
            u.with_(**wrong)


@pytest.mark.parametrize("device", ["meta", "nowhere", "cuda:99"])
@pytest.mark.parametrize(
    "make",
    [
        lambda device: FunctionPotential(lambda x: x.square().sum(), 2, device=device),
        lambda device: LennardJones(3, device=device),
        lambda device: problems.parse("schwefel", device=device),
        lambda device: problems.parse("p-spin", device=device),
        lambda device: problems.parse("kmeans", device=device),
        lambda device: problems.parse("gp", device=device),
        lambda device: problems.parse("regression", device=device),
    ],
)
def test_devices(make, device):
    with pytest.raises(PotentialError, match="use "):
        make(device)


@pytest.mark.parametrize(
    "spec",
    [
        "digits:hidden=0",
        "schwefel:ndim=2.5",
        "rosenbrock:bounded=maybe",
        "kmeans:k=151",
        "quadratic:condition=nan",
        "lj:container=-2",
        "p-spin:seed=9223372036854775808",
        "gp:noise=-1",
        "gp:n=0",
        "double-well:tilt=nan",
        "regression:data=3",
    ],
)
def test_options_of_problems_on_the_command_line(spec, tmp_path, capsys):
    assert main(["explore", spec, "--db", str(tmp_path / "run.db")]) == 2
    said = capsys.readouterr().err
    assert "; give" in said
    assert said.count("\n") == 1
    with pytest.raises(TorchscapeError):
        problems.parse(spec)


@pytest.mark.parametrize("seed", ["9223372036854775808", "-1", "1.5"])
def test_seeds_on_the_command_line(seed, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["explore", "schwefel", "--db", str(tmp_path / "run.db"), "--seed", seed])
    assert "--seed" in capsys.readouterr().err


NET, DATA = torch.nn.Linear(2, 1), (torch.zeros(4, 2), torch.zeros(4, 1))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: FunctionPotential(torch.sum, 2, dtype=torch.int64), "coordinates are torch.float64"),
        (lambda: FunctionPotential(torch.sum, 2, dtype=torch.float16), "coordinates are torch.float64"),
        (
            lambda: ModulePotential(NET, DATA, torch.nn.MSELoss(), dtype=torch.int64),
            "coordinates are torch.float64",
        ),
        (lambda: LennardJones(3, dtype=torch.complex64), "coordinates are torch.float64"),
        (lambda: FunctionPotential(lambda x: None, 2), "does it end with return"),
        (
            lambda: ModulePotential(NET, tuple(t.to("meta") for t in DATA), torch.nn.MSELoss()),
            "the data hold no numbers",
        ),
    ],
)
def test_what_is_no_potential_is_refused_in_one_line(make, said):
    with pytest.raises(PotentialError, match=said) as error:
        make()
    assert "\n" not in str(error.value)
