"""Recording: labelled activity of a subject on a task."""
