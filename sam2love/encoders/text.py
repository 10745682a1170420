"""A text transformer from transformers, such as DistilRoBERTa: a vector for each token."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from torch import Tensor

from sam2love.weights import locate, verify


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
        mask = encoded["attention_mask"]
        states = self._model(input_ids=encoded["input_ids"], attention_mask=mask).last_hidden_state
        return (states.float() * mask[..., None]).cpu(), mask.sum(dim=1).cpu()


def load_text_encoder(
    weights: str, digest: str, *, max_tokens: int, device: str = "cpu"
) -> TextEncoder:
    """Load model and tokenizer from a folder as `save_pretrained` writes it, or by their hub id.

    Raises:
        FileNotFoundError, ValueError: no such weights, others than the digest says, or not those of
            a text encoder with its tokenizer.
    """
    folder = locate(weights)
    verify(folder, digest)
    try:
        with _quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, padding_side="right"
            )
            model, report = transformers.AutoModel.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ValueError(
            f"{folder}: transformers can't load it ({' '.join(str(error).split())})"
        ) from None
    # The pooler is not used; everything else that is missing would be left random.
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise ValueError(f"{folder}: no weights for {missing[0]} and {len(missing) - 1} more")
    return TextEncoder(model.to(device).eval(), tokenizer, max_tokens=max_tokens)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bar and its report of an unused pooler."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        transformers.logging.enable_progress_bar()
