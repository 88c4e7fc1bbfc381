"""What the symmetries of a module are, found by running it once and following the axes of its parameters."""
