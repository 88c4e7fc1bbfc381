"""What PyTorch does on valid input that a good guess gets wrong; each test fails when that changes.

The table that these tests hold up is docs/upstream.md, which says what this package does about each.
"""

from __future__ import annotations

import argparse
import enum
import pathlib

import numpy as np
import pytest
import torch
from torch.func import functional_call, grad, hessian, jacrev, vmap
from torch.nn.functional import layer_norm, linear

# What these packages warn of on their way is not the question here.
pytestmark = pytest.mark.filterwarnings("ignore")


def by_differences(f, x: torch.Tensor, step: float = 1e-5) -> torch.Tensor:
    """The Hessian of f from differences of its gradient."""
    slope = grad(f)
    along = step * torch.eye(len(x), dtype=x.dtype)
    return torch.stack([(slope(x + e) - slope(x - e)) / (2 * step) for e in along], 1)


def off(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


def test_the_second_derivative_of_weight_norm_is_wrong():
    """Its first derivative is right, and so is the second of the formula written out."""
    g = torch.Generator().manual_seed(0)
    data = torch.randn(9, 4, generator=g, dtype=torch.float64)
    x = torch.randn(15, generator=g, dtype=torch.float64)

    def loss(weight):
        return (data @ weight.T).tanh().square().sum()

    def built_in(p):
        return loss(torch._weight_norm(p[:12].reshape(3, 4), p[12:].reshape(3, 1), 0))

    def written_out(p):
        v = p[:12].reshape(3, 4)
        return loss(v * (p[12:].reshape(3, 1) / v.norm(dim=1, keepdim=True)))

    truth = by_differences(written_out, x)
    assert off(grad(built_in)(x), grad(written_out)(x)) < 1e-12
    assert off(jacrev(grad(written_out))(x), truth) < 1e-6
    assert off(jacrev(grad(built_in))(x), truth) > 0.05 * float(truth.abs().max())


def test_forward_over_reverse_through_an_affine_layer_norm_is_wrong():
    """`torch.func.hessian` is jacfwd of jacrev. Double backward is right."""
    g = torch.Generator().manual_seed(0)
    data = torch.randn(6, 4, generator=g, dtype=torch.float64)
    x = torch.randn(24, generator=g, dtype=torch.float64)

    def f(p):
        normed = layer_norm(data @ p[:16].reshape(4, 4).T, (4,), p[16:20], p[20:24])
        return normed.tanh().sum(1).square().mean()

    truth = by_differences(f, x)
    assert off(jacrev(grad(f))(x), truth) < 1e-6
    assert off(hessian(f)(x), truth) > 0.01 * float(truth.abs().max())


def test_lu_solve_broadcasts_factors_wrongly():
    """Factors [5, 1, n, n] and right-hand sides [1, 5, n, k]; a batch of factors of the full shape is right."""
    g = torch.Generator().manual_seed(0)
    a = torch.randn(5, 3, 3, generator=g, dtype=torch.float64) + 3 * torch.eye(3)
    b = torch.randn(5, 3, 2, generator=g, dtype=torch.float64)
    lu, pivots = torch.linalg.lu_factor(a)
    truth = torch.linalg.solve(a[:, None], b[None])
    assert off(torch.linalg.lu_solve(lu[:, None], pivots[:, None], b[None]), truth) > 1
    whole = torch.linalg.lu_solve(
        lu[:, None].expand(5, 5, 3, 3).contiguous(),
        pivots[:, None].expand(5, 5, 3).contiguous(),
        b[None].expand(5, 5, 3, 2),
    )
    assert off(whole, truth) < 1e-12


@pytest.mark.parametrize("name", ["solve", "det", "logdet"])
def test_vmap_of_hessian_of_what_uses_lu_factors_is_wrong(name):
    """Row by row it is right, and so is vmap of reverse over reverse."""
    g = torch.Generator().manual_seed(0)
    b = torch.randn(3, generator=g, dtype=torch.float64)
    functions = {
        "solve": lambda a: torch.linalg.solve(a, b).square().sum(),
        "det": torch.linalg.det,
        "logdet": lambda a: torch.logdet(a @ a.T),
    }

    def f(p):
        return functions[name](p.reshape(3, 3) + 3 * torch.eye(3, dtype=p.dtype))

    x = torch.randn(4, 9, generator=g, dtype=torch.float64)
    truth = torch.stack([by_differences(f, row) for row in x])
    assert off(torch.stack([hessian(f)(row) for row in x]), truth) < 1e-5
    assert off(vmap(jacrev(grad(f)))(x), truth) < 1e-5
    assert off(vmap(hessian(f))(x), truth) > 1


def test_eigh_of_a_batch_with_one_nan_raises_for_all_or_marks_its_row():
    """By size: LAPACK's failure for n = 3, a NaN row for n = 50."""
    for n, raises in ((3, True), (50, False)):
        a = torch.randn(3, n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        a = a + a.mT
        a[1] = torch.nan
        if raises:
            with pytest.raises(torch.linalg.LinAlgError, match="Batch element 1"):
                torch.linalg.eigh(a)
        else:
            assert torch.linalg.eigh(a)[0].isnan().any(1).tolist() == [False, True, False]


def test_a_row_of_a_batch_gets_other_last_digits_than_alone():
    """Matrix and vector products sum in another order: with d inputs from about 5 on, in float64 too."""
    g = torch.Generator().manual_seed(0)
    x, w, b = (torch.randn(*shape, generator=g, dtype=torch.float64) for shape in ((64, 20), (7, 20), (7,)))
    together = linear(x, w, b)
    alone = torch.cat([linear(row[None], w, b) for row in x])
    assert (together != alone).any()
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


def test_a_generator_has_other_numbers_in_float32():
    """The same seed: not the numbers of float64, rounded."""
    both = [
        torch.rand(64, generator=torch.Generator().manual_seed(0), dtype=dtype)
        for dtype in (torch.float32, torch.float64)
    ]
    assert (both[0].double() - both[1]).abs().max() > 0.5


def test_equal_numbers_in_one_tensor_get_unequal_results():
    """Elements beyond the last full vector register take other code: sigmoid, softplus; not tanh, exp."""
    values = 0.05 + 0.037 * torch.arange(200, dtype=torch.float64)

    def unequal(f) -> int:
        return sum(len(f(torch.full((19,), float(v), dtype=torch.float64)).unique()) > 1 for v in values)

    assert unequal(torch.nn.functional.softplus) > 0
    assert unequal(torch.sigmoid) > 0
    assert unequal(torch.tanh) == unequal(torch.exp) == 0


def test_compiled_functions_make_new_graphs_for_new_numbers_of_rows():
    """Two by default (one size, then any size), a third for a single row; with dynamic=False one each."""
    import torch._dynamo.testing as dynamo

    for dynamic, expected in ((None, 3), (False, 5)):
        torch._dynamo.reset()
        counter = dynamo.CompileCounter()
        compiled = torch.compile(lambda x: (2 * x).sin().sum(1), backend=counter, dynamic=dynamic)
        for n in (2, 3, 4, 5, 1):
            compiled(torch.randn(n, 3))
        assert counter.frame_count == expected
    torch._dynamo.reset()


class Colour(enum.IntEnum):
    RED = 0
    GREEN = 1


def test_a_compiled_comparison_with_an_enumeration_is_false():
    """Without an error; with the number itself it is right."""
    torch._dynamo.reset()
    x = torch.tensor([0, 1, 0])
    f, g = (lambda x: (x == Colour.RED) | (x > 5)), (lambda x: (x == 0) | (x > 5))
    assert f(x).tolist() == [True, False, True]
    assert torch.compile(f, backend="eager", fullgraph=True)(x).tolist() == [False, False, False]
    assert torch.compile(g, backend="eager", fullgraph=True)(x).tolist() == [True, False, True]
    torch._dynamo.reset()


def test_make_fx_records_sizes():
    """Replayed on more rows it raises; on a single row it is silently wrong."""
    from torch.fx.experimental.proxy_tensor import make_fx

    def f(x):
        return (x - x.mean(0)).sum(0).reshape(-1).repeat(x.shape[0]).reshape(x.shape) + x

    traced = make_fx(f)(torch.randn(3, 2))
    with pytest.raises(RuntimeError):
        traced(torch.randn(5, 2))
    one = torch.randn(1, 2)
    assert not torch.equal(traced(one), f(one))


def test_attention_is_one_call_to_a_mode_of_functions():
    """Its projections are products with weights as those of a linear layer, but no mode sees them."""

    class Seen(torch.overrides.TorchFunctionMode):
        def __init__(self):
            super().__init__()
            self.names = []

        def __torch_function__(self, func, types, args=(), kwargs=None):
            self.names.append(func.__name__)
            return func(*args, **(kwargs or {}))

    x = torch.ones(2, 3, 4)
    with Seen() as seen:
        torch.nn.MultiheadAttention(4, 2, batch_first=True)(x, x, x)
        torch.nn.Linear(4, 4)(x)
    assert "multi_head_attention_forward" in seen.names
    assert seen.names.count("linear") == 1


def test_functional_call_ignores_names_that_the_module_does_not_have():
    module, x = torch.nn.Linear(2, 1), torch.ones(1, 2)
    given = {"weight": torch.ones(1, 2), "wieght": torch.zeros(1, 2)}
    assert torch.equal(functional_call(module, given, x), functional_call(module, {"weight": torch.ones(1, 2)}, x))


def test_loading_a_state_loads_nothing_or_casts_without_an_error():
    module = torch.nn.Linear(2, 1)
    before = module.weight.detach().clone()
    state = torch.nn.Linear(2, 1).double().state_dict()
    module.load_state_dict({f"module.{name}": value for name, value in state.items()}, strict=False)
    assert torch.equal(module.weight, before)
    module.load_state_dict(state)
    assert module.weight.dtype == torch.float32


@pytest.mark.parametrize("value", [argparse.Namespace(a=1), np.float64(1.0), pathlib.PurePosixPath("a")], ids=type)
def test_weights_only_refuses_what_training_scripts_save(value, tmp_path):
    torch.save({"arguments": value}, tmp_path / "a.pt")
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(tmp_path / "a.pt", weights_only=True)
