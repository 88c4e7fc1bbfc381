"""What Ray does that one would not expect; run by ``-m slow`` where it is installed."""

from __future__ import annotations

import importlib.util
import signal
import sys

import numpy as np
import pytest
import torch

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'torchscape[ray]'")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture(scope="module")
def handlers():
    """A machine of two cores; SIGTERM's handlers before and after it was started."""
    found = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # other tests may have left one of Ray's
    before = signal.getsignal(signal.SIGTERM)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    after = signal.getsignal(signal.SIGTERM)
    yield before, after
    ray.shutdown()
    signal.signal(signal.SIGTERM, found)


def test_ray_takes_the_place_of_the_handler_of_sigterm(handlers):
    before, after = handlers
    assert before is signal.SIG_DFL
    assert callable(after)


def test_concurrency_groups_are_no_option(handlers):
    class Two:
        def one(self):
            return 1

    with pytest.raises(ValueError, match=r"not supported in '\.options\(\)'"):
        ray.remote(Two).options(concurrency_groups={"a": 1})
    assert ray.remote(concurrency_groups={"a": 1})(Two) is not None


def test_a_worker_that_is_used_again_keeps_its_threads(handlers):
    def told() -> tuple[int, int]:
        import os

        import torch

        return os.getpid(), torch.get_num_threads()

    seen: dict[int, set[int]] = {}
    for cores in (1, 2, 1, 2, 1, 2):
        pid, threads = ray.get(ray.remote(num_cpus=cores)(told).remote())
        seen.setdefault(pid, set()).add(threads)
    assert all(len(threads) == 1 for threads in seen.values())
    assert {1} in seen.values()  # whatever two cores were promised: the process that was first given one has one


def test_an_edit_in_place_of_an_array_changes_the_store(handlers):
    def edited(array) -> float:
        with pytest.warns(UserWarning, match="not writable"):
            torch.from_numpy(array)[0] = 7.0
        return float(array[0])

    stored = ray.put(np.zeros(1_000_000))
    assert ray.get(ray.remote(edited).remote(stored)) == 7.0
    assert ray.get(stored)[0] == 7.0
    tensor = ray.put(torch.zeros(1_000_000))
    ray.get(tensor)[0] = 7.0
    assert ray.get(tensor)[0] == 0.0


def test_a_module_that_was_loaded_by_path_is_sent_by_name(handlers, tmp_path):
    (tmp_path / "mine_by_path.py").write_text("def three():\n    return 3\n")
    spec = importlib.util.spec_from_file_location("mine_by_path", tmp_path / "mine_by_path.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["mine_by_path"] = module
    spec.loader.exec_module(module)
    try:
        with pytest.raises(Exception, match="mine_by_path"):
            ray.get(ray.remote(module.three).remote())
        ray.cloudpickle.register_pickle_by_value(module)
        assert ray.get(ray.remote(module.three).remote()) == 3
    finally:
        del sys.modules["mine_by_path"]
