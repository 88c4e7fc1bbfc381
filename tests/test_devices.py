"""What depends on the kind of device is decided in one place."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

from torchscape import devices
from torchscape.errors import TorchscapeError

PACKAGE = Path(__file__).parents[1] / "torchscape"
KINDS = {"cpu", "cuda", "mps", "xpu", "hip", "privateuseone", "meta"}
FLAGS = {f"is_{kind}" for kind in KINDS}


def decisions(source: str) -> list[str]:
    """Where code looks at the kind of a device: ``is_cuda``, ``torch.cuda``, a comparison or table of names."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            module = isinstance(node.value, ast.Name) and node.value.id == "torch" and node.attr in KINDS
            backend = node.attr in KINDS and ast.unparse(node.value) == "torch.backends"
            if node.attr in FLAGS or module or backend:
                found.append(ast.unparse(node))
        named = []
        if isinstance(node, ast.Compare):
            named = [node.left, *node.comparators]
        elif isinstance(node, ast.Dict):
            named = [key for key in node.keys if key is not None]
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "startswith"
        ):
            named = node.args
        elif isinstance(node, ast.MatchValue):
            named = [node.value]
        inside = [leaf for part in named for leaf in ast.walk(part)]
        names = {leaf.value for leaf in inside if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str)}
        found += [ast.unparse(node) for _ in names & KINDS]
    return found


def test_no_other_module_decides_by_the_kind_of_device():
    found = {
        str(path.relative_to(PACKAGE)): where
        for path in PACKAGE.rglob("*.py")
        if path.name != "devices.py" and (where := decisions(path.read_text(encoding="utf-8")))
    }
    assert not found, f"decide this in torchscape/devices.py: {found}"


@pytest.mark.parametrize(
    ("source", "n"),
    [
        ("x.is_cuda", 1),
        ("8 if x.is_cuda else 1", 1),
        ("x.device.type == 'cpu'", 1),
        ("x.device.type in ('cuda', 'xpu')", 2),
        ("torch.cuda.mem_get_info()", 1),
        ("torch.backends.mps.is_available()", 1),
        ("{'cpu': 1}[x.device.type]", 1),
        ("name.startswith('cuda')", 1),
        ("f(device='cpu')", 0),
        ("x.to('cpu')", 0),
        ("torch.backends.cudnn.flags(enabled=False)", 0),
        ("x.device == y.device", 0),
    ],
)
def test_the_walker_sees_decisions(source, n):
    assert len(decisions(source)) == n


def test_devices_that_are_not_there():
    with pytest.raises(TorchscapeError, match="there is no device 'warp'"):
        devices.find("warp")
    for name in ("xpu", "mps", "hpu"):  # torch knows these names
        with pytest.raises(TorchscapeError, match=f"no usable {name.upper()} device .*use 'cpu'"):
            devices.find(name)
    if not torch.cuda.is_available():
        with pytest.raises(TorchscapeError, match="no usable CUDA device for 'cuda:1'"):
            devices.find("cuda:1")


def test_devices_that_are_there(device):
    assert devices.find(device) == device
    assert devices.is_host(device) == (device == torch.device("cpu"))
    assert devices.asking_is_free(torch.zeros(1, device=device)) == devices.is_host(device)
    assert 0 < devices.free_memory(device) <= devices.total_memory(device)
    if not devices.is_host(device):
        assert devices.accelerator_name()
        with pytest.raises(TorchscapeError, match=f"there is no '{device.type}:99', this machine has"):
            devices.find(f"{device.type}:99")


def test_fork_rng_leaves_random_numbers_alone(device):
    torch.manual_seed(5)
    expected = torch.rand(3, device=device), torch.rand(3)
    torch.manual_seed(5)
    with devices.fork_rng(device):
        torch.rand(7), torch.rand(7, device=device)
    assert torch.equal(torch.rand(3, device=device), expected[0])
    assert torch.equal(torch.rand(3), expected[1])


@pytest.mark.standin
def test_memory_of_the_standin_counts():
    import standin

    with standin.limit(10**9):  # what other tests of this process hold is in use, too
        assert devices.total_memory("standin") == 10**9
        before = devices.free_memory("standin")
        x = torch.zeros(10**4, dtype=torch.float64, device="standin")
        assert devices.free_memory("standin") == before - x.nbytes
