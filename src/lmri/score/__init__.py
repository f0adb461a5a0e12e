"""Scorers of behaviour: refusal, exact answers, facts told, coherence; intervals over carriers."""

from lmri.score.agreement import agreement_by_arm, cohens_kappa
from lmri.score.behaviour import SCORES, decode, encode, onset_tokens, score_responses
from lmri.score.coherence import coherent, longest_run, response_log_probability
from lmri.score.custom import Custom
from lmri.score.deciding import deciding_scorers, recorded_answers
from lmri.score.intervals import Effect, Resampler, carrier_columns, joint_carriers
from lmri.score.likelihood import Reader, choice_log_likelihoods, forced_choice, refusal_log_odds
from lmri.score.matching import exact_match, f1_match, normalised, numeric_match
from lmri.score.phrases import PhraseList, packaged_phrases, read_phrases
from lmri.score.registry import SCORERS, extra_scores, scorers, study_scorers
from lmri.score.rescoring import rescored, write_scores
from lmri.score.responses import (
    SAVED,
    read_responses,
    response_table,
    saving_responses,
    write_responses,
)
from lmri.score.scorer import Answers, Scorer, add_scores
from lmri.score.sheets import read_labels, write_sheet

__all__ = [
    "Answers",
    "Custom",
    "Effect",
    "PhraseList",
    "Reader",
    "Resampler",
    "SAVED",
    "SCORERS",
    "SCORES",
    "Scorer",
    "add_scores",
    "agreement_by_arm",
    "carrier_columns",
    "choice_log_likelihoods",
    "cohens_kappa",
    "coherent",
    "deciding_scorers",
    "decode",
    "encode",
    "exact_match",
    "extra_scores",
    "f1_match",
    "forced_choice",
    "joint_carriers",
    "longest_run",
    "normalised",
    "numeric_match",
    "onset_tokens",
    "packaged_phrases",
    "read_labels",
    "read_phrases",
    "read_responses",
    "recorded_answers",
    "refusal_log_odds",
    "rescored",
    "response_log_probability",
    "response_table",
    "saving_responses",
    "score_responses",
    "scorers",
    "study_scorers",
    "write_responses",
    "write_scores",
    "write_sheet",
]
