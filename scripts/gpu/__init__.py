"""``scripts/gpu_check``: what only a machine with a GPU can settle, part by part, each within its own time."""
