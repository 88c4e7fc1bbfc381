"""PyGT 0.3.0: what its functions of communities do to their arguments, and which communities they refuse."""

import importlib.metadata
import sys

import numpy as np
import PyGT

print("PyGT", importlib.metadata.version("PyGT"))
# A ring of four states: branching probabilities [to, from], waiting times, weights that do not sum to one.
branching = np.roll(np.eye(4), 1, 0) / 2 + np.roll(np.eye(4), -1, 0) / 2
waiting, weights = np.ones(4), np.full(4, 2.0)
one = np.arange(4)

PyGT.mfpt.community_MFPT_matrix({0: one < 2, 1: one >= 2}, branching, waiting, weights)
print("weights of 2.0 afterwards:", weights)
normalised = np.allclose(weights, 0.25)

try:
    PyGT.stats.compute_rates(one == 0, one == 2, branching, waiting, np.full(4, 0.25), MFPTonly=False)
    refused = ""
except NotImplementedError as error:
    refused = str(error)
print("two sets of one state each:", refused or "taken")

larger = PyGT.stats.compute_rates(one == 0, one > 1, branching, waiting, np.full(4, 0.25))
taken = "MFPTAB" in larger
print("a set of one and one of two:", "taken" if taken else "refused")
changed = not (normalised and "at least 2 microstates" in refused and taken)
print("CHANGED: see docs/upstream.md" if changed else "as docs/upstream.md says")
sys.exit(int(changed))
