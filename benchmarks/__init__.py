"""Measurements behind every claim of speed or size: ``python -m benchmarks.NAME``."""
