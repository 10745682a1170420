"""Models from a folder as `save_pretrained` writes it: whole, or not at all."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

from sam2love.encoders.tensors import few
from sam2love.encoders.weights import WEIGHTS

NO_CODE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""For every from_pretrained: without the second, transformers asks on a terminal, and waits."""


@contextmanager
def faults_of(library: str, folder: Path) -> Iterator[None]:
    """Around a library that loads a folder: whatever it raises becomes a ValueError of one line."""
    try:
        yield
    except Exception as error:  # odd values in a configuration make it raise of every kind
        kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
        reason = " ".join(f"{kind}{error}".split())
        raise ValueError(f"{folder}: {library} can't load it ({reason})") from None


def load_pretrained(kind: Any, folder: Path) -> Any:
    """Load a model in float32 and evaluation mode.

    Args:
        kind: transformers' class, or one of its Auto classes.

    Raises:
        ValueError: the folder is not of this kind, or weights are missing or of another shape.
    """
    _check_config(folder)
    with faults_of("transformers", folder), _quiet():
        model, report = kind.from_pretrained(
            folder,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, where the message can name them
            **NO_CODE,
        )
    # What is missing or of another shape was left random; the pooler is not used.
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise ValueError(f"{folder}: no weights for {few(missing)}")
    if report["mismatched_keys"]:
        shapes = [
            f"{name} {tuple(found)} for {tuple(expected)}"
            for name, found, expected in sorted(report["mismatched_keys"])
        ]
        raise ValueError(
            f"{folder / WEIGHTS}: does not fit config.json beside it "
            f"(of another shape: {few(shapes)})"
        )
    return model.eval()


def _check_config(folder: Path) -> None:
    """Refuse what makes transformers fetch code, import a named package or read other weights."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not readable as JSON ({error})") from None
    for name, value in _settings(config):
        if name == "transformers_weights":
            raise ValueError(
                f"{path}: {name} is {value!r}; remove it: the weights, and their digest, are those "
                f"of {WEIGHTS}"
            )
        plain = not name.endswith("_implementation") or value in ("eager", "sdpa", None)
        if name == "quantization_config" or not plain:
            raise ValueError(
                f"{path}: {name} is {value!r}, which may run code; remove it, or give weights "
                "without it"
            )


def _settings(config: Any) -> Iterator[tuple[str, Any]]:
    for name, value in config.items() if isinstance(config, dict) else ():
        yield name, value
        yield from _settings(value)


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
