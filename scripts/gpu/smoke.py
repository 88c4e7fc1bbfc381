"""One gradient, one quench, one eigenvalue on the device, beside the CPU."""

from __future__ import annotations

import torch

from gpu.common import arguments, digits, record
from torchscape.optimise import relax
from torchscape.saddles import characterise


def main() -> None:
    args = arguments(__doc__)
    here, there = digits(3, 50, args.device), digits(3, 50, "cpu")
    x = there.sample(4, seed=0)
    energy, grad = here.energy_and_grad(x.to(args.device))
    expected, slope = there.energy_and_grad(x)
    torch.testing.assert_close(energy.cpu(), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(grad.cpu(), slope, rtol=1e-8, atol=1e-11)
    points = characterise(here, relax(here, x[:1].to(args.device)))
    assert points.converged.all(), points
    assert points.index.item() == 0, points
    record(args.json, args.device, energy_error=float((energy.cpu() - expected).abs().max()))


if __name__ == "__main__":
    main()
