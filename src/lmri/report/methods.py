"""The methods paragraphs, generated from the settings that were used."""

from __future__ import annotations

from lmri.config import ContrastOptions, RecordOptions, StudyConfig
from lmri.report import words
from lmri.report.causal.words import RENAMED, noun_of
from lmri.report.inputs import StudyInputs, claimed_map
from lmri.report.kinds import KINDS, MapName
from lmri.report.validation.described import describe_claims

DEFINITIONS = {
    "resonance": (
        "The score of an expert is its routing rate per token in the target minus that in the "
        "controls."
    ),
    "risk_difference": (
        "The risk difference is that of the shares of tokens routed to an expert, either way "
        "(as in SteerMoE)."
    ),
    "mean_difference": "The mean difference is that of target and controls, larger in the target.",
    "absolute_difference": "The absolute difference is that of the means, by its size.",
    "welch_t": (
        "The t of Welch (1947) is the difference of the means over its standard error from the "
        "variance of every condition, two-sided; the language localizer of AlKhamissi et al. "
        "(arXiv 2411.02280) takes absolute values first and misses units that fall."
    ),
    "published_welch_t": (
        "The t of Welch of absolute values, larger in the target, is the language localizer of "
        "AlKhamissi et al. (arXiv 2411.02280) as published."
    ),
    "d_prime": (
        "d prime is the difference of the means over the root of the mean variance of both sides."
    ),
    "average_precision": (
        "The average precision is the larger of those of a unit and of its negative as detectors "
        "of the target (arXiv 2502.17355 has the first only)."
    ),
    "glm_t": (
        "The t of a linear model is that of the difference with one column a condition and the "
        "confounds."
    ),
    "moderated_t": (
        "The moderated t (Smyth, 2004) shrinks the variance of a unit to that of the others."
    ),
}
"""What each statistic is, and where it comes from."""


CAUSAL_SOURCES = {
    "patch_denoise": "patching of the clean activity into the corrupted run",
    "patch_noise": "patching of the corrupted activity into the clean run",
    "attribution_patching": "attribution patching, its first-order estimate (Nanda, 2023)",
    "relp": (
        "RelP, the same estimate with rules of layer-wise relevance propagation for gradients "
        "(Rezaei Jafari et al., arXiv 2508.21258)"
    ),
    "direct": (
        "direct logit attribution, what a unit writes itself, the scale of the last normalisation "
        "held (Elhage et al., 2021)"
    ),
}
"""Causal methods with their sources."""

PROBE_SOURCES = (
    "massive activations by the absolute and the relative criterion of Sun et al. (arXiv "
    "2402.17762)",
    "void layers by L2 adaptive computation (Shemirani et al., arXiv 2505.14467)",
    "sinks by position (Gu et al., arXiv 2410.10781)",
    "the peak of the residual stream and the drain of values at the first token, and active and "
    "dormant heads (Guo et al., arXiv 2410.13835)",
    "copying by the eigenvalues of the OV circuit (Elhage et al., 2021)",
)
"""Maps that need no task of their own, with their sources."""


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
    claimed = [_endpoint(inputs), _controls(inputs), _verdicts(config), describe_claims(config)]
    return [
        _recording(config),
        *(_contrast(contrast) for contrast in config.contrasts.values()),
        _maps(config),
        *_other_maps(config),
        _inference(config),
        *_causal(config),
        *_probes(config),
        *_examples(config),
        *(claimed if config.hypotheses else ()),
        *_experiments(inputs),
    ]


def _experiments(inputs: StudyInputs) -> list[str]:
    abouts = [next(iter(own.values())).about for own in inputs.experiments.results.values()]
    if not abouts:
        return []
    named = words.listing(f"{own['title'].lower()} ({own['source']})" for own in abouts)
    return [
        f"Experiments were run on every subject, with statements that were fixed before: {named}. "
        "A statement says that an effect is above a threshold. Its p is one-sided over carriers, "
        "at least its rank among the control draws, and corrected by Holm for the other statements "
        "about the subject in the experiment that could be tested; it fails where the interval "
        f"({1 - inputs.config.evidence.alpha:.0%}) lies wholly at or below the threshold."
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
    if contrast.within:
        text = f"{text[:-1]}, within each {words.readable(contrast.within)}."
    if contrast.role != "hypothesis":
        return text
    if contrast.within:
        text += (
            f" In sham maps a control trial of each {words.readable(contrast.within)}, drawn at "
            "random, plays the target."
        )
    elif contrast.sham_condition:
        text += (
            f" Sham maps split the carriers of {words.readable(contrast.sham_condition)} trials "
            "at random."
        )
    return text


def _maps(config: StudyConfig) -> str:
    phases = [words.phase_name(phase) for phase in config.localise.phases]
    others = f"; the others ({words.listing(phases[1:])}) are exploratory" if phases[1:] else ""
    name = MapName(config.localise.maps[0])
    text = f"{_score(name)} The primary phase is the {phases[0]}{others}."
    for contrast in config.contrasts.values():
        if (own := claimed_map(config, contrast)) is not None:
            text += (
                f" Of {words.readable(contrast.name)} the primary map is the causal one of "
                f"{own.described}, and these are exploratory."
            )
    return text


def _other_maps(config: StudyConfig) -> list[str]:
    """Describe the maps beside the first, each statistic once."""
    names = [MapName(name) for name in config.localise.maps[1:]]
    if not names:
        return []
    listed = words.listing(f"{name.title} ({name.statistic_name})" for name in names)
    text = (
        "The first map that a subject has units of is primary; where that is not the first of the "
        f"list, one of these takes its place. All others are exploratory: {listed}. "
        f"The tokens of a phase become one value of a trial as their {config.localise.pooling}."
    )
    seen = {MapName(config.localise.maps[0]).statistic}
    for name in names:
        if name.statistic not in seen:
            text += f" {_definition(name.statistic)}"
            seen.add(name.statistic)
    if any(name.kind == "expert_neuron" for name in names):
        text += (
            " A neuron of an expert is compared over all tokens, with 0 where its expert is not "
            "chosen, so that it follows the routing, or conditional on routing, over the tokens "
            "that are routed to the expert."
        )
    return [text]


def _inference(config: StudyConfig) -> str:
    localise = config.localise
    within = {c.within for c in config.contrasts.values() if c.within}
    blocks = (
        f" Contrasts within a carrier ({words.listing(sorted(map(words.readable, within)))}) "
        "exchange labels only among the trials of one value of it."
        if within
        else ""
    )
    confounds = (
        f" Linear models hold {words.listing(map(words.readable, localise.confounds))} "
        "of the tokens of a phase fixed, where they differ between trials."
        if localise.confounds
        else ""
    )
    return (
        f"p-values come from {localise.permutations} relabellings of the carriers, which carry the "
        "condition and are exchanged whole, with the strongest score over all units of a map "
        "(max-statistic; Westfall and Young, 1993; Nichols and Holmes, 2002), "
        f"p = (1 + as strong) / (1 + relabellings), threshold {config.evidence.alpha:g}; q-values "
        "are those of Benjamini and Hochberg (1995), over all units, those without a value counted "
        f"with p = 1.{blocks}{confounds} Split halves: the "
        "carriers of each class are halved at random, maps of both halves are made from trials "
        "whose carriers all lie in one, and their scores are correlated and their strongest units "
        "compared (Dice), averaged over the halvings; chance is the same with the carriers of each "
        "half relabelled on their own."
    )


def _causal(config: StudyConfig) -> list[str]:
    causal = config.localise.causal
    if causal is None:
        return []
    names = words.listing(words.readable(name) for name in causal.contrasts)
    methods = words.listing(
        CAUSAL_SOURCES.get(method, words.readable(method)) for method in causal.methods
    )
    kinds = words.listing(noun_of(RENAMED.get(kind, kind)).full for kind in causal.kinds)
    most = f"at most {causal.pairs} pairs" if causal.pairs else "all pairs"
    both = {"patch_denoise", "patch_noise"} <= set(causal.methods)
    alone = (
        ""
        if both or not {"patch_denoise", "patch_noise"} & set(causal.methods)
        else ", so that patching in one direction alone has no p-value"
    )
    compared = (
        "all units"
        if "patch_denoise" in causal.methods
        else f"{causal.sample} units, drawn at random"
    )
    return [
        f"Causal maps ({names}): target trials (clean) were paired with control trials (corrupted) "
        f"of as many tokens that share all but one carrier, {most}. The measure is the logit of "
        f"the first token of {words.readable(causal.correct)} of the clean less that of "
        f"{words.readable(causal.wrong)} of the corrupted trial, at the last token of the prompt "
        f"(Zhang and Nanda, arXiv 2309.16042). Units: {kinds}. Methods: {methods}. Approximations "
        f"were compared with patching on {compared}, the interval of the correlation from "
        "resampled units. p-values are those of the mean of both directions, in logits, by "
        "exchanging the signs of the mean effects of carriers (of several kinds together; Cameron, "
        f"Gelbach and Miller, 2011), with the largest over all units of a map{alone}. That the "
        "clean trials show the behaviour is not tested but shown, with the logit differences of "
        "both runs."
    ]


def _probes(config: StudyConfig) -> list[str]:
    probes = config.localise.probes
    if probes is None:
        return []
    sources = [*PROBE_SOURCES]
    if probes.repeated is not None:
        sources.append("induction on repeated tokens (Olsson et al., arXiv 2209.11895)")
    if probes.needle is not None:
        sources.append("retrieval of a needle (Wu et al., arXiv 2404.15574)")
    return [
        "Heads and layers were mapped without a contrast, on the selection trials and as far as "
        f"the recordings hold what is needed: {words.listing(sources)}. These numbers describe; "
        "none is tested."
    ]


def _examples(config: StudyConfig) -> list[str]:
    own = config.examples
    if not own.units:
        return []
    traced = f"{words.plural(own.traces, 'trial')} {'was' if own.traces == 1 else 'were'}"
    return [
        f"For illustration, the strongest {words.plural(own.units, 'unit')} of every finding and "
        "of every primary map were read at every recorded token of all tasks. Of each unit the "
        f"{words.plural(own.trials, 'trial')} farthest above zero and below were kept; their "
        f"contexts were sorted into at most {words.plural(own.facets, 'facet')} on either side "
        "(tf-idf, cosine distance, average linkage, cut at the largest silhouette, Rousseeuw 1987) "
        "where the cut was cleaner than those of 19 tables with exchanged tokens. Of each "
        f"condition of a contrast {traced} traced token by token, drawn by the seed."
    ]


def _score(name: MapName) -> str:
    if name.statistic == "resonance":
        return DEFINITIONS["resonance"]
    return (
        f"The score of a {name.noun.one} is the {name.statistic_name} of its "
        f"{name.quantity_name}. {_definition(name.statistic)}"
    )


def _definition(statistic: str) -> str:
    return DEFINITIONS.get(statistic, f"{words.readable(statistic).capitalize()} is as defined.")


def _endpoint(inputs: StudyInputs) -> str:
    evidence = inputs.config.evidence
    many = inputs.noun.many
    doses = words.listing(map(str, evidence.doses_of(_kind(inputs))), "or")
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
        f"({words.score_meaning(evidence.score)}), {_switched(inputs)}. The number of {many} was "
        f"the smallest of {doses} "
        f"(at most as many as the map selects) that changed the score by "
        f"{evidence.target_effect:g} on the calibration trials, or else the largest that left the "
        f"responses coherent{dose}. "
        "The endpoint was stored with its hash before any evaluation trial was generated."
    )


def _kind(inputs: StudyInputs) -> str:
    """Kind of the primary maps, for what depends on it; experts where there are several."""
    return next((kind for kind, noun in KINDS.items() if noun == inputs.noun), "expert")


def _switched(inputs: StudyInputs) -> str:
    mode = inputs.config.evidence.mode
    experts = f"experts {words.mode_name(mode)} ({words.MODES[mode][1]})"
    if inputs.noun == KINDS["expert"]:
        return experts
    return f"{experts}, dimensions of the residual set to their mean, all other units to 0"


def _controls(inputs: StudyInputs) -> str:
    evidence, validate = inputs.config.evidence, inputs.config.validate
    shams = evidence.sham_draws(max(inputs.config.claims, 1))
    return (
        f"The deciding control at the primary endpoint is {shams} sham maps, each the complete "
        "selection on a random split of null carriers, at a dose that was chosen for it as the "
        f"finding's was; {evidence.exploratory_shams} at every other dose and mode. "
        f"Up to {evidence.matched_draws} layer-matched and as many load-matched "
        f"draws{_massive(inputs)} are shown beside and decide nothing. For control draws, "
        f"bystanders were run on at most {validate.control_bystander_trials} trials each. The "
        "positive control sets the residual stream, along the mean-difference direction, to that "
        "of the control trials. Intervals are "
        f"{1 - evidence.alpha:.0%} from {validate.bootstrap} resamples of the carriers; where no "
        "trial differs from another they have no width, and the interval is that of no event in n "
        "independent trials (Clopper and Pearson). It is not valid where the trials of one carrier "
        "change together: the bound for that case, with carriers for trials, stands beside it in "
        "the tables of evidence, in `arms.parquet`, and where it counts in the reason of a verdict."
    )


def _massive(inputs: StudyInputs) -> str:
    arms = (subject.arms["arm"] for subject in inputs.subjects)
    drawn = any((own == "massive_matched").any() for own in arms)
    return ", of dimensions of the residual also of such that get as massive," if drawn else ""


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
