"""Examples of what single units respond to, and traces of trials."""
