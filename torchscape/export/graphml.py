"""The network as a GraphML file, written as it is read out: no graph of it is built in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO
from xml.sax.saxutils import quoteattr

import torch

from torchscape.export.columns import minimum_columns, transition_state_columns
from torchscape.network import Network
from torchscape.outputs import head, whole_file
from torchscape.types import Tensor

__all__ = ["write_graphml"]

_BLOCK = 4096  # rows that are text at the same time
_HEAD = """<?xml version="1.0" encoding="utf-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" \
xsi:schemaLocation="http://graphml.graphdrawing.org/xmlns http://graphml.graphdrawing.org/xmlns/1.0/graphml.xsd">
"""
_UNUSUAL = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}  # which Java reads, and Python as well


def write_graphml(network: Network, path: str | Path) -> Path:
    """The graph of :func:`~torchscape.export.to_networkx` as a GraphML file, for Gephi, Cytoscape and others.

    Returns the path. The file appears when it is whole, in place of another GraphML file only. GraphML has no
    lists, so coordinates do not travel; write them with :func:`~torchscape.export.to_csv`. What is unknown is NaN.
    Beyond the network itself it takes no memory to speak of.

    Raises:
        TorchscapeError: if something else is there.
        OSError: when it cannot be written.

    Reference:
        Brandes et al., GraphML progress report, doi 10.1007/3-540-45848-4_59.
    """
    path = Path(path)
    nodes = {"id": network.ids, **minimum_columns(network)}
    edges = {"id": network.ts_ids, **transition_state_columns(network)}
    with (
        whole_file(path, lambda there: b"<graphml" in head(there)) as beside,
        beside.open("w", encoding="utf-8") as file,
    ):
        _write(file, network, nodes, edges)
    return path


def _write(file: IO[str], network: Network, nodes: dict[str, Tensor], edges: dict[str, Tensor]) -> None:
    file.write(_HEAD)
    keys: dict[str, dict[str, str]] = {"graph": {}, "node": {}, "edge": {}}
    whole = torch.tensor([network.n_degenerate_rearrangements])
    for of, columns in (("graph", {"n_degenerate_rearrangements": whole}), ("node", nodes), ("edge", edges)):
        for name, column in columns.items():
            key = keys[of][name] = f"d{sum(map(len, keys.values()))}"
            named = quoteattr("".join(c if c.isprintable() else "?" for c in name))
            file.write(f'<key id="{key}" for="{of}" attr.name={named} attr.type="{_kind(column)}"/>\n')
    file.write('<graph edgedefault="undirected">\n')
    file.write(f'<data key="{keys["graph"]["n_degenerate_rearrangements"]}">{int(whole)}</data>\n')
    for i, data in enumerate(_rows(nodes, keys["node"])):
        file.write(f'<node id="{i}">{data}</node>\n')
    ends = _rows({"source": network.edges[0], "target": network.edges[1]}, None)
    for e, (pair, data) in enumerate(zip(ends, _rows(edges, keys["edge"]), strict=True)):
        file.write(f'<edge{pair} id="{e}">{data}</edge>\n')
    file.write("</graph>\n</graphml>\n")


def _kind(column: Tensor) -> str:
    if column.dtype == torch.bool:
        return "boolean"
    return "double" if column.is_floating_point() else "long"


def _rows(columns: dict[str, Tensor], keys: dict[str, str] | None) -> Iterator[str]:
    """Each row as text: elements by their keys, or attributes where there are none."""
    n = len(next(iter(columns.values())))
    for first in range(0, n, _BLOCK):
        block = [column[first : first + _BLOCK].tolist() for column in columns.values()]
        for row in zip(*block, strict=True):
            named = zip(columns, map(_text, row), strict=True)
            if keys is None:
                yield "".join(f' {name}="{text}"' for name, text in named)
            else:
                yield "".join(f'<data key="{keys[name]}">{text}</data>' for name, text in named)


def _text(value: bool | int | float) -> str:
    text = str(value)
    return text.lower() if isinstance(value, bool) else _UNUSUAL.get(text, text)
