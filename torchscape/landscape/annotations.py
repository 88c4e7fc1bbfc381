"""What is attached to points that are known: named numbers, and integrated paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Shaped

from torchscape.errors import TorchscapeError
from torchscape.landscape.families import Families
from torchscape.landscape.paths import write_paths
from torchscape.types import Float, Int, Tensor

__all__ = ["Annotations"]


class Annotations(Families):
    """The part of a landscape that attaches things to its points."""

    def set_paths(self, ids: Int[Tensor, "K"], arc: Float[Tensor, "K I"], energy: Float[Tensor, "K I"]) -> None:
        """Store integrated paths over transition states: arc lengths and energies, from ``minus`` to ``plus``.

        :meth:`network` then carries them as ``ts_path``, and ``plots.profile`` draws them. All paths of a
        landscape have the same number of points. See :func:`torchscape.explore.integrate_paths`, which makes them.

        Raises:
            TorchscapeError: if the numbers of points differ, values are not finite, or an id is unknown.
        """
        if unknown := sorted(set(ids.tolist()) - set(self.transition_state_ids().tolist())):
            raise TorchscapeError(f"paths of transition states that do not exist: {unknown[:5]}")
        with self._store.transaction():
            write_paths(self._store, ids.cpu(), arc.cpu(), energy.cpu())

    def set_property(
        self,
        name: str,
        values: Mapping[int, float | int] | Shaped[Tensor, "N"] | np.ndarray | Sequence[float | int],
    ) -> None:
        """Attach a named number to minima: by id, or one for each minimum in the order of :meth:`minima`.

        Example: ``landscape.set_property("accuracy", accuracy_of(landscape.minima().x))``.

        Raises:
            TorchscapeError: if there is not one value per minimum, or an id is unknown.
        """
        ids = self.minimum_ids()
        if isinstance(values, Mapping):
            given = {int(i): float(value) for i, value in values.items()}
            if unknown := sorted(set(given) - set(ids.tolist())):
                raise TorchscapeError(f"property {name!r} names minima that do not exist: {unknown[:5]}")
        else:
            try:
                numbers = torch.as_tensor(values, dtype=torch.float64).reshape(-1).tolist()
            except (TypeError, ValueError, RuntimeError) as error:
                raise TorchscapeError(
                    f"property {name!r} is not a list of numbers ({error}): give numbers"
                ) from error
            if len(numbers) != len(ids):
                raise TorchscapeError(
                    f"property {name!r} has {len(numbers)} values for {len(ids)} minima: give one per minimum in "
                    "the order of landscape.minima(), or a mapping from id to value"
                )
            given = dict(zip(ids.tolist(), numbers, strict=True))
        self._store.executemany(
            "INSERT INTO property(name, minimum, value) VALUES (?, ?, ?) "
            "ON CONFLICT(name, minimum) DO UPDATE SET value = excluded.value",
            [(name, i, value) for i, value in given.items()],
        )
