"""The page of decoding: what can be read, where, and whether switching it off matters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from lmri.report import words
from lmri.report.decode.figures import (
    control_figure,
    generalisation_figure,
    profile_figure,
    trace_figure,
)
from lmri.report.decode.parts import (
    bags_table,
    masks_table,
    profile_table,
    regions_table,
    used_table,
)
from lmri.report.decode.tables import Decoding, decoded_frame, used_frame
from lmri.report.files import Files
from lmri.report.inputs import StudyInputs
from lmri.report.kinds import MapName
from lmri.report.view import Figure, Fold, Heading, Leaf, Prose, Table

TITLE = "Decoding"

Block = Figure | Fold | Heading | Prose | Table


def decoding_leaf(inputs: StudyInputs, path: str, files: Files) -> Leaf:
    """Make the page of decoding.

    Parameters
    ----------
    inputs : StudyInputs
        A study with decoded labels, or with reasons why there are none.
    path : str
        Of the page, relative to the report.
    files : Files
        Takes the numbers.

    Returns
    -------
    Leaf
        What is decodable beside what is used, profiles, generalisation, control tasks, masks,
        traces, bags, regions, and what was left out.
    """
    found = inputs.decoding
    phase = inputs.config.localise.phases[0]
    arms = {subject.name: subject.arms for subject in inputs.subjects}
    used = used_frame(found.of("profile"), arms, inputs.config)
    blocks: list[Block | None] = [
        *_used_blocks(used, files),
        *_profiles(found, files),
        *_by_question(found, "generalisation", "Does the code stay?", generalisation_figure, files),
        *_controls(found, phase, files),
        *_tabled(found, "masks", "Mapped units against others", masks_table, files),
        *_by_question(found, "trace", "From token to token", trace_figure, files),
        *_tabled(found, "bags", "One token is enough: bags", bags_table, files),
        *_tabled(found, "regions", "Which layers it depends on", regions_table, files),
        *_left_out(found),
    ]
    return Leaf(
        path=path,
        study=inputs.config.study,
        eyebrow="decoding from all subjects",
        title=TITLE,
        question=(
            "Which labels of trials can be read from activity, in which layers and at which "
            "tokens, and does the model use what can be read?"
        ),
        answer=_answer(used, phase),
        role="",
        blocks=[block for block in blocks if block is not None],
    )


def _used_blocks(used: pd.DataFrame, files: Files) -> list[Block | None]:
    if used.empty:
        return []
    data = files.add("decoding-used", used)
    text = (
        "A label that can be read in a layer need not be what the model acts on. Beside the "
        "accuracy stands what became of the behaviour when mapped units of that layer were "
        "switched off, from the validation of this study."
    )
    return [Heading("Decodable is not used", text), used_table(used, data)]


def _profiles(found: Decoding, files: Files) -> list[Block | None]:
    rows = decoded_frame("profile", found.of("profile"))
    if rows.empty:
        return []
    data = files.add("decoding-profile", rows)
    figures = [
        profile_figure(subjects, task, question, data)
        for task, subjects in found.of("profile").items()
        for question in _questions(subjects)
    ]
    return [
        Heading("Where labels can be read"),
        *figures,
        Fold("Every layer and position", profile_table(rows, data)),
    ]


def _by_question(
    found: Decoding,
    analysis: str,
    title: str,
    draw: Callable[..., Figure | None],
    files: Files,
) -> list[Block | None]:
    rows = decoded_frame(analysis, found.of(analysis))
    if rows.empty:
        return []
    data = files.add(f"decoding-{analysis}", rows)
    figures = [
        draw(subjects, task, question, data)
        for task, subjects in found.of(analysis).items()
        for question in _questions(subjects)
    ]
    return [Heading(title), *figures]


def _controls(found: Decoding, phase: str, files: Files) -> list[Block | None]:
    rows = decoded_frame("control", found.of("control"))
    if rows.empty:
        return []
    data = files.add("decoding-control", rows)
    figures = [control_figure(own, task, phase, data) for task, own in found.of("control").items()]
    return [Heading("Read, or remembered?"), *figures]


def _tabled(
    found: Decoding,
    analysis: str,
    title: str,
    table: Callable[[pd.DataFrame, str], Table],
    files: Files,
) -> list[Block | None]:
    rows = decoded_frame(analysis, found.of(analysis))
    if rows.empty:
        return []
    return [Heading(title), table(rows, files.add(f"decoding-{analysis}", rows))]


def _questions(subjects: dict) -> Sequence[str]:
    return list(dict.fromkeys(str(q) for own in subjects.values() for q in own["question"].values))


def _left_out(found: Decoding) -> list[Block]:
    by_reason: dict[str, list[str]] = {}
    for subject, reasons in found.left_out.items():
        for name, reason in reasons.items():
            by_reason.setdefault(f"{name}: {reason}", []).append(subject)
    if not by_reason:
        return []
    lines = [(words.listing(subjects), text) for text, subjects in by_reason.items()]
    return [Heading("What is not there"), Prose(lines)]


def _answer(used: pd.DataFrame, phase: str) -> str:
    if used.empty or "effect" not in used:
        return "What can be read is below; nothing was switched off that it could be held against."
    told = []
    for (subject, contrast), own in used.groupby(["subject", "contrast"], sort=False):
        readable = own[own["p_max"] <= 0.05]["layer"].drop_duplicates().tolist()
        where = f"at the {words.phase_name(phase)}"
        read = f"is not shown to be readable {where} in any layer"
        if readable:
            layers = words.listing(map(str, readable))
            read = f"can be read {where} in {words.plural(len(readable), 'layer')} ({layers})"
        told.append(f"{subject}: {words.readable(contrast)} {read}, and {_effect(own)}")
    return f"{'; '.join(told)}."


def _effect(own: pd.DataFrame) -> str:
    """Tell what switching off units of one layer alone does, where shams of as many do less."""
    if own["effect"].isna().all():
        return "nothing was switched off for it"
    alone = own[own["alone"].eq(True)]
    if alone.empty:
        return "units of one layer alone were not switched off"
    beyond = alone[(alone["effect_high"] < 0) & (alone["effect"] < alone["sham_least"])]
    if beyond.empty:
        return (
            "switching off mapped units of one layer alone is not shown to lower the behaviour "
            "more than shams do"
        )
    named = [_switched(row) for row in beyond.to_dict("records")]
    return (
        f"switching off {words.listing(named, 'or')} alone lowers the behaviour more than any sham "
        "of as many units"
    )


def _switched(row: dict) -> str:
    units = MapName(f"{row['kind']}.{row['method']}").noun.count(int(row["units"]))
    where = f"layer {row['layer']}"
    name = where if row["kind"] == "layer" else f"{units} of {where}"
    return f"{name} ({words.plural(int(row['shams']), 'sham')})"
