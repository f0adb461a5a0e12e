"""The page of evidence: all claims in one table, a card for each verdict, subjects compared."""

from __future__ import annotations

import re

import pandas as pd

from lmri.report import words
from lmri.report.examples.tables import PATH as EXAMPLES
from lmri.report.examples.tables import anchor_of_subject
from lmri.report.files import Files
from lmri.report.inputs import CLAIMING_ROLES, StudyInputs
from lmri.report.validation.card import Block, card_blocks
from lmri.report.validation.tables import OUTCOMES, claim_matrix, comparison_table
from lmri.report.view import Heading, Leaf, Pointer

TITLE = "Evidence"


def has_evidence(inputs: StudyInputs) -> bool:
    """Whether any claim was tested or any two subjects compared."""
    return len(_claims(inputs)) > 0 or len(inputs.comparisons) > 0


def evidence_leaf(inputs: StudyInputs, path: str, files: Files) -> Leaf:
    """Make the page of evidence.

    Parameters
    ----------
    inputs : StudyInputs
        A study with claims or comparisons.
    path : str
        Of the page, relative to the report.
    files : Files
        Takes the numbers.

    Returns
    -------
    Leaf
        What came of every claim, the card of every hypothesis, and the comparisons.
    """
    claims = _claims(inputs)
    blocks: list[Block] = []
    if len(claims):
        data = files.add("claims", claims)
        blocks += [Heading("All claims"), claim_matrix(claims, data)]
    for subject in inputs.subjects:
        for contrast in inputs.config.hypotheses:
            scan = subject.scans[contrast.name][0]
            verdict = subject.verdict(contrast.name, scan.phase)
            if verdict is None:
                continue
            key = re.sub(r"[^a-z0-9]+", "-", f"card-{subject.name}-{contrast.name}".lower())
            blocks += card_blocks(subject, scan, verdict, inputs.config, key, files)
            own = inputs.examples.found.get(subject.name)
            if own is not None and len(own.units):
                told = "What its units respond to, token by token"
                blocks.append(Pointer(told, f"{EXAMPLES}#{anchor_of_subject(subject.name)}"))
    if len(inputs.comparisons):
        data = files.add("comparisons", inputs.comparisons)
        blocks += [
            Heading("Subjects compared", "Trial by trial, between subjects of one base."),
            comparison_table(inputs.comparisons, data),
        ]
    return Leaf(
        path=path,
        study=inputs.config.study,
        eyebrow="claims and verdicts of all subjects",
        title=TITLE,
        question="What exactly was claimed of each subject, and what does each verdict rest on?",
        answer=_answer(claims),
        role="",
        blocks=blocks,
    )


def _claims(inputs: StudyInputs) -> pd.DataFrame:
    tables = [subject.claims for subject in inputs.subjects if len(subject.claims)]
    if not tables:
        return pd.DataFrame()
    table = pd.concat(tables, ignore_index=True)
    known = [name for name, own in inputs.config.contrasts.items() if own.role in CLAIMING_ROLES]
    return table[table["contrast"].isin(known)]


def _answer(claims: pd.DataFrame) -> str:
    if claims.empty:
        return "No claim was put to the test."
    counts = claims["outcome"].value_counts()
    told = words.listing(
        f"{int(counts[word])} {VERBS[word][int(counts[word] > 1)]}"
        for word in OUTCOMES
        if word in counts
    )
    return f"Of {words.plural(len(claims), 'claim')}, {told}."


VERBS = {
    "holds": ("holds", "hold"),
    "fails": ("fails", "fail"),
    "undecided": ("is undecided", "are undecided"),
    "not testable": ("could not be tested", "could not be tested"),
}
"""Outcomes of one claim and of several."""
