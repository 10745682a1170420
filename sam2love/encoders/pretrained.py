"""Models of transformers from a folder as `save_pretrained` writes it: whole, or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

from sam2love.weights import few


def load_pretrained(kind: Any, folder: Path) -> Any:
    """Load a model in float32 and evaluation mode.

    Args:
        kind: transformers' class, or one of its Auto classes.

    Raises:
        ValueError: the folder is not of this kind, or lacks weights that would be left random.
    """
    try:
        with _quiet():
            model, report = kind.from_pretrained(
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
        raise ValueError(f"{folder}: no weights for {few(missing)}")
    return model.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bar and its report of parts that are not used."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        transformers.logging.enable_progress_bar()
