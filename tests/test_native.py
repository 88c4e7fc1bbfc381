"""C that is compiled where it runs: kept whole, trusted only if nobody else can have written it, done without."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat

import pytest

from torchscape import native

SOURCE = "int thrice(int n) { return 3 * n; }"
needs_compiler = pytest.mark.skipif(native._compiler() is None, reason="no C compiler")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A cache of its own, and a process that has compiled nothing yet."""
    monkeypatch.setenv("TORCHSCAPE_CACHE", str(tmp_path))
    monkeypatch.delenv("TORCHSCAPE_NATIVE", raising=False)
    monkeypatch.setattr(native, "library", native.library.__wrapped__)
    return tmp_path / "torchscape" / "native"


@needs_compiler
def test_what_was_compiled_is_kept_and_used_again(folder, monkeypatch):
    assert native.library(SOURCE).thrice(7) == 21
    (kept,) = folder.iterdir()  # nothing half-written beside it
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    monkeypatch.setattr(native.subprocess, "run", None)  # a compiler is not asked again
    assert native.library(SOURCE).thrice(5) == 15
    assert list(folder.iterdir()) == [kept]


@needs_compiler
def test_a_file_that_others_may_write_is_made_again(folder):
    native.library(SOURCE)
    (kept,) = folder.iterdir()
    kept.unlink()
    kept.write_bytes(b"not a library")
    kept.chmod(0o666)
    assert native.library(SOURCE).thrice(2) == 6
    assert not kept.stat().st_mode & 0o022


@needs_compiler
def test_a_damaged_file_is_made_again(folder):
    native.library(SOURCE)
    (kept,) = folder.iterdir()
    kept.unlink()  # a library that is loaded must not be cut short
    kept.write_bytes(b"not a library")
    kept.chmod(0o600)
    assert native.library(SOURCE).thrice(2) == 6


@needs_compiler
def test_without_a_cache_it_is_compiled_for_this_process(folder):
    folder.parent.write_text("a file where the folder should be")
    assert native.library(SOURCE).thrice(4) == 12


@pytest.mark.parametrize("why", ["off", "no compiler", "no home", "fails", "hangs"])
def test_done_without(why, monkeypatch):
    if why == "off":
        monkeypatch.setenv("TORCHSCAPE_NATIVE", "off")
    elif why == "no compiler":
        monkeypatch.setenv("CC", "no-such-compiler")
    elif why == "no home":
        monkeypatch.setattr(native, "cache_folder", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    elif why == "fails":
        monkeypatch.setenv("CC", shutil.which("false") or "false")
    else:
        monkeypatch.setenv("CC", f"{shutil.which('sleep')} 60")
        monkeypatch.setattr(native, "_SECONDS", 0.1)
        monkeypatch.setattr(native, "_FLAGS", ())
        monkeypatch.setattr(native, "_VECTORS", {})
        real = native.subprocess.run
        monkeypatch.setattr(native.subprocess, "run", lambda command, **k: real(command[:2], **k))
    assert native.library(SOURCE) is None


@needs_compiler
def test_the_compiler_is_the_one_that_is_named(monkeypatch):
    monkeypatch.setenv("CC", f"{native._compiler()[0]} -DTHREE=4")
    assert native.library("int f(void) { return THREE; }").f() == 4


@needs_compiler
def test_infinity_and_nan_are_what_they_are():
    """Sums may be rounded in another order, and nothing more."""
    found = native.library("double f(double a, double b) { return a + (b - a) == b ? a * 0 : a - b; }")
    found.f.argtypes, found.f.restype = [ctypes.c_double] * 2, ctypes.c_double
    assert str(found.f(float("inf"), float("inf"))) == "nan"
    assert os.path.exists(native.cache_folder())
