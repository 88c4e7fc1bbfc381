"""Seen with SciPy 1.17.0: minimum_spanning_tree refuses sparse arrays whose indices have 64 bits, as torch has."""

import sys

import numpy as np
import scipy
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree

print("SciPy", scipy.__version__, "NumPy", np.__version__)
changed = False
for kind in (np.int32, np.int64):
    i, j = np.array([0, 1, 0], dtype=kind), np.array([1, 2, 2], dtype=kind)
    graph = coo_array((np.array([1.0, 2.0, 3.0]), (i, j)), shape=(3, 3)).tocsr()
    for name, call in (
        ("minimum_spanning_tree", lambda g: minimum_spanning_tree(g).sum()),
        ("connected_components", lambda g: connected_components(g, directed=False)[0]),
        ("breadth_first_order", lambda g: breadth_first_order(g, 0, directed=False)[0].tolist()),
    ):
        try:
            said = str(call(graph))
        except ValueError as error:
            said = f"ValueError: {error}"
        print(f"{kind.__name__:6s} kept as {graph.indices.dtype}: {name}: {said}")
        if name == "minimum_spanning_tree":
            changed |= ("ValueError" in said) != (kind is np.int64)
sys.exit(int(changed))
