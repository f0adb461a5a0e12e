"""Information and geometry in the report."""
