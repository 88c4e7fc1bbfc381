"""Imports point downward only: the import graph of the source, held against the table of docs/architecture.md."""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "torchscape"

LAYERS = {
    "_process": 0, "types": 0, "errors": 0, "devices": 0, "random": 0, "progress": 0, "validation": 0, "memory": 0,
    "transfer": 0, "interrupts": 0, "numerics": 0, "stopwatch": 0, "outputs": 0, "sparse": 0, "deprecation": 0,
    "brief": 0, "native": 0, "even": 0,
    "points": 1, "network": 1, "rearrangements": 1, "layout": 1, "symmetry": 1, "potentials": 1, "metrics": 1,
    "optimise": 2, "saddles": 2, "sampling": 2, "analysis": 2,
    "landscape": 3, "problems": 3,
    "explore": 4, "families": 4, "learning": 4, "references": 4,
    "plots": 5, "export": 5, "report": 5, "cli": 5,
    "__main__": 6, "__init__": 6,
}  # fmt: skip

# Within a layer, only these look at each other, and only this way round.
SIDEWAYS = {
    ("devices", "types"),
    ("devices", "errors"),
    ("random", "types"),
    ("random", "devices"),
    ("random", "validation"),
    ("validation", "errors"),
    ("validation", "types"),
    ("outputs", "errors"),
    ("brief", "devices"),
    ("native", "outputs"),
    ("native", "devices"),
    ("interrupts", "stopwatch"),
    ("even", "types"),
    ("even", "devices"),
    ("numerics", "types"),
    ("memory", "stopwatch"),
    ("memory", "types"),
    ("memory", "errors"),
    ("memory", "devices"),
    ("potentials", "symmetry"),
    ("potentials", "layout"),
    ("network", "rearrangements"),
    ("symmetry", "layout"),
    ("saddles", "optimise"),
    ("sampling", "optimise"),
    ("sampling", "saddles"),
    ("families", "explore"),
    ("learning", "explore"),
    ("cli", "plots"),
    ("cli", "export"),
    ("cli", "report"),
    ("report", "plots"),
}

# Rooms that see the value types and each other only, never a database, a potential or an optimiser.
ONLY_NETWORKS = {"metrics", "analysis", "plots", "export"}
VISIBLE_FROM_NETWORKS = {
    "types", "errors", "devices", "memory", "progress", "stopwatch", "random", "validation", "outputs", "sparse",
    "points", "network", "rearrangements", "deprecation", "brief", *ONLY_NETWORKS,
}  # fmt: skip

# Within the analysis, a room sees itself and those before it.
ROOMS_OF_ANALYSIS = ("topology", "thermodynamics", "kinetics", "graph")

IMPORT_NAMES = {"scikit-learn": "sklearn", "tomli-w": "tomli_w", "torch-geometric": "torch_geometric"}


@dataclasses.dataclass(frozen=True)
class Import:
    """One import statement: who imports what, where, and whether it runs as soon as the module is imported."""

    importer: str
    target: str
    line: int
    eager: bool

    def __str__(self) -> str:
        return f"{self.importer}, line {self.line}: {self.target}"


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def imports(root: Path) -> tuple[set[str], list[Import]]:
    """Names of all modules below ``root``, and every import in them, at the top level or inside functions."""
    files = {module_name(path, root): path for path in sorted(root.rglob("*.py"))}
    found = []
    for name, path in files.items():
        for node, eager in statements(ast.parse(path.read_text(encoding="utf-8"))):
            found += [Import(name, target, node.lineno, eager) for target in targets(node, name, set(files), path)]
    return set(files), found


@functools.cache
def imports_of_the_package() -> tuple[set[str], list[Import]]:
    return imports(PACKAGE)


def statements(tree: ast.AST, eager: bool = True) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Import statements, each with whether importing the module runs it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, eager
        lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        )
        yield from statements(node, eager and not lazy)


def targets(node: ast.Import | ast.ImportFrom, importer: str, modules: set[str], path: Path) -> list[str]:
    """The modules a statement names; ``from package import submodule`` names the submodule."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        package = importer.split(".") if path.name == "__init__.py" else importer.split(".")[:-1]
        base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
    return [full if (full := f"{base}.{alias.name}") in modules else base for alias in node.names]


def room(module: str) -> str:
    """The room of a module: ``torchscape.saddles.follow`` is in saddles; the package itself is ``__init__``."""
    return [*module.split("."), "__init__"][1]


def misdirected(found: list[Import], root: str = "torchscape") -> list[str]:
    """Every import that the table does not allow."""
    wrong = []
    for one in found:
        if one.target.split(".")[0] != root:
            continue
        here, there = room(one.importer), room(one.target)
        if unplaced := {here, there} - set(LAYERS):
            wrong.append(f"{one}: {unplaced.pop()} has no layer: give it one here and in docs/architecture.md")
            continue
        if here == there:
            continue
        if LAYERS[there] > LAYERS[here]:
            wrong.append(f"{one}: upward, from layer {LAYERS[here]} to layer {LAYERS[there]}")
        elif LAYERS[there] == LAYERS[here] and (here, there) not in SIDEWAYS:
            wrong.append(f"{one}: sideways, within layer {LAYERS[here]}")
        elif here in ONLY_NETWORKS and there not in VISIBLE_FROM_NETWORKS:
            wrong.append(f"{one}: {here} sees networks only")
    return wrong


def cycle(modules: set[str], found: list[Import]) -> list[str]:
    """A cycle of imports, or []."""
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for one in found:
        if one.target in modules:
            graph[one.importer].add(one.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def requirement_names(requirements: list[str]) -> set[str]:
    names = (re.split(r"[^\w.-]", requirement)[0] for requirement in requirements)
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names}


def declared() -> tuple[set[str], set[str]]:
    """Import names of the packages that are always installed, and of those that an extra brings."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    optional = [one for extra in project["optional-dependencies"].values() for one in extra]
    return requirement_names(project["dependencies"]), requirement_names(optional)


def test_imports_point_downward():
    _, found = imports_of_the_package()
    assert not misdirected(found), "\n".join(misdirected(found))


def test_imports_have_no_cycle():
    assert cycle(*imports_of_the_package()) == []


def test_rooms_of_the_analysis_look_one_way():
    of_room = {f"torchscape.analysis.{name}": k for k, name in enumerate(ROOMS_OF_ANALYSIS)}
    seen = set()
    for one in imports_of_the_package()[1]:
        here, there = (of_room.get(".".join(name.split(".")[:3])) for name in (one.importer, one.target))
        if here is None or there is None:
            continue
        seen.add((here, there))
        assert there <= here, f"{one}: upward within the analysis"
    assert {here for here, _ in seen} == set(of_room.values())


def test_metrics_know_no_landscape():
    for one in imports_of_the_package()[1]:
        if room(one.importer) == "metrics" and one.target.startswith("torchscape"):
            assert LAYERS[room(one.target)] == 0 or room(one.target) == "metrics", one


def test_optional_packages_are_imported_where_they_are_used():
    """At import time only the standard library and required packages; inside functions, what an extra brings."""
    required, optional = declared()
    always = required | set(sys.stdlib_module_names) | {"torchscape"}
    for one in imports_of_the_package()[1]:
        top = one.target.split(".")[0]
        assert top in always | optional, f"{one}: declare {top} in pyproject.toml, as a dependency or in an extra"
        assert top in always or not one.eager, (
            f"{one}: {top} is optional, import it inside the function that needs it"
        )


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"points.py": "from torchscape.optimise import relax"}, "points, line 1: torchscape.optimise: upward"),
        ({"points.py": "def f():\n    import torchscape.cli"}, "points, line 2: torchscape.cli: upward"),
        ({"points.py": "from torchscape import Network"}, "points, line 1: torchscape: upward"),
        ({"points.py": "from torchscape import random"}, ""),
        ({"points.py": "from . import random"}, ""),
        ({"optimise/a.py": "from ..saddles import climb"}, "optimise.a, line 1: torchscape.saddles: sideways"),
        ({"saddles/a.py": "from ..optimise import relax"}, ""),
        ({"analysis/a.py": "from torchscape.saddles import b"}, "sideways"),
        ({"plots/a.py": "from torchscape.landscape import Landscape"}, "plots sees networks only"),
        ({"plots/a.py": "from torchscape import analysis"}, ""),
        ({"attic/a.py": "from torchscape.types import Tensor"}, "attic has no layer"),
    ],
)
def test_the_walker_sees_what_it_should(tmp_path, files, complaint):
    root = tmp_path / "torchscape"
    for name in ("__init__", "types", "random", "points", "network", "cli"):
        (root / f"{name}.py").parent.mkdir(exist_ok=True)
        (root / f"{name}.py").touch()
    for name in ("optimise", "saddles", "analysis", "plots", "landscape", "attic"):
        (root / name).mkdir()
        (root / name / "__init__.py").touch()
    for name, text in files.items():
        (root / name).write_text(text)
    wrong = misdirected(imports(root)[1])
    assert [complaint in line for line in wrong] == ([True] if complaint else [])


def test_the_walker_sees_cycles(tmp_path):
    root = tmp_path / "torchscape"
    (root / "saddles").mkdir(parents=True)
    (root / "saddles" / "__init__.py").write_text("from torchscape.saddles.a import f")
    (root / "saddles" / "a.py").write_text("def f():\n    from torchscape.saddles import g")
    assert set(cycle(*imports(root))) == {"torchscape.saddles", "torchscape.saddles.a"}


MOST_LINES, MOST_LINES_OF_A_FUNCTION = 400, 80


def lengths(source: str) -> tuple[int, dict[str, int]]:
    """Lines of a module, and of each function in it, docstring included."""
    functions = {
        f"{node.name}, line {node.lineno}": (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    return len(source.splitlines()), functions


def test_files_and_functions_stay_short():
    """One subject a file, one named algorithm a function: what is longer has parts that want names."""
    long_files, long_functions = [], []
    for path in PACKAGE.rglob("*.py"):
        name = str(path.relative_to(PACKAGE))
        lines, functions = lengths(path.read_text(encoding="utf-8"))
        if lines > MOST_LINES:
            long_files.append(name)
        long_functions += [f"{name}: {f}" for f, n in functions.items() if n > MOST_LINES_OF_A_FUNCTION]
    assert long_functions == []
    assert long_files == []


def test_lengths_are_counted_with_docstrings_and_in_classes():
    method = 'class A:\n    def f(self):\n        """What it does."""\n        return 1\n'
    assert lengths(method + "\nasync def g(): ...\n") == (6, {"f, line 2": 3, "g, line 6": 1})


def test_test_modules_have_names_of_their_own():
    """Pytest imports them by their bare names, and refuses the second of one name."""
    names = [path.name for path in Path(__file__).parent.rglob("*.py") if path.name != "conftest.py"]
    assert sorted({name for name in names if names.count(name) > 1}) == []
