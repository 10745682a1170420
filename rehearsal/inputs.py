"""Write inputs for the paper's profile: random weights, and a few 1280 x 720 clips with sound.

    python -m rehearsal.inputs FOLDER CLIPS ROWS

Weights have the published sizes and formats and are written where `sam2love weights` would put the
real ones in FOLDER; the clips, of at most ROWS rows each, are in the layout of Ref-AVS.
"""

import sys
from pathlib import Path
from typing import Any

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
from sam2love.dataset.refavs import FRAMES
from sam2love.encoders.audio import VGGish
from sam2love.encoders.weights import local_path
from sam2love.params import Params, load_params
from sam2love.sam.build import build_sam2

WIDTH, HEIGHT = 1280, 720
ROWS = {"train": 5, "val": 5, "test_s": 8, "test_u": 6, "test_n": 4}
"""Mean rows per clip in the benchmark, rounded."""
HELD_OUT = 0.07
"""Fraction of the benchmark's clips in each split except train."""
DISTILROBERTA: dict[str, Any] = {
    "vocab_size": 50265,
    "num_hidden_layers": 6,
    "max_position_embeddings": 514,
}
"""Where it differs from transformers' default RoBERTa."""


def write_weights(folder: Path, params: Params) -> None:
    """Write the four sets of weights that the parameters name."""
    torch.manual_seed(0)
    vggish, vit, roberta, sam2 = (
        folder / local_path(section.weights)
        for section in (params.audio, params.vision, params.text, params.sam2)
    )
    vggish.parent.mkdir(parents=True, exist_ok=True)
    torch.save(VGGish().state_dict(), vggish)
    architecture = params.vision.weights.partition("@")[0].rpartition("/")[2]
    save_for_hf(timm.create_model(architecture), str(vit), safe_serialization=True)
    RobertaModel(RobertaConfig(**DISTILROBERTA)).save_pretrained(roberta)
    build_tokenizer(np.random.default_rng(0), 2000).save_pretrained(roberta)
    torch.save({"model": build_sam2(params.sam2.config).state_dict()}, sam2)


def write_clips(root: Path, *, clips: int, rows: int) -> None:
    """Write a data set, in which each clip of test_s has a muted twin in test_n.

    Args:
        clips: their number, twins included; test_u is empty if there are few.
        rows: the maximum per clip.

    Raises:
        ValueError: there are too few clips for train, val, test_s and test_n.
    """
    held_out = max(1, round(HELD_OUT * clips))
    counts = {"val": held_out, "test_s": held_out, "test_u": round(HELD_OUT * clips)}
    counts["train"] = clips - sum(counts.values()) - held_out
    if counts["train"] < 1:
        raise ValueError(f"--clips is {clips}, expected at least 4")
    rng = np.random.default_rng(0)
    table = []
    for split, number in ((split, n) for split, count in counts.items() for n in range(count)):
        vid = f"{split}{number:05d}_0_{1000 * FRAMES}"
        keys = {split: vid} | ({"test_n": f"null_m-{vid}"} if split == "test_s" else {})
        things = min(2, rows)
        _write_clip(root, [*keys.values()], rng, things=things)
        for shown, key in keys.items():
            for row in range(min(rows, ROWS[shown])):
                fid = 0 if shown == "test_n" else row % things
                table.append((vid, f"{key}_thing_{row}", shown, fid, sample_sentence(rng)))
    write_csv(root / "metadata.csv", ("vid", "uid", "split", "fid", "exp"), table)


def _write_clip(root: Path, keys: list[str], rng: np.random.Generator, *, things: int) -> None:
    """Write ellipses that move over smooth noise; the first key has sound, the others are muted."""
    noise = rng.integers(0, 255, (HEIGHT // 16, WIDTH // 16, 3), np.uint8)
    background = cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    masks = np.zeros((things, FRAMES, HEIGHT, WIDTH), np.uint8)
    jpegs = []
    for frame in range(FRAMES):
        picture = background.copy()
        for thing in range(things):
            centre = (300 + 600 * thing + 10 * frame, 300 + 10 * frame)
            cv2.ellipse(masks[thing, frame], centre, (180, 120), 0, 0, 360, 1, -1)
            picture[masks[thing, frame] > 0] = 100 * thing
        jpegs.append(encode_jpeg(picture, 90))
    sound = rng.normal(0, 3000, FRAMES * SAMPLE_RATE_HZ).astype(np.int16)
    for number, key in enumerate(keys):
        write_media(root, key, jpegs, np.zeros_like(sound) if number else sound)
    for fid, mask in enumerate(masks):
        write_masks(root, keys[0], fid, mask)


if __name__ == "__main__":
    folder, params = Path(sys.argv[1]), load_params(Path(sys.argv[1]) / "params.yaml")
    write_weights(folder, params)
    write_clips(folder / params.data.root, clips=int(sys.argv[2]), rows=int(sys.argv[3]))
