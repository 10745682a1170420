"""Provenance of a store: a stage records it, and a reader compares it with what it expects."""

from pathlib import Path
from typing import Any

from sam2love.dataset.index import Index, index_digest, table_digest
from sam2love.params import Params

WRITERS: Any = object()
"""Stands for an entry that only the writer knows, in its place among the others: their order is
part of a store's bytes, by which DVC decides whether to train again."""


def of_features(stage: str, params: Params, index: Index, **by_writer: str) -> dict[str, Any]:
    """Return encoder, weights, preprocessing and inputs of a store of features or labels.

    Args:
        stage: "audio", "vision", "text", "embeddings" or "labels".
        by_writer: entries that only the stage knows, from its model and its device (`precision`).
            A reader omits them, so that a store can be read on any device; which model it was
            follows from the digest of the weights.
    """
    clips = index.clips
    match stage:
        case "audio":
            recorded = {
                "encoder": WRITERS,
                "weights": params.audio.digest,
                "preprocessing": WRITERS,
                "post_relu": params.audio.post_relu,
                "inputs": table_digest(clips[["key", "audio_digest"]]),
            }
        case "vision":
            pictures = clips[clips["key"] == clips["frames_key"]]
            recorded = {
                "weights": params.vision.digest,
                "keep_bits": params.vision.keep_bits,
                "inputs": table_digest(pictures[["key", "frames_digest"]]),
            }
        case "text":
            recorded = {
                "encoder": "transformers text encoder",
                "weights": params.text.digest,
                "preprocessing": f"cut to {params.text.max_tokens} tokens",
            }
        case "embeddings":
            recorded = {
                "encoder": f"SAM 2, {params.sam2.config}",
                "weights": params.sam2.digest,
                "before_high_res_convs": params.sam2.train_high_res_convs,
                "keep_bits": params.sam2.keep_bits,
                "inputs": table_digest(clips[["key", "frames_digest"]]),
            }
        case "labels":
            recorded = {
                "frames": params.labelled_frames,
                "inputs": table_digest(clips[["key", "width", "height", "masks_digest"]]),
            }
        case _:
            raise AssertionError(f"not a feature stage: {stage}")
    entries = {"stage": stage, **recorded, **by_writer}
    return {name: entry for name, entry in entries.items() if entry is not WRITERS}


def of_masks(stage: str, index_folder: Path, **recorded: str | bool) -> dict[str, Any]:
    """Return models, precision and index of a store of masks; a reader compares the index."""
    return {"stage": stage, **recorded, "index": index_digest(index_folder)}
