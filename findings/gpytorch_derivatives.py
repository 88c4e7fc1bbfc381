"""Seen with gpytorch 1.15: second derivatives by a length scale, which trace_mode mends if it lasts long enough; a
likelihood that is random above 800 points."""

import contextlib
import importlib.metadata
import sys
import warnings

import gpytorch
import torch

warnings.simplefilter("ignore")
torch.set_default_dtype(torch.float64)
x = torch.stack([torch.linspace(0, 1, 12), torch.linspace(0, 1, 12) ** 2], 1)
y = (6 * x[:, 0]).sin()


class Sum(torch.nn.Module):
    """y^T K y of a kernel."""

    def __init__(self, kernel, trace=contextlib.nullcontext):
        super().__init__()
        self.kernel, self.trace = kernel, trace

    def forward(self, x):
        with self.trace():
            lazy = self.kernel(x)
        return (lazy.to_dense() * torch.outer(y, y)).sum()


def second_derivative(kernel):
    """By the first length scale: as autograd has it, with the kernel called in trace_mode, with all of it there,
    and by differences of the first derivative."""
    model, shape = Sum(kernel), kernel.raw_lengthscale.shape
    called_there = Sum(kernel, gpytorch.settings.trace_mode)

    def f(z, model=model):
        return torch.func.functional_call(model, {"kernel.raw_lengthscale": z.reshape(shape)}, (x,))

    def slope(z):
        z = z.clone().requires_grad_()
        return torch.autograd.grad(f(z), z)[0][0]

    at, e = torch.full((shape.numel(),), -0.5), 1e-5
    along = e * torch.eye(len(at))[0]
    plain = torch.autograd.functional.hessian(f, at)[0, 0].item()
    with gpytorch.settings.trace_mode():
        traced = torch.autograd.functional.hessian(f, at)[0, 0].item()
    lazy = torch.autograd.functional.hessian(lambda z: f(z, called_there), at)[0, 0].item()
    return plain, lazy, traced, ((slope(at + along) - slope(at - along)) / (2 * e)).item()


def likelihoods(n):
    """The marginal likelihood of one model, three times."""
    inputs = torch.linspace(0, 1, n)[:, None]
    targets = (6 * inputs[:, 0]).sin()
    noise = gpytorch.likelihoods.GaussianLikelihood()

    class Model(gpytorch.models.ExactGP):
        def __init__(self):
            super().__init__(inputs, targets, noise)
            self.mean, self.kernel = gpytorch.means.ZeroMean(), gpytorch.kernels.RBFKernel()

        def forward(self, z):
            return gpytorch.distributions.MultivariateNormal(self.mean(z), self.kernel(z))

    model = Model().train()
    objective = gpytorch.mlls.ExactMarginalLogLikelihood(noise, model)
    return [objective(model(inputs), targets).item() for _ in range(3)]


print("gpytorch", importlib.metadata.version("gpytorch"), "torch", torch.__version__)
changed = False
for name, kernel in (
    ("RBFKernel()", gpytorch.kernels.RBFKernel()),
    ("MaternKernel(nu=2.5)", gpytorch.kernels.MaternKernel(nu=2.5)),
    ("RBFKernel(ard_num_dims=2)", gpytorch.kernels.RBFKernel(ard_num_dims=2)),
):
    plain, lazy, traced, truth = second_derivative(kernel)
    print(
        f"{name}: d2/dl2 {plain:.6f}, kernel called in trace_mode {lazy:.6f}, all of it there {traced:.6f},",
        end="",
    )
    print(f" by differences {truth:.6f}")
    wrong = abs(plain - truth) > 1e-4 * abs(truth)
    changed |= abs(lazy - plain) > 1e-9 * abs(plain)
    changed |= wrong != ("ard" not in name) or abs(traced - truth) > 1e-4 * abs(truth)
few, many = likelihoods(700), likelihoods(900)
print("likelihood of 700 points, three times:", few)
print("likelihood of 900 points, three times:", many)
changed |= len(set(few)) != 1 or len(set(many)) == 1
print("CHANGED: see docs/upstream.md" if changed else "as docs/upstream.md says")
sys.exit(int(changed))
