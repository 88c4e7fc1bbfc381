"""How results show themselves: in a few lines of a terminal, in a small table of a notebook.

``@brief`` above a dataclass gives it both. Arrays are told by shape and range, what is within is told by its name;
nothing is longer than six lines and 800 characters, whatever it holds.
"""

from __future__ import annotations

import dataclasses
import html
import inspect
import textwrap
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, TypeVar, cast

import numpy as np
import torch

from torchscape.devices import holds_numbers

__all__ = [
    "MOST_CHARACTERS",
    "MOST_LINES",
    "as_html",
    "brief",
    "fits",
    "in_few_words",
    "is_generated",
    "span",
    "table",
]

MOST_LINES, MOST_CHARACTERS = 6, 800
_WIDTH = 115
_FEW = 4  # numbers that are written out
_MOST_LOOKED_AT = 10_000_000  # numbers whose range is told
_MOST_ROWS = 24  # of a table

Kind = TypeVar("Kind", bound=type)


def brief(kind: Kind) -> Kind:
    """A dataclass that shows itself briefly, in a terminal and in a notebook; what it defines by itself stays.

    Example:
        >>> @brief
        ... @dataclasses.dataclass(frozen=True)
        ... class Spectrum:
        ...     eigenvalues: torch.Tensor
        ...     n_zero: int
        >>> Spectrum(torch.arange(300.0), 3)
        Spectrum(eigenvalues=[300] 0 to 299, n_zero=3)
    """
    own, changed = vars(kind).get("__repr__"), cast(Any, kind)
    if own is None or is_generated(own):
        changed.__repr__ = _repr
    if "_repr_html_" not in vars(kind):
        changed._repr_html_ = as_html
    return kind


def is_generated(function: Any) -> bool:
    """Whether ``dataclass`` has made it."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code is not None and code.co_filename == "<string>"


def _repr(self: Any) -> str:
    shown = _shown(self)
    for with_range in (True, False):
        parts = [f"{name}={in_few_words(value, with_range=with_range)}" for name, value in shown]
        if fits(text := _wrapped(type(self).__name__, parts)):
            return text
    while not fits(text := _wrapped(type(self).__name__, [*parts, f"and {len(shown) - len(parts)} more"])):
        parts.pop()
    return text


def fits(text: str) -> bool:
    """Whether a text is brief."""
    return len(text) <= MOST_CHARACTERS and text.count("\n") < MOST_LINES


def _wrapped(name: str, parts: Sequence[str]) -> str:
    text = f"{name}({', '.join(parts)})"
    if len(text) <= _WIDTH:
        return text
    kept = [part.replace(" ", "\0") for part in parts]  # a field is not broken unless it is longer than a line
    lines = textwrap.wrap(", ".join(kept), _WIDTH - 4, break_on_hyphens=False)
    return "\n    ".join([f"{name}(", *lines]).replace("\0", " ") + ")"


def _shown(of: Any) -> list[tuple[str, Any]]:
    """The fields that are shown and hold something, in their order."""
    named = [(field.name, getattr(of, field.name)) for field in dataclasses.fields(of) if field.repr]
    return [(name, value) for name, value in named if value is not None and not _is_nothing(value)]


def _is_nothing(value: Any) -> bool:
    return isinstance(value, Mapping | tuple | list) and not len(value)


def in_few_words(value: Any, *, with_range: bool = True) -> str:
    """A value in a few words, whatever it is.

    Example:
        >>> in_few_words(torch.tensor([1.0, 2.0])), in_few_words(torch.zeros(3, 5)), in_few_words(0.1 + 0.2)
        ('[1, 2]', '[3, 5] 0', '0.3')
        >>> in_few_words({"accuracy": torch.ones(9)}), in_few_words("a" * 99)
        ("{'accuracy'}", "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...'")
    """
    if isinstance(value, torch.Tensor | np.ndarray):
        return _array(value, with_range)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, str):
        return repr(value if len(value) <= 42 else f"{value[:39]}...")
    if isinstance(value, Mapping):
        names = [in_few_words(name) for name in list(value)[:_FEW]]
        return "{" + ", ".join([*names, "..."] if len(value) > _FEW else names) + "}"
    if isinstance(value, list | tuple):
        return _sequence(value, with_range)
    if dataclasses.is_dataclass(value) or not isinstance(value, int | bool | type(None)):
        return _named(value)
    return repr(value)


def _named(value: Any) -> str:
    """Its own words where they are few, else its kind."""
    if not dataclasses.is_dataclass(value):
        own = repr(value)
        if len(own) <= 60 and "\n" not in own:
            return own
    return f"{getattr(value, '__name__', type(value).__name__)}" + ("" if isinstance(value, type) else "(...)")


def _sequence(value: Sequence[Any], with_range: bool) -> str:
    if len(value) <= _FEW and all(isinstance(one, int | float | str | bool) for one in value):
        inside = ", ".join(in_few_words(one, with_range=with_range) for one in value)
        return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' * (len(value) == 1)})"
    return f"{len(value)} of {type(value[0]).__name__}" if len(value) else "none"


def _array(value: torch.Tensor | np.ndarray, with_range: bool) -> str:
    """Shape and range, or the numbers themselves where they are few."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biuf":
            return f"{list(value.shape)} {value.dtype}"
        value = torch.as_tensor(np.array(value))
    shape = str(list(value.shape))
    if value.numel() == 0:
        return f"{shape} empty"
    if not holds_numbers(value.device) or value.is_complex() or value.is_sparse or value.numel() > _MOST_LOOKED_AT:
        return f"{shape} {str(value.dtype).removeprefix('torch.')}"
    if value.ndim < 2 and value.numel() <= _FEW:
        few = [
            _number(float(one)) if value.is_floating_point() else str(one) for one in value.reshape(-1).tolist()
        ]
        return f"[{', '.join(few)}]" if value.ndim else few[0]
    if not with_range:
        return shape
    if value.dtype == torch.bool:
        return f"{shape} {int(value.sum())} true"
    return f"{shape} {span(value.detach())}"


def span(value: torch.Tensor) -> str:
    """From the smallest to the largest finite value.

    Example:
        >>> span(torch.tensor([2.0, 0.5, float("inf")]))
        '0.5 to 2, 1 not finite'
    """
    finite = value
    if value.is_floating_point():
        finite = value[value.isfinite()]
    elif value.dtype == torch.int64:
        return _ends(str(int(value.min())), str(int(value.max())))
    if not finite.numel():
        return "not finite"
    told = _ends(*(_number(float(end)) for end in (finite.min(), finite.max())))
    return told + (f", {value.numel() - finite.numel()} not finite" if finite.numel() < value.numel() else "")


def _ends(first: str, last: str) -> str:
    return first if first == last else f"{first} to {last}"


def _number(value: float) -> str:
    return f"{value:.6g}"


# --- in a notebook -------------------------------------------------------------------------------------------


def as_html(self: Any) -> str:
    """What a notebook shows: a table of the fields, beside a small picture where there is one.

    The picture is the matter of ``torchscape.report.notebook``, above all rooms whose objects are shown; it is
    asked for by its name, so that nothing here depends on it.
    """
    notebook = import_module("torchscape.report.notebook")
    rows = notebook.rows(self) or [(name, in_few_words(value)) for name, value in _shown(self)]
    return table(type(self).__name__, rows, notebook.thumbnail(self))


def table(title: str, rows: Sequence[tuple[str, object]], picture: str = "") -> str:
    """HTML of a small table with a title, and a picture beside it (HTML, too).

    Example:
        >>> table("Network", [("minima", 3)])
        '<div ...><table><caption ...>Network</caption><tr>...minima...3...</tr></table></div>'
    """
    cell = "text-align:left;padding:1px 14px 1px 0;background:none"
    lines = [
        f'<tr><td style="{cell};opacity:.65">{html.escape(str(name))}</td>'
        f'<td style="{cell}">{html.escape(str(value))}</td></tr>'
        for name, value in rows[:_MOST_ROWS]
    ]
    if len(rows) > _MOST_ROWS:
        lines.append(f'<tr><td style="{cell};opacity:.65">and {len(rows) - _MOST_ROWS} more</td><td></td></tr>')
    caption = f'<caption style="text-align:left;font-weight:600;padding:0 0 3px">{html.escape(title)}</caption>'
    body = f"<table>{caption}{''.join(lines)}</table>"
    look = "display:flex;gap:18px;align-items:flex-start;flex-wrap:wrap;font-size:13px"
    return f'<div style="{look}">{body}{picture}</div>'
