#!/usr/bin/env python3
"""Which of the packages that the check uses are missing here. Runs without any of them."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from pathlib import Path

IMPORT_NAMES = {"scikit-learn": "sklearn", "torch-geometric": "torch_geometric", "pytest-xdist": "xdist"}
FOR = {  # of the optional packages: what is left out without them
    "scikit-learn": "the digits",
    "pytest": "the device tests",
    "hypothesis": "the device tests",
    "beartype": "the device tests",
    "mpmath": "the device tests",
}


def requirements() -> tuple[list[str], list[str]]:
    """What the package needs, and what the check needs besides, as pip spells it."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    every = [one for extra in project["optional-dependencies"].values() for one in extra]
    return project["dependencies"], [one for one in dict.fromkeys(every) if name(one) in FOR]


def name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement)[0]


def absent(wanted: list[str]) -> list[str]:
    def module(requirement: str) -> str:
        return IMPORT_NAMES.get(name(requirement), name(requirement).replace("-", "_"))

    return [one for one in wanted if importlib.util.find_spec(module(one)) is None]


def main() -> int:
    needed, useful = (absent(wanted) for wanted in requirements())
    if "--requirements" in sys.argv:
        print(" ".join([*needed, *useful]))
        return 0
    for one in useful:
        print(f"{name(one)} is missing: {FOR[name(one)]} will be left out")
    if needed:
        print(
            f"{', '.join(map(name, needed))} missing: torchscape needs them. Without an index, copy wheels "
            f"here and set PIP_NO_INDEX=1 PIP_FIND_LINKS=/folder/of/wheels, then run again",
            file=sys.stderr,
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
