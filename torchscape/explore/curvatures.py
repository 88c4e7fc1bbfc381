"""Curvatures of what is known: in batches that are committed as they end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torchscape.devices import HOST
from torchscape.explore.executors import InProcess
from torchscape.explore.families import merge_families
from torchscape.explore.shared import Shared
from torchscape.landscape import Landscape
from torchscape.memory import PRODUCTS, rows_that_fit
from torchscape.numerics import DENSE_STEPS
from torchscape.potentials.base import Potential
from torchscape.progress import progress_bar

__all__ = ["FEW", "characterise_new"]

FEW = DENSE_STEPS  # coordinates up to which curvatures cost little beside the minima themselves

_HERE = Shared(InProcess())


def characterise_new(
    landscape: Landscape,
    potential: Potential,
    of: Literal["minima", "transition_states"] = "minima",
    *,
    index_known: bool = True,
    progress: bool = False,
    is_late: Callable[[], bool] = lambda: False,
    on_written: Callable[[], None] = lambda: None,
    shared: Shared = _HERE,
) -> None:
    """Hessian index, log-determinant and zero modes of the points that have none yet.

    In one batch for few coordinates. For many this may take longer than finding them: then a few at a time, each
    batch committed (with what ``on_written`` does), with a bar, until none is left or ``is_late``; the next run
    goes on with the others. Points whose index is known, and that lack only their determinant, are left alone
    unless ``index_known``, and determinants that would need a quadrature are left out then: they cost more than
    all that led to the point. ``shared`` says who computes them.
    """
    ids = landscape.uncharacterised(of)
    if of == "minima":  # compared with nothing yet, if a run was killed between the two
        merge_families(landscape, potential)
    if len(ids) == 0:
        return
    points = landscape.minima if of == "minima" else landscape.transition_states
    if not index_known:
        ids = ids[points(ids, device=HOST).index < 0]
        if len(ids) == 0:
            return
    # The more coordinates, the longer one point takes, and the more is lost if that is cut short.
    few = min(8, rows_that_fit(potential.ndim, potential.device, on_host=PRODUCTS))
    at_once = len(ids) if potential.ndim <= FEW else shared.workers * few
    with progress_bar(
        show=progress and len(ids) > at_once, total=len(ids), desc="curvatures", unit=" points", leave=False
    ) as bar:
        for some in ids.split(at_once):
            done = shared.characterise(potential, points(some), log_det=index_known or of != "minima")
            with landscape.transaction():
                landscape.set_curvature(some, done, of=of)
                on_written()
            if of == "minima":
                merge_families(landscape, potential)
            landscape.fold()
            bar.update(len(some))
            if is_late():
                return
