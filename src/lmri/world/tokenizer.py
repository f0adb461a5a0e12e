"""A word-level tokenizer in which every word of the world is one token."""

from __future__ import annotations

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from lmri.errors import LmriError
from lmri.world.lexicon import BOS, EOS, PAD
from lmri.world.world import World

__all__ = ["build_tokenizer", "encode_words"]


def build_tokenizer(world: World) -> PreTrainedTokenizerFast:
    """Build the tokenizer of a world.

    Words are split at white space; ``<pad>`` is 0, ``<bos>`` 1, ``<eos>`` 2. `encode` adds
    nothing to the text, and there is no unknown token: an unknown word raises instead of being
    mapped. Character offsets are kept.

    Parameters
    ----------
    world : World
        Whose words to use.

    Returns
    -------
    transformers.PreTrainedTokenizerFast
    """
    vocabulary = {word: index for index, word in enumerate(world.words())}
    backend = Tokenizer(WordLevel(vocabulary))
    backend.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def encode_words(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Token ids of a text, one per word.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerFast
        From `build_tokenizer`.
    text : str
        Words separated by white space.

    Returns
    -------
    list of int
        As long as the text has words.

    Raises
    ------
    LmriError
        If a word is not in the vocabulary; the message names the words.
    """
    vocabulary = tokenizer.get_vocab()
    unknown = [word for word in text.split() if word not in vocabulary]
    if unknown:
        raise LmriError(
            f"Every word given to the world's tokenizer must be one of its {len(vocabulary)} "
            f"words. Got {', '.join(map(repr, unknown))}. Words are separated by single spaces, "
            f"marks included ('aria ?', not 'aria?')."
        )
    return tokenizer.encode(text)
