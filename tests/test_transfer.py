"""Bytes of tensors, wherever their numbers lie."""

from __future__ import annotations

import pickle

import torch

from torchscape.explore.messages import packed, unpacked
from torchscape.optimise.ledger import digests
from torchscape.transfer import as_bytes


def lone_numbers() -> list[torch.Tensor]:
    """Views of one number, which torch calls contiguous although their stride is not 1."""
    x = torch.arange(60, dtype=torch.float64)
    return [x[7::53], x.view(30, 2)[7:8, 1:], x.view(2, 30)[:1, 7::30].mT, x.float()[7::53], x.bool()[7::53]]


def test_a_lone_number_has_its_bytes():
    for one in lone_numbers():
        assert as_bytes(one).numpy().tobytes() == one.numpy().tobytes()


def test_a_lone_row_has_the_digest_of_its_copy():
    for one in lone_numbers():
        rows, same = one.reshape(1, -1), torch.tensor(one.tolist(), dtype=one.dtype).reshape(1, -1)
        assert torch.equal(digests("squares", (rows,)), digests("squares", (same,)))


def test_a_lone_number_can_be_sent():
    for one in lone_numbers():
        (sent,) = unpacked(packed((one,), "a number", compact=True), None)
        assert torch.equal(sent, one)
        again = pickle.loads(pickle.dumps(one))
        assert packed((one,), "a number", compact=True) == packed((again,), "a number", compact=True)
