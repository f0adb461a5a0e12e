"""What the pages of docs/ hold that can be read off the package."""

from transformers import BertConfig, GPTNeoXConfig, OlmoeConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from lmri.anatomy import ARCHITECTURES, anatomy_table, empty_model

COLUMNS = ("attention_output", "dense", "router", "experts", "shared", "mid")
PUBLISHED = {
    "OLMoE-1B-7B": OlmoeConfig(intermediate_size=1024),
    "Pythia-70M": GPTNeoXConfig(
        vocab_size=50304,
        hidden_size=512,
        num_hidden_layers=6,
        num_attention_heads=8,
        intermediate_size=2048,
    ),
    "BERT-base": BertConfig(),
}
"""Configurations of published models, by the name that stands before their table."""


def anatomy_of(name: str) -> str:
    """What `lmri anatomy` prints of a published model."""
    return anatomy_table(empty_model(PUBLISHED[name]))


def architecture_rows() -> list[str]:
    """The rows of the table in docs/architectures.md."""
    rows = []
    for kind, row in ARCHITECTURES.items():
        names = MODEL_FOR_MASKED_LM_MAPPING_NAMES if row.encoder else None
        names = names or MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        paths = [getattr(row, column) for column in COLUMNS]
        cells = [f"`{kind}`", f"`{names[kind]}`", f"`{row.blocks}`"]
        cells += [f"`{path}`" if path else "–" for path in paths]
        cells += [f"`{row.routing}`" if row.routing else "–", row.residual.replace("_", "-")]
        rows.append(f"| {' | '.join(cells)} |")
    return rows
