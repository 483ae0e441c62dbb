"""Prompts to the numbers that SDXL reads: computed once per prompt, in main memory.

It does not know what the numbers are used for, and it keeps the text encoders only where asked to.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from pipeline.engines.enhance.sdxl.sdxl_files import (
    find_file,
    find_weights,
    load_strictly,
    read_json,
)

log = logging.getLogger(__name__)

#: Prompts whose numbers are kept; one is 0.6 MB.
_KEPT_PROMPTS = 8


@dataclass(frozen=True)
class Embedding:
    """A prompt as SDXL reads it.

    Attributes:
        tokens: float32 [1, T, C], the second to last hidden states of both encoders side by side
            (T = 77, C = 768 + 1280 for the released weights).
        pooled: float32 [1, P], of the second encoder (P = 1280).
        truncated: the prompt was longer than T tokens; its end had no effect.
    """

    tokens: torch.Tensor
    pooled: torch.Tensor
    truncated: bool


class TextEncoder(Protocol):
    """Reads a prompt."""

    def encode(self, prompt: str) -> Embedding: ...


class TextEncoders:
    """Both CLIP text encoders of SDXL with their tokenizers, fp32 in main memory.

    On two CPU cores a prompt takes seconds, once; on the GPU they would hold 1.6 GB for it.
    """

    def __init__(self, pairs: list[tuple[Any, Any]]) -> None:
        """`pairs`: tokenizer and encoder, the one with the pooled projection last."""
        self._pairs = pairs

    @classmethod
    def load(cls, base: Path) -> TextEncoders:
        """Read them from the folder of the SDXL base model.

        Raises:
            Unavailable: a file is missing or does not fit.
        """
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

        pairs = []
        for suffix, kind in (("", CLIPTextModel), ("_2", CLIPTextModelWithProjection)):
            folder = base / f"text_encoder{suffix}"
            config = CLIPTextConfig.from_dict(read_json(find_file(folder, "config.json")))
            with torch.device("meta"):
                encoder = kind(config)
            load_strictly(
                encoder,
                find_weights(folder, "model"),
                torch.device("cpu"),
                torch.float32,
                renamed=_renamed,
            )
            pairs.append((_tokenizer(base / f"tokenizer{suffix}"), encoder))
        return cls(pairs)

    @torch.no_grad()
    def encode(self, prompt: str) -> Embedding:
        """The prompt in the numbers that SDXL was trained with (Podell et al. 2023, section 2)."""
        hidden, pooled, truncated = [], None, False
        for tokenizer, encoder in self._pairs:
            length = int(tokenizer.model_max_length)
            read = tokenizer(
                prompt,
                padding="max_length",
                max_length=length,
                truncation=True,
                return_tensors="pt",
            )
            truncated |= len(tokenizer(prompt, verbose=False).input_ids) > length
            out = encoder(read.input_ids, output_hidden_states=True)
            hidden.append(out.hidden_states[-2])
            pooled = out[0]
        assert pooled is not None
        return Embedding(torch.cat(hidden, dim=-1), pooled, truncated)


def _tokenizer(folder: Path) -> Any:
    from transformers import CLIPTokenizer

    for name in ("vocab.json", "merges.txt"):
        find_file(folder, name)
    return CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)


def _renamed(key: str, expected: set[str]) -> str | None:
    """The released files say `text_model.` before every name, transformers 5 only before some.

    None for the positions 0..76, which old files hold and the network counts by itself.
    """
    if key.endswith("embeddings.position_ids"):
        return None
    bare = key.removeprefix("text_model.")
    return bare if bare in expected else key


class Prompts:
    """Embeddings of the newest few prompts."""

    def __init__(self, load: Callable[[], TextEncoder], *, keep: bool) -> None:
        """
        Args:
            load: reads the encoders; called when a prompt is new.
            keep: hold the encoders between two prompts.
        """
        self._load = load
        self._keep = keep
        self._encoder: TextEncoder | None = None
        self._known: OrderedDict[str, Embedding] = OrderedDict()

    def embed(self, prompt: str) -> Embedding:
        """The prompt's numbers.

        Raises:
            Unavailable: the prompt is new and the encoders are no longer in their folder.
        """
        if prompt in self._known:
            self._known.move_to_end(prompt)
            return self._known[prompt]
        encoder = self._encoder
        if encoder is None:
            log.info("reading the text encoders for a new prompt")
            encoder = self._load()
        if self._keep:
            self._encoder = encoder
        self._known[prompt] = embedding = encoder.encode(prompt)
        if len(self._known) > _KEPT_PROMPTS:
            self._known.popitem(last=False)
        return embedding
