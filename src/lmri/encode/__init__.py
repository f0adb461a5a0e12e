"""Encoding: which features of stimuli predict the activity of units on carriers never seen."""
