"""Sparse runs in the report."""
