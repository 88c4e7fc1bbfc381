"""Nonsense on the command line and for what potentials are built of, and damage in a file: one line, no traceback.

A small part of ``scripts/fuzz``, which makes thousands of cases. It runs by itself, as the types of arguments are
checked before the package sees them in the process of the tests.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import torchscape as tsc

SCRIPT = Path(__file__).parents[1] / "scripts" / "fuzz"


@pytest.fixture(scope="module")
def fuzz():
    loader = importlib.machinery.SourceFileLoader("fuzz", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("fuzz", loader))
    loader.exec_module(module)
    return module


def test_nonsense_and_damage_are_told_in_one_line():
    words = [sys.executable, str(SCRIPT), "--count", "3", "--seed", "1"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line.endswith("failed")] == [
        f"{name}: 0 failed" for name in ("words", "values", "bytes")
    ]


def test_the_fuzz_notices_what_it_looks_for(fuzz, tmp_path, monkeypatch):
    """A traceback, an exit code of its own, a reason that is none, a hang, and a number that is another."""

    def raises(words):
        raise KeyError("raw")

    def goes_on(words):
        while True:
            pass

    for main, told in ((raises, "KeyError"), (lambda _: 5, "code 5"), (lambda _: 2, "without"), (goes_on, "Hang")):
        with monkeypatch.context() as patched:
            patched.setattr(fuzz, "LIMIT", 0.2)
            patched.setattr(fuzz, "torchscape", main)
            assert told in fuzz.complaint(["info", "a.db"])
    monkeypatch.setattr(tsc.Landscape, "n_evaluations", lambda self: fuzz.random.randrange(10**9))
    found = fuzz.try_bytes(range(12), 0, tmp_path)
    assert found
    assert all("another number" in one for one in found)


def test_every_option_has_its_turn(fuzz):
    """Of every command, within the cases that the script makes by default."""
    lines = [fuzz.command_line(fuzz.random.Random(f"0/{number}")) for number in range(800)]
    seen = {(words[0], word.partition("=")[0]) for words in lines for word in words}
    wanted = {
        (name, action.option_strings[-1])
        for name, parser in fuzz.parsers().items()
        for action in parser._actions
        if action.option_strings and action.dest != "help"
    }
    assert wanted - seen == set()
