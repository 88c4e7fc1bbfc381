"""The peers' own Python environment: made once, beside the repository's files, ignored by git."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import venv
from pathlib import Path

__all__ = ["PEERS", "environment", "versions"]

PEERS = {"topsearch": "0.0.3", "pele": "0.1.2"}
ROOT = Path(__file__).parents[3] / ".venv-peers"


def environment(root: Path = ROOT) -> Path:
    """The Python of an environment in which both peers are installed from PyPI, as wheels, and the same PyTorch.

    Both were tried with CPython 3.11 on Linux x86-64, where pele has a wheel; elsewhere pip may have to build it,
    for which it needs CMake, a C++ and a Fortran compiler.
    """
    python = root / "bin" / "python"
    if not python.exists():
        print(f"making {root} (a minute) ...", flush=True)
        venv.create(root, with_pip=True)
        (root / ".gitignore").write_text("*\n")
    torch = importlib.metadata.version("torch").partition("+")[0]
    wanted = [f"{name}=={version}" for name, version in PEERS.items()] + [f"torch=={torch}"]
    have = versions(python)
    if any(have.get(name) != version for name, version in PEERS.items()) or "torch" not in have:
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=False)
        if done.returncode:
            sys.exit(f"pip could not install {' '.join(wanted)} into {root}: see its message above")
    return python


def versions(python: Path) -> dict[str, str]:
    """Versions of what matters in an environment."""
    code = (
        "import importlib.metadata as m, json\n"
        "have = {d.metadata['Name'].lower(): d.version for d in m.distributions()}\n"
        "print(json.dumps({n: have[n] for n in ('topsearch', 'pele', 'numpy', 'scipy', 'torch') if n in have}))"
    )
    return json.loads(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout)
