"""The page of what subjects share."""
