"""Evidence cards, claims and comparisons: what every verdict rests on."""
