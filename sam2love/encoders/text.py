"""A text encoder of transformers, such as DistilRoBERTa or CLIP's: one vector per token."""

from typing import Any

import torch
import transformers
from torch import Tensor

from sam2love.device import mixed_precision
from sam2love.encoders.pretrained import NO_CODE, faults_of, load_pretrained
from sam2love.encoders.weights import fetch


class TextEncoder:
    """Encode sentences as one vector per token, special tokens included."""

    def __init__(self, model: Any, tokenizer: Any, *, max_tokens: int) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self.max_tokens = max_tokens
        """P: longer sentences are truncated."""
        self.dim = model.config.hidden_size
        """d_T."""

    @torch.inference_mode()
    def encode(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Encode n sentences.

        Returns:
            The last hidden states (n, P, d_T) float32, zero on padding, and the number of tokens
            of each sentence, (n,) int64; both on the CPU.
        """
        # Always padded to P, so that a sentence's vectors don't depend on the rest of its batch.
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

    def truncation(self, text: str) -> tuple[int, str] | None:
        """Return a long sentence's token count and the part that is read; None if all of it is."""
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
    """Load model and tokenizer from a folder that `save_pretrained` wrote.

    Args:
        weights: a path or a hub id.
        digest: the expected SHA-256 of the weights.

    Raises:
        FileNotFoundError, ValueError: no such weights, of another digest, not of a text encoder
            with its tokenizer, or of one that takes fewer tokens than `max_tokens`.
    """
    folder = fetch(weights, digest)
    with faults_of("transformers", folder):
        config = transformers.AutoConfig.from_pretrained(folder, **NO_CODE)
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, padding_side="right", **NO_CODE
        )
    if config.is_encoder_decoder:
        raise ValueError(
            f"{folder / 'config.json'}: {config.model_type} is an encoder-decoder; expected a text "
            "encoder, such as RoBERTa, BERT, MPNet or CLIP"
        )
    if max_tokens > tokenizer.model_max_length:
        raise ValueError(
            f"text.max_tokens is {max_tokens}, but {folder} takes at most "
            f"{tokenizer.model_max_length}; lower it in params.yaml"
        )
    # A published CLIP is one model of text and vision.
    kind = transformers.CLIPTextModel if config.model_type == "clip" else transformers.AutoModel
    model = load_pretrained(kind, folder)
    return TextEncoder(model.to(device), tokenizer, max_tokens=max_tokens)
