"""The methods paragraphs, generated from the settings that were used."""

from __future__ import annotations

from lmri.config import ContrastOptions, RecordOptions, StudyConfig
from lmri.report import words
from lmri.report.inputs import StudyInputs


def describe_methods(inputs: StudyInputs) -> list[str]:
    """Describe what was done, in the order it was done.

    Parameters
    ----------
    inputs : StudyInputs
        The study: its configuration, and its findings where they say more.

    Returns
    -------
    list of str
        Paragraphs.
    """
    config = inputs.config
    claimed = [_endpoint(inputs), _controls(inputs), _verdicts(config)]
    return [
        _recording(config),
        *(_contrast(contrast) for contrast in config.contrasts.values()),
        _maps(config),
        *(claimed if config.hypotheses else ()),
    ]


def _recording(config: StudyConfig) -> str:
    splits, record = config.splits, config.record
    return (
        f"{words.plural(len(config.subjects), 'subject').capitalize()} "
        f"({words.listing(config.subjects)}) read {words.plural(len(config.tasks), 'task')} "
        f"({words.listing(words.readable(task) for task in config.tasks)}). Responses are "
        f"{_decoding(record)}, of at most {record.max_new_tokens} tokens; encoders give none. The "
        f"carriers of each task were divided once, by seed {config.seed}, into selection "
        f"({splits.selection:.0%}), calibration ({splits.calibration:.0%}) and evaluation "
        f"({splits.evaluation:.0%}), unless a task sets its own shares; activity was recorded on "
        f"{words.listing(record.splits)} only, before any evaluation trial was run."
    )


def _decoding(record: RecordOptions) -> str:
    if not record.temperature:
        return "greedy"
    return (
        f"sampled (temperature {record.temperature:g}, top-p {record.top_p:g}, "
        f"{record.repeats} to each trial)"
    )


def _contrast(contrast: ContrastOptions) -> str:
    role, task = words.readable(contrast.role), words.readable(contrast.task)
    name = f"Contrast {words.readable(contrast.name)} ({role}, task {task})"
    if contrast.random_split is not None:
        split = contrast.random_split
        return (
            f"{name}: the {words.plural_of(words.readable(split.carrier))} of "
            f"{words.readable(split.condition)} trials in two random halves (seed {split.seed})."
        )
    target = words.listing(words.readable(entry) for entry in contrast.target)
    controls = words.listing(words.readable(entry) for entry in contrast.controls)
    mean = "the mean of " if len(contrast.controls) > 1 else ""
    text = f"{name}: {target} minus {mean}{controls}."
    if contrast.sham_condition and contrast.role == "hypothesis":
        text += (
            f" Sham maps split the carriers of {words.readable(contrast.sham_condition)} trials "
            "at random."
        )
    return text


def _maps(config: StudyConfig) -> str:
    phases = [words.phase_name(phase) for phase in config.localise.phases]
    others = f"; the others ({words.listing(phases[1:])}) are exploratory" if phases[1:] else ""
    return (
        "The score of an expert is its routing rate per token in the target minus that in the "
        f"controls. The primary phase is the {phases[0]}{others}. p-values come from "
        f"{config.localise.permutations} relabellings of the carriers (largest score over all "
        f"experts, threshold {config.evidence.alpha:g}), q-values from Benjamini and Hochberg."
    )


def _endpoint(inputs: StudyInputs) -> str:
    evidence = inputs.config.evidence
    doses = words.listing(map(str, evidence.doses), "or")
    chosen = [
        f"{endpoint['dose']} for {subject.name} ({words.readable(scan.contrast.name)})"
        for subject in inputs.subjects
        for scans in subject.scans.values()
        for scan in scans[:1]
        if scan.finding and (endpoint := scan.finding.get("primary_endpoint"))
    ]
    dose = f", which gave {words.listing(chosen)}" if chosen else ""
    return (
        f"Each claim has one primary endpoint: the {words.score_name(evidence.score)} "
        f"({words.score_meaning(evidence.score)}), experts {words.mode_name(evidence.mode)} "
        f"({words.MODES[evidence.mode][1]}). The number of experts was the smallest of {doses} "
        f"(at most as many as the map selects) that changed the score by "
        f"{evidence.target_effect:g} on the calibration trials, or else the largest that left the "
        f"responses coherent{dose}. "
        "The endpoint was stored with its hash before any evaluation trial was generated."
    )


def _controls(inputs: StudyInputs) -> str:
    evidence, validate = inputs.config.evidence, inputs.config.validate
    shams = evidence.sham_draws(max(inputs.config.claims, 1))
    return (
        f"The deciding control at the primary endpoint is {shams} sham maps, each the complete "
        f"selection on a random split of null carriers; {evidence.exploratory_shams} at every "
        f"other dose and mode. {evidence.matched_draws} layer-matched and as many load-matched "
        "draws are shown beside and decide nothing. For control draws, bystanders were run on at "
        f"most {validate.control_bystander_trials} trials each. The positive control sets "
        "the residual stream, along the mean-difference direction, to that of the control trials. "
        "Intervals are "
        f"{1 - evidence.alpha:.0%} from {validate.bootstrap} resamples of the carriers; where no "
        "trial differs from another they have no width, and the interval is that of no event in n "
        "independent trials (Clopper and Pearson). It is not valid where the trials of one carrier "
        "change together: the bound for that case, with carriers for trials, is given beside it."
    )


def _verdicts(config: StudyConfig) -> str:
    evidence = config.evidence
    return (
        "Confirmed: the score changes beyond the sham maps (rank p, corrected for "
        f"{words.plural(config.claims, 'claim')}, at most {evidence.alpha:g}), every bystander "
        f"stays within {evidence.margin:g} with its whole interval, and at least "
        f"{evidence.coherent_share:.0%} of the responses pass the coherence gate. Refuted: the "
        f"interval of the effect lies within {evidence.margin:g} while the positive control moves "
        "the behaviour. Otherwise inconclusive. Not testable: the behaviour is below "
        f"{evidence.baseline_target:g} in its condition or above {evidence.baseline_control:g} in "
        f"the controls, or there are fewer than {evidence.minimum_target_trials} target or "
        f"{evidence.minimum_trials} bystander trials."
    )
