"""Runs, tasks, pairs and states: what a resumed exploration needs to know."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from landscape_fixtures import Bowl

from torchscape import Landscape
from torchscape.errors import TorchscapeError


@pytest.fixture
def landscape():
    with Landscape.in_memory(Bowl()) as landscape:
        yield landscape


def test_a_run_that_died_is_marked_when_the_next_begins(tmp_path):
    with Landscape.open(tmp_path / "a.db", Bowl()) as landscape:
        assert landscape.begin_run(seed=1, settings={"budget": 10}) == 1
    with Landscape.open(tmp_path / "a.db", Bowl()) as landscape:
        assert landscape.current_run is None
        second = landscape.begin_run(seed=1)
        assert landscape.current_run == second == 2
        landscape.finish_run(second, "budget")
        assert landscape.current_run is None
        first, last = landscape.runs()
        assert (first["status"], last["status"]) == ("interrupted", "budget")
        assert first["settings"] == {"budget": 10}
        assert first["versions"]["torch"] == torch.__version__
        assert not landscape.summary()["complete"]


def test_a_run_that_is_rolled_back_never_began(landscape):
    def begin_and_fail():
        with landscape.transaction():
            landscape.begin_run(seed=0)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        begin_and_fail()
    assert landscape.runs() == []
    assert landscape.current_run is None


def test_tasks_are_recorded_once(landscape):
    assert landscape.record_task("hop/0", "quench", {"rows": 3}, n_evaluations=70, wall=0.5)
    assert not landscape.record_task("hop/0", "quench", {"rows": 4}, n_evaluations=10)
    assert landscape.record_task("pair/0", "connect", n_evaluations=5)
    assert landscape.task_done("hop/0")
    assert not landscape.task_done("hop/1")
    assert (landscape.n_tasks(), landscape.n_tasks("quench"), landscape.n_evaluations()) == (2, 1, 75)


def test_pairs_have_no_direction_and_count_attempts(landscape):
    landscape.record_pairs(torch.tensor([[3, 1], [0, 2]]), "no maximum")
    landscape.record_pairs(torch.tensor([[1, 3], [5, 4]]), ["connected", "not converged"])
    tried = landscape.tried_pairs()
    assert tried.pairs.tolist() == [[0, 2], [1, 3], [4, 5]]
    assert tried.times.tolist() == [1, 2, 1]
    assert tried.outcomes == ("no maximum", "connected", "not converged")


def test_no_pairs(landscape):
    landscape.record_pairs(torch.empty(0, 2, dtype=torch.int64), "connected")
    assert landscape.tried_pairs().pairs.shape == (0, 2)


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
dtypes = st.sampled_from([torch.float64, torch.float32, torch.int64, torch.int32, torch.uint8, torch.bool])
tensors = st.builds(
    lambda shape, dtype, seed: (
        torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 1e3
    ).to(dtype),
    st.lists(st.integers(0, 3), max_size=3),
    dtypes,
    st.integers(0, 100),
)


@given(st.dictionaries(st.text(), scalars | st.lists(scalars, max_size=3) | tensors, max_size=5))
@settings(deadline=None, max_examples=40)
def test_states_come_back_as_they_were(state):
    with Landscape.in_memory(Bowl()) as landscape:
        landscape.save_state("hopping", {"old": torch.ones(2), "older": 1})
        landscape.save_state("hopping", state)
        loaded = landscape.load_state("hopping")
        assert loaded is not None
        assert loaded.keys() == state.keys()
        for name, value in state.items():
            if isinstance(value, torch.Tensor):
                assert loaded[name].dtype == value.dtype
                assert torch.equal(loaded[name], value)
            else:
                assert loaded[name] == value


def test_states_hold_nan_and_64_bit_keys(landscape):
    keys = torch.tensor([-(2**63), 2**63 - 1])
    landscape.save_state("a", {"best": math.inf, "last": math.nan, "keys": keys, "seed": 2**63})
    state = landscape.load_state("a")
    assert state["best"] == math.inf
    assert math.isnan(state["last"])
    assert torch.equal(state["keys"], keys)
    assert state["seed"] == 2**63
    assert landscape.load_state("b") is None


def test_loaded_tensors_can_be_written_to(landscape):
    landscape.save_state("a", {"x": torch.zeros(3)})
    loaded = landscape.load_state("a")["x"]
    loaded[0] = 1.0
    assert loaded.tolist() == [1.0, 0.0, 0.0]
    assert landscape.load_state("a")["x"].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("value", [object(), {1, 2}, torch.zeros(2, dtype=torch.complex64), b"bytes"])
def test_other_things_are_refused(landscape, value):
    with pytest.raises(TorchscapeError, match="convert it"):
        landscape.save_state("a", {"value": value})
    assert landscape.load_state("a") is None
