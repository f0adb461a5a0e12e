"""Encoding: which features of stimuli predict the activity of units on carriers never seen."""

from lmri.encode.job import encode_subject

__all__ = ["encode_subject"]
