"""torchscape: explore the energy landscapes of PyTorch models."""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

import torchscape._process  # noqa: F401

if TYPE_CHECKING:
    from torchscape import (
        analysis,
        errors,
        export,
        families,
        learning,
        metrics,
        optimise,
        plots,
        potentials,
        problems,
        random,
        report,
        saddles,
        sampling,
        symmetry,
    )
    from torchscape.explore import (
        BasinHopping,
        Budget,
        ClimbFromMinima,
        ConnectMinima,
        StationarySearch,
        TemperedBasinHopping,
        explore,
    )
    from torchscape.families import explore_family
    from torchscape.landscape import Landscape
    from torchscape.network import Network
    from torchscape.optimise.relaxation import relax
    from torchscape.points import StationaryPoints, Status
    from torchscape.potentials import Bounds, ClusterPotential, FunctionPotential, ModulePotential, Potential
    from torchscape.references import cite
    from torchscape.symmetry import Symmetry

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())  # who wants to see what is logged configures it

__all__ = [
    "BasinHopping",
    "Bounds",
    "Budget",
    "ClimbFromMinima",
    "ClusterPotential",
    "ConnectMinima",
    "FunctionPotential",
    "Landscape",
    "ModulePotential",
    "Network",
    "Potential",
    "StationaryPoints",
    "StationarySearch",
    "Status",
    "Symmetry",
    "TemperedBasinHopping",
    "analysis",
    "cite",
    "errors",
    "explore",
    "explore_family",
    "export",
    "families",
    "learning",
    "metrics",
    "optimise",
    "plots",
    "potentials",
    "problems",
    "random",
    "relax",
    "report",
    "saddles",
    "sampling",
    "symmetry",
]

# Everything is imported when it is first asked for, torch with it: help and versions do not wait for that.
_FROM = {
    "explore": (
        "BasinHopping", "Budget", "ClimbFromMinima", "ConnectMinima", "StationarySearch", "TemperedBasinHopping",
    ),
    "families": ("explore_family",),
    "landscape": ("Landscape",),
    "network": ("Network",),
    "optimise.relaxation": ("relax",),
    "points": ("StationaryPoints", "Status"),
    "references": ("cite",),
    "potentials": ("Bounds", "ClusterPotential", "FunctionPotential", "ModulePotential", "Potential"),
    "symmetry": ("Symmetry",),
}  # fmt: skip
_HOME = {name: module for module, names in _FROM.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_HOME.get(name, name)}")
    value = getattr(module, name) if name in _HOME else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
