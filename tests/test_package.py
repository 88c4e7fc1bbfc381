"""The package as it is installed: what importing it costs, what its archives hold, and which names it has."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

import torchscape

ROOT = Path(__file__).parents[1]


def run(code: str) -> str:
    """What Python prints when it runs this by itself."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_and_version_need_no_torch():
    code = """
import sys
from torchscape.cli import main
for words in (["--version"], ["--help"], ["explore", "--help"], ["plot", "--help"]):
    try:
        main(words)
    except SystemExit as left:
        assert left.code == 0
print([name for name in ("torch", "numpy", "matplotlib", "scipy", "networkx") if name in sys.modules])
"""
    assert run(code).splitlines()[-1] == "[]"


def test_what_few_need_is_imported_late():
    """Pictures, graphs and statistics: none of it is needed to explore, nor is torch's compiler for a model."""
    code = """
import sys
import torchscape
torchscape.explore, torchscape.ModulePotential, torchscape.Landscape, torchscape.Network
heavy = ("scipy", "networkx", "matplotlib", "torch_geometric", "sklearn", "PIL", "pandas",
         "torchscape.analysis", "torchscape.learning", "torchscape.sampling", "torchscape.plots")
print([name for name in heavy if name in sys.modules])
import torch
data = torch.rand(5, 2), torch.arange(5) % 2
u = torchscape.ModulePotential(torch.nn.Linear(2, 2), data, torch.nn.functional.cross_entropy, l2=1e-3)
x = u.sample(2)
u.hvp(x, x), u.hessian(x), u.products_at(x)(x[:, None])
torchscape.potentials.Himmelblau().hessian(x[:, :2])
print("torch._dynamo" in sys.modules, "sympy" in sys.modules)
"""
    assert run(code).split() == ["[]", "False", "False"]


def test_every_name_is_there_and_is_what_type_checkers_take_it_for():
    for name in torchscape.__all__:
        assert getattr(torchscape, name) is not None
        assert name in dir(torchscape)
    said = {}
    for node in ast.parse((ROOT / "torchscape" / "__init__.py").read_text()).body:
        if isinstance(node, ast.If):
            for statement in node.body:
                assert isinstance(statement, ast.ImportFrom)
                said |= {alias.name: statement.module for alias in statement.names}
    assert sorted(said) == sorted(torchscape.__all__)
    for name, module in said.items():
        home = torchscape._HOME.get(name)
        if name == "explore":  # a package that may be called, which type checkers know as the function
            assert module == "torchscape.explore"
            continue
        assert module == (f"torchscape.{home}" if home else "torchscape"), name
    with pytest.raises(AttributeError, match="no attribute 'explroe'"):
        _ = torchscape.explroe


def test_explore_is_a_package_that_may_be_called_whatever_is_imported_first():
    code = """
import torchscape.explore.run
from torchscape.explore import Budget
import torchscape
import torchscape.explore as room
print(torchscape.explore is room, callable(room), room.run.explore is room.explore, room.Budget is Budget)
"""
    assert run(code).strip() == "True True True True"
    room = torchscape.explore
    assert room.Budget is torchscape.Budget
    assert inspect.signature(room) == inspect.signature(room.explore)
    with pytest.raises(TypeError, match="landscape"):
        room()


def test_no_public_function_hides_a_module():
    """``import torchscape.a.b as m`` gives the module b of a, whatever a exports."""
    hidden = set()
    for face in sorted((ROOT / "torchscape").rglob("__init__.py")):
        name = ".".join(face.parent.relative_to(ROOT).parts)
        modules = {path.name.removesuffix(".py") for path in face.parent.iterdir()}
        hidden |= {f"{name}.{one}" for one in public_names(name, face) & modules}
    assert hidden == set()


def public_names(name: str, face: Path) -> set[str]:
    """What a package exports, but for modules that it exports as such."""
    if name == "torchscape":
        return set(torchscape._HOME)
    body = ast.parse(face.read_text()).body
    rooms = {
        one.name for node in body if isinstance(node, ast.ImportFrom) and node.module == name for one in node.names
    }
    lists = [
        node.value for node in body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    if len(lists) == 1 and name != "torchscape.analysis":
        return set(ast.literal_eval(lists[0])) - rooms
    return set(getattr(importlib.import_module(name), "__all__", ())) - rooms  # made of other lists


def test_what_has_moved_answers_to_its_old_name_for_one_minor_version():
    from torchscape import analysis, metrics

    names = analysis._IN_METRICS
    assert len(names) == 45
    assert not {*names} & {*analysis.__all__}
    for name in names:
        with pytest.warns(DeprecationWarning, match=rf"analysis\.{name} is torchscape\.metrics\.{name} now"):
            assert getattr(analysis, name) is getattr(metrics, name)
    with pytest.raises(AttributeError, match="no attribute 'rocc'"):
        _ = analysis.rocc
    assert torchscape.__version__.startswith("0.1."), "the old names go with this version"


RENAMED = {
    "torchscape.analysis.Saturation": "torchscape.analysis.RarefactionCurve",
    "torchscape.analysis.saturation": "torchscape.analysis.rarefaction_curve",
    "torchscape.explore.explore_family": "torchscape.families.explore_family",
    "torchscape.optimise.verdict": "torchscape.optimise.termination.termination_test",
    "torchscape.saddles.Bifurcation": "torchscape.families.Bifurcation",
    "torchscape.plots.SpringPlot": "torchscape.plots.RestraintPlot",
    "torchscape.plots.spring_integrand": "torchscape.plots.restraint_integrand",
    "torchscape.saddles.Newton": "torchscape.saddles.NewtonSearch",
    "torchscape.sampling.Gaussian": "torchscape.sampling.FixedBandwidth",
    "torchscape.sampling.free_energy": "torchscape.sampling.free_energy_profile",
    "torchscape.saddles.Continuation": "torchscape.families.Continuation",
    "torchscape.saddles.Continued": "torchscape.families.Continued",
    "torchscape.saddles.continue_points": "torchscape.families.continue_points",
    "torchscape.saddles.locate_fold": "torchscape.families.locate_fold",
}


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_name_is_what_the_new_one_is(old):
    (room, name), (home, there) = old.rsplit(".", 1), RENAMED[old].rsplit(".", 1)
    with pytest.warns(
        DeprecationWarning, match=rf"{re.escape(old)} is {re.escape(RENAMED[old])} now; version 0\.2"
    ):
        found = getattr(importlib.import_module(room), name)
    assert found is getattr(importlib.import_module(home), there)
    assert name not in importlib.import_module(room).__all__


def test_the_warning_of_an_old_name_points_to_who_uses_it():
    """Python shows those alone that point into the script itself; the hook of these tests would stand between."""
    code = """
import types, warnings
from torchscape.deprecation import old_names
room = types.ModuleType("room")
room.__getattr__ = old_names("room", {"mean": "statistics.fmean"}, until="9")
warnings.showwarning = lambda message, category, file, line, *_: print(category.__name__, file, line)
room.mean
"""
    assert run(code).strip() == "DeprecationWarning <string> 7"


def test_a_source_archive_holds_what_belongs_to_the_source(tmp_path):
    """As ``python -m build --sdist`` packs it, of a copy: the build leaves files beside the source."""
    pytest.importorskip("setuptools.build_meta")
    source, target = tmp_path / "source", tmp_path / "target"
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "demo", "build", "*.png", "*.db*")
    shutil.copytree(ROOT, source, ignore=unwanted)
    target.mkdir()
    build = f"import os, setuptools.build_meta as b; os.chdir({str(source)!r}); b.build_sdist({str(target)!r})"
    run(build)
    (archive,) = target.iterdir()
    with tarfile.open(archive) as opened:
        held = {name.partition("/")[2] for name in opened.getnames()}
    for name in ("CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md", "constraints.txt", "pyproject.toml"):
        assert name in held
    for folder in ("docs", "notebooks", "scripts", "tests", "torchscape"):
        here = {str(path.relative_to(source)) for path in (source / folder).rglob("*") if path.is_file()}
        assert here
        assert here - held == set()


def test_one_version_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert torchscape.__version__ == version
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()
