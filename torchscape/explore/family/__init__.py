"""Families of landscapes along a control parameter."""

from torchscape.explore.family.family import explore_family

__all__ = ["explore_family"]
