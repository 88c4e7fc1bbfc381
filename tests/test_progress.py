"""Progress in a log."""

from __future__ import annotations

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
