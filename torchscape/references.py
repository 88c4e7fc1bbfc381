"""Which papers to cite: those of the methods that a run, an analysis or a picture has used."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources

from torchscape import potentials
from torchscape.errors import TorchscapeError, UnknownName
from torchscape.landscape import Landscape
from torchscape.numerics import DENSE_SPECTRUM
from torchscape.optimise.relaxation import DENSE_UP_TO

__all__ = ["OWN", "USES", "Reference", "cite", "used_by"]

_BANDS = ("trygubenko_wales_2004", "henkelman_jonsson_2000")
_FOLLOWING = ("cerjan_miller_1981", "munro_wales_1999", "kumeda_2001")
_DOWNHILL = ("page_mciver_1988", "hairer_wanner_1996")
_HOPPING = ("li_scheraga_1987", "wales_doye_1997")
_SUPERPOSITION = ("wales_1993", "wales_2003")
_TREES = ("becker_karplus_1997", "wales_1998")
_RATES = ("wales_2002", "trygubenko_wales_2006", "grassmann_1985")

USES: dict[str, tuple[str, ...]] = {
    "torchscape": ("paszke_2019", "wales_2003"),
    "models": ("ballard_2017", "niroomand_2024", "ainsworth_2023", "crouse_2016"),
    "clusters": ("kabsch_1976", "crouse_2016"),
    # how points are found
    "basin-hopping": _HOPPING,
    "tempered-basin-hopping": (*_HOPPING, "swendsen_wang_1986", "strodel_2010"),
    "connect": ("carr_2005", *_BANDS, *_FOLLOWING, *_DOWNHILL),
    "lower-barriers": ("strodel_2007", "carr_2005", *_BANDS, *_FOLLOWING, *_DOWNHILL),
    "climb": (*_FOLLOWING, *_DOWNHILL),
    "connect-pair": ("wales_2002", "carr_2005", *_BANDS, *_FOLLOWING, *_DOWNHILL),
    "shortcut": ("carr_2005", "strodel_2007", *_BANDS, *_FOLLOWING, *_DOWNHILL),
    "untrap": ("strodel_2007", "carr_2005", *_BANDS, *_FOLLOWING, *_DOWNHILL),
    "climb-from": (*_FOLLOWING, *_DOWNHILL),
    "stationary": ("more_1978",),
    "compress": ("doye_2000",),
    "symmetrise": ("oakley_2013",),
    "group-rotation": ("mochizuki_2014",),
    "BFGS": ("nocedal_wright_2006",),
    "LBFGS": ("liu_nocedal_1989", "byrd_1994"),
    "eigenpairs": ("wu_simon_2000", "ubaru_2017"),
    # what is computed and drawn
    "disconnectivity": _TREES,
    "heat-capacity": (*_SUPERPOSITION, "wales_2017"),
    "heat-capacity-trees": (*_SUPERPOSITION, *_TREES, "wales_2017", "niroomand_2024"),
    "occupation": _SUPERPOSITION,
    "entropy": _SUPERPOSITION,
    "frustration": ("desouza_2017", *_SUPERPOSITION),
    "rates": _RATES,
    "paths": ("wales_2002", "page_mciver_1988"),
    "profile": ("page_mciver_1988",),
    "funnels": _TREES,
    "network": ("fruchterman_reingold_1991",),
    "communities": ("blondel_2008",),
    "degree-distribution": ("clauset_2009",),
    "small-world": ("watts_strogatz_1998", "humphries_gurney_2008"),
    "betweenness": ("brandes_2001",),
    "coverage": ("colwell_2012",),
    "checkpoints": ("ainsworth_2023", *_BANDS, *_FOLLOWING),
    "roc": ("ballard_2017",),
    "ensembles": ("niroomand_2024",),
    "flatness": ("niroomand_2024",),
    "langevin": ("leimkuhler_matthews_2013", "vehtari_2021"),
    "hamiltonian": ("duane_1987", "vehtari_2021"),
    "tempering": ("swendsen_wang_1986", "vehtari_2021"),
    "diffusion-maps": ("coifman_lafon_2006",),
    "basin-volumes": ("frenkel_ladd_1984", "shirts_chodera_2008"),
}
"""For each method, plot and analysis, the keys of its papers in references.bib."""


@dataclasses.dataclass(frozen=True)
class Reference:
    """A paper, a book or a program.

    Attributes:
        key: its name in references.bib.
        kind: of the entry there: "article", "book" ...
        fields: author, title, journal, year, doi ..., as they stand there.
        of: the methods that it is cited for.
    """

    key: str
    kind: str
    fields: Mapping[str, str]
    of: tuple[str, ...] = ()

    @property
    def doi(self) -> str:
        """Its DOI, empty where it has none."""
        return self.fields.get("doi", "")

    def __str__(self) -> str:
        """Authors, title, where and when, and the DOI, in one line.

        Example:
            >>> print(cite(["betweenness"])[0])
            U. Brandes, A faster algorithm for betweenness centrality, J. Math. Sociol. 25, 163-177 (2001), doi ...
        """
        names = [_initials(name) for name in self.fields["author"].split(" and ")]
        who = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} & {names[-1]}"
        if len(names) > 8:
            who = f"{names[0]} et al."
        where = next(
            (self.fields[name] for name in ("journal", "booktitle", "publisher") if name in self.fields), ""
        )
        volume, pages = self.fields.get("volume", ""), self.fields.get("pages", "").replace("--", "-")
        place = ", ".join(filter(None, (f"{where} {volume}".strip(), pages)))
        title, year = self.fields["title"], f"({self.fields['year']})"
        told = [who, title, f"{place} {year}"] if place else [who, f"{title} {year}"]
        if self.doi:
            told.append(f"doi {self.doi}")
        return ", ".join(told)

    def bibtex(self) -> str:
        """The entry for BibTeX."""
        lines = [f"  {name} = {{{value}}}," for name, value in self.fields.items()]
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}"])


def _initials(name: str) -> str:
    last, _, first = name.partition(", ")
    if not first:
        return name.strip("{}")  # of a group, which BibTeX shall not take apart
    parts = ["-".join(f"{part[0]}." for part in word.split("-")) for word in first.split()]
    return f"{' '.join(parts)} {last}"


OWN = Reference(
    "torchscape",
    "software",
    {
        "author": "{The torchscape developers}",
        "title": "torchscape: energy landscapes of PyTorch models",
        "year": "2026",
    },
)
"""This package itself."""


@functools.cache
def _library() -> dict[str, Reference]:
    text = resources.files("torchscape").joinpath("references.bib").read_text(encoding="utf-8")
    found = {}
    for kind, key, body in re.findall(r"^@(\w+)\{(\w+),\n(.*?)^\}", text, re.MULTILINE | re.DOTALL):
        fields = dict(re.findall(r"^  (\w+) = \{(.*)\},$", body, re.MULTILINE))
        found[key] = Reference(key, kind, fields)
    return found


def cite(of: Landscape | Iterable[str] | None = None) -> list[Reference]:
    """The papers of methods, each once, in the order of :data:`USES`.

    Args:
        of: names of methods, plots and analyses (see :data:`USES`); or a landscape, for the methods that its runs
            have used; None for all that there are.

    Raises:
        UnknownName: for a name that nothing has.
        TorchscapeError: if nothing was explored into the landscape.

    Example:
        >>> [reference.key for reference in cite(["disconnectivity"])]
        ['becker_karplus_1997', 'wales_1998']
    """
    names = list(USES) if of is None else used_by(of) if isinstance(of, Landscape) else list(of)
    for name in names:
        if name not in USES:
            raise UnknownName.of("method", name, list(USES))
    cited: dict[str, list[str]] = {}
    for name in USES:
        for key in USES[name] if name in names else ():
            cited.setdefault(key, []).append(name)
    return [dataclasses.replace(_library()[key], of=tuple(of)) for key, of in cited.items()]


def used_by(landscape: Landscape) -> list[str]:
    """The methods that the runs of a landscape have used, by their names in :data:`USES`.

    Raises:
        TorchscapeError: if nothing was explored into it.
    """
    runs = landscape.runs()
    if not runs:
        raise TorchscapeError("nothing was explored into this landscape: there is nothing to cite yet")
    told = json.dumps([run["settings"] for run in runs])
    used = {"torchscape", *_room(landscape.kind), *_named(told)}
    if not used & {"BFGS", "LBFGS"}:  # as the potential's size has chosen
        known = getattr(potentials, landscape.kind, None)
        few = landscape.ndim <= DENSE_UP_TO and not getattr(known, "even_curvature", False)
        used.add("BFGS" if few else "LBFGS")
    if landscape.ndim > DENSE_SPECTRUM:
        used.add("eigenpairs")
    return [name for name in USES if name in used]


def _room(kind: str) -> Iterator[str]:
    """What the kind of potential brings along."""
    if "Module" in kind:
        yield "models"
    known = getattr(potentials, kind, None)
    if isinstance(known, type) and issubclass(known, potentials.ClusterPotential):
        yield "clusters"


_CLASSES = {
    "BasinHopping": "basin-hopping",
    "TemperedBasinHopping": "tempered-basin-hopping",
    "ConnectMinima": "connect",
    "LowerBarriers": "lower-barriers",
    "ClimbFromMinima": "climb",
    "ClimbFromChosen": "climb-from",
    "ConnectPair": "connect-pair",
    "Shortcut": "shortcut",
    "Untrap": "untrap",
    "StationarySearch": "stationary",
    "Compress": "compress",
    "Symmetrise": "symmetrise",
    "GroupRotation": "group-rotation",
    "BFGS": "BFGS",
    "LBFGS": "LBFGS",
}


def _named(settings: str) -> set[str]:
    """The strategies and optimisers that stored settings name, by their classes: runs of all versions do so."""
    return {name for kind, name in _CLASSES.items() if re.search(rf"\b{kind}\(", settings)}
