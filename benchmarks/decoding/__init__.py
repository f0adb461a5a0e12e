"""What probing a subject costs."""
