"""What torch computes for a row depends, in the last digit, on how many other rows are there. One thread."""

import torch

torch.set_num_threads(1)
print("torch", torch.__version__, torch.backends.cpu.get_cpu_capability())
generator = torch.Generator().manual_seed(0)


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def differing(f, x: torch.Tensor) -> list[int]:
    """The numbers of rows, up to 40, for which f has rows with other last digits than f of all rows."""
    whole = f(x)
    found = []
    for n in range(1, 41):
        part = f(x[:n].clone())
        torch.testing.assert_close(part, whole[:n], rtol=1e-12, atol=1e-12)  # nothing but rounding
        if not torch.equal(part, whole[:n]):
            found.append(n)
    return found


matrix, vector = numbers(300, 28), numbers(300)
seen = {
    "torch.sigmoid": differing(torch.sigmoid, numbers(64, 27)),
    "torch.nn.functional.silu": differing(torch.nn.functional.silu, numbers(64, 27)),
    "torch.mm": differing(lambda x: torch.mm(x, matrix), numbers(64, 300)),
    "torch.mv": differing(lambda x: torch.mv(x, vector), numbers(64, 300)),
    "torch.bmm": differing(lambda x: torch.bmm(x, x.mT), numbers(64, 9, 30)),
    "torch.tanh": differing(torch.tanh, numbers(64, 27)),
}
for name, rows in seen.items():
    print(f"{name}: rows differ from those among 64 when there are {rows or 'no such numbers of rows'}")
assert seen["torch.mm"], "matrix products no longer depend on the number of rows"
