"""Parts of ``python -m benchmarks.record``: models and batches, our worker, that of the peers."""
