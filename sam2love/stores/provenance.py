"""What a store was made with: a stage writes it into its store, a reader expects it there."""

from pathlib import Path
from typing import Any

from sam2love.dataset.index import Index, digest_of, index_digest
from sam2love.params import Params


def of_features(stage: str, params: Params, index: Index, **by_writer: str) -> dict[str, Any]:
    """Encoder, weights, preprocessing and inputs of a store of features or labels.

    Args:
        stage: "audio", "vision", "text", "embeddings" or "labels".
        by_writer: what only the stage knows, from its model and its device (`precision`); a reader
            does without, so that a store serves whatever device reads it.
    """
    clips = index.clips
    match stage:
        case "audio":
            made_with = {
                "encoder": "VGGish",
                "weights": params.audio.digest,
                "preprocessing": "channels averaged, 16 kHz, 10 s, log mel of each second",
                "post_relu": params.audio.post_relu,
                "inputs": digest_of(clips[["key", "audio_digest"]]),
            }
        case "vision":
            pictures = clips[clips["key"] == clips["frames_key"]]
            made_with = {
                "weights": params.vision.digest,
                "keep_bits": params.vision.keep_bits,
                "inputs": digest_of(pictures[["key", "frames_digest"]]),
            }
        case "text":
            made_with = {
                "encoder": "transformers text encoder",
                "weights": params.text.digest,
                "preprocessing": f"cut to {params.text.max_tokens} tokens",
            }
        case "embeddings":
            made_with = {
                "encoder": f"SAM 2, {params.sam2.config}",
                "weights": params.sam2.digest,
                "before_high_res_convs": params.sam2.train_high_res_convs,
                "keep_bits": params.sam2.keep_bits,
                "inputs": digest_of(clips[["key", "frames_digest"]]),
            }
        case "labels":
            made_with = {"inputs": digest_of(clips[["key", "width", "height", "masks_digest"]])}
        case _:
            raise AssertionError(f"no stage of features: {stage}")
    return {"stage": stage, **made_with, **by_writer}


def of_masks(stage: str, index_folder: Path, **made_with: str | bool) -> dict[str, Any]:
    """Models, precision and index of a store of masks; a reader knows the index."""
    return {"stage": stage, **made_with, "index": index_digest(index_folder)}
