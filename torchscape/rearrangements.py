"""``Rearrangements``: transition states both sides of which are images of one minimum."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch

from torchscape.errors import TorchscapeError
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["Rearrangements"]


@dataclasses.dataclass(frozen=True)
class Rearrangements:
    """F degenerate rearrangements: they join a minimum to permutational or mirror images of itself.

    They are no edges of a network, and change neither its populations nor its rates between minima; a
    :class:`~torchscape.network.Network` carries them so that nothing is lost on the way to other programs and
    back.

    Attributes:
        minimum: position of the minimum in the network.
        energy: energies of the transition states.
        log_det: ln of the product of their *positive* Hessian eigenvalues.
        log_degeneracy: ln of the number of distinct symmetric images of each.
        n_modes: number of positive-curvature modes of each; -1 where unknown.
        hits: searches that ended in each.
        ids: the database's ids.
        coords: coordinates, when they are carried along.
        properties: named quantities, each [F].

    Example:
        >>> around = Rearrangements.of(minimum=[0, 2], energy=[1.5, 1.7])
        >>> around.of_minima(torch.tensor([2, 1])).minimum.tolist()
        [0]
    """

    minimum: Int[Tensor, "F"]
    energy: Float[Tensor, "F"]
    log_det: Float[Tensor, "F"]
    log_degeneracy: Float[Tensor, "F"]
    n_modes: Int[Tensor, "F"]
    hits: Int[Tensor, "F"]
    ids: Int[Tensor, "F"]
    coords: Float[Tensor, "F D"] | None = None
    properties: Mapping[str, Float[Tensor, "F"]] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        minimum,
        energy,
        *,
        log_det=None,
        log_degeneracy=None,
        n_modes=None,
        hits=None,
        ids=None,
        coords: Float[Tensor, "F D"] | None = None,
        properties: Mapping[str, Float[Tensor, "F"]] | None = None,
    ) -> Rearrangements:
        """From lists or tensors; what is not given is neutral, as in :meth:`Network.of`.

        Raises:
            TorchscapeError: on inconsistent lengths.
        """
        e = torch.as_tensor(energy, dtype=torch.float64).reshape(-1)
        n = len(e)

        def floats(values: Any) -> Float[Tensor, "F"]:
            return torch.zeros_like(e) if values is None else torch.as_tensor(values).to(e).reshape(-1)

        def ints(values: Any, default: int) -> Int[Tensor, "F"]:
            whole = torch.as_tensor(default if values is None else values, dtype=torch.int64, device=e.device)
            return whole.expand(n).clone() if whole.ndim == 0 else whole.reshape(-1)

        made = cls(
            minimum=ints(minimum, 0),
            energy=e,
            log_det=floats(log_det),
            log_degeneracy=floats(log_degeneracy),
            n_modes=ints(n_modes, 0),
            hits=ints(hits, 1),
            ids=torch.arange(n, device=e.device) if ids is None else ints(ids, 0),
            coords=coords,
            properties=dict(properties or {}),
        )
        for name, column in made._columns().items():
            if len(column) != n:
                raise TorchscapeError(
                    f"{name} has {len(column)} entries for {n} rearrangements: give one for each"
                )
        return made

    @classmethod
    def cat(cls, parts: list[Rearrangements]) -> Rearrangements:
        """One after the other; coordinates and properties survive only if every part has them."""
        columns: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            values = [getattr(part, field.name) for part in parts]
            if field.name != "properties":
                columns[field.name] = None if any(value is None for value in values) else torch.cat(values)
        shared = [name for name in parts[0].properties if all(name in part.properties for part in parts)]
        properties = {name: torch.cat([part.properties[name] for part in parts]) for name in shared}
        return cls(**columns, properties=properties)

    def __len__(self) -> int:
        return len(self.energy)

    def __getitem__(self, keep: Int[Tensor, "K"] | Bool[Tensor, "F"]) -> Rearrangements:
        """The chosen ones."""
        return self._each(lambda column: column[keep])

    def of_minima(self, keep: Int[Tensor, "K"]) -> Rearrangements:
        """Those of the minima at positions ``keep``, in whose order the minima are numbered then."""
        n = int(torch.cat([self.minimum, keep]).max()) + 1 if len(self) + len(keep) else 0
        position = torch.full((n,), -1, dtype=torch.int64, device=self.minimum.device)
        position[keep] = torch.arange(len(keep), device=keep.device)
        there = position[self.minimum]
        return dataclasses.replace(self[there >= 0], minimum=there[there >= 0])

    def to(self, device: torch.device | str) -> Rearrangements:
        return self._each(lambda column: column.to(device))

    def _columns(self) -> dict[str, Tensor]:
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "properties"}
        return {name: column for name, column in {**plain, **self.properties}.items() if column is not None}

    def _each(self, f: Callable[[Tensor], Tensor]) -> Rearrangements:
        changed: dict[str, Any] = {
            field.name: f(column)
            for field in dataclasses.fields(self)
            if isinstance(column := getattr(self, field.name), Tensor)
        }
        return dataclasses.replace(
            self, **changed, properties={name: f(column) for name, column in self.properties.items()}
        )
