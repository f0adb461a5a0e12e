"""Checks of the causal maps of a study that no schema can make."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lmri.checks import quoted, shortened
from lmri.config.options import CausalOptions

if TYPE_CHECKING:
    from lmri.config.study import StudyConfig


def causal_problems(study: StudyConfig) -> Iterator[str]:
    """Find contradictions between the causal maps and the rest of a study.

    Parameters
    ----------
    study : StudyConfig
        The study.

    Yields
    ------
    str
        One line for each, naming the key.
    """
    causal = study.localise.causal
    if causal is not None and causal.shams and causal.metric != "logit_difference":
        yield (
            "'localise.causal.metric' must be 'logit_difference' where 'shams' are asked for: "
            f"between null trials there is no gap to be recovered. Got '{causal.metric}'."
        )
    if causal is not None and "feature" in causal.kinds and causal.dictionary is None:
        yield (
            "missing key 'dictionary' in 'localise.causal'. The kind 'feature' needs it: a "
            "safetensors file with encoder, encoder_bias and decoder."
        )
    if causal is not None and causal.primary is not None:
        yield from _primary(causal)
    for name in causal.contrasts if causal is not None else ():
        contrast = study.contrasts.get(name)
        if contrast is None:
            yield (
                f"'localise.causal.contrasts' must be one of {quoted(study.contrasts)}. "
                f"Got '{name}'."
            )
        elif contrast.random_split is not None:
            yield (
                "'localise.causal.contrasts' must compare conditions. "
                f"Got '{name}', a random split."
            )


def _primary(causal: CausalOptions) -> Iterator[str]:
    kinds = ["residual_site" if kind == "residual" else kind for kind in causal.kinds]
    tested = [m for m in causal.methods if not m.startswith("patch_") or _patched_both_ways(causal)]
    maps = [f"{kind}.{m}" for kind in kinds for m in tested if kind not in ("attention", "mlp")]
    if causal.primary not in maps:
        yield (
            "'localise.causal.primary' must be a map of its 'kinds' and 'methods' that is tested, "
            f"one of {quoted(maps)}. Got {shortened(causal.primary)}."
        )
    if not causal.shams:
        yield (
            "'localise.causal.primary' needs 'shams: true': a finding is tested against sham maps."
        )


def _patched_both_ways(causal: CausalOptions) -> bool:
    return {"patch_denoise", "patch_noise"} <= set(causal.methods)
