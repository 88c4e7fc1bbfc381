"""Declared stationary points: stationary, of the declared index and energy, complete, as published."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchscape.errors import PotentialError
from torchscape.potentials import (
    DoubleWell,
    Himmelblau,
    MuellerBrown,
    Quadratic,
    Rosenbrock,
    Schwefel,
    SixHumpCamel,
)
from torchscape.potentials.contract import check_contract

ROTATION = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
SURFACES = {
    "himmelblau": Himmelblau,
    "mueller-brown": MuellerBrown,
    "camel": SixHumpCamel,
    "schwefel": lambda **k: Schwefel(3, **k),
    "rosenbrock-2": lambda **k: Rosenbrock(2, **k),
    "rosenbrock-5": lambda **k: Rosenbrock(5, **k),
    "double-well": lambda **k: DoubleWell(3, barrier=2.0, width=0.7, tilt=[0.1, -0.3, 0.0], **k),
    "quadratic": lambda **k: Quadratic([1.0, 100.0, -3.0], ROTATION, [0.5, 1.0, -2.0], **k),
}
PUBLISHED = {  # minima, saddles
    Himmelblau: ([0, 0, 0, 0], [13.31192627, 67.71915009, 104.01516292, 178.3372392]),
    MuellerBrown: ([-146.69951721, -108.16672412, -80.76781813], [-72.24894011, -40.66484351]),
    SixHumpCamel: ([-1.0316284535] * 2 + [-0.2154638244] * 2 + [2.1042503] * 2, None),
}


@pytest.mark.parametrize("make", SURFACES.values(), ids=SURFACES.keys())
def test_contract(make, device, dtype):
    check_contract(make(dtype=dtype, device=device))


@pytest.mark.parametrize("make", SURFACES.values(), ids=SURFACES.keys())
def test_declared_points_are_stationary_with_the_declared_index_and_energy(make):
    u = make()
    points = u.minima + u.saddles
    x = torch.tensor([point.x for point in points], dtype=torch.float64)
    energy, grad = u.energy_and_grad(x)
    curvature = torch.linalg.eigvalsh(u.hessian(x))
    declared = torch.tensor([point.energy for point in points], dtype=torch.float64)
    # a coordinate rounded to one unit in its last place leaves a gradient of curvature * |x| * eps
    rounding = 8 * torch.finfo(x.dtype).eps * curvature.abs().amax(1) * x.abs().amax(1).clamp_min(1)
    assert (grad.norm(dim=1) <= rounding + 1e-13).all()
    assert (energy - declared).abs().max() < 1e-10
    assert (curvature < 0).sum(1).tolist() == [point.index for point in points]
    assert curvature.abs().min() > 1e-3


@pytest.mark.parametrize("surface", PUBLISHED)
def test_published_energies(surface):
    minima, saddles = PUBLISHED[surface]
    u = surface()
    assert np.allclose([point.energy for point in u.minima], minima, atol=1e-6, rtol=0)
    if saddles is not None:
        assert np.allclose([point.energy for point in u.saddles], saddles, atol=1e-6, rtol=0)


@pytest.mark.parametrize("make", [Himmelblau, MuellerBrown, SixHumpCamel, lambda: DoubleWell(2, tilt=[0.3, 0.5])])
def test_scipy_finds_the_declared_points_and_no_others(make):
    """SciPy's root finder from a grid: every root of the gradient in the box is declared, or a maximum."""
    u = make()
    declared = np.array([point.x for point in u.minima + u.saddles])
    reached = set()

    def gradient(x):
        return u.energy_and_grad(torch.as_tensor(x)[None])[1][0].numpy()

    def hessian(x):
        return u.hessian(torch.as_tensor(x)[None])[0].numpy()

    for start in itertools.product(*(np.linspace(low, high, 8) for low, high in u.box)):
        found = scipy.optimize.root(gradient, np.array(start), jac=hessian, tol=1e-12)
        inside = all(low < x < high for x, (low, high) in zip(found.x, u.box, strict=True))
        if (
            np.abs(gradient(found.x)).max() > 1e-8
            or not inside
            or (np.linalg.eigvalsh(hessian(found.x)) < 0).all()
        ):
            continue
        gap = np.linalg.norm(declared - found.x, axis=1)
        assert gap.min() < 1e-6, f"undeclared stationary point at {found.x}"
        reached.add(int(gap.argmin()))
    assert reached == set(range(len(declared)))


def test_schwefel_counts_and_energies():
    u = Schwefel(2)
    assert (u.n_minima, u.n_saddles, len(u.minima), len(u.saddles)) == (49, 98, 49, 98)
    assert Schwefel(3).n_minima == len(Schwefel(3).minima) == 343
    assert u.minima[0].energy == pytest.approx(0.0, abs=1e-4)
    wells = np.array([x for x, _ in u.wells(0)])
    between = sum(1 for x, _ in u.barriers(0) if wells.min() < x < wells.max())
    assert 2 * 7 * between == 84  # saddles that join two interior minima; the other 14 leave the box on one side
    # one-dimensional wells by SciPy, from the formula
    for x, _ in u.wells(0):
        found = scipy.optimize.minimize_scalar(
            lambda t: 418.9829 - t * np.sin(np.sqrt(abs(t))), bounds=(x - 2, x + 2), method="bounded",
            options={"xatol": 1e-9},
        )  # fmt: skip
        assert found.x == pytest.approx(x, abs=1e-5)


def test_schwefel_has_no_nan_at_zero(device, dtype):
    """Regression: sqrt|x| has an infinite slope at zero, and 0 * inf is NaN."""
    u = Schwefel(2, dtype=dtype, device=device)
    x = torch.tensor([[0.0, 0.0], [0.0, 3.0], [-0.0, -1e-30]], dtype=dtype, device=device)
    energy, grad = u.energy_and_grad(x)
    assert torch.isfinite(energy).all()
    assert grad[0].tolist() == [0.0, 0.0]
    assert torch.isfinite(grad).all()
    assert torch.isfinite(u.hessian(x[:2])).all()
    near = torch.tensor([[1e-6, -1e-6]], dtype=torch.float64, device=device)
    slope = u.energy_and_grad(near)[1]
    torch.testing.assert_close(slope, torch.full_like(slope, -1.5e-3), rtol=1e-5, atol=0)


def test_too_many_points_to_list_are_refused():
    u = Schwefel(20)
    assert u.n_minima == 7**20
    with pytest.raises(PotentialError, match="n_minima"):
        _ = u.minima


@pytest.mark.parametrize("ndim", [4, 6, 10, 30])
def test_rosenbrock_has_two_minima_and_a_saddle_between(ndim):
    u = Rosenbrock(ndim)
    best, second = u.minima
    (saddle,) = u.saddles
    x = torch.tensor([second.x, saddle.x], dtype=torch.float64)
    assert u.energy_and_grad(x)[1].norm(dim=1).max() < 1e-11
    assert (second.index, saddle.index) == (0, 1)
    assert best.energy == 0 < second.energy < saddle.energy
    # both sides of the saddle lead, by SciPy's own descent, to the two minima
    _, modes = torch.linalg.eigh(u.hessian(x[1:]))
    ends = []
    for sign in (1, -1):
        start = (x[1] + sign * 1e-2 * modes[0, :, 0]).numpy()
        found = scipy.optimize.minimize(
            scipy.optimize.rosen, start, jac=scipy.optimize.rosen_der, hess=scipy.optimize.rosen_hess,
            method="trust-exact", options={"gtol": 1e-9, "initial_trust_radius": 0.01, "max_trust_radius": 0.05,
                                           "maxiter": 5000},
        )  # fmt: skip
        ends.append(found.fun)
    assert np.allclose(sorted(ends), [best.energy, second.energy], atol=1e-9)


@given(seed=st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_rosenbrock_is_scipys(seed):
    x = Rosenbrock(6).sample(4, seed)
    energy, grad = Rosenbrock(6).energy_and_grad(x)
    assert np.allclose(energy, scipy.optimize.rosen(x.numpy().T))
    assert np.allclose(grad, scipy.optimize.rosen_der(x.numpy().T).T)


@given(
    tilt=st.lists(st.floats(-1.5, 1.5), min_size=1, max_size=4),
    barrier=st.floats(1.0, 5.0),
    width=st.floats(0.3, 3.0),
)
@settings(max_examples=25, deadline=None)
def test_double_well_roots_are_those_of_the_cubic(tilt, barrier, width):
    u = DoubleWell(len(tilt), barrier=barrier, width=width, tilt=tilt)
    for i, t in enumerate(tilt):
        x = [x / width for x, _ in (*u.wells(i), *u.barriers(i))]
        assert np.allclose(sorted(x), np.sort(np.roots([4 * barrier, 0, -4 * barrier, t]).real), atol=1e-6)
    assert u.n_minima == len(u.minima) == 2 ** len(tilt)
    assert u.n_saddles == len(u.saddles) == len(tilt) * 2 ** (len(tilt) - 1)


def test_quadratic_declares_its_one_point():
    assert [p.x for p in Quadratic([1.0, 2.0], centre=[3.0, 4.0]).minima] == [(3.0, 4.0)]
    assert Quadratic([1.0, -2.0]).minima == ()
    assert len(Quadratic([1.0, -2.0]).saddles) == 1
    assert Quadratic([1.0, 0.0]).minima == Quadratic([1.0, 0.0]).saddles == ()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rosenbrock(1), "at least 2"),
        (lambda: Schwefel(0), "at least 1"),
        (lambda: DoubleWell(2, tilt=[0.1]), "one tilt per coordinate"),
        (lambda: DoubleWell(2, tilt=1.6), "smaller tilts"),
        (lambda: Quadratic([1.0, 2.0], [[1.0, 1.0], [0.0, 1.0]]), "orthogonal"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(PotentialError, match=message):
        make()


def test_fingerprints_differ_by_what_decides_the_landscape():
    surfaces = [
        Schwefel(2), Schwefel(3), Schwefel(2, bounded=False), DoubleWell(2), DoubleWell(2, tilt=0.1),
        DoubleWell(2, barrier=2), Quadratic([1.0, 2.0]), Quadratic([1.0, 3.0]), Himmelblau(), Rosenbrock(2),
    ]  # fmt: skip
    assert len({u.fingerprint() for u in surfaces}) == len(surfaces)
