"""How massive each dimension of the residual gets: what controls of dimensions are matched on.

A few dimensions hold values many times those of the others at some tokens (Sun et al. 2024,
arXiv 2402.17762). Lesions of them do much whatever they code, so that sets of dimensions which
happen to hold one are to be compared with sets that hold another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np
import torch

from lmri.anatomy import Subject, equal_length_batches, trunk
from lmri.intervene import changed_state


@torch.inference_mode()
def massive_ratios(subject: Subject, prompts: Sequence[Sequence[int]], rows: int) -> np.ndarray:
    """``max over tokens of |h_i| / median_j |h_j|``, of the residual after each block.

    Parameters
    ----------
    subject : Subject
        The subject, intact.
    prompts : sequence of sequence of int
        Token ids.
    rows : int
        Rows per forward pass, at most.

    Returns
    -------
    ndarray of shape (layers, hidden), float64
        The ratios; 1000 and more are called massive. Never below 0.
    """
    anatomy = subject.anatomy
    largest = np.zeros((anatomy.layers, anatomy.hidden))

    def show(layer: int) -> Callable[[torch.Tensor], torch.Tensor]:
        def see(state: torch.Tensor) -> torch.Tensor:
            sizes = state.abs().double()
            # A state of zeros has no median to compare with.
            median = sizes.median(dim=-1, keepdim=True).values
            ratio = torch.where(median > 0, sizes / median, 0.0)
            found = ratio.flatten(0, -2).amax(0).cpu().numpy()
            largest[layer] = np.maximum(largest[layer], found)
            return state

        return see

    with ExitStack() as stack:
        for layer in range(anatomy.layers):
            stack.enter_context(changed_state(subject.model, layer, "after", show(layer)))
        for batch in equal_length_batches([len(prompt) for prompt in prompts], rows):
            ids = torch.tensor([prompts[row] for row in batch], device=subject.device)
            trunk(subject.model)(input_ids=ids, use_cache=False)
    return largest
