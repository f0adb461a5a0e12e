"""What can be said before a study runs: of its inputs, of its cost, and of the machine.

Modules are imported by their own names, so that ``doctor`` works where torch does not.
"""
