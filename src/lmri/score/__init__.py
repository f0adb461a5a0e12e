"""Scorers of behaviour: refusal, exact answers, facts told, coherence."""

from lmri.score.behaviour import SCORES, decode, encode, onset_tokens, score_responses
from lmri.score.coherence import coherent, longest_run, response_log_probability

__all__ = [
    "SCORES",
    "coherent",
    "decode",
    "encode",
    "longest_run",
    "onset_tokens",
    "response_log_probability",
    "score_responses",
]
