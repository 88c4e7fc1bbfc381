"""Pictures of a landscape, each one call: ``plots.disconnectivity(network)``.

Every plot takes a result, or a network from which it makes that result by the same public function, and draws it
on ``ax`` or on a figure of its own. :mod:`torchscape.plots.table` lists them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from torchscape.deprecation import old_names
from torchscape.plots.table import faces

if TYPE_CHECKING:
    from torchscape.plots.basins import *
    from torchscape.plots.calibration_page import *
    from torchscape.plots.curves import *
    from torchscape.plots.diffusion import *
    from torchscape.plots.disconnectivity_graph import *
    from torchscape.plots.distributions import *
    from torchscape.plots.energy_profile import *
    from torchscape.plots.ensemble_scores import *
    from torchscape.plots.family import *
    from torchscape.plots.generalisation import *
    from torchscape.plots.network_drawing import *
    from torchscape.plots.peak_trees import *
    from torchscape.plots.planes import *
    from torchscape.plots.predictions import *
    from torchscape.plots.rarefaction import *
    from torchscape.plots.regression import *
else:
    __all__ = list(faces())

    _RENAMED = {
        "SpringPlot": "torchscape.plots.RestraintPlot",
        "spring_integrand": "torchscape.plots.restraint_integrand",
    }
    _old_name = old_names(__name__, _RENAMED, until="0.2")

    def __getattr__(name: str) -> Any:
        home = faces().get(name)
        return _old_name(name) if home is None else getattr(importlib.import_module(home), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *faces()})
