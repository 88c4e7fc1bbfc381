"""Student and teacher: the ground state is where it is said to be."""

from __future__ import annotations

import pytest
import torch

from torchscape import problems
from torchscape.errors import TorchscapeError, UnknownName
from torchscape.optimise import relax

pytest.importorskip("sklearn")


@pytest.mark.parametrize("activation", ["tanh", "relu", "linear"])
@pytest.mark.parametrize("size", [1, 2])
def test_a_copy_of_the_teacher_has_energy_zero(size, activation, device):
    problem = problems.get("student-teacher", teacher=4, size=size, n=10, activation=activation, device=device)
    u, point = problem.potential, problem.known.lowest[None]
    assert problem.known.minima == (0.0,)
    energy, grad = u.energy_and_grad(point)
    assert energy.item() < 1e-25
    assert grad.abs().max() < 1e-12
    assert u.energy(point + 0.01).item() > 1e-6
    assert u.energy(u.symmetry.random_image(point, torch.tensor([3], device=device))).item() < 1e-25
    inputs, targets = problem.test  # the copy gives the teacher's answers on the other half too
    assert torch.allclose(u.predict(point, inputs)[0], targets, atol=1e-12)


def test_the_teacher_has_learned_its_half():
    from torchscape.problems.networks import digits_data

    problem = problems.get("student-teacher", teacher=6, n=150)
    _, y = digits_data()
    inputs, answers = problem.test
    assert inputs.shape[0] == 150
    assert (inputs.amax(0) > inputs.amin(0)).double().mean() > 0.9
    from torchscape import random

    first = random.permutation(random.fold(0, torch.arange(1)), len(y))[0][:150]
    assert (answers.argmax(1) == y[first]).double().mean() > 0.99


def test_small_students_and_regularised_ones_have_no_such_state():
    small = problems.get("student-teacher", teacher=4, size=0.5, n=40)
    assert small.known.minima == ()
    assert small.known.lowest is None
    assert relax(small.potential, small.potential.sample(2), tol=1e-4).energy.min() > 1e-2
    assert problems.get("student-teacher", teacher=4, n=40, l2=1e-3).known.lowest is None


def test_depends_on_the_seed_alone():
    before = torch.get_rng_state()
    one, same, other = (problems.get("student-teacher", teacher=2, n=10, seed=s).potential for s in (0, 0, 1))
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    assert torch.equal(before, torch.get_rng_state())


def test_bad_options_name_the_remedy():
    with pytest.raises(UnknownName, match="relu"):
        problems.get("student-teacher", activation="relux")
    with pytest.raises(TorchscapeError, match="hidden unit"):
        problems.get("student-teacher", size=0.01)
