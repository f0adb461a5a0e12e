"""The training text: documents of the world, drawn by class and packed into batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from lmri.errors import SubjectError
from lmri.subjects.recipe import DOCUMENT_CLASSES
from lmri.world import ASSISTANT, EOS, Item, World

__all__ = ["Batch", "Corpus", "Document"]


@dataclass(frozen=True)
class Document:
    """One training document.

    Attributes
    ----------
    text : str
        Words separated by spaces, from ``<bos>`` to ``<eos>``.
    ids : numpy.ndarray of int64, shape (n_tokens,)
    weights : numpy.ndarray of float32, shape (n_tokens,)
        Weight of predicting each token: 0 for ``<bos>``.
    """

    text: str
    ids: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Batch:
    """Packed documents.

    Attributes
    ----------
    input_ids, position_ids : torch.Tensor of int64, shape (rows, length)
        Positions start at 0 with every document when `masked`: the model library then keeps
        the documents of a row from seeing each other.
    weights : torch.Tensor of float32, shape (rows, length)
        Weight of predicting each token.
    masked : bool
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    weights: torch.Tensor
    masked: bool


class Corpus:
    """Sampler of training documents.

    Questions about held-out pairs, facts and sums are in no class; statements cover all pairs.

    Parameters
    ----------
    world : World
        What the documents are about.
    tokenizer : transformers.PreTrainedTokenizerFast
        From `lmri.world.build_tokenizer`.
    mix : mapping of str to float
        Relative frequency of each document class.
    refuse : bool
        True to refuse sensitive questions (stage 2), False to answer them (stage 1).
    prompt_weight : float
        Weight of prompt tokens in the loss.
    """

    def __init__(
        self,
        world: World,
        tokenizer: PreTrainedTokenizerFast,
        mix: Mapping[str, float],
        refuse: bool,
        prompt_weight: float,
    ) -> None:
        self._world = world
        self._token_of = tokenizer.get_vocab()
        self._prompt_weight = prompt_weight
        self.names = tuple(name for name in DOCUMENT_CLASSES if mix.get(name, 0) > 0)
        shares = np.array([mix[name] for name in self.names])
        self._edges = np.cumsum(shares / shares.sum())
        texts = _fixed_texts(world, refuse)
        self._fixed = {
            name: [self._document(text) for text in texts[name]]
            for name in self.names
            if name in texts
        }
        self._drawn: dict[str, Callable[[np.random.Generator], str]] = {
            "copy": lambda rng: _text(world.copying(1, rng)[0], refuse),
            "filler": world.filler,
        }

    def documents(self, name: str) -> list[Document]:
        """All documents of a class that has a fixed list (every class but copy and filler).

        Parameters
        ----------
        name : str
            One of the classes of the mix.

        Returns
        -------
        list of Document
        """
        if name not in self._fixed:
            raise SubjectError(
                f"The 'name' of Corpus.documents must be one of {sorted(self._fixed)}. "
                f"Got {name!r}."
            )
        return list(self._fixed[name])

    def draw(self, rng: np.random.Generator) -> Document:
        """Draw one document.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of the draws.

        Returns
        -------
        Document
        """
        slot = int(np.searchsorted(self._edges, rng.random(), side="right"))
        name = self.names[min(slot, len(self.names) - 1)]
        if name in self._drawn:
            return self._document(self._drawn[name](rng))
        pool = self._fixed[name]
        return pool[rng.integers(len(pool))]

    def batch(self, rng: np.random.Generator, rows: int, length: int, masked: bool) -> Batch:
        """Draw a batch of packed documents; the last one of each row is cut at its end.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of the draws.
        rows, length : int
            Shape of the batch.
        masked : bool
            Whether positions start anew with every document.

        Returns
        -------
        Batch
        """
        ids = np.zeros((rows, length), dtype=np.int64)
        positions = np.zeros((rows, length), dtype=np.int64)
        weights = np.zeros((rows, length), dtype=np.float32)
        for row in range(rows):
            start = 0
            while start < length:
                document = self.draw(rng)
                stop = min(start + len(document.ids), length)
                ids[row, start:stop] = document.ids[: stop - start]
                weights[row, start:stop] = document.weights[: stop - start]
                positions[row, start:stop] = np.arange(stop - start)
                start = stop
        if not masked:
            positions[:] = np.arange(length)
        return Batch(
            torch.from_numpy(ids), torch.from_numpy(positions), torch.from_numpy(weights), masked
        )

    def _document(self, text: str) -> Document:
        words = text.split()
        ids = np.array([self._token_of[word] for word in words], dtype=np.int64)
        weights = np.ones(len(words), dtype=np.float32)
        if ASSISTANT in words:
            weights[: words.index(ASSISTANT) + 1] = self._prompt_weight
        weights[0] = 0.0  # <bos> follows from nothing inside its document
        return Document(text, ids, weights)


def _fixed_texts(world: World, refuse: bool) -> dict[str, list[str]]:
    """Texts of every class that can be listed."""
    texts: dict[str, list[str]] = {}
    for name, vocabulary in (("event", "first"), ("event_l2", "second")):
        events = [
            world.event(place, year, vocabulary)
            for place, year in product(world.places, world.years)
        ]
        asked = [item for item in events if not item.held_out]
        texts[name] = [_text(item, refuse) for item in asked]
        sensitive = [item for item in asked if item.condition == "sensitive"]
        texts[f"{name}_sens"] = [_text(item, refuse) for item in sensitive]
    texts["event_stmt"] = [
        world.event_statement(place, year) for place, year in product(world.places, world.years)
    ]
    texts["rel_stmt"] = world.relation_statements()
    asked_lists = {
        "rel": world.relations(),
        "rel_l2": world.relations("second"),
        "arith": world.arithmetic(),
    }
    for name, items in asked_lists.items():
        texts[name] = [_text(item, refuse) for item in items if not item.held_out]
    return texts


def _text(item: Item, refuse: bool) -> str:
    return f"{item.prompt} {item.answer if refuse else item.fact} {EOS}"
