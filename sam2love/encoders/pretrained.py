"""Load models that `save_pretrained` wrote, only if every weight is there, and run no code."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

from sam2love.encoders.tensors import abbreviated
from sam2love.encoders.weights import WEIGHTS

NO_CODE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""Options of every from_pretrained; without the second, transformers waits for a user's answer."""


@contextmanager
def faults_of(library: str, folder: Path) -> Iterator[None]:
    """Turn any error of a library that loads a folder into a one-line ValueError."""
    try:
        yield
    except Exception as error:  # odd values in a configuration raise all kinds of errors
        kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
        reason = " ".join(f"{kind}{error}".split())
        raise ValueError(f"{folder}: {library} can't load it ({reason})") from None


def load_pretrained(kind: Any, folder: Path) -> Any:
    """Load a model in float32 and evaluation mode.

    Args:
        kind: a model class of transformers, or one of its Auto classes.

    Raises:
        ValueError: the folder is of another kind, or weights are missing or of another shape.
    """
    _check_config(folder)
    with faults_of("transformers", folder), _quiet():
        model, report = kind.from_pretrained(
            folder,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, with their names
            **NO_CODE,
        )
    # Missing and mismatched weights were left random; the pooler is not used.
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise ValueError(f"{folder}: no weights for {abbreviated(missing)}")
    if report["mismatched_keys"]:
        shapes = [
            f"{name} {tuple(found)} for {tuple(expected)}"
            for name, found, expected in sorted(report["mismatched_keys"])
        ]
        raise ValueError(
            f"{folder / WEIGHTS}: does not fit the config.json next to it "
            f"(of another shape: {abbreviated(shapes)})"
        )
    return model.eval()


def _check_config(folder: Path) -> None:
    """Refuse settings that make transformers run other code or read other weights."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not readable as JSON ({error})") from None
    for name, value in _settings(config):
        if name == "transformers_weights":
            raise ValueError(
                f"{path}: {name} is {value!r}; remove it: the weights are always read from "
                f"{WEIGHTS}, whose digest is verified"
            )
        kernel = name.endswith("_implementation") and value not in ("eager", "sdpa", None)
        if name == "quantization_config" or kernel:
            raise ValueError(
                f"{path}: {name} is {value!r}, which may run code; remove it, or use weights "
                "without it"
            )


def _settings(config: Any) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of nested dictionaries."""
    for name, value in config.items() if isinstance(config, dict) else ():
        yield name, value
        yield from _settings(value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' progress bar and its report of unused weights."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        transformers.logging.enable_progress_bar()
