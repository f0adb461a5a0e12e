"""References of the methods that a study used, as BibTeX."""

from __future__ import annotations

from collections.abc import Iterator

from lmri.config import StudyConfig
from lmri.report.kinds import MapName


def _arxiv(authors: str, title: str, number: str) -> dict[str, str]:
    year = f"20{number[:2]}"
    note = {"eprint": number, "archiveprefix": "arXiv"}
    return {"type": "misc", "author": authors, "title": title, "year": year, **note}


REFERENCES: dict[str, dict[str, str]] = {
    "westfall1993": {
        "type": "book",
        "author": "Westfall, Peter H. and Young, S. Stanley",
        "title": "Resampling-Based Multiple Testing",
        "publisher": "Wiley",
        "year": "1993",
    },
    "rousseeuw1987": {
        "type": "article",
        "author": "Rousseeuw, Peter J.",
        "title": "Silhouettes: A graphical aid to the interpretation and validation of cluster "
        "analysis",
        "journal": "Journal of Computational and Applied Mathematics",
        "volume": "20",
        "pages": "53--65",
        "year": "1987",
    },
    "nichols2002": {
        "type": "article",
        "author": "Nichols, Thomas E. and Holmes, Andrew P.",
        "title": "Nonparametric permutation tests for functional neuroimaging: A primer with "
        "examples",
        "journal": "Human Brain Mapping",
        "volume": "15",
        "pages": "1--25",
        "year": "2002",
    },
    "benjamini1995": {
        "type": "article",
        "author": "Benjamini, Yoav and Hochberg, Yosef",
        "title": "Controlling the false discovery rate: A practical and powerful approach to "
        "multiple testing",
        "journal": "Journal of the Royal Statistical Society, Series B",
        "volume": "57",
        "pages": "289--300",
        "year": "1995",
    },
    "welch1947": {
        "type": "article",
        "author": "Welch, B. L.",
        "title": "The generalization of `Student's' problem when several different population "
        "variances are involved",
        "journal": "Biometrika",
        "volume": "34",
        "pages": "28--35",
        "year": "1947",
    },
    "smyth2004": {
        "type": "article",
        "author": "Smyth, Gordon K.",
        "title": "Linear models and empirical Bayes methods for assessing differential expression "
        "in microarray experiments",
        "journal": "Statistical Applications in Genetics and Molecular Biology",
        "volume": "3",
        "year": "2004",
    },
    "alkhamissi2024": _arxiv(
        "AlKhamissi, Badr and others",
        "The LLM Language Network: A Neuroscientific Approach for Identifying Causally "
        "Task-Relevant Units",
        "2411.02280",
    ),
    "elhage2021": {
        "type": "article",
        "author": "Elhage, Nelson and others",
        "title": "A Mathematical Framework for Transformer Circuits",
        "journal": "Transformer Circuits Thread",
        "year": "2021",
    },
    "zhang2023": _arxiv(
        "Zhang, Fred and Nanda, Neel",
        "Towards Best Practices of Activation Patching in Language Models: Metrics and Methods",
        "2309.16042",
    ),
    "relp2025": _arxiv("Rezaei Jafari, Farnoush and others", "RelP", "2508.21258"),
    "sun2024": _arxiv(
        "Sun, Mingjie and others", "Massive Activations in Large Language Models", "2402.17762"
    ),
    "gu2024": _arxiv(
        "Gu, Xiangming and others",
        "When Attention Sink Emerges in Language Models: An Empirical View",
        "2410.10781",
    ),
    "guo2024": _arxiv(
        "Guo, Tianyu and others",
        "Active-Dormant Attention Heads: Mechanistically Demystifying Extreme-Token Phenomena in "
        "LLMs",
        "2410.13835",
    ),
    "shemirani2025": _arxiv("Shemirani, Mani and others", "Void in Language Models", "2505.14467"),
    "teal2024": _arxiv(
        "Liu, James and others",
        "Training-Free Activation Sparsity in Large Language Models",
        "2408.14690",
    ),
    "cats2024": _arxiv(
        "Lee, Donghyun and others",
        "CATS: Contextually-Aware Thresholding for Sparsity in Large Language Models",
        "2404.08763",
    ),
    "chess2024": _arxiv("He, Junhui and others", "CHESS", "2409.01366"),
    "wina2025": _arxiv("Chen, Sihan and others", "WINA", "2505.19427"),
    "spark2025": _arxiv("You, Chong and others", "Spark Transformer", "2506.06644"),
    "sparsinglaw2024": _arxiv("Luo, Yuqi and others", "Sparsing Law", "2411.02335"),
    "razorattention2024": _arxiv("Tang, Hanlin and others", "RazorAttention", "2407.15891"),
    "kraskov2004": {
        "type": "article",
        "author": 'Kraskov, Alexander and St{\\"o}gbauer, Harald and Grassberger, Peter',
        "title": "Estimating mutual information",
        "journal": "Physical Review E",
        "volume": "69",
        "pages": "066138",
        "year": "2004",
    },
    "chelombiev2019": _arxiv(
        "Chelombiev, Ivan and Houghton, Conor and O'Donnell, Cian",
        "Adaptive Estimators Show Information Compression in Deep Neural Networks",
        "1902.09037",
    ),
    "butakov2023": _arxiv(
        "Butakov, Ivan and others",
        "Information Bottleneck Analysis of Deep Neural Networks via Lossy Compression",
        "2305.08013",
    ),
    "wu2024retrieval": _arxiv(
        "Wu, Wenhao and others",
        "Retrieval Head Mechanistically Explains Long-Context Factuality",
        "2404.15574",
    ),
    "singh2024": _arxiv(
        "Singh, Aaditya K. and others",
        "What needs to go right for an induction head? A mechanistic study of in-context learning "
        "circuits and their formation",
        "2404.07129",
    ),
    "olsson2022": _arxiv(
        "Olsson, Catherine and others",
        "In-context Learning and Induction Heads",
        "2209.11895",
    ),
    "zou2023": _arxiv(
        "Zou, Andy and others",
        "Representation Engineering: A Top-Down Approach to AI Transparency",
        "2310.01405",
    ),
    "rahn2024": _arxiv(
        "Rahn, Nate and others",
        "Controlling Large Language Model Agents with Entropic Activation Steering",
        "2406.00244",
    ),
    "makelov2023": _arxiv(
        "Makelov, Aleksandar and Lange, Georg and Nanda, Neel",
        "Is This the Subspace You Are Looking for? An Interpretability Illusion for Subspace "
        "Activation Patching",
        "2311.17030",
    ),
    "liu2025": _arxiv(
        "Liu, Yihong and others",
        "On Relation-Specific Neurons in Large Language Models",
        "2502.17355",
    ),
    "li2025": _arxiv(
        "Li, Yongce and others",
        "Effective Skill Unlearning through Intervention and Abstention",
        "2503.21730",
    ),
    "merullo2024": _arxiv(
        "Merullo, Jack and others",
        "Circuit Component Reuse Across Tasks in Transformer Language Models",
        "2310.08744",
    ),
}
"""Entries by key; titles that are not known to the letter are the name of the method."""

INFERENCE = ("westfall1993", "nichols2002", "benjamini1995")

STATISTICS = {
    "welch_t": ("welch1947", "alkhamissi2024"),
    "published_welch_t": ("welch1947", "alkhamissi2024"),
    "moderated_t": ("smyth2004",),
}

CAUSAL = {"patch_denoise": "zhang2023", "patch_noise": "zhang2023", "relp": "relp2025"}

POLICIES = {
    "teal": "teal2024",
    "teal_down": "teal2024",
    "teal_greedy": "teal2024",
    "cats": "cats2024",
    "chess": "chess2024",
    "wina": "wina2025",
    "wina_k_gate": "wina2025",
    "statistical_top_k": "spark2025",
    "cett": "sparsinglaw2024",
    "ppl_search": "sparsinglaw2024",
    "cache_heads": "razorattention2024",
    "cache_random": "razorattention2024",
}

EXPERIMENTS = {
    "void_layers": ("shemirani2025",),
    "steering": ("zou2023", "rahn2024", "makelov2023"),
    "relations": ("liu2025",),
    "skills": ("li2025",),
    "circuit_reuse": ("merullo2024",),
    "retrieval_heads": ("wu2024retrieval",),
    "copy_transition": ("singh2024", "olsson2022"),
    "language_network": ("alkhamissi2024",),
}

PROBES = ("sun2024", "gu2024", "guo2024", "shemirani2025", "elhage2021")


def references_of(config: StudyConfig) -> list[str]:
    """List the references of the methods that a study asks for.

    Parameters
    ----------
    config : StudyConfig
        The study.

    Returns
    -------
    list of str
        Keys of :data:`REFERENCES`, each once, in alphabetical order.
    """
    return sorted(set(_used(config)))


def bibliography(keys: list[str]) -> str:
    """Write references as BibTeX.

    Parameters
    ----------
    keys : list of str
        Keys of :data:`REFERENCES`.

    Returns
    -------
    str
        The entries.
    """
    return "\n".join(_entry(key, REFERENCES[key]) for key in keys)


def _used(config: StudyConfig) -> Iterator[str]:
    yield from INFERENCE
    if config.examples.units and config.examples.facets > 1:
        yield "rousseeuw1987"
    for name in config.localise.maps:
        yield from STATISTICS.get(MapName(name).statistic, ())
    if config.localise.causal is not None:
        for method in config.localise.causal.methods:
            if method in CAUSAL:
                yield CAUSAL[method]
        if "direct" in config.localise.causal.methods:
            yield "elhage2021"
    if config.localise.probes is not None:
        yield from PROBES
    for experiment in config.experiments:
        yield from EXPERIMENTS.get(experiment, ())
    for policy in config.sparse.policies:
        if policy in POLICIES:
            yield POLICIES[policy]
    if config.informed_tasks:
        yield from ("kraskov2004", "chelombiev2019", "butakov2023")


def _entry(key: str, fields: dict[str, str]) -> str:
    kind = fields["type"]
    lines = [f"  {name} = {{{value}}}" for name, value in fields.items() if name != "type"]
    return f"@{kind}{{{key},\n" + ",\n".join(lines) + "\n}\n"
