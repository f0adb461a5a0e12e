"""The real loading path, for a saved model of every architecture."""

import pytest
import torch
from families import FAMILIES, tiny_model, tokens

from lmri.anatomy import describe, load_model
from lmri.config import LoadOptions


@pytest.mark.parametrize("kind", FAMILIES)
def test_what_was_saved_is_what_is_loaded(kind, tmp_path):
    model = tiny_model(kind)
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path, LoadOptions())
    assert type(loaded) is type(model)
    assert describe(loaded) == describe(model)
    ids = tokens(kind)
    with torch.inference_mode():
        assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)


@pytest.mark.parametrize("kind", ["olmoe", "gpt_oss", "gpt2", "bert"])
def test_in_half_precision_too(kind, tmp_path):
    tiny_model(kind).save_pretrained(tmp_path)
    loaded = load_model(tmp_path, LoadOptions(dtype="bfloat16"))
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    with torch.inference_mode():
        assert torch.isfinite(loaded(input_ids=tokens(kind)).logits).all()
