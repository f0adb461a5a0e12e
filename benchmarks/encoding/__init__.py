"""Both sides of the benchmark of encoding."""
