"""What an intervention does to the output as its strength grows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from lmri.anatomy import Subject
from lmri.intervene.plans import AnyPlan
from lmri.intervene.steering import output_shift


def scale_curve(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    plan_at: Callable[[float], AnyPlan],
    scales: Sequence[float],
    rows: int,
) -> xr.Dataset:
    """Measure the shift of the next token's distribution at several scales.

    Parameters
    ----------
    subject : Subject
        The subject.
    prompts : sequence of sequence of int
        Token ids.
    plan_at : callable
        From a scale to the plan of that scale, see :func:`lmri.intervene.steering_plan`.
    scales : sequence of float
        The scales, at least one.
    rows : int
        Prompts per forward pass, at most.

    Returns
    -------
    Dataset
        Over (scale, prompt): ``divergence`` of the intact distribution from the steered one and
        ``entropy`` of the latter, in nats; over prompt ``intact_entropy``.
    """
    shifts = [output_shift(subject, prompts, plan_at(scale), rows) for scale in scales]
    return xr.Dataset(
        {
            "divergence": (("scale", "prompt"), np.array([own.divergence for own in shifts])),
            "entropy": (("scale", "prompt"), np.array([own.entropy for own in shifts])),
            "intact_entropy": ("prompt", shifts[0].intact_entropy),
        },
        coords={"scale": list(scales)},
        attrs={"units": "nats"},
    )
