"""Causal maps of a contrast on its page: what moves the answer when it is patched."""
