"""Stands in for tqdm on a machine that has none."""

from tqdm.auto import tqdm

__all__ = ["tqdm"]
