"""Scorers of behaviour: refusal, exact answers, facts told, coherence; intervals over carriers."""

from lmri.score.behaviour import SCORES, decode, encode, onset_tokens, score_responses
from lmri.score.coherence import coherent, longest_run, response_log_probability
from lmri.score.intervals import Effect, Resampler, carrier_columns

__all__ = [
    "Effect",
    "Resampler",
    "SCORES",
    "carrier_columns",
    "coherent",
    "decode",
    "encode",
    "longest_run",
    "onset_tokens",
    "response_log_probability",
    "score_responses",
]
