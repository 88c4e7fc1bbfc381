"""Seen with curvlinops 3.0.1: a loss with ignore_index over batches of unequal numbers of counted items."""

import importlib.metadata
import sys
import warnings

import torch
from curvlinops import HessianLinearOperator

warnings.simplefilter("ignore")
torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
model, loss = torch.nn.Linear(3, 4), torch.nn.CrossEntropyLoss(ignore_index=-1)
x, y = torch.randn(10, 3), torch.randint(4, (10,))
y[:4] = -1  # four of the first batch of five do not count
batches = [(x[:5], y[:5]), (x[5:], y[5:])]
try:
    operator = HessianLinearOperator(model, loss, list(model.parameters()), batches)
except Exception:
    operator = HessianLinearOperator(model, loss, dict(model.named_parameters()), batches)
at = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
theirs = torch.stack([operator @ e for e in torch.eye(len(at))], 1)


def of(inputs, targets):
    def f(v):
        state = {"weight": v[:12].reshape(4, 3), "bias": v[12:]}
        return loss(torch.func.functional_call(model, state, (inputs,)), targets)

    return torch.func.hessian(f)(at)


whole = of(x, y)
by_length = 0.5 * (of(*batches[0]) + of(*batches[1]))
print("curvlinops", importlib.metadata.version("curvlinops-for-pytorch"), "torch", torch.__version__)
off, same = (theirs - whole).abs().max().item(), (theirs - by_length).abs().max().item()
print(f"Hessian of the mean over the 6 items that count: largest entry {whole.abs().max():.3f}")
print(f"curvlinops differs from it by {off:.3f}; from batches weighted by their length by {same:.1e}")
changed = off < 1e-3 or same > 1e-9
print("CHANGED: see docs/upstream.md" if changed else "as docs/upstream.md says")
sys.exit(int(changed))
