"""Memory that runs out: fewer rows at a time, one note, the same results, nothing lost."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest
import torch

import torchscape as tsc
from torchscape.errors import MemoryWarning, OutOfMemory
from torchscape.memory import Limits, attempt, in_parts, ran_out, rows_that_fit
from torchscape.optimise import BFGS, LBFGS, Pool, Queue, relax
from torchscape.potentials import ModulePotential, Potential
from torchscape.saddles import characterise, climb
from torchscape.saddles.band import find_paths
from torchscape.sampling import BAOAB, HMC, sample


class Wells(Potential):
    """prod (x_i^2 - 1)^2 wells on a slope: 2^D minima, all different."""

    ndim = 3

    def energy(self, x):
        return ((x**2 - 1) ** 2).sum(1) + 0.1 * (x * torch.arange(1.0, 4.0, dtype=x.dtype)).sum(1)


class Cramped(Wells):
    """The same on a device that takes so many rows at a time."""

    def __init__(self, most: int) -> None:
        self.most, self.refused, self.largest = most, 0, 0

    def energy(self, x):
        if len(x) > self.most:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.largest = max(self.largest, len(x))
        return super().energy(x)


@pytest.fixture
def x() -> torch.Tensor:
    return Wells().sample(50, seed=1)


def test_every_evaluation_goes_on_with_fewer_rows(x):
    roomy, v = Wells(), Wells().sample(50, seed=2)
    evaluations = {
        "energy": lambda u: u.energy(x),
        "gradient": lambda u: u.energy_and_grad(x)[1],
        "hvp": lambda u: u.hvp(x, v),
        "hessian": lambda u: u.hessian(x),
        "products": lambda u: u.products_at(x)(torch.stack([v, x], 1)),
    }
    for name, evaluate in evaluations.items():
        cramped = Cramped(7)
        with pytest.warns(MemoryWarning, match="memory ran out with"):
            found = evaluate(cramped)
        torch.testing.assert_close(found, evaluate(roomy), rtol=1e-14, atol=1e-14, msg=name)
        refused = cramped.refused
        assert refused <= 8  # halvings, not a refusal for every part
        evaluate(cramped)  # warnings are errors: the size that fits is remembered
        assert cramped.refused == refused, name


def test_under_autograd_whoever_differentiates_halves(x):
    """The graphs of all parts would stay, so halving the energy alone would save nothing."""
    leaf = x.clone().requires_grad_(True)
    with pytest.raises(torch.OutOfMemoryError):
        Cramped(7).energy(leaf)


def test_other_errors_pass():
    class Broken(Wells):
        def energy_and_grad(self, x):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x2 and 3x2)")

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        Broken().energy_and_grad(torch.zeros(4, 3))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "),
        RuntimeError("[enforce fail at alloc_cpu.cpp:75] data. DefaultCPUAllocator: not enough memory: you tried"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1.00 GB)"),
        MemoryError("std::bad_alloc"),
    ],
)
def test_allocations_that_failed_are_known_by_their_messages(error):
    assert ran_out(error)
    assert not ran_out(ValueError(str(error)))


def test_a_failed_attempt_frees_what_it_held():
    """The traceback of the error holds the frames, and they the tensors: all must be gone before the next try."""
    import weakref

    held = []

    class Block:
        pass

    def hungry():
        block = Block()
        held.append(weakref.ref(block))
        raise torch.OutOfMemoryError("no room")

    assert attempt(hungry) == (False, "no room")
    assert held[0]() is None


def test_parts_come_in_order_and_no_later_part_is_larger():
    seen = []

    def f(a, b):
        if len(a) > 3 and int(a[0]) >= 4:
            raise torch.OutOfMemoryError("no room")
        seen.append(len(a))
        return a + b

    limits = Limits()
    a = torch.arange(15)
    with pytest.warns(MemoryWarning, match="with 4 gulps: goes on with 2"):
        parts = in_parts(f, (a, a), size=4, limits=limits, key="f", what="gulps")
    assert torch.equal(torch.cat(parts), 2 * a)
    assert seen == [4, 2, 2, 2, 2, 2, 1]
    assert limits == {"f": 2}


def test_one_row_that_does_not_fit_says_so(x):
    with pytest.raises(OutOfMemory, match="not even one of the energies fits"), pytest.warns(MemoryWarning):
        Cramped(0).energy(x)


def test_pieces_on_a_cpu_are_those_that_stay_in_the_caches():
    cpu = torch.device("cpu")
    assert [rows_that_fit(n, cpu, on_host=1 << 23) for n in (0, 1, 1000, 1 << 23, 1 << 30)] == [
        1 << 23, 1 << 23, 8388, 1, 1
    ]  # fmt: skip


# --- the pool -------------------------------------------------------------------------------------------------


class Heavy:
    """A minimiser whose state fits for so many rows, and whose step needs as much again."""

    def init(self, potential, x):
        if len(x) > 10:
            raise torch.OutOfMemoryError("no room for the memory of these rows")
        return super().init(potential, x)

    def step(self, potential, state):
        new = super().step(potential, state)
        if len(state.x) > 5:  # when all is done: the buffers have been written to
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
        return new


class HeavyLBFGS(Heavy, LBFGS):
    pass


class HeavyBFGS(Heavy, BFGS):
    pass


@pytest.mark.parametrize(
    ("heavy", "plain"), [(HeavyLBFGS(), LBFGS()), (HeavyBFGS(), BFGS())], ids=["LBFGS", "BFGS"]
)
def test_rows_in_flight_wait_on_the_host_and_land_where_they_would_have(x, heavy, plain):
    """Steps that fail late have written into their state: repeated, they write the same again."""
    x = x[:12]
    expected = relax(Wells(), x, optimiser=plain)
    u = Wells()
    with pytest.warns(MemoryWarning) as notes:
        found = relax(u, x, optimiser=heavy)
    torch.testing.assert_close(found.x, expected.x, rtol=0, atol=1e-7)
    assert torch.equal(found.n_evaluations, expected.n_evaluations)
    assert bool(found.converged.all())
    said = [str(note.message) for note in notes if issubclass(note.category, MemoryWarning)]
    assert any("12 new rows" in one for one in said)
    assert any("rows in flight: goes on with" in one for one in said)
    assert len(said) <= 6
    relax(u, x, optimiser=heavy)  # warnings are errors: both sizes are remembered


def test_a_source_gets_every_row_once_although_newcomers_find_no_room(x):
    class Tight(LBFGS):
        """Newcomers find room only in an empty flight."""

        def init(self, potential, x):
            if len(x) > 4 or self._flying:
                raise torch.OutOfMemoryError("no room")
            return super().init(potential, x)

        def result(self, potential, state):
            self._flying[:] = []
            return super().result(potential, state)

        def step(self, potential, state):
            self._flying[:] = [1]
            return super().step(potential, state)

    Tight._flying = []
    queue = Queue(x[:13])
    with pytest.warns(MemoryWarning):
        Pool(Tight(), 16).run(Wells(), queue)
    found = queue.ordered()
    torch.testing.assert_close(found.x, relax(Wells(), x[:13]).x, rtol=0, atol=1e-6)


def test_a_flight_of_one_row_that_does_not_fit_says_so(x):
    class Never(LBFGS):
        def step(self, potential, state):
            raise torch.OutOfMemoryError("no room")

    with pytest.raises(OutOfMemory, match="not even one row of Never"), pytest.warns(MemoryWarning):
        relax(Wells(), x, optimiser=Never())


# --- what is built on both ------------------------------------------------------------------------------------


def quietly(f):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MemoryWarning)
        return f()


def test_searches_characterisation_bands_and_samplers(x):
    roomy, cramped = Wells(), Cramped(5)
    minima = relax(roomy, x)
    torch.testing.assert_close(
        quietly(lambda: characterise(cramped, minima)).eigenvalues, characterise(roomy, minima).eigenvalues
    )
    a, b = minima.x[:6], minima.x[6:12]
    for (_, found), (_, path) in zip(
        quietly(lambda: find_paths(cramped, a, b)), find_paths(roomy, a, b), strict=True
    ):
        torch.testing.assert_close(found.energy, path.energy, rtol=1e-6, atol=1e-8)
    there, here = (quietly(lambda u=u: climb(u, minima.x[:6])) for u in (cramped, roomy))
    assert len(here) > 0
    torch.testing.assert_close(there.ts.energy.sort()[0], here.ts.energy.sort()[0], rtol=0, atol=1e-8)
    for sampler in (BAOAB(0.05), HMC(0.1, n_leapfrog=3)):
        chains = [
            quietly(lambda u=u, sampler=sampler: sample(u, x, sampler=sampler, steps=10, seed=3))
            for u in (cramped, roomy)
        ]
        torch.testing.assert_close(chains[0].state.x, chains[1].state.x, rtol=1e-9, atol=1e-9)
    assert cramped.largest <= 5
    assert cramped.refused < 40


def explored(u):
    strategies = [tsc.BasinHopping(walkers=12, hops=1), tsc.ConnectMinima(neighbours=1)]
    with tsc.Landscape.in_memory(u) as landscape:
        tsc.explore(landscape, u, strategies=strategies, seed=0, progress=False)
        return landscape.network()


def test_an_exploration_finds_the_same():
    here, there = (quietly(lambda u=u: explored(u)) for u in (Wells(), Cramped(5)))
    torch.testing.assert_close(there.energy, here.energy, rtol=0, atol=1e-8)
    torch.testing.assert_close(there.ts_energy, here.ts_energy, rtol=0, atol=1e-8)
    assert here.n_minima > 3


# --- modules --------------------------------------------------------------------------------------------------


class Gate(torch.nn.Module):
    """Passes its input on while it is small enough: counted in numbers, over rows and samples together."""

    most = 10**9
    refused = 0
    largest = 0

    def forward(self, x):
        return _Count.apply(x)


class _Count(torch.autograd.Function):
    generate_vmap_rule = False

    @staticmethod
    def forward(x):
        Gate.largest = max(Gate.largest, x.numel())
        if x.numel() > Gate.most:
            Gate.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, grad):
        return grad

    @staticmethod
    def vmap(info, in_dims, x):
        return _Count.apply(x), in_dims[0]


@pytest.fixture
def network():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh(), Gate(), torch.nn.Linear(2, 2))
    data = torch.randn(40, 3), torch.randint(2, (40,))
    yield ModulePotential(net, data, torch.nn.functional.cross_entropy, l2=1e-3)
    Gate.most, Gate.refused = 10**9, 0


@pytest.mark.parametrize("most", [500, 250, 30])  # of 10 rows x 40 samples x 2 units: some rows, two, part of one
def test_modules_halve_rows_and_then_samples(network, most):
    u, x = network, network.sample(10, seed=0)
    v = torch.ones_like(x)
    evaluations = [
        lambda: u.energy(x),
        lambda: u.energy_and_grad(x)[1],
        lambda: u.hvp(x, v),
        lambda: u.hessian(x),
        lambda: u.products_at(x)(v[:, None]),
        lambda: u.predict(x, torch.ones(30, 3)),
    ]
    expected = [evaluate() for evaluate in evaluations]
    Gate.most = most
    found = [quietly(evaluate) for evaluate in evaluations]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)
    refused = Gate.refused
    assert 6 <= refused <= 60
    again = [evaluate() for evaluate in evaluations]
    assert Gate.refused == refused
    assert all(
        torch.equal(one, other) for one, other in zip(again, found, strict=True)
    )  # the same split, the same


def test_a_loss_of_all_samples_at_once_says_what_to_do(network):
    net = network.module.requires_grad_(True)
    data = torch.randn(40, 3), torch.randint(2, (40,))
    u = ModulePotential(net, data, torch.nn.functional.cross_entropy, reduction="whole")
    Gate.most = 30
    with pytest.raises(OutOfMemory, match="takes all samples at once: use fewer samples"):
        quietly(lambda: u.energy(u.sample(2)))


LIMITED = """
import resource, warnings
import torch
import torchscape as tsc
from torchscape.errors import MemoryWarning

class Wide(tsc.Potential):
    ndim = 4
    def energy(self, x):
        return (x[:, :, None] * torch.ones(1_100_000, dtype=x.dtype)).square().sum((1, 2)) / 1_100_000

x = torch.arange(24.0, dtype=torch.float64).reshape(6, 4)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 280 * 2**20, resource.RLIM_INFINITY))  # 6 rows take 3 x 200 MiB
with warnings.catch_warnings(record=True) as notes:
    warnings.simplefilter("always")
    energy, grad = Wide().energy_and_grad(x)
torch.testing.assert_close(energy, x.square().sum(1))
torch.testing.assert_close(grad, 2 * x)
print(sum(issubclass(note.category, MemoryWarning) for note in notes))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_AS is enforced on Linux")
def test_a_process_whose_memory_does_run_out():
    """PyTorch's own error on a CPU, with nothing pretended."""
    ran = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) >= 1
