"""The problems by name: ``get``, ``parse``, ``names`` and ``describe``."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from torchscape.errors import OptionError, TorchscapeError, UnknownName
from torchscape.problems import clusters, surfaces
from torchscape.problems.gaussian_process import gp
from torchscape.problems.kmeans import kmeans
from torchscape.problems.mnist import mnist
from torchscape.problems.networks import digits, trimer_network
from torchscape.problems.problem import Problem
from torchscape.problems.pspin import pspin
from torchscape.problems.published_figures import PUBLISHED, Published
from torchscape.problems.regression import regression
from torchscape.problems.student import student_teacher
from torchscape.validation import FINITE, NOT_NEGATIVE, POSITIVE, SEED, Range

__all__ = ["describe", "get", "names", "parse", "published"]

_BUILDERS: dict[str, Callable[..., Problem]] = {
    "himmelblau": surfaces.himmelblau,
    "mueller-brown": surfaces.mueller_brown,
    "six-hump-camel": surfaces.six_hump_camel,
    "schwefel": surfaces.schwefel,
    "rosenbrock": surfaces.rosenbrock,
    "double-well": surfaces.double_well,
    "quadratic": surfaces.quadratic,
    "lj": clusters.lennard_jones,
    "lj6": clusters.lj6,
    "lj7": clusters.lj7,
    "lj13": clusters.lj13,
    "lj38": clusters.lj38,
    "morse": clusters.morse,
    "dzugutov": clusters.dzugutov,
    "gupta": clusters.gupta,
    "blj": clusters.binary_lennard_jones,
    "kob-andersen": clusters.kob_andersen,
    "thomson": clusters.thomson,
    "trimer": clusters.trimer,
    "digits": digits,
    "mnist": mnist,
    "student-teacher": student_teacher,
    "trimer-network": trimer_network,
    "regression": regression,
    "p-spin": pspin,
    "gp": gp,
    "kmeans": kmeans,
}

# Options whose numbers have another range than their kind: whole numbers are sizes, others finite.
_SIZE = Range(low=1, high=10**7, whole=True)  # beyond any machine, and before it is filled
_RANGES: dict[str, Range] = {
    "seed": SEED,
    "n_test": dataclasses.replace(_SIZE, low=0),
    "n_b": dataclasses.replace(_SIZE, low=0),
    "noise": NOT_NEGATIVE,
    "l2": NOT_NEGATIVE,
    "tether": NOT_NEGATIVE,
    **dict.fromkeys(
        ("barrier", "width", "condition", "container", "size", "nu", "sharpness", "rho", "sigma_bb", "density"),
        POSITIVE,
    ),
}


def names() -> list[str]:
    """The names of all problems.

    Example:
        >>> "lj7" in names()
        True
    """
    return list(_BUILDERS)


def describe() -> dict[str, str]:
    """One line about each problem, with its options and their defaults.

    Example:
        >>> print(describe()["schwefel"])
        Schwefel's function: 7^D minima, the lowest in a corner (options: ndim=2, bounded=True)
    """
    return {name: _line(builder) for name, builder in _BUILDERS.items()}


def published(name: str) -> tuple[Published, ...]:
    """The published figures of a problem, without building it: ``Problem.published`` by name.

    Raises:
        UnknownName: for a name that does not exist.

    Example:
        >>> published("p-spin")[0].value
        (-1.657, -1.633)
    """
    if name not in _BUILDERS:
        raise UnknownName.of("problem", name, names())
    return PUBLISHED.get(name, ())


def _line(builder: Callable[..., Problem]) -> str:
    first = (inspect.getdoc(builder) or "").partition("\n")[0].rstrip(".")
    options = ", ".join(f"{p.name}={p.default}" for p in _options(builder))
    return f"{first} (options: {options})" if options else first


def _options(builder: Callable[..., Problem]) -> list[inspect.Parameter]:
    parameters = inspect.signature(builder).parameters.values()
    return [p for p in parameters if p.kind is not p.VAR_KEYWORD]


def get(name: str, **options: Any) -> Problem:
    """The problem of that name, built with its options, and with ``dtype=`` and ``device=`` where wanted.

    Raises:
        UnknownName: for a name or an option that does not exist; the message suggests the nearest one.
        OptionError: for a value that is not of the option's kind, or out of its range.
        MissingExtra: where a problem needs an optional package.

    Example:
        >>> problem = get("schwefel", ndim=3)
        >>> problem.potential.ndim, problem.known.n_minima
        (3, 343)
    """
    if name not in _BUILDERS:
        raise UnknownName.of("problem", name, names())
    builder = _BUILDERS[name]
    allowed = [p.name for p in _options(builder)]
    for option in options:
        if option not in (*allowed, "dtype", "device"):
            raise UnknownName.of(f"option of {name}", option, [*allowed, "dtype", "device"])
    for parameter in _options(builder):
        if parameter.name in options and parameter.name not in ("dtype", "device"):
            _check(name, parameter, options[parameter.name])
    problem = builder(**options)
    return dataclasses.replace(problem, name=name, options=dict(options))


def _check(problem: str, parameter: inspect.Parameter, value: Any) -> None:
    """Refuse a value that the annotation of its parameter, or the range of its option, does not allow."""
    option = parameter.name
    kinds = {kind.strip() for kind in str(parameter.annotation).split("|")}
    if kinds & {"int", "float"}:
        if "str" in kinds and isinstance(value, str):
            return
        allowed = _RANGES.get(option, FINITE if "float" in kinds else _SIZE)
        (allowed.or_none if "None" in kinds else allowed).check(problem, OptionError, **{option: value})
    elif not isinstance(value, bool if "bool" in kinds else str) and not (value is None and "None" in kinds):
        wanted = "true or false" if "bool" in kinds else "text"
        raise OptionError(f"{problem}: {option}={value!r}; give {wanted}")


def parse(spec: str, **more: Any) -> Problem:
    """The problem that a word such as ``schwefel:ndim=3,bounded=false`` names; ``more`` options beside it.

    Values are read as Python reads them (numbers, True, False, None, 'quoted text'; true, false and none too),
    and as text otherwise.

    Raises:
        TorchscapeError: if an option is not KEY=VALUE.
        UnknownName: as :func:`get`.

    Example:
        >>> parse("double-well:ndim=4,tilt=0.2").options
        {'ndim': 4, 'tilt': 0.2}
    """
    name, _, rest = spec.partition(":")
    options: dict[str, Any] = {}
    for part in filter(None, (piece.strip() for piece in rest.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise TorchscapeError(f"{part!r} in {spec!r} is no option: write NAME:KEY=VALUE,KEY=VALUE")
        options[key.strip().replace("-", "_")] = _value(value.strip())
    return get(name.strip(), **(options | more))


def _value(text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
