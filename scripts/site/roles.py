"""Docstrings name functions as Sphinx does; on the pages of the site these are names in code."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:func|class|meth|mod|data|attr|obj|exc):`(~?)([^`]+)`")
_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
_LITERAL = re.compile(r"``([^`]+)``")


def plain(text: str) -> str:
    """Roles and double backquotes as Markdown has them."""

    def name(found: re.Match[str]) -> str:
        full = found[2].lstrip(".")
        return f"`{full.rpartition('.')[2] if found[1] else full}`"

    text = _LITERAL.sub(r"`\1`", _ROLE.sub(name, text))
    return _EXAMPLE.sub("Examples:", text)  # else its lines are quotations


class Roles(griffe.Extension):
    """Changes every docstring when it is loaded."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = plain(obj.docstring.value)

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = plain(obj.docstring.value)
