"""A text transformer from transformers, DistilRoBERTa or CLIP's: a vector for each token."""

from typing import Any

import torch
import transformers
from torch import Tensor

from sam2love.device import mixed_precision
from sam2love.encoders.pretrained import NO_CODE, faults_of, load_pretrained
from sam2love.encoders.weights import fetch


class TextEncoder:
    """Sentences as vectors of their tokens, special tokens included."""

    def __init__(self, model: Any, tokenizer: Any, *, max_tokens: int) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self.max_tokens = max_tokens
        """P: longer sentences are cut."""
        self.dim = model.config.hidden_size
        """d_T."""

    @torch.inference_mode()
    def encode(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Encode n sentences.

        Returns:
            The last hidden states (n, P, d_T) float32, zero behind a sentence's end, and the
            number of tokens of each, (n,) int64; both on the CPU.
        """
        # Always as long as allowed: a sentence's vectors don't hang on its neighbours' lengths.
        encoded = self._tokenizer(
            texts,
            max_length=self.max_tokens,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        ).to(self._model.device)
        ids, mask = encoded["input_ids"], encoded["attention_mask"]
        with mixed_precision(self._model.device):
            states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
        return (states.float() * mask[..., None]).cpu(), mask.sum(dim=1).cpu()

    def cut(self, text: str) -> tuple[int, str] | None:
        """How many tokens a sentence has, and the part that is read; None if all of it is."""
        count = len(self._tokenizer(text, verbose=False)["input_ids"])
        if count <= self.max_tokens:
            return None
        read = self._tokenizer(
            text, max_length=self.max_tokens, truncation=True, return_offsets_mapping=True
        )
        return count, text[: max(end for _, end in read["offset_mapping"])]


def load_text_encoder(
    weights: str, digest: str, *, max_tokens: int, device: torch.device | str = "cpu"
) -> TextEncoder:
    """Load model and tokenizer from a folder as `save_pretrained` writes it.

    Args:
        weights: a path or a hub id.
        digest: SHA-256 that they must have.

    Raises:
        FileNotFoundError, ValueError: no such weights, others than the digest says, not those of a
            text encoder with its tokenizer, or of one for shorter texts.
    """
    folder = fetch(weights, digest)
    with faults_of("transformers", folder):
        config = transformers.AutoConfig.from_pretrained(folder, **NO_CODE)
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, padding_side="right", **NO_CODE
        )
    if max_tokens > tokenizer.model_max_length:
        raise ValueError(
            f"text.max_tokens: {max_tokens}, but {folder} takes at most "
            f"{tokenizer.model_max_length}"
        )
    # CLIP is published as one model of both kinds.
    kind = transformers.CLIPTextModel if config.model_type == "clip" else transformers.AutoModel
    model = load_pretrained(kind, folder)
    return TextEncoder(model.to(device), tokenizer, max_tokens=max_tokens)
