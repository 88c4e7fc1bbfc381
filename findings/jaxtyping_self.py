"""jaxtyping's import hook refuses a method that returns typing.Self; beartype on the whole class accepts it."""

import dataclasses
import importlib.metadata
import sys
import tempfile
from pathlib import Path
from typing import Self

from beartype import beartype
from jaxtyping import install_import_hook

SOURCE = """
import dataclasses
from typing import Self


@dataclasses.dataclass
class Point:
    x: int

    @classmethod
    def at(cls, x: int) -> Self:
        return cls(x)
"""


@beartype
@dataclasses.dataclass
class Point:
    x: int

    @classmethod
    def at(cls, x: int) -> Self:
        return cls(x)


def main() -> int:
    versions = {name: importlib.metadata.version(name) for name in ("jaxtyping", "beartype")}
    print(versions)
    decorated = Point.at(1).x == 1
    print("the class decorated by beartype: accepted", decorated)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "hooked_points.py").write_text(SOURCE)
        sys.path.insert(0, folder)
        try:
            with install_import_hook("hooked_points", "beartype.beartype"):
                import hooked_points
            hooked_points.Point.at(1)
            refused = None
        except Exception as error:
            refused = type(error).__name__
    print("the same class in a module under the import hook:", refused or "accepted")
    same = decorated and refused == "BeartypeDecorHintPep673Exception"
    print("as seen before" if same else "CHANGED")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
