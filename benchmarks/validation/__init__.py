"""What the benchmark of validation is made of."""
