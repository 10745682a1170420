"""Write what the paper's profile reads, before any of it is downloaded: weights and a data set.

    python -m rehearsal.inputs FOLDER CLIPS ROWS_PER_CLIP

Reads FOLDER/params.yaml. Weights are random, in the published sizes and forms, at the places where
`sam2love weights` would put the real ones; clips are 1280 x 720 with sound, in the layout of
Ref-AVS.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import timm
import torch
from timm.models import save_for_hf
from transformers import RobertaConfig, RobertaModel

from mini.expressions import sample_sentence
from mini.layout import encode_jpeg, write_csv, write_masks, write_media
from mini.pretrain_roberta import build_tokenizer
from mini.sounds import SAMPLE_RATE_HZ
from sam2love.encoders.audio import VGGish
from sam2love.params import Params, load_params
from sam2love.refavs import CLIP_SECONDS, FRAMES
from sam2love.sam.build import build_sam2
from sam2love.weights import place

WIDTH, HEIGHT = 1280, 720
ROWS = {"train": 5, "val": 5, "test_s": 8, "test_u": 6, "test_n": 4}
"""A clip's rows in the benchmark, rounded."""
HELD_OUT = 0.07
"""Of the benchmark's clips, those of each split but train."""
DISTILROBERTA = {"vocab_size": 50265, "num_hidden_layers": 6, "max_position_embeddings": 514}
"""Where it differs from transformers' default RoBERTa."""


def main(folder: Path, clips: int, most_rows: int) -> None:
    write_weights(folder, load_params(folder / "params.yaml"))
    write_clips(folder / load_params(folder / "params.yaml").data.root, clips, most_rows)


def write_weights(
    folder: Path,
    params: Params,
    *,
    vggish: VGGish | None = None,
    vit: dict[str, int] | None = None,
    roberta: dict[str, int] | None = None,
) -> None:
    """Write the four sets of weights.

    Args:
        folder: from which the pipeline will run.
        params: name the weights and the configuration of SAM 2.
        vggish, vit, roberta: other sizes than the published ones.
    """
    torch.manual_seed(0)
    audio, vision, text, sam2 = (
        folder / place(section.weights)
        for section in (params.audio, params.vision, params.text, params.sam2)
    )
    for path in (audio, vision, text, sam2):
        path.parent.mkdir(parents=True, exist_ok=True)
    torch.save((vggish or VGGish()).state_dict(), audio)
    architecture = params.vision.weights.partition("@")[0].rpartition("/")[2]
    save_for_hf(timm.create_model(architecture, **vit or {}), vision, safe_serialization=True)
    tokenizer = build_tokenizer(np.random.default_rng(0), 2000)
    tokenizer.save_pretrained(text)
    RobertaModel(RobertaConfig(**DISTILROBERTA | (roberta or {}))).save_pretrained(text)
    torch.save({"model": build_sam2(params.sam2.config).state_dict()}, sam2)


def clips_of(clips: int) -> dict[str, int]:
    """Clips of each split, about as the benchmark divides them; of a few, none are test_u's.

    Raises:
        ValueError: there are too few for train, val, test_s and test_n.
    """
    if clips < 4:
        raise ValueError(f"--clips is {clips}, expected at least 4")
    most = round(HELD_OUT * clips)
    held_out = {"val": max(1, most), "test_s": max(1, most), "test_u": most}
    held_out["test_n"] = held_out["test_s"]
    return {"train": clips - sum(held_out.values()), **held_out}


def write_clips(root: Path, clips: int, most_rows: int) -> None:
    """Write a data set; a clip has the benchmark's number of rows, or `most_rows` if that is less.

    A null clip shows the frames of one of test_s, muted, as many of the benchmark's do.
    """
    rng = np.random.default_rng(0)
    rows: list[tuple[str, str, str, int, str]] = []
    counts = clips_of(clips)
    for split in ("train", "val", "test_s", "test_u"):
        for number in range(counts[split]):
            vid = f"{split}{number:05d}_0_{1000 * CLIP_SECONDS}"
            keys = {split: vid}
            if split == "test_s" and number < counts["test_n"]:
                keys["test_n"] = f"null_m-{vid}"
            masks = _write_clip(root, rng, list(keys.values()))
            masks = masks[: min(most_rows, len(masks))]
            for fid, mask in enumerate(masks):
                write_masks(root, vid, fid, mask)
            for shown, key in keys.items():
                for row in range(min(most_rows, ROWS[shown])):
                    fid, name = (0, "null") if shown == "test_n" else (row % len(masks), "object")
                    uid = f"{key}_{name}_{row}"
                    rows.append((vid, uid, shown, fid, sample_sentence(rng)))
    write_csv(root / "metadata.csv", ("vid", "uid", "split", "fid", "exp"), rows)


def _write_clip(root: Path, rng: np.random.Generator, keys: list[str]) -> np.ndarray:
    """Write frames and noise under a key, and muted under any other.

    Returns:
        The masks of two ellipses that move over soft noise: (2, 10, H, W) bool.
    """
    noise = rng.integers(0, 255, (HEIGHT // 16, WIDTH // 16, 3), np.uint8)
    background = cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    masks = np.zeros((2, FRAMES, HEIGHT, WIDTH), np.uint8)
    jpegs = []
    for frame in range(FRAMES):
        picture = background.copy()
        for thing, colour in enumerate(rng.integers(0, 255, (2, 3))):
            centre = (300 + 600 * thing + 10 * frame, 300 + 10 * frame)
            cv2.ellipse(masks[thing, frame], centre, (180, 120), 0, 0, 360, 1, -1)
            picture[masks[thing, frame] > 0] = colour
        jpegs.append(encode_jpeg(picture, 90))
    sound = rng.normal(0, 3000, CLIP_SECONDS * SAMPLE_RATE_HZ).astype(np.int16)
    for number, key in enumerate(keys):
        write_media(root, key, jpegs, sound if number == 0 else np.zeros_like(sound))
    return masks > 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
