"""Template parts and style sheet of the report."""
