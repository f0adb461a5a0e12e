"""The page of encoding."""
