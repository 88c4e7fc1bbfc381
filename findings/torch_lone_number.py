"""A view of one number is contiguous for torch whatever its stride, and cannot be viewed as bytes."""

import torch

x = torch.arange(30.0)
print("torch", torch.__version__)
for step in (12, 29):
    part = x[5::step]
    print(f"x[5::{step}]: {len(part)} numbers, stride {part.stride()}, contiguous: {part.is_contiguous()}")
    part = part.contiguous()
    try:
        print("    contiguous() has stride", part.stride(), "and", part.view(torch.uint8).numel(), "bytes")
        refused = False
    except RuntimeError as error:
        print("    contiguous() has stride", part.stride(), "and no bytes:", error)
        refused = True
assert refused, "a lone number can be viewed as bytes now"
