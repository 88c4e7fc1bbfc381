"""The papers' experiments, run anew; ``scripts/reproduce`` is the way in."""
