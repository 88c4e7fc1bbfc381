"""A PyTorch device in host memory, to find on a machine without a GPU what would fail or stall on one.

    import standin
    standin.load()                          # builds the extension once per torch (half a minute; needs g++)
    x = torch.ones(3, device="standin")     # x + torch.ones(3) raises, as it would on CUDA
    standin.reset(); ...; standin.counts()  # {"ops": operations started, "syncs": waits for the device,
                                            #  "to_host": copies to the CPU, "from_host": copies from it}
    standin.names()                         # the same by operation
    with standin.limit(2**20): ...          # allocations beyond raise torch.OutOfMemoryError

It behaves as CUDA where a program can tell. Tensors do not mix with the CPU's, nor those of ``standin:0`` with
those of ``standin:1``; a number of the CPU (a tensor without dimensions) may take part in elementwise operations,
and indices may lie on the CPU. ``.item()``, ``bool(tensor)``, ``nonzero``, masks as indices, ``unique``, ``equal``
and whatever else has a shape or an error that depends on values makes the host wait, and counts as a sync. Random
numbers come from generators of its own. Every operation runs on the CPU underneath: results are the CPU's.

It has to be loaded before the process's first backward pass, when autograd starts a thread for every device.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import types
from collections.abc import Iterator
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("standin.cpp")
N_DEVICES = 2


class NoCompiler(RuntimeError):
    """There is nothing to build the stand-in with."""


class TooLate(RuntimeError):
    """A backward pass ran before the stand-in was loaded."""


def compiler() -> str | None:
    """Path of the C++ compiler, None if there is none: CXX, or g++."""
    return shutil.which(os.environ.get("CXX", "g++"))


def build() -> Path:
    """The extension as a shared library, compiled when its source, torch or the compiler have changed.

    Kept where torch keeps its extensions (``TORCH_EXTENSIONS_DIR``). Processes that want it at once wait for the
    first.

    Raises:
        NoCompiler: if it has to be built and cannot be.
    """
    from torch.utils import cpp_extension

    cxx = compiler()
    key = hashlib.sha256(f"{torch.__version__} {torch.__file__} {cxx}".encode() + SOURCE.read_bytes()).hexdigest()
    home = (
        Path(os.environ.get("TORCH_EXTENSIONS_DIR") or cpp_extension.get_default_build_root())
        / "torchscape_standin"
    )
    library = home / f"standin-{key[:16]}.so"
    if library.exists():
        return library
    if cxx is None:
        raise NoCompiler("the stand-in device needs a C++ compiler to be built: install g++, or set CXX")
    home.mkdir(parents=True, exist_ok=True)
    with open(home / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            fresh = library.with_suffix(f".{os.getpid()}")
            abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
            flags = ["-std=c++20", "-O0", "-fPIC", "-shared", "-w", "-DAT_PER_OPERATOR_HEADERS", abi]
            paths = [f"-I{path}" for path in cpp_extension.include_paths()] + [
                f"-L{path}" for path in cpp_extension.library_paths()
            ]
            command = [cxx, *flags, *paths, str(SOURCE), "-o", str(fresh), "-lc10", "-ltorch_cpu", "-ltorch"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"the stand-in device does not compile:\n{done.stderr[-5000:]}")
            os.replace(fresh, library)
    return library


@functools.cache
def load() -> None:
    """Make ``torch.device("standin")`` known to this process.

    Raises:
        NoCompiler: if it has to be built and cannot be.
        TooLate: if the process has run a backward pass.
    """
    library = ctypes.CDLL(str(build()))
    library.standin_names.restype = ctypes.c_char_p
    library.standin_state_size.restype = ctypes.c_int64
    library.standin_set_limit.argtypes = [ctypes.c_int, ctypes.c_int64]
    library.standin_seed.argtypes = [ctypes.c_int, ctypes.c_uint64]
    library.standin_get_state.argtypes = [ctypes.c_int, ctypes.c_void_p]
    library.standin_set_state.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int64]
    globals()["_library"] = library
    torch.utils.rename_privateuse1_backend("standin")
    library.standin_init()
    torch._register_device_module("standin", _device_module())
    torch.utils.generate_methods_for_privateuse1_backend(for_storage=True)
    try:
        torch.ones(1, device="standin", requires_grad=True).sum().backward()
    except RuntimeError as error:
        if "device_ready_queues_" not in str(error):
            raise
        raise TooLate(
            "this process ran a backward pass before the stand-in device was loaded, so autograd has no thread "
            "for it: load it first (a test module must not make potentials or take gradients while it is imported)"
        ) from None


_library: ctypes.CDLL


def reset() -> None:
    """Counting starts again."""
    _library.standin_reset()


def counts() -> dict[str, int]:
    """Operations started, waits for the device, copies to the host and from it since :func:`reset`."""
    out = (ctypes.c_int64 * 4)()
    _library.standin_counts(out)
    return dict(zip(("ops", "syncs", "to_host", "from_host"), out, strict=True))


def questions() -> int:
    """Waits and copies either way since :func:`reset`: what stalls a GPU."""
    now = counts()
    return now["syncs"] + now["to_host"] + now["from_host"]


def names() -> dict[str, int]:
    """What was counted, by operation; waits and copies in parentheses."""
    lines = _library.standin_names().decode().splitlines()
    return {name: int(n) for n, name in (line.split(" ", 1) for line in lines)}


def memory(device: torch.device | str | int | None = None) -> dict[str, int]:
    """Bytes in use on a device, the most since :func:`reset_peak`, and the limit."""
    out = (ctypes.c_int64 * 3)()
    _library.standin_memory(_index(device), out)
    return dict(zip(("allocated", "peak", "limit"), out, strict=True))


def reset_peak(device: torch.device | str | int | None = None) -> None:
    """The peak of :func:`memory` counts from here."""
    _library.standin_reset_peak(_index(device))


def set_limit(n_bytes: int, device: torch.device | str | int | None = None) -> None:
    """The device has so many bytes; an allocation beyond raises ``torch.OutOfMemoryError``."""
    _library.standin_set_limit(_index(device), n_bytes)


@contextlib.contextmanager
def limit(n_bytes: int, device: torch.device | str | int | None = None) -> Iterator[None]:
    """:func:`set_limit` for a while."""
    before = memory(device)["limit"]
    set_limit(n_bytes, device)
    try:
        yield
    finally:
        set_limit(before, device)


def _index(device: torch.device | str | int | None) -> int:
    if isinstance(device, int):
        return device
    index = None if device is None else torch.device(device).index
    return _library.standin_current() if index is None else index


def _device_module() -> types.ModuleType:
    """``torch.standin``, with those functions of ``torch.cuda`` that do not depend on the make."""
    module = types.ModuleType("torch.standin")

    def properties(device=None):
        return types.SimpleNamespace(
            name="stand-in", total_memory=memory(device)["limit"], multi_processor_count=1
        )

    def get_rng_state(device=None):
        state = torch.empty(_library.standin_state_size(_index(device)), dtype=torch.uint8)
        _library.standin_get_state(_index(device), state.data_ptr())
        return state

    def set_rng_state(state, device=None):
        _library.standin_set_state(_index(device), state.data_ptr(), state.numel())

    def manual_seed_all(seed):
        for index in range(N_DEVICES):
            _library.standin_seed(index, seed % 2**64)

    @contextlib.contextmanager
    def device(which):
        before = _library.standin_current()
        _library.standin_set_current(_index(which))
        try:
            yield
        finally:
            _library.standin_set_current(before)

    members = {
        "device": device,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_is_in_bad_fork": lambda: False,
        "_lazy_init": lambda: None,
        "init": lambda: None,
        "device_count": lambda: N_DEVICES,
        "current_device": lambda: _library.standin_current(),
        "set_device": lambda device: _library.standin_set_current(_index(device)),
        "synchronize": lambda device=None: _library.standin_synchronise(),
        "get_device_name": lambda device=None: "stand-in",
        "get_device_properties": properties,
        "empty_cache": lambda: None,
        "memory_allocated": lambda device=None: memory(device)["allocated"],
        "max_memory_allocated": lambda device=None: memory(device)["peak"],
        "memory_reserved": lambda device=None: memory(device)["allocated"],
        "reset_peak_memory_stats": reset_peak,
        "mem_get_info": lambda device=None: (
            memory(device)["limit"] - memory(device)["allocated"],
            memory(device)["limit"],
        ),
        "get_rng_state": get_rng_state,
        "set_rng_state": set_rng_state,
        "manual_seed": lambda seed: _library.standin_seed(_index(None), seed % 2**64),
        "manual_seed_all": manual_seed_all,
        "get_amp_supported_dtype": lambda: [torch.float16, torch.bfloat16],
    }
    for name, member in members.items():
        setattr(module, name, member)
    return module
