"""A study to share: what it found, without activations, weights or, if asked, words."""
