"""lmri: language-model resonance imaging."""

__version__ = "0.1.0"
