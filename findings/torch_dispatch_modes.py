"""PyTorch: a mode that only watches operations imports the compiler, and a gradient with weights imports SymPy.

Nothing is compiled here. The first addition below a subclass of ``TorchDispatchMode`` imports ``torch._dynamo``;
below one whose ``_should_skip_dynamo`` returns False it does not. ``torch.autograd.grad`` imports SymPy where
``grad_outputs`` is given, and does not without.
"""

import subprocess
import sys

ADDITION = """
import sys, time, torch
from torch.utils._python_dispatch import TorchDispatchMode

class Watching(TorchDispatchMode):
    {skip}
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {{}}))

before, began = set(sys.modules), time.process_time()
with Watching():
    torch.ones(2) + 1
print(time.process_time() - began, len(set(sys.modules) - before), "torch._dynamo" in sys.modules)
"""
SKIP = "_should_skip_dynamo = classmethod(lambda cls: False)"

GRADIENT = """
import sys, time, torch

x = torch.ones(2, requires_grad=True)
before, began = set(sys.modules), time.process_time()
torch.autograd.grad({of})
print(time.process_time() - began, len(set(sys.modules) - before), "sympy" in sys.modules)
"""


def seen(program: str) -> tuple[float, int, bool]:
    """Seconds of CPU, modules imported, and whether the one in question is among them, in a process of its own."""
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    seconds, modules, there = out.split()
    return float(seconds), int(modules), there == "True"


import torch  # noqa: E402

cases = {
    "an addition below a mode": (ADDITION.format(skip="pass"), True),
    "the same, where _should_skip_dynamo says no": (ADDITION.format(skip=SKIP), False),
    "a gradient with grad_outputs": (GRADIENT.format(of="2 * x, x, grad_outputs=torch.ones(2)"), True),
    "a gradient without": (GRADIENT.format(of="(2 * x).sum(), x"), False),
}
print(f"torch {torch.__version__}, Python {sys.version.split()[0]}")
changed = False
for name, (program, expected) in cases.items():
    seconds, modules, there = seen(program)
    print(
        f"{name}: {modules} modules imported in {seconds:.1f} s of CPU, {'the' if there else 'not the'} heavy one"
    )
    changed |= there != expected
sys.exit(changed)
