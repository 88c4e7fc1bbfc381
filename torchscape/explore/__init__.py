"""Exploration: strategies propose, tasks are run, and the run loop writes.

The room bears the name of its main function, and may be called for it: ``torchscape.explore(landscape, ...)`` is
:func:`torchscape.explore.explore`.
"""

import inspect
import sys
from types import ModuleType
from typing import TYPE_CHECKING

from torchscape.deprecation import old_names
from torchscape.explore.barriers import LowerBarriers
from torchscape.explore.basin_hopping import BasinHopping
from torchscape.explore.budget import Budget
from torchscape.explore.climb import ClimbFromChosen, ClimbFromMinima
from torchscape.explore.cluster_moves import Angular, Compress, Exchange, GroupRotation, Seeding, Symmetrise
from torchscape.explore.connect import ConnectMinima
from torchscape.explore.connect_pair import ConnectPair
from torchscape.explore.contract import check_executor, check_strategy
from torchscape.explore.executors import Executor, InProcess
from torchscape.explore.live import Ahead, RoundReport
from torchscape.explore.moves import Gaussian, Mixture, Move, PerLayer, Restart, Uniform
from torchscape.explore.on_ray import RayExecutor
from torchscape.explore.paths import integrate_paths
from torchscape.explore.processes import Processes
from torchscape.explore.report import ExploreReport
from torchscape.explore.run import explore
from torchscape.explore.shortcuts import Shortcut, Untrap
from torchscape.explore.stationary import StationarySearch
from torchscape.explore.strategy import Round, Strategy
from torchscape.explore.tasks import Divisible, Found, Task
from torchscape.explore.tempering import TemperedBasinHopping, exchange_probability
from torchscape.explore.tensorboard import TensorBoard
from torchscape.explore.ways import Way, lowest_way, lowest_ways

__all__ = [
    "Ahead",
    "Angular",
    "BasinHopping",
    "Budget",
    "ClimbFromChosen",
    "ClimbFromMinima",
    "Compress",
    "ConnectMinima",
    "ConnectPair",
    "Divisible",
    "Exchange",
    "Executor",
    "ExploreReport",
    "Found",
    "Gaussian",
    "GroupRotation",
    "InProcess",
    "LowerBarriers",
    "Mixture",
    "Move",
    "PerLayer",
    "Processes",
    "RayExecutor",
    "Restart",
    "Round",
    "RoundReport",
    "Seeding",
    "Shortcut",
    "StationarySearch",
    "Strategy",
    "Symmetrise",
    "Task",
    "TemperedBasinHopping",
    "TensorBoard",
    "Uniform",
    "Untrap",
    "Way",
    "check_executor",
    "check_strategy",
    "exchange_probability",
    "explore",
    "integrate_paths",
    "lowest_way",
    "lowest_ways",
]

if not TYPE_CHECKING:  # which type checkers would take for any name at all
    __getattr__ = old_names(__name__, {"explore_family": "torchscape.families.explore_family"}, until="0.2")


class _CallableRoom(ModuleType):
    """A package that is called as its main function."""

    __call__ = staticmethod(explore)
    __signature__ = inspect.signature(explore)


sys.modules[__name__].__class__ = _CallableRoom
