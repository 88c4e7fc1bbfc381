"""The named columns of a network, one list for every format, so that no two formats disagree on a name."""

from __future__ import annotations

from collections.abc import Mapping

from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.types import Tensor

__all__ = ["minimum_columns", "require_coords", "transition_state_columns"]


def minimum_columns(network: Network) -> dict[str, Tensor]:
    """Per-minimum columns by name, properties last; a property may not take a built-in name."""
    columns = {
        "energy": network.energy,
        "log_det": network.log_det,
        "log_degeneracy": network.log_degeneracy,
        "n_modes": network.n_modes,
        "hits": network.hits,
    }
    return _with_properties(columns, network.properties, {"id"})


def transition_state_columns(network: Network) -> dict[str, Tensor]:
    """Per-transition-state columns by name, their properties last."""
    columns = {
        "energy": network.ts_energy,
        "log_det": network.ts_log_det,
        "log_degeneracy": network.ts_log_degeneracy,
        "n_modes": network.ts_n_modes,
        "hits": network.ts_hits,
    }
    return _with_properties(columns, network.ts_properties, {"id", "minimum_a", "minimum_b"})


def _with_properties(
    columns: dict[str, Tensor], properties: Mapping[str, Tensor], taken: set[str]
) -> dict[str, Tensor]:
    for name in properties:
        if name in columns or name in taken:
            raise TorchscapeError(f"a property is called {name!r}, as a built-in column is: rename the property")
    return {**columns, **properties}


def require_coords(network: Network) -> tuple[Tensor, Tensor]:
    """Coordinates of minima and transition states.

    Raises:
        TorchscapeError: when the network does not carry them.
    """
    if network.coords is None or network.ts_coords is None:
        raise TorchscapeError(
            "this network carries no coordinates: leave coords=False, or ask the landscape for a network with them"
        )
    return network.coords, network.ts_coords
