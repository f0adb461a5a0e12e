"""The page of networks."""
