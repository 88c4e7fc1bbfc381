"""What the documents name exists: functions, tests, files."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import os
import re
import shlex
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from torchscape import Network, analysis, export, learning, metrics, plots, sampling
from torchscape.cli.config import parse
from torchscape.cli.parser import build_parser
from torchscape.cli.strategies import chosen_strategies

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
DOCUMENTS = [path for path in DOCUMENTS if path.parent.name != "reproductions"]  # which scripts write


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> list[str]:
    """The blocks of code of a document in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


ROOMS = {room.__name__.split(".")[-1]: room for room in (analysis, export, learning, metrics, plots, sampling)}


def missing_names(text: str) -> list[str]:
    named = re.findall(r"(?<![/\w])(analysis|export|learning|metrics|plots|sampling)\.(\w+)\b", text)
    return [f"{room}.{name}" for room, name in named if name != "md" and not hasattr(ROOMS[room], name)]


@pytest.mark.parametrize("document", [one for one in DOCUMENTS if one.parent.name != "api"], ids=name_of)
def test_functions_that_are_named_exist(document):
    assert missing_names(document.read_text()) == []


def test_a_missing_name_is_found():
    """That the test above can fail."""
    assert missing_names("`analysis.heat_capcity` and `plots.network`") == ["analysis.heat_capcity"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_files_that_are_named_exist(document):
    paths = re.findall(r"\b(?:tests|scripts|docs|benchmarks|notebooks)/[\w/.-]*\w", document.read_text())
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_tests_that_are_named_exist(document):
    named = set(re.findall(r"`(test_\w+)`", document.read_text()))
    source = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert named - set(re.findall(r"^def (test_\w+)\(", source, re.MULTILINE)) == set()


def test_every_function_of_a_network_is_in_the_tables():
    named = set(re.findall(r"`(analysis|plots)\.([a-z_]+)`", (ROOT / "docs" / "analysis.md").read_text()))
    missing = [
        f"{room}.{name}"
        for room in ("analysis", "plots")
        for name in ROOMS[room].__all__
        if name.islower() and takes_a_network(getattr(ROOMS[room], name)) and (room, name) not in named
    ]
    assert missing == []


def takes_a_network(function) -> bool:
    first = next(iter(inspect.signature(function).parameters.values()))
    return str(first.annotation).partition(" ")[0] in ("Network", "Rates")


def imported(path: Path) -> set[tuple[str, str]]:
    """The names that a script or a notebook imports from torchscape, with the module of each."""
    text = path.read_text()
    if path.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        lines = [line for cell in cells for line in "".join(cell["source"]).splitlines()]
        text = "\n".join("" if line.startswith(("%", "!")) else line for line in lines)
    return {
        (node.module, alias.name)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "torchscape"
        for alias in node.names
    }


SCRIPTS = [
    *sorted((ROOT / "scripts").rglob("*.py")),
    ROOT / "scripts" / "fuzz",
    *(ROOT / "notebooks").glob("*.ipynb"),
]


def exists(module: str, name: str) -> bool:
    """As an attribute, or as a module that nothing has imported yet."""
    room = importlib.import_module(module)
    return hasattr(room, name) or (
        hasattr(room, "__path__") and importlib.util.find_spec(f"{module}.{name}") is not None
    )


def test_scripts_run_as_their_first_lines_say():
    """Whatever begins with an interpreter may be executed as it is named."""
    some = [
        path for folder in ("scripts", "findings", ".ci") for path in (ROOT / folder).rglob("*") if path.is_file()
    ]
    begun = [path for path in some if path.read_bytes()[:2] == b"#!"]
    assert len(begun) > 30
    assert [str(path) for path in begun if not os.access(path, os.X_OK)] == []


def test_what_scripts_and_notebooks_import_exists():
    """Most of them run for too long to be run here."""
    names = {(path.name, *one) for path in SCRIPTS for one in imported(path)}
    assert len(names) > 50
    missing = [one for one in sorted(names) if not exists(*one[1:])]
    assert missing == []


def pathsample_folder() -> dict[str, object]:
    """A chain of three minima, as PATHSAMPLE has it, with the first and the last as its sets."""
    network = Network.of([0.0, 0.5, 0.1], [(0, 1), (1, 2)], [1.0, 1.2], n_modes=3)
    export.write_pathsample(network, "published")
    for name, minimum in (("min.A", 1), ("min.B", 3)):
        (Path("published") / name).write_text(f"1\n{minimum}\n")
    return {"folder": "published"}


GIVEN = {"docs/analysis.md": pathsample_folder}
"""Names that the code of a page finds there."""

ELSEWHERE = {"extending.md", "searches.md"}
"""Pages whose code is run by tests of their own."""

WITH_CODE = [path for path in DOCUMENTS if blocks(path, "python") and path.name not in ELSEWHERE]


@pytest.mark.parametrize("document", WITH_CODE, ids=name_of)
def test_code_of_documents_runs(document, tmp_path, monkeypatch):
    """All blocks of a page, one after the other, in a folder of their own."""

    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page", **GIVEN.get(name_of(document), dict)()}
    try:
        for block in blocks(document, "python"):
            exec(compile(block, name_of(document), "exec"), names)
    finally:
        plt.close("all")


def commands(path: Path) -> list[str]:
    """What a document says to type, of this package."""
    lines = [line for block in blocks(path, r"\w*") for line in block.splitlines()]
    return [line for line in lines if line.startswith("torchscape ")]


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if commands(path)], ids=name_of)
def test_commands_of_documents_are_understood(document):
    for line in commands(document):
        words = shlex.split(line.replace(" >", " # >"), comments=True)
        build_parser().parse_args(words[1:])


def test_a_command_that_is_not_understood_is_found(capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(["plot", "run.db", "tree"])
    assert "--output" in capsys.readouterr().err


def test_configuration_files_of_documents_are_understood(tmp_path):
    found = [block for path in DOCUMENTS for block in blocks(path, "toml")]
    assert found
    for block in found:
        (tmp_path / "run.toml").write_text(block)
        arguments = parse(["explore", "--config", str(tmp_path / "run.toml")])
        chosen = chosen_strategies(arguments, {})
        assert len(chosen) == len(arguments.tables)


def test_every_block_of_code_says_what_it_is():
    known = {"python", "shell", "toml", "text", "r", "json"}
    for path in DOCUMENTS:
        fences = re.findall(r"^```(\w*)$", path.read_text(), re.MULTILINE)
        assert len(fences) % 2 == 0, path
        assert set(fences[::2]) <= known | {""}, path
        assert set(fences[1::2]) <= {""}, path


def test_every_extension_of_the_page_is_short_and_passes_its_check():
    text = (ROOT / "docs" / "extending.md").read_text()
    examples = blocks(ROOT / "docs" / "extending.md", "python")
    assert len(examples) == len(re.findall(r"^## ", text, re.MULTILINE))
    names: dict[str, object] = {}
    for block in examples:
        assert len(block.splitlines()) <= 30
        assert re.search(r"^(check_\w+\(|assert )", block, re.MULTILINE)
        exec(block, names)
    assert {"Chain", "OneCoordinate", "RandomStarts", "Threads", "downhill_degree", "downhill"} <= names.keys()


def test_every_block_of_the_page_on_searches_holds():
    text = (ROOT / "docs" / "searches.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == len(re.findall(r"^## ", text, re.MULTILINE))
    names: dict[str, object] = {}
    for block in blocks:
        assert len(block.splitlines()) <= 30
        assert re.search(r"^(check_\w+\(|assert )", block, re.MULTILINE)
        exec(block, names)
    names["landscape"].close()
