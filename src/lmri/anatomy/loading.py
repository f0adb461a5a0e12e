"""Loading a subject: local files, safetensors only, no code from the model's folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)
from transformers.utils import (
    is_accelerate_available,
    is_flash_attn_2_available,
    is_flash_attn_3_available,
    logging,
)

from lmri.anatomy.sites import Anatomy, describe
from lmri.anatomy.staging import stage_weights
from lmri.anatomy.weights import (
    POINTER,
    check_unchanged,
    check_weights,
    pointed_files,
    resolve_pointer,
)
from lmri.checks import check_choice
from lmri.config import LoadOptions
from lmri.errors import SubjectError

if TYPE_CHECKING:
    from lmri.anatomy.dictionary import Dictionary

DTYPES: dict[str, torch.dtype | str] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "auto": "auto",
}
"""Data types of the weights in memory; "auto" is that of the files."""

DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")

NEEDS: dict[str, tuple[str, Callable[[], bool]]] = {
    "device_map": ("accelerate", is_accelerate_available),
    "flash_attention_2": ("flash-attn on a CUDA device", is_flash_attn_2_available),
    "flash_attention_3": ("flash-attn-3 on a CUDA device", is_flash_attn_3_available),
}
"""Packages that are not required, and whether they can be used.

Without flash attention's transformers would fetch a compiled kernel from the hub: foreign code.
"""

ATTENTIONS = ("sdpa", "eager", "flex_attention", "flash_attention_2", "flash_attention_3")
"""Implementations of attention."""

EXPERTS = ("grouped_mm", "batched_mm", "eager")
"""Implementations of experts; the others of transformers are kernels fetched from the hub."""

BESIDE = re.compile(
    r"(^|\.)pooler\.|^cls\.seq_relationship\.|^(vision_model|multi_modal_projector)\."
)
"""Tensors of other tasks that checkpoints carry beside a language model: they are not read."""


@dataclass(frozen=True)
class Subject:
    """A loaded subject.

    Attributes
    ----------
    name : str
        Its name in the study.
    model : torch.nn.Module
        Causal or masked language model in evaluation mode, without gradients.
    tokenizer : transformers.PreTrainedTokenizerBase
        Its tokenizer.
    anatomy : Anatomy
        What it is made of.
    max_think_tokens : int or None
        Tokens after which a thought is closed; None lets it count as a part of the response.
    dictionary : Dictionary or None
        Features of its residual, see :func:`lmri.anatomy.with_dictionary`.
    """

    name: str
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    anatomy: Anatomy
    max_think_tokens: int | None = None
    dictionary: Dictionary | None = None

    @property
    def device(self) -> torch.device:
        """Where tokens must be: the device of the input embeddings."""
        return self.model.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Data type of its weights, hence of its activity."""
        return self.model.dtype


def load_subject(
    path: Path, name: str, threads: int | None = None, load: LoadOptions | None = None
) -> Subject:
    """Load a subject from a prepared folder.

    Parameters
    ----------
    path : Path
        Hugging Face layout, or a folder with a ``pointer.json`` that names one.
    name : str
        Name of the subject in the study.
    threads : int, optional
        Threads of torch; by default what the environment says.
    load : LoadOptions, optional
        Data type, device and implementations; by default float32 on the CPU.

    Returns
    -------
    Subject
        The subject.

    Raises
    ------
    SubjectError
        If the folder is missing, holds no safetensors, holds pickled weights instead, has no
        tokenizer, a file is damaged or was changed since the subject was prepared, the tensors
        are not those of the architecture, or it cannot be loaded as asked.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    load = load or LoadOptions()
    check_load(load, name)
    folder = resolve_pointer(path)
    check_weights(folder)
    if folder != path:
        pointer = path / POINTER
        folder = stage_weights(folder, pointed_files(pointer))
        check_unchanged(folder, pointer)
    model = load_model(folder, load)
    with _quiet():
        tokenizer = _load_tokenizer(folder)
    return Subject(name, model, tokenizer, describe(model), load.max_think_tokens)


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a subject, and nothing else of it.

    Parameters
    ----------
    path : Path
        Hugging Face layout, or a folder with a ``pointer.json`` that names one.

    Returns
    -------
    transformers.PreTrainedTokenizerBase
        The tokenizer.

    Raises
    ------
    SubjectError
        If the folder is missing, or its tokenizer is missing or damaged.
    """
    folder = resolve_pointer(path)
    if not folder.is_dir():
        raise SubjectError(
            f"{folder}: a subject must be a folder in Hugging Face layout. Not found."
        )
    with _quiet():
        return _load_tokenizer(folder)


def check_load(load: LoadOptions, name: str) -> None:
    """Check that this machine can load a subject as asked, before a file is read.

    Parameters
    ----------
    load : LoadOptions
        Data type, device and implementations.
    name : str
        Name of the subject.

    Raises
    ------
    SubjectError
        If a value is unknown, a package is missing, or a device is not there.
    """
    owner = f"subject '{name}'"
    check_choice(load.dtype, DTYPES, "dtype", owner, SubjectError)
    if load.device_map is not None:
        check_choice(load.device_map, DEVICE_MAPS, "device_map", owner, SubjectError)
        _check_package("device_map", f"device_map: {load.device_map}", owner)
    if load.attention is not None:
        check_choice(load.attention, ATTENTIONS, "attention", owner, SubjectError)
        _check_package(load.attention, f"attention: {load.attention}", owner)
    if load.experts is not None:
        check_choice(load.experts, EXPERTS, "experts", owner, SubjectError)
    _check_device(load.device, owner)


def load_model(folder: Path, load: LoadOptions) -> nn.Module:
    """Make the model of a checked folder.

    Tensors are read one at a time into the model: memory holds the weights once, mapped from the
    files where their data type is the one asked for. Experts stored one by one are merged on the
    way, for which the files' pages and the merged weights are held together.

    Parameters
    ----------
    folder : Path
        Hugging Face layout, as `check_weights` accepts it.
    load : LoadOptions
        As `check_load` accepts them.

    Returns
    -------
    torch.nn.Module
        Causal language model, or masked language model of an encoder, in evaluation mode and
        without gradients, on its device.

    Raises
    ------
    SubjectError
        If the architecture is not one of those, does not have the implementations asked for, or
        the tensors are not its own.
    """
    placed = {} if load.device_map is None else {"device_map": load.device_map}
    with _quiet():
        config = _read_config(folder)
        auto = auto_class(config, str(folder))
        _check_implementations(auto._model_mapping[type(config)], load, folder)
        # Set, also to None: a config.json may name a kernel to be fetched from the hub.
        config._attn_implementation = load.attention
        config._experts_implementation = load.experts
        _check_architecture(auto, config, folder)
        try:
            model, report = auto.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=DTYPES[load.dtype],
                # Listed in the report instead of raised: the message below names the tensor.
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **placed,
            )
        except Exception as error:  # noqa: BLE001 - a configuration can ask for the impossible
            raise SubjectError(f"{folder}: cannot be loaded ({_first_line(error)}).") from None
    _check_tensors(report, folder)
    if load.device_map is None:
        model = model.to(_device(load.device))
    return model.eval().requires_grad_(False)


def auto_class(
    config: PretrainedConfig, owner: str
) -> type[AutoModelForCausalLM | AutoModelForMaskedLM]:
    """Choose the class that loads a model.

    Parameters
    ----------
    config : transformers.PretrainedConfig
        Configuration of the model.
    owner : str
        Begins the message.

    Returns
    -------
    type
        That of the class the weights were saved from; where the configuration does not tell,
        causal unless it is an encoder.

    Raises
    ------
    SubjectError
        If it is not a language model.
    """
    causal = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    masked = MODEL_FOR_MASKED_LM_MAPPING_NAMES.get(config.model_type)
    saved = (config.architectures or [masked or causal])[0]
    if not config.is_encoder_decoder and saved is not None:
        if saved == causal and not causal.endswith("ForConditionalGeneration"):
            return AutoModelForCausalLM
        if saved == masked:
            return AutoModelForMaskedLM
        # The class of text and images, where transformers reads the text model out of it.
        if hasattr(config, "text_config") and causal is not None and saved != causal:
            return AutoModelForCausalLM
    known = [f"'{name}'" for name in (causal, masked) if name not in (None, saved)]
    instead = f" ({' or '.join(known)} for '{config.model_type}')" if known else ""
    raise SubjectError(
        f"{owner}: a subject must be a causal language model or a masked one of text{instead}. "
        f"Got '{saved}' of architecture '{config.model_type}': save its language model alone."
    )


def _check_package(feature: str, key: str, owner: str) -> None:
    package, is_available = NEEDS.get(feature, ("", lambda: True))
    if not is_available():
        raise SubjectError(
            f"'{key}' of {owner} needs the package {package}. It was not found: install it, or "
            "leave the key out."
        )


def _check_device(device: str, owner: str) -> None:
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda", "auto") or (number and (kind != "cuda" or not number.isdigit())):
        raise SubjectError(
            f"The 'device' of {owner} must be one of 'cpu', 'cuda', 'cuda:N', 'auto'. "
            f"Got {device!r}."
        )
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cuda" and int(number or 0) >= found:
        raise SubjectError(
            f"The 'device' of {owner} must be on this machine. Got {device!r}, but torch finds "
            f"{found} CUDA devices: use another number, cpu or auto, or run the job where one is."
        )


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def _read_config(folder: Path) -> PretrainedConfig:
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 - checks of fields raise errors of their own family
        raise SubjectError(f"{folder}: cannot be loaded ({_first_line(error)}).") from None


def _check_implementations(kind: type[nn.Module], load: LoadOptions, folder: Path) -> None:
    if load.experts is not None and not kind._can_set_experts_implementation():
        raise SubjectError(
            f"{folder}: 'experts' must be left out for {kind.__name__}, which has none or only "
            f"one way to run them. Got '{load.experts}'."
        )
    # transformers falls back to these when another flash attention is asked for.
    own = kind._compatible_flash_implementations
    flash = load.attention is not None and load.attention.startswith("flash")
    if flash and own is not None and load.attention not in own:
        raise SubjectError(
            f"{folder}: '{load.attention}' is not an attention of {kind.__name__}, whose own "
            f"({own[0]}) is fetched from the hub and never run. Use eager."
        )


def _check_architecture(
    auto: type[AutoModelForCausalLM | AutoModelForMaskedLM], config: PretrainedConfig, folder: Path
) -> None:
    """Describe the model without weights: they need not be read if it is not known."""
    try:
        with torch.device("meta"):
            model = auto.from_config(config)
    except Exception as error:  # noqa: BLE001 - whatever a configuration's values lead to
        raise SubjectError(f"{folder}: cannot be loaded ({_first_line(error)}).") from None
    describe(model)


def _check_tensors(report: dict, folder: Path) -> None:
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(map(str, report[problem]))
        if problem == "unexpected_keys":
            names = [name for name in names if not BESIDE.search(name)]
        if names:
            raise SubjectError(
                f"{folder}: the weights have {problem.replace('_', ' ')}: "
                f"{names[0]} and {len(names) - 1} more. "
                "They belong to another architecture or configuration, or are incomplete."
            )


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # noqa: BLE001 - the tokenizers library raises nothing narrower
        raise SubjectError(
            f"{folder}: the tokenizer cannot be loaded ({_first_line(error)})."
        ) from None
    # Without its files the library makes up a tokenizer that knows no text.
    if not any((folder / name).is_file() for name in tokenizer.vocab_files_names.values()):
        raise SubjectError(
            f"{folder}: a subject must have the files of its tokenizer (tokenizer.json). Not found."
        )
    if tokenizer.eos_token_id is None and (end := _end_token(folder, tokenizer)):
        tokenizer.eos_token = end
    return tokenizer


def _end_token(folder: Path, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """What ends the responses of a model whose tokenizer does not say so, as its files have it."""
    for files in (GenerationConfig, AutoConfig):
        try:
            found = files.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError):
            continue
        ends = getattr(found, "eos_token_id", None)
        end = ends[0] if isinstance(ends, list) and ends else ends
        if isinstance(end, int):
            return tokenizer.convert_ids_to_tokens(end)
    return None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def _quiet() -> Iterator[None]:
    # The library draws a progress bar and a table of problems; a log of a job is not a terminal,
    # and a problem is one line.
    was_enabled, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if was_enabled:
            logging.enable_progress_bar()
