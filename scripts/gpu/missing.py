#!/usr/bin/env python3
"""Which of the packages that the check uses are missing here. Runs without any of them.

missing.py                 says what is missing and what that leaves out; status 2 if nothing can run
missing.py --requirements  the missing ones as pip spells them
missing.py --substitutes   folders, joined by colons, with stand-ins for those that only decorate
"""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from pathlib import Path

IMPORT_NAMES = {"scikit-learn": "sklearn", "torch-geometric": "torch_geometric", "pytest-xdist": "xdist"}
SUBSTITUTES = Path(__file__).parent / "substitutes"
FOR = {  # of the packages that can be done without: what happens then
    "scikit-learn": "blobs of ten classes take the place of the digits",
    "pytest": "the device tests are left out",
    "pytest-xdist": "the device tests run one after the other",
    "hypothesis": "the device tests beside it in a file are left out",
    "mpmath": "the device tests beside it in a file are left out",
    "beartype": "shapes are not checked while the tests run",
    "jaxtyping": "shapes are not checked while the tests run",
    "tqdm": "no progress is shown",
    "torch-geometric": "the device tests of its graphs are left out",
    "matplotlib": "the device tests of pictures are left out",
}


def requirements() -> tuple[list[str], list[str]]:
    """What the check cannot do without, and what it can, as pip spells it."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = [one for extra in project["optional-dependencies"].values() for one in extra]
    every = list(dict.fromkeys([*project["dependencies"], *extras]))
    needed = [one for one in project["dependencies"] if name(one) not in FOR]
    return needed, [one for one in every if name(one) in FOR]


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
    if "--substitutes" in sys.argv:
        print(":".join(str(SUBSTITUTES / name(one)) for one in useful if (SUBSTITUTES / name(one)).is_dir()))
        return 0
    for one in useful:
        print(f"{name(one)} is missing: {FOR[name(one)]}")
    if needed:
        print(
            f"{', '.join(map(name, needed))} missing: nothing runs without. Where there is no index, copy wheels "
            f"here and set PIP_NO_INDEX=1 PIP_FIND_LINKS=/folder/of/wheels, then run again",
            file=sys.stderr,
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
