"""The command line: ``torchscape explore | info | plot | report | export | analyse | problems``."""

from torchscape.cli.entry import main

__all__ = ["main"]
