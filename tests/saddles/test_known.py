"""Transition states that are known are not verified again; whatever else a search comes to is."""

from __future__ import annotations

import torch

from torchscape.potentials.base import Potential
from torchscape.potentials.counted import Metered
from torchscape.saddles import connect
from torchscape.saddles.known import Known


class Waves(Potential):
    """1 - cos(2 pi x) + y^2: minima 0 at whole x, transition states 2 half way between them."""

    ndim = 2

    def energy(self, x):
        return 1 - torch.cos(2 * torch.pi * x[:, 0]) + x[:, 1] ** 2


def pairs(*starts):
    a = torch.zeros(len(starts), 2, dtype=torch.float64)
    a[:, 0] = torch.tensor(starts, dtype=torch.float64)
    b = a.clone()
    b[:, 0] += 1
    return a, b


def test_what_is_known_comes_back_as_it_was_for_nothing_but_the_search():
    a, b = pairs(0.0, 5.0)
    before = connect(Waves(), a, b)
    assert before.ts.x[:, 0].round(decimals=9).tolist() == [0.5, 5.5]
    assert before.ts.eigenvalues is not None
    first = torch.tensor([0])
    known = Known(a, *(points[first] for points in (before.ts, before.minus, before.plus)))
    without, u = Metered(Waves()), Metered(Waves())
    connect(without, a[:1], b[:1])
    found = connect(u, a[:1], b[:1], known=known)
    assert found.outcomes == {"VERIFIED": 1}
    assert found.candidate_ts.tolist() == [0]
    for mine, one in ((found.ts, known.ts), (found.minus, known.minus), (found.plus, known.plus)):
        assert torch.equal(mine.x, one.x)
    assert u.n_hessians < without.n_hessians
    assert u.n_gradients < without.n_gradients


def test_among_known_ones_new_ones_are_verified_and_each_is_counted():
    a, b = pairs(0.0, 5.0, 3.0)
    before = connect(Waves(), a[:1], b[:1])
    known = Known(a[:1], before.ts, before.minus, before.plus)
    found = connect(Waves(), a[[1, 0, 2, 0]], b[[1, 0, 2, 0]], known=known)
    assert found.outcomes == {"VERIFIED": 4}
    assert sorted(found.ts.x[:, 0].round(decimals=9).tolist()) == [0.5, 3.5, 5.5]
    at = found.ts.x[found.candidate_ts, 0].round(decimals=9).tolist()
    assert dict(zip(found.candidate_pair.tolist(), at, strict=True)) == {0: 5.5, 1: 0.5, 2: 3.5, 3: 0.5}
    ends = torch.stack([found.minus.x[:, 0], found.plus.x[:, 0]]).sort(0).values.round()
    assert torch.equal(ends.mean(0), found.ts.x[:, 0].round(decimals=9))


def test_without_any_transition_state_known_minima_are_what_they_were():
    a, b = pairs(0.0)
    none = connect(Waves(), a[:0], b[:0])
    found = connect(Waves(), a, b, known=Known(torch.cat([a, b]), none.ts, none.minus, none.plus))
    plain = connect(Waves(), a, b, known=torch.cat([a, b]))
    assert torch.equal(found.ts.x, plain.ts.x)
    assert torch.equal(found.minus.x, plain.minus.x)
