"""posteriors (PyPI), the peer in sampling: in an environment of its own that uses this one's PyTorch."""

from __future__ import annotations

import importlib
import subprocess
import sys
import sysconfig
import venv
import warnings
from pathlib import Path
from typing import Any

__all__ = ["VERSION", "posteriors"]

VERSION = "0.1.3"
ROOT = Path(__file__).parents[3] / ".venv-posteriors"


def posteriors(root: Path = ROOT) -> Any:
    """The package, which is installed from PyPI on the first call and imported into this process.

    Both samplers then call one potential on one PyTorch in one process. The environment sees the packages of this
    one through a .pth file, so that pip brings only what is missing (torchopt, optree, tensordict: a few
    megabytes); it is put last on the path and so replaces nothing.
    """
    python = root / "bin" / "python"
    if not python.exists():
        print(f"making {root} (seconds) ...", flush=True)
        venv.create(root, with_pip=True)
        (root / ".gitignore").write_text("*\n")
    packages = _packages(root)
    (packages / "of_torchscape.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    if not (packages / f"posteriors-{VERSION}.dist-info").exists():
        wanted = f"posteriors=={VERSION}"
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", wanted], check=False)
        if done.returncode:
            sys.exit(f"pip could not install {wanted} into {root}: see its message above, or leave out --peers")
    if str(packages) not in sys.path:
        sys.path.append(str(packages))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of tensordict, about how the package declares its states
        return importlib.import_module("posteriors")


def _packages(root: Path) -> Path:
    return Path(sysconfig.get_path("purelib", vars={"base": str(root), "platbase": str(root)}))
