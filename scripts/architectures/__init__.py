"""Real architectures explored; ``scripts/gallery`` is the way in."""
