"""Progress in a log."""

from __future__ import annotations

import io

import pytest
import tqdm

from torchscape import progress
from torchscape.progress import progress_bar


def test_a_log_has_lines(monkeypatch, capsys):
    """In a file, a bar that moves would be one line of thousands of characters."""
    monkeypatch.setenv("TORCHSCAPE_PROGRESS", "lines")
    with progress_bar(show=True, total=300, desc="quenches") as bar:
        for _ in range(300):
            bar.update(1)
            bar.refresh()
    text = capsys.readouterr().err
    lines = text.splitlines()
    assert "\r" not in text
    assert lines[-1].startswith("quenches: 100% 300/300")
    assert len(lines) <= 5  # and not 300


def test_lines_come_every_now_and_then(monkeypatch, capsys):
    monkeypatch.setenv("TORCHSCAPE_PROGRESS", "lines")
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    with progress_bar(show=True, total=3, desc="quenches") as bar:
        bar.update(1)
        bar.refresh()
    assert any("33% 1/3" in line for line in capsys.readouterr().err.splitlines())


@pytest.mark.parametrize("total", [40, None])
@pytest.mark.parametrize(
    ("elapsed", "told"), [(2.5, "4.00 tries/s"), (100.0, "6.00 tries/min"), (7200.0, "5.00 tries/h")]
)
def test_a_slow_pace_is_counted_by_the_minute_or_the_hour(monkeypatch, total, elapsed, told):
    """``tqdm`` turned it round, to "10.00s/ tries"."""
    monkeypatch.setenv("TORCHSCAPE_PROGRESS", "bar")
    text = io.StringIO()
    with progress_bar(show=True, total=total, desc="climb", unit=" tries", file=text) as bar:
        bar.n, bar.start_t = 10, bar._time() - elapsed
        bar.set_postfix({"minima": 7})
    last = text.getvalue().split("\r")[-1]
    assert f" {told}, minima=7]" in last
    assert "climb: " in last
    assert ("10/40" if total else "10 tries [") in last
    assert "s/ " not in text.getvalue()


def test_the_pace_in_a_log(monkeypatch, capsys):
    monkeypatch.setenv("TORCHSCAPE_PROGRESS", "lines")
    with progress_bar(show=True, total=40, desc="climb", unit=" tries") as bar:
        bar.n, bar.start_t = 10, bar._time() - 100.0
    assert capsys.readouterr().err.splitlines()[-1] == "climb:  25% 10/40 [01:40<05:00,  6.00 tries/min]"


def test_a_bar_says_what_tqdm_says_of_the_same_numbers(monkeypatch):
    """All but a slow pace is that of ``tqdm``."""
    monkeypatch.setenv("TORCHSCAPE_PROGRESS", "bar")
    texts = []
    for make in (lambda **options: progress_bar(show=True, **options), tqdm.tqdm):
        text = io.StringIO()
        with make(total=40, desc="climb", unit=" tries", ncols=100, file=text) as bar:
            bar.n, bar.start_t = 20, bar._time() - 5.0
            bar.refresh()
        texts.append(text.getvalue().split("\r")[-1].rstrip())
    assert texts[0] == texts[1]
