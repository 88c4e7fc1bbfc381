"""Old names of what has moved: each still answers for one minor version, with a warning that says the new one."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["old_names"]


def old_names(package: str, places: Mapping[str, str], *, until: str) -> Callable[[str], Any]:
    """A ``__getattr__`` for a package of which some names live elsewhere now.

    Args:
        package: the ``__name__`` of the package.
        places: by old name, the full name that each has now.
        until: the version that knows the old names no longer.

    Returns:
        the function. Asked for an old name it warns (DeprecationWarning) and imports the new place; asked for any
        other, it raises AttributeError.

    Example:
        >>> old = old_names("torchscape.analysis", {"mean": "statistics.fmean"}, until="0.2")
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     old("mean")([1, 2])
        1.5
        >>> str(said[0].message)
        'torchscape.analysis.mean is statistics.fmean now; version 0.2 forgets the old name'
    """

    def old_name(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, attribute = places[name].rpartition(".")
        message = f"{package}.{name} is {places[name]} now; version {until} forgets the old name"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(module), attribute)

    return old_name
