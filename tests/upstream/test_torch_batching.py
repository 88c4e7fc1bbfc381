"""What PyTorch does with batches, devices and outputs of other shapes than a good guess; see docs/upstream.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import functional_call, vjp, vmap


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_recurrent_layers_have_batching_rules_below_a_derivative_only(kind):
    """Mapped over weights it raises; mapped in a vjp, whose backward pass is never run, it is right."""
    layer, x = kind(3, 4, batch_first=True).double(), torch.randn(2, 5, 3, dtype=torch.float64)
    rows = [kind(3, 4, batch_first=True).double() for _ in range(3)]
    weights = {
        name: torch.stack([row.get_parameter(name).detach() for row in rows]) for name in layer.state_dict()
    }

    def f(row):
        return functional_call(layer, row, (x,))[0].square().sum()

    with pytest.raises(RuntimeError, match="Batching rule not implemented"):
        vmap(f)(weights)
    together = vmap(lambda row: vjp(f, row)[0])(weights)
    torch.testing.assert_close(together, torch.stack([row(x)[0].square().sum() for row in rows]).detach())


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_recurrent_layers_with_shared_weights_fail_below_a_derivative(kind):
    """Mapped over inputs alone: what comes from them is added in place to the state, which is not mapped."""
    layer, x = kind(3, 4, batch_first=True).double(), torch.randn(3, 2, 5, 3, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
        vmap(lambda row: vjp(lambda row: layer(row)[0].square().sum(), row)[0])(x)


def test_a_float32_lstm_on_a_cpu_is_looped_over():
    """With a warning only: oneDNN's fused layer has no batching rule."""
    layer = nn.LSTM(3, 4, batch_first=True)
    weights = {name: torch.stack([p.detach()] * 3) for name, p in layer.named_parameters()}
    x = torch.randn(2, 5, 3)
    with pytest.warns(UserWarning, match="performance drop"):
        vmap(lambda row: vjp(lambda row: functional_call(layer, row, (x,))[0].sum(), row)[0])(weights)


@pytest.mark.parametrize("name", ["mse_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss"])
def test_losses_resize_the_output_that_they_are_given(name, capfd):
    """An ``out`` of the right shape, that of a single number, is resized to that of the inputs on the way."""
    loss, x, y = getattr(torch.ops.aten, name).out, torch.randn(3), torch.ones(3)
    out = loss(x, y, 1, out=torch.empty(()))
    assert out.shape == ()
    assert "was resized since it had shape []" in capfd.readouterr().err


@pytest.fixture(scope="module")
def apart() -> subprocess.CompletedProcess:
    """What a process without mpmath prints: torch is imported, searchsorted warns, sympy is imported."""
    script = (
        "import sys, warnings\n"
        "sys.modules['mpmath'] = None\n"
        "import torch\n"
        "print('torch')\n"
        "with warnings.catch_warnings():\n"
        "    warnings.simplefilter('error')\n"
        "    torch.searchsorted(torch.arange(5.0), torch.zeros(4, 3).T.contiguous())\n"
        "    try:\n"
        "        torch.searchsorted(torch.arange(5.0), torch.zeros(4, 3).T)\n"
        "    except UserWarning as error:\n"
        "        print('searchsorted:', str(error).replace(chr(10), ' '))\n"
        "print('on to sympy')\n"
        "import sympy\n"
        "print('sympy')\n"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


def test_searchsorted_warns_of_strides(apart):
    """Of values as of boundaries, once each in a process: so in one of its own."""
    [warning] = [line for line in apart.stdout.splitlines() if line.startswith("searchsorted:")]
    assert "non-contiguous" in warning
    assert "on to sympy" in apart.stdout  # values without strides gave no warning


@pytest.mark.standin
def test_a_device_that_is_registered_after_a_backward_pass_has_no_thread():
    """Autograd counts devices when it starts its threads: at the first backward pass of the process."""
    script = (
        "import torch, standin\n"
        "torch.ones(1, requires_grad=True).sum().backward()\n"
        "try:\n"
        "    standin.load()\n"
        "except standin.TooLate as error:\n"
        "    print('too late', 'device_ready_queues_' in str(error.__context__))\n"
        "except standin.NoCompiler:\n"
        "    print('no compiler')\n"
    )
    folder = Path(__file__).parents[1] / "device"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=folder)
    if "no compiler" in run.stdout:
        pytest.skip("the stand-in device cannot be built")
    assert run.stdout.split() == ["too", "late", "True"]


def test_sympy_says_that_it_needs_mpmath(apart):
    """With an ImportError of its own, which names mpmath in the middle of a sentence; torch imports without."""
    assert apart.stdout.splitlines()[0] == "torch"
    assert apart.stdout.splitlines()[-1] == "on to sympy"
    assert "ImportError: SymPy now depends on mpmath" in apart.stderr
