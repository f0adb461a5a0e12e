"""A recipe that trains a subject within a second: shared by tests of training."""

from lmri.subjects import Recipe

TINY = Recipe(
    layers=2,
    hidden=16,
    heads=2,
    experts=4,
    intermediate=8,
    rows=2,
    length=40,
    base_steps=4,
    base_checkpoints=(2,),
    warmup=2,
    evaluation_limit=5,
)
