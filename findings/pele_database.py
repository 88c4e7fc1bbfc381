"""Seen with pele 0.1.2: its database takes two minima for one if their energies agree, wherever they lie."""

import importlib.metadata
import sys
import warnings

import numpy as np

warnings.simplefilter("ignore")
from pele.storage import Database  # noqa: E402


def stored(**options) -> int:
    """How many minima there are after the two of (x^2 - 1)^2 and one 5e-4 above them were added."""
    database = Database(db=":memory:", **options)
    for energy, x in ((0.0, -1.0), (0.0, 1.0), (5e-4, 7.0)):
        database.addMinimum(energy, np.array([x]))
    return database.number_of_minima()


print("pele", importlib.metadata.version("pele"))
by_default = stored()
finer = stored(accuracy=1e-6)
compared = stored(compareMinima=lambda a, b: abs(a.coords - b.coords).max() < 1e-3)
print("of three minima at -1, 1 and 7 it keeps", by_default, "by default,", finer, "with accuracy=1e-6,", compared)
print("    with a compareMinima that looks at the coordinates")
changed = (by_default, finer, compared) != (1, 2, 3)
print("CHANGED: see docs/upstream.md" if changed else "as docs/upstream.md says")
sys.exit(int(changed))
