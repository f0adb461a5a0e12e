"""Information and geometry of recorded activity, over layers and over training."""
