"""FunctionPotential: both calling conventions, the row-by-row fallback, and every refusal."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pytest
import scipy.optimize
import torch
from custom_operations import Cube
from hypothesis import given, settings
from hypothesis import strategies as st

from torchscape.errors import NotDeterministic, PotentialError
from torchscape.potentials import FunctionPotential
from torchscape.potentials.contract import check_contract

BOX = [(-2.0, 2.0), (-1.0, 3.0), (-4.0, 4.0)]


def point(x):
    return torch.sin(x[0]) * x[1] ** 2 + torch.cosh(x[2] - x[0])


def batch(x):
    return torch.sin(x[:, 0]) * x[:, 1] ** 2 + torch.cosh(x[:, 2] - x[:, 0])


def either(x):
    return torch.sin(x[..., 0]) * x[..., 1] ** 2 + torch.cosh(x[..., 2] - x[..., 0])


def branches(x):
    return x.square().sum() if x[0] > 0 else 2 * x.square().sum()


@pytest.mark.parametrize(("fn", "batched"), [(point, False), (batch, True), (either, True)])
def test_detects_how_the_function_is_called(fn, batched, device, dtype):
    u = FunctionPotential(fn, 3, BOX, dtype=dtype, device=device)
    assert u.batched is batched
    x = u.sample(9, seed=3)
    torch.testing.assert_close(u.energy(x), batch(x))


@pytest.mark.parametrize("fn", [point, batch, either])
@pytest.mark.parametrize("bounds", [None, BOX])
def test_contract(fn, bounds, device, dtype):
    check_contract(FunctionPotential(fn, 3, bounds, dtype=dtype, device=device))


@given(n=st.integers(1, 30), chunk=st.integers(1, 7))
@settings(max_examples=20, deadline=None)
def test_chunks_do_not_matter(n, chunk):
    x = FunctionPotential(point, 3, BOX).sample(n)
    torch.testing.assert_close(FunctionPotential(point, 3, BOX, chunk_size=chunk).energy(x), batch(x))


def test_scipy_finds_the_same_minimum_with_our_gradient():
    u = FunctionPotential(lambda x: ((x - 0.3) ** 4).sum() + (x[0] - x[1]) ** 2, 2)

    def f(x):
        energy, grad = u.energy_and_grad(torch.as_tensor(x)[None])
        return energy.item(), grad[0].numpy()

    found = scipy.optimize.minimize(f, np.array([1.0, -2.0]), jac=True, method="BFGS", options={"gtol": 1e-10})
    assert np.allclose(found.x, 0.3, atol=1e-3)


@pytest.mark.parametrize("fn", [lambda x: Cube.apply(x).sum() + x[0] ** 4, branches])
def test_falls_back_to_rows_with_one_warning(fn):
    with pytest.warns(UserWarning, match="row by row") as caught:
        u = FunctionPotential(fn, 2)
    assert len(caught) == 1
    x = u.sample(6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(u.energy(x), torch.stack([fn(row) for row in x]))
        assert u.energy_and_grad(x[:0])[1].shape == (0, 2)
        check_contract(u, x=x + 3.0)


def noisy(x):
    return x.square().sum(-1) * (1 + 0.1 * torch.rand(()))


def interacting(x):
    return (x - x.mean(0)).square().sum(1)


@pytest.mark.parametrize(
    ("fn", "kwargs", "error", "message"),
    [
        (lambda x: x**2, {}, PotentialError, "scalar.*sum"),
        (lambda x: x[:, None, :] ** 2, {}, PotentialError, "one energy per row"),
        (lambda x: float(x.sum()), {"batched": False}, PotentialError, "float, not a tensor"),
        (lambda x: 1.0, {}, PotentialError, "float, not a tensor"),
        (lambda x: x.sum() * torch.nan, {}, PotentialError, "NaN"),
        (lambda x: (x - x).square().sum().sqrt(), {}, PotentialError, "gradient is NaN"),
        (lambda x: x.detach().sum(), {}, PotentialError, "no gradient"),
        (lambda x: x.numpy().sum(), {}, PotentialError, "not a tensor"),
        (lambda x: x.float().sum(), {}, PotentialError, "float32"),
        (lambda x: x[3] ** 2, {}, PotentialError, r"is ndim=2 right\?"),
        (lambda x: x @ torch.ones(3, dtype=x.dtype), {"batched": False}, PotentialError, r"is ndim=2 right\?"),
        (point, {"batched": True}, PotentialError, "one energy per row|ndim=2"),
        (lambda x: x.sum(), {"batched": True}, PotentialError, "one energy per row"),
        (batch, {"batched": False}, PotentialError, r"is ndim=2 right\?"),
        (noisy, {}, NotDeterministic, "two evaluations"),
        (noisy, {"batched": True}, NotDeterministic, "two evaluations"),
        (interacting, {}, NotDeterministic, "other rows"),
        (lambda x: x.square().sum(-1) + x.mean(), {}, PotentialError, "pass batched=True"),
        (lambda x: x.square().sum(-1) + x.mean(), {"batched": True}, NotDeterministic, "other rows"),
        (lambda x: x.square().sum(), {"bounds": [(0, 1)]}, PotentialError, "1 bounds for ndim=2"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*row by row")
def test_refuses_with_a_remedy(fn, kwargs, error, message):
    with pytest.raises(error, match=message):
        FunctionPotential(fn, 2, **kwargs)


def test_refuses_no_coordinates():
    with pytest.raises(PotentialError, match="ndim=0; give a whole number of at least 1"):
        FunctionPotential(point, 0)


def test_a_point_function_may_have_as_many_coordinates_as_there_are_probes():
    """Regression: with B == D probes, x[0] of a point function looks like one value per row."""
    for d in range(1, 9):
        u = FunctionPotential(lambda x: x[0] ** 2 + x.square().sum(), d)
        assert u.batched is False


def test_explicit_choice_wins_over_detection():
    u = FunctionPotential(lambda x: x.square().sum(-1), 2, batched=False)
    assert u.batched is False
    assert u.energy(u.sample(4)).shape == (4,)


def test_length_scale():
    assert FunctionPotential(point, 3).length_scale == 1.0
    assert FunctionPotential(point, 3, BOX).length_scale == pytest.approx(0.4)
    assert FunctionPotential(point, 3, BOX, length_scale=2).length_scale == 2.0
    half_open = [(0.0, float("inf")), (0.0, 5.0), (-float("inf"), 0.0)]
    assert FunctionPotential(point, 3, half_open).length_scale == pytest.approx(0.5)


def test_fingerprint_separates_name_dimension_and_box():
    prints = {
        FunctionPotential(point, 3).fingerprint(),
        FunctionPotential(point, 4).fingerprint(),
        FunctionPotential(point, 3, BOX).fingerprint(),
        FunctionPotential(point, 3, name="other").fingerprint(),
        FunctionPotential(either, 3).fingerprint(),
    }
    assert len(prints) == 5
    again = FunctionPotential(point, 3, dtype=torch.float32).fingerprint()
    assert again == FunctionPotential(point, 3).fingerprint()
    assert FunctionPotential(functools.partial(point), 3).name == "point"
