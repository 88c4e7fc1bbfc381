"""Input files of disconnectionDPS, the field's program for disconnectivity graphs: ``dinfo``.

One keyword a line with what belongs to it, minima numbered from 1 in the order of ``min.data``. The meanings are
those that the head of the program's source gives (D. J. Wales and co-workers, https://www-wales.ch.cam.ac.uk).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torchscape.errors import TorchscapeError, UnknownName
from torchscape.network import Network

__all__ = ["Dinfo", "read_dinfo"]

_COMMENTS = ("!", "#", "COMMENT")
# Numbers that each keyword needs, and how many it may have beside them.
_NUMBERS = {
    "DELTA": 1, "FIRST": 1, "LEVELS": 1, "MAXTSENERGY": 1, "TSTHRESH": 1, "MAXTSBARRIER": 1, "NCONNMIN": 1,
    "CONNECTMIN": 1, "LOWEST": 1, "IDMIN": 1, "SCALEBAR": 1, "TRVALRANGE": 2,
}  # fmt: skip
_SWITCHES = {"AUTORANGE", "CENTREGMIN", "EXCLUDEALL", "IDENTIFY", "MONOTONIC", "NOBARRIERS", "NOSPLIT"}
_FILES = {"PICK", "TRMIN", "TRVAL"}
_OF_THE_PAGE = {
    "CHOOSECOLOURS", "COLOURPRINT", "COLOUR_BAR_LABEL", "DUMPNUMBERS", "DUMPSIZES", "ENERGY_LABEL", "LABELFORMAT",
    "LABELSIZE", "LETTER", "MINIMA", "ORDER_BY_ENERGY", "TRVALSCALE", "TS",
}  # fmt: skip
_ELSEWHERE = {
    "IDENTIFY_NODE": "superbasins carry no numbers here",
    "IDENTIFY_NODE_SIZE": "collapse=True writes numbers of minima",
    "WEIGHTS": "branches have one width here",
}


@dataclasses.dataclass(frozen=True)
class Dinfo:
    """What a ``dinfo`` asks for.

    Attributes:
        path: where it was read.
        numbers: of each keyword that has any, the numbers after it; those of IDMIN of all its lines.
        switches: keywords that stand by themselves.
        files: of PICK, TRMIN and TRVAL, the files named.
        passed_over: keywords about the page of the program, or its files: nothing follows from them here.
    """

    path: Path
    numbers: Mapping[str, list[float]]
    switches: frozenset[str]
    files: Mapping[str, list[Path]]
    passed_over: tuple[str, ...] = ()

    def levels(self, energy: np.ndarray, ts_energy: np.ndarray) -> list[float]:
        """Thresholds: LEVELS of them, DELTA apart, from FIRST downwards; as many as needed with AUTORANGE."""
        delta = self.numbers["DELTA"][0]
        if "AUTORANGE" in self.switches:
            high = max(energy.max(), ts_energy.max() if len(ts_energy) else energy.max())
            first = float(np.ceil(high / delta)) * delta
            count = max(int(np.ceil((first - energy.min()) / delta)) + 1, 2)
        else:
            first, count = self.numbers["FIRST"][0], int(self.numbers["LEVELS"][0])
        return (first - delta * np.arange(count)[::-1]).tolist()

    def applied(self, network: Network) -> tuple[Network, dict[str, Any]]:
        """The network with the transition states that count, and the options of the plot.

        Minimum n of the file is position n - 1, as of ``read_pathsample`` and in what ``write_pathsample`` wrote.

        Raises:
            TorchscapeError: for a minimum that does not exist, or files that cannot be read.
        """
        network = self._transition_states(network)
        energy = network.levels.double().cpu().numpy()
        levels = self.levels(energy, network.ts_levels.double().cpu().numpy())
        options: dict[str, Any] = {"levels": levels, "style": "slanted"}
        options["centre"] = "lowest" if "CENTREGMIN" in self.switches else "largest"
        options["minima"] = self._minima(network, levels).nonzero()[0].tolist()
        if "IDENTIFY" in self.switches:
            options["labels"] = {k: str(k + 1) for k in range(network.n_minima)}
        if "IDMIN" in self.numbers:
            options["labels"] = {self._position(n, network): f"{n:g}" for n in self.numbers["IDMIN"]}
        if "SCALEBAR" in self.numbers:
            options["scale_bar"] = self.numbers["SCALEBAR"][0] or True
        return network, options | self._colours(network)

    def _transition_states(self, network: Network) -> Network:
        low, high = network.levels[network.edges], network.ts_levels
        keep = torch.ones_like(high, dtype=torch.bool)
        for name in ("MAXTSENERGY", "TSTHRESH"):
            if name in self.numbers:
                keep &= high <= self.numbers[name][0]
        if "MAXTSBARRIER" in self.numbers:
            keep &= (high - low).min(0).values <= self.numbers["MAXTSBARRIER"][0]
        network = network.only_edges(keep)
        if "NOBARRIERS" in self.switches:
            network = dataclasses.replace(network, ts_energy=network.energy[network.edges].max(0).values)
        return network

    def _minima(self, network: Network, levels: list[float]) -> np.ndarray:
        """Which are drawn [N]: first what is connected, then what is chosen of that."""
        n = network.n_minima
        degree = torch.bincount(network.edges.reshape(-1), minlength=n).cpu().numpy()
        connected = np.ones(n, dtype=bool)
        if "NCONNMIN" in self.numbers:
            connected &= degree > self.numbers["NCONNMIN"][0]
        at = self.numbers.get("CONNECTMIN", [0.0])[0]
        start = network.global_minimum if at == 0 else self._position(at, network)
        component = network.components().cpu().numpy()
        connected &= component == component[start]
        keep = connected.copy()
        if "LOWEST" in self.numbers:
            order = np.argsort(network.levels.cpu().numpy(), kind="stable")
            keep &= np.isin(np.arange(n), order[keep[order]][: int(self.numbers["LOWEST"][0])])
        if "MONOTONIC" in self.switches:
            a, b = network.edges.cpu().numpy()
            e = network.levels.cpu().numpy()
            keep[np.concatenate([a[e[a] > e[b]], b[e[b] > e[a]]])] = False
        if "EXCLUDEALL" in self.switches:
            keep[:] = False
        for path in self.files.get("PICK", []):
            for number in _column(path, int):
                keep[self._position(abs(number), network)] = number > 0
        if "NOSPLIT" in self.switches:
            keep &= _separate(network, np.asarray(levels))
        return keep & connected

    def _colours(self, network: Network) -> dict[str, Any]:
        if "TRMIN" in self.files:
            sets = self.files["TRMIN"]
            named = [path.name for path in sets]
            return {
                "highlight": {
                    path.name if named.count(path.name) == 1 else f"{k} {path.name}": sorted(
                        {self._position(number, network) for number in _column(path, int)}
                    )
                    for k, path in enumerate(sets, start=1)
                }
            }
        if "TRVAL" in self.files:
            path = self.files["TRVAL"][0]
            values = _column(path, float)
            if len(values) != network.n_minima:
                raise TorchscapeError(
                    f"{path}: {len(values)} values for {network.n_minima} minima: give one a line, in their order"
                )
            colour = torch.tensor(values, dtype=torch.float64)
            limits = self.numbers.get("TRVALRANGE")
            return {"colour": colour, "colour_label": path.stem} | ({"limits": tuple(limits)} if limits else {})
        return {}

    def _position(self, number: float | int, network: Network) -> int:
        if not (number == int(number) and 1 <= number <= network.n_minima):
            raise TorchscapeError(
                f"{self.path}: there is no minimum {number:g}; they are numbered from 1 to {network.n_minima}"
            )
        return int(number) - 1


def read_dinfo(path: str | Path) -> Dinfo:
    """What a ``dinfo`` asks for. Files that it names are looked for in its folder.

    Raises:
        TorchscapeError: naming the line, for a keyword that is unknown or has no meaning here, or whose numbers
            are missing; where DELTA, FIRST or LEVELS are.
    """
    path = Path(path)
    numbers: dict[str, list[float]] = {}
    switches, files, passed = set(), {}, []
    for place, keyword, words in _lines(path):
        if keyword in _NUMBERS:
            values = [_number(word, place) for word in words]
            if len(values) < _NUMBERS[keyword]:
                raise TorchscapeError(f"{place}: {keyword} needs {_NUMBERS[keyword]} number(s) after it")
            known = numbers.get(keyword, []) if keyword == "IDMIN" else []
            numbers[keyword] = known + values[: _NUMBERS[keyword]]
        elif keyword in _SWITCHES:
            switches.add(keyword)
        elif keyword in _FILES:
            names = words[{"PICK": 0, "TRMIN": 2, "TRVAL": 1}[keyword] :]
            if not names:
                raise TorchscapeError(f"{place}: {keyword} names no file")
            files[keyword] = [path.parent / name.strip("'\"") for name in names]
        elif keyword in _OF_THE_PAGE:
            passed.append(keyword)
        elif keyword in _ELSEWHERE:
            raise TorchscapeError(f"{place}: {keyword} is not drawn, {_ELSEWHERE[keyword]}; begin the line with !")
        else:
            known_words = [*_NUMBERS, *_SWITCHES, *_FILES, *_OF_THE_PAGE]
            raise UnknownName.of(f"keyword ({place})", keyword, known_words)
    _expect_levels(path, numbers, switches)
    return Dinfo(path, numbers, frozenset(switches), files, tuple(passed))


def _expect_levels(path: Path, numbers: Mapping[str, list[float]], switches: set[str]) -> None:
    needed = ["DELTA"] if "AUTORANGE" in switches else ["DELTA", "FIRST", "LEVELS"]
    if missing := [name for name in needed if name not in numbers]:
        raise TorchscapeError(f"{path}: {', '.join(missing)} missing, which every dinfo needs; is it one?")
    if not numbers["DELTA"][0] > 0 or ("LEVELS" in needed and numbers["LEVELS"][0] < 2):
        raise TorchscapeError(f"{path}: DELTA must be above 0, and LEVELS at least 2")


def _lines(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Where it stands, the keyword and what follows; lines that end in & go on in the next one."""
    try:
        text = path.read_text()
    except UnicodeDecodeError as error:
        raise TorchscapeError(f"{path} is no text file: is it a dinfo?") from error
    except OSError as error:
        raise TorchscapeError(f"{path} cannot be read ({error.strerror}): give a dinfo") from error
    pending = ""
    for number, line in enumerate(text.splitlines(), start=1):
        line = pending + line.strip()
        if line.endswith("&"):
            pending = line[:-1] + " "
            continue
        pending = ""
        if not line or line.upper().startswith(_COMMENTS):
            continue
        keyword, *words = line.split("!")[0].replace(",", " ").split()
        yield f"{path}:{number}", keyword.upper(), words


def _number(word: str, place: str) -> float:
    try:
        return float(word.upper().replace("D", "E"))
    except ValueError:
        raise TorchscapeError(f"{place}: {word!r} is not a number") from None


def _column(path: Path, kind: Callable[[float], Any]) -> list[Any]:
    """The first column of a file."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise TorchscapeError(f"{path} cannot be read ({error.strerror}): the dinfo names it") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if words := line.split():
            value = _number(words[0], f"{path}:{number}")
            found.append(kind(value))
    return found


def _separate(network: Network, levels: np.ndarray) -> np.ndarray:
    """Which minima are the lowest of their superbasin at the first level above their own energy [N]."""
    from torchscape.analysis.topology import merge_tree

    energy = network.levels
    at = torch.as_tensor(levels, dtype=energy.dtype, device=energy.device)
    basin = merge_tree(network).superbasins(at)
    above = torch.searchsorted(at, energy.contiguous()).clamp(max=len(at) - 1)
    itself = torch.arange(network.n_minima, device=energy.device)
    return (basin[above, itself] == itself).cpu().numpy()
