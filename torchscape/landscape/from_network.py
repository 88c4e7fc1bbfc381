"""``Landscape.from_network``: a landscape out of a network that came from elsewhere."""

from __future__ import annotations

import contextlib
import os
import warnings
from pathlib import Path
from typing import Any, TypeVar

from torchscape.landscape import files
from torchscape.landscape.importing import Imported, expect_coordinates, import_network
from torchscape.landscape.matching import Matching
from torchscape.network import Network
from torchscape.potentials.base import Potential
from torchscape.potentials.expected import expect_potential

__all__ = ["FromNetwork"]


L = TypeVar("L")


class FromNetwork:
    """The part of a :class:`~torchscape.landscape.Landscape` that makes one of a network.

    Attributes:
        imported: what became of the points of the network; None where there was none.
    """

    imported: Imported | None = None

    @classmethod
    def from_network(
        cls: type[L],
        network: Network,
        potential: Potential,
        path: str | os.PathLike[str] | None = None,
        *,
        matching: Matching | None = None,
        tol: float | None = None,
        progress: bool = False,
    ) -> L:
        """A landscape with the points of a network, each converged and verified anew; ``explore`` goes on with it.

        Minima are relaxed and certified, transition states followed from their places to ``tol``, their index
        checked, and their downhill paths followed to minima; all of it in batches. What the network says of
        energies, curvatures and connections is compared with what comes of that, and not stored.
        ``landscape.imported`` says what became of each point (:class:`~torchscape.landscape.Imported`), and a
        warning says so where anything is not the same.

        Args:
            network: with coordinates, as :func:`torchscape.export.read_network` has them from folders of
                PATHSAMPLE and topsearch and from databases of pele; in the units and the order of the coordinates
                of ``potential``.
            potential: U.
            path: the file, which must not exist yet; None for a landscape in memory.
            matching: when two points are the same.
            tol: RMS gradient of all points; None for 1e-8 in float64.
            progress: show a progress bar.

        Raises:
            TorchscapeError: if the network carries no coordinates, or others than the potential has, or none of
                its minima is one of the potential.
            DatabaseError: if there is such a file already.

        Example:
            >>> import torch
            >>> import torchscape as tsc
            >>> surface = tsc.FunctionPotential(lambda x: (x[0]**2 - 1)**2 + x[1]**2, 2)
            >>> x = torch.tensor([[-0.999, 0.001], [1.0, 0.0]], dtype=torch.float64)
            >>> network = tsc.Network.of(energy=[0.0, 0.0], edges=[(0, 1)], ts_energy=[1.0],
            ...                          coords=x, ts_coords=torch.zeros(1, 2).double())
            >>> with tsc.Landscape.from_network(network, surface) as landscape:
            ...     landscape.n_minima, landscape.n_transition_states, landscape.imported.minimum_fates.tolist()
            (2, 1, [0, 0])
        """
        expect_potential("Landscape.from_network", potential)
        expect_coordinates(network, potential)
        kind: Any = cls  # a Landscape, which is not known here
        if path is None:
            landscape = kind.in_memory(potential, matching=matching)
        else:
            landscape = kind.open(files.expect_new(path), potential, matching=matching)
        try:
            landscape.imported = import_network(landscape, network, tol=tol, progress=progress)
        except BaseException:
            landscape.close()
            if path is not None:
                for there in (Path(path), files.log_of(Path(path))):
                    with contextlib.suppress(OSError):
                        there.unlink()
            raise
        if not landscape.imported.all_same:
            warnings.warn(f"from_network: {landscape.imported.describe()}", stacklevel=2)
        return landscape  # type: ignore[no-any-return]
