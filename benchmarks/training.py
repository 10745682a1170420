"""A training step from the stores against the same step with the frozen encoders in the loop.

Clips are random; the stores hold the encoders' outputs for them. Encoding in the loop computes only
what a step reads: of SAM 2 the first frame, and nothing while grounding.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
import timm
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoTokenizer, RobertaConfig, RobertaModel

from benchmarks.timing import Leaf, side_by_side, speedup, summarise
from sam2love.dataset.index import Index
from sam2love.dataset.refavs import FRAMES
from sam2love.encoders.audio import AudioEncoder, VGGish, load_audio_encoder, vggish_encoder
from sam2love.encoders.text import TextEncoder, load_text_encoder
from sam2love.encoders.vision import VisionEncoder, load_vision_encoder, timm_encoder
from sam2love.model import SAM2Love
from sam2love.params import Params
from sam2love.sam.build import SAM2Base, build_sam2
from sam2love.sam.encode import encode_frames, preprocess
from sam2love.stores.features import FeatureReader, Features
from sam2love.stores.names import EMBEDDING_LEVELS
from sam2love.stores.store import ArraySpec, fill_store
from sam2love.strategies import build_fusion
from sam2love.training.batches import Batch, read_batch
from sam2love.training.loop import losses, weigh

SIDE, SECONDS, SAMPLE_RATE_HZ = 96, 10, 16000
TOKENS, PRODUCTS = 90, 20
"""Tokens per row and frame in the default run; matrix products timed per round."""


class Encoders(NamedTuple):
    audio: AudioEncoder
    vision: VisionEncoder
    text: TextEncoder
    sam2: SAM2Base


class EncodingReader:
    """A stand-in for `FeatureReader` that encodes random clips each time they are read."""

    def __init__(self, encoders: Encoders) -> None:
        self._encoders = encoders

    def features(self, expressions: pd.DataFrame, *, frames: int = FRAMES, **_: object) -> Features:
        audio, vision, text, _ = self._encoders
        clips = [random_clip(key) for key in expressions["key"]]
        seen = [vision.encode(vision.preprocess(pictures[:frames])) for pictures, _ in clips]
        tokens, length = text.encode(expressions["exp"].tolist())
        return Features(
            audio=torch.stack([audio.encode(sound, SAMPLE_RATE_HZ) for _, sound in clips]),
            patches=torch.stack([patches for patches, _ in seen]),
            cls=torch.stack([cls for _, cls in seen]),
            text=tokens[:, : int(length.max())].clone(),  # out of inference mode
            text_mask=torch.arange(int(length.max()))[None] < length[:, None],
        )

    def embeddings(
        self, keys: Sequence[str], *, frames: Sequence[int] = (0,), **_: object
    ) -> tuple[Tensor, Tensor, Tensor]:
        sam2 = self._encoders.sam2
        pictures = np.concatenate([random_clip(key)[0][list(frames)] for key in keys])
        levels = encode_frames(sam2, preprocess(pictures, sam2.image_size))
        embedding, high_res_0, high_res_1 = (
            level.unflatten(0, (len(keys), len(frames))) for level in levels
        )
        return embedding, high_res_0, high_res_1

    def labels(self, keys: Sequence[str], fids: Sequence[int], **_: object) -> list[Tensor]:
        mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        mask[: SIDE // 3, : SIDE // 2] = True
        return [mask] * len(keys)


def measure(params: Params, *, rows: int = 32, rounds: int = 5) -> dict[str, Leaf]:
    """Measure a step of the default run on all frames, and one of its grounding steps."""
    encoders = Encoders(
        load_audio_encoder(params.audio.weights, params.audio.digest),
        load_vision_encoder(params.vision.weights, params.vision.digest),
        load_text_encoder(
            params.text.weights, params.text.digest, max_tokens=params.text.max_tokens
        ),
        build_sam2(params.sam2.config, params.sam2.weights),
    )
    measured = partial(_measure, params, encoders, rows=rows, rounds=rounds)
    grounding = measured(frames=1, grounding_only=True)["cached_speedup_over_end_to_end"]
    return measured() | {"cached_speedup_of_grounding": grounding}


def measure_at_paper_size(params: Params, *, rows: int = 2, rounds: int = 2) -> Leaf:
    """Measure a step with encoders and fusion of the paper's sizes and random weights.

    Args:
        params: the paper's profile; the tokenizer is the mini one.
    """
    torch.manual_seed(0)
    roberta = RobertaModel(RobertaConfig(num_hidden_layers=6, max_position_embeddings=514))
    tokenizer = AutoTokenizer.from_pretrained("weights/mini/roberta", padding_side="right")
    encoders = Encoders(
        vggish_encoder(VGGish().eval()),
        timm_encoder(timm.create_model("vit_base_patch16_224", num_classes=0).eval()),
        TextEncoder(roberta.eval(), tokenizer, max_tokens=params.text.max_tokens),
        build_sam2(params.sam2.config),
    )
    measured = _measure(params, encoders, rows=rows, rounds=rounds)
    return measured["cached_speedup_over_end_to_end"]


def _measure(
    params: Params,
    encoders: Encoders,
    *,
    rows: int,
    rounds: int,
    frames: int = FRAMES,
    grounding_only: bool = False,
) -> dict[str, Leaf]:
    table = pd.DataFrame(
        {
            "key": [f"clip_{row}" for row in range(rows)],
            "exp": [f"the {'big ' * (row % 4)}one that sounds first" for row in range(rows)],
            "fid": 1,
            "null": False,
        }
    )
    fusion = build_fusion(
        params.fusion,
        positions=None,
        audio_dim=encoders.audio.dim,
        visual_dim=encoders.vision.dim,
        text_dim=encoders.text.dim,
    )
    model = SAM2Love(fusion, encoders.sam2)
    encoding = EncodingReader(encoders)
    with TemporaryDirectory() as folder:
        stored = _stored(Path(folder), table, encoding)

        def read(reader: Any) -> Batch:
            batch = read_batch(
                table,
                cast(FeatureReader, reader),
                frames=frames,
                embeddings=not grounding_only,
            )
            return batch.to(torch.device("cpu"))

        def step(reader: Any) -> None:
            weigh(losses(model, read(reader)), params.train.loss).backward()
            model.zero_grad(set_to_none=True)

        with FlopCounterMode(display=False) as counter:
            step(stored)
        flops = counter.get_total_flops()
        wide = round(params.fusion.mlp_ratio * params.fusion.dim)
        tokens = torch.randn(rows * TOKENS, params.fusion.dim)
        product = torch.randn(params.fusion.dim, wide)
        ways: dict[str, Callable[[], object]] = {
            "cached": lambda: step(stored),
            "end_to_end": lambda: step(encoding),
            "reading": lambda: read(stored),
            "product": lambda: [tokens @ product for _ in range(PRODUCTS)],
        }
        seconds = side_by_side(ways, rounds=rounds)
    product_flops = PRODUCTS * 2 * tokens.numel() * wide
    figures = {"rows": rows, "frames": frames, "dim": params.fusion.dim}
    attainable = [
        (flops / own) / (product_flops / best)
        for own, best in zip(seconds["cached"], seconds["product"], strict=True)
    ]
    waiting = [
        part / whole for part, whole in zip(seconds["reading"], seconds["cached"], strict=True)
    ]
    return {
        "cached_speedup_over_end_to_end": speedup(seconds, "cached", "end_to_end", **figures),
        "share_waiting": summarise(waiting, **figures),
        "share_of_attainable_flops": summarise(attainable, step_flops=flops, **figures),
    }


def random_clip(key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return frames (N, H, W, 3) uint8 and sound (samples,) float32, seeded by a clip's key."""
    rng = np.random.default_rng(int(key.rsplit("_", 1)[1]))
    frames = rng.integers(0, 256, (FRAMES, SIDE, SIDE, 3), dtype=np.uint8)
    return frames, rng.standard_normal(SECONDS * SAMPLE_RATE_HZ, dtype=np.float32) / 10


def _packed(encoding: EncodingReader, table: pd.DataFrame) -> dict[str, Tensor]:
    """Return labels in the format of the stage `labels`."""
    masks = torch.stack(encoding.labels(table["key"].tolist(), table["fid"].tolist()))
    bits = torch.from_numpy(np.packbits(masks.flatten(1), axis=1))[:, None]
    return {"bits": bits, "size": torch.tensor([[SIDE, SIDE]] * len(masks))}


def _stored(folder: Path, table: pd.DataFrame, encoding: EncodingReader) -> FeatureReader:
    """Write the pipeline's stores for a table's clips and sentences."""
    features = encoding.features(table)
    lengths = features.text_mask.sum(1)
    levels = dict(zip(EMBEDDING_LEVELS, encoding.embeddings(table["key"].tolist()), strict=True))
    stores: dict[str, tuple[list[str], dict[str, Tensor]]] = {
        "audio": (table["key"].tolist(), {"audio": features.audio}),
        "vision": (table["key"].tolist(), {"patches": features.patches, "cls": features.cls}),
        "sam2": ([f"{key}/0" for key in table["key"]], {k: v[:, 0] for k, v in levels.items()}),
        "text": (table["exp"].tolist(), {"tokens": features.text, "length": lengths}),
        "labels": ([f"{key}/1" for key in table["key"]], _packed(encoding, table)),
    }
    for name, (ids, arrays) in stores.items():
        unique = {id: row for row, id in enumerate(ids)}

        def encode(batch: list[str], arrays=arrays, unique=unique) -> dict:
            rows = [unique[id] for id in batch]
            return {name: array[rows].numpy() for name, array in arrays.items()}

        dtypes = {"audio": "float32", "length": "int32", "bits": "uint8", "size": "int32"}
        fill_store(
            folder / f"{name}.zarr",
            specs=[
                ArraySpec(key, tuple(array.shape[1:]), dtypes.get(key, "float16"), 32, "random")
                for key, array in arrays.items()
            ],
            ids=list(unique),
            provenance={"stage": "benchmark"},
            encode=encode,
            batch_size=32,
            description=name,
        )
    clips = pd.DataFrame({"key": table["key"], "frames_key": table["key"]})
    return FeatureReader(folder, Index(clips, table, pd.DataFrame(), pd.DataFrame()))
