"""Models of the subjects of a study without their weights, before anything is prepared."""

from __future__ import annotations

import torch

from lmri.anatomy import empty_model, read_configuration
from lmri.config import StudyConfig, SubjectOptions
from lmri.subjects import Recipe
from lmri.subjects.model import build_model
from lmri.world import build_tokenizer, make_world


def empty_subject(study: StudyConfig, options: SubjectOptions) -> torch.nn.Module:
    """Build the model of a subject without weights.

    Parameters
    ----------
    study : StudyConfig
        The study, with the recipe of what the workflow trains.
    options : SubjectOptions
        The subject.

    Returns
    -------
    torch.nn.Module
        On the meta device.
    """
    if options.source == "hub":
        return empty_model(read_configuration(options.id, options.revision))
    if options.path is not None:
        return empty_model(read_configuration(options.path))
    # What is packaged was trained by the defaults, whatever the study trains.
    recipe = Recipe() if options.source == "embedded" else Recipe.from_dict(study.training)
    world = make_world(study.world.seed, study.world.size)
    with torch.device("meta"):
        return build_model(recipe, len(build_tokenizer(world)), 0)
