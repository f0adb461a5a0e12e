"""Parts of the benchmark of information, each run in a process of its own."""
