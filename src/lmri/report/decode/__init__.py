"""The page of decoding."""
