"""What importing torchscape asks of the process, seen from outside: page faults of repeated evaluations."""

import os
import platform
import subprocess
import sys

import pytest

_PAGES_OF_EVALUATIONS = """
import resource, torch
torch.set_num_threads(1)
import torchscape as tsc
net = torch.nn.Sequential(torch.nn.Linear(64, 4), torch.nn.Tanh(), torch.nn.Linear(4, 10))
data = torch.rand(1500, 64), torch.arange(1500) % 10
potential = tsc.ModulePotential(net, data, torch.nn.functional.cross_entropy, 1e-4, symmetry=None)
x = potential.sample(32, seed=1)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    potential.energy_and_grad(x)
before = faults()
for _ in range(10):
    potential.energy_and_grad(x)
print(faults() - before)
"""


def _faults(**variables: str) -> int:
    known = {name: value for name, value in os.environ.items() if "MALLOC" not in name and name != "LD_PRELOAD"}
    known.pop("GLIBC_TUNABLES", None)
    run = [sys.executable, "-c", _PAGES_OF_EVALUATIONS]
    return int(subprocess.run(run, env=known | variables, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc's allocator")
def test_evaluations_use_the_memory_of_those_before_unless_the_user_says_otherwise():
    # Ten gradients of 32 networks have temporaries of some 10 MB each, 2500 pages: seen, 47 000 faults. Where
    # memory is kept, 2 or 3 in most runs, and up to 2200 in some, where the heap had to grow once more.
    kept, returned = _faults(), _faults(MALLOC_TRIM_THRESHOLD_="131072", MALLOC_MMAP_THRESHOLD_="131072")
    assert returned > 10_000
    assert kept < returned / 10


@pytest.mark.parametrize(("variables", "spins"), [({}, "6000"), ({"TORCHSCAPE_PROCESS": "unchanged"}, "None")])
def test_one_variable_switches_all_of_it_off(variables, spins):
    code = """
import ctypes, os
asked = []
class Library:
    gnu_get_libc_version = None
    def mallopt(self, *what):
        asked.append(what)
ctypes.CDLL = lambda name: Library()
import torchscape._process
print(os.environ.get("GOMP_SPINCOUNT"), len(asked))
"""
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "GLIBC_TUNABLES", "TORCHSCAPE_PROCESS")
    known = {name: value for name, value in os.environ.items() if name not in names and "MALLOC" not in name}
    done = subprocess.run([sys.executable, "-c", code], env=known | variables, capture_output=True, text=True)
    assert done.stdout.split() == [spins, "0" if variables else "2"], done.stderr
