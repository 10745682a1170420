"""Write tiny inputs for tests: a data set in the official layout, and random encoders.

Tests use them through the fixtures of conftest.py (`refavs_root`, `vggish_file`, ...); a test that
modifies its input calls the functions here.
"""

import importlib
import inspect
import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from timm.models import save_for_hf
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapTextConfig,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from sam2love.dataset.index import Index
from sam2love.dataset.survey import checked, survey
from sam2love.encoders.audio import VGGish
from sam2love.encoders.weights import digest
from sam2love.sam.build import build_sam2

REPOSITORY = Path(__file__).parent.parent
DEFAULT_PARAMS = REPOSITORY / "params.yaml"
SAM2_CONFIG = REPOSITORY / "weights/mini/sam2/config.yaml"
FUSION = {"heads": 4, "mlp_ratio": 4.0, "modalities": ("audio", "text", "vision")}
"""Of every fusion that tests build themselves, who add dim, layers and the encoders' widths."""

WIDTH, HEIGHT = 64, 48

COLOURS = {1: (220, 40, 40), 2: (40, 200, 60), 3: (60, 80, 230), 32: (230, 220, 50)}
CLIPS = {
    # key: (fids, sample rate in Hz, channels)
    "vidA_0_10000": ((1, 2), 16000, 1),
    "-vidB_5000_15000": ((1, 2, 3), 16000, 1),
    "vidC_1_2": ((2, 3), 16000, 1),
    "--seenD_1_2": ((1, 32), 44100, 2),
    "Ünseen E_30_40": ((1, 2), 48000, 1),
}
NULL_CLIPS = {
    # key: (clip with the same frames, muted, black masks rather than none)
    "null_m-vidA_0_10000": ("vidA_0_10000", True, False),
    "null_m-vidC_1_2": ("vidC_1_2", True, True),
    "null_c---seenD_1_2": ("--seenD_1_2", False, True),
    "null_m-Ünseen E_30_40": ("Ünseen E_30_40", True, False),
}
ROWS = [
    # split, key, object and number, fid, exp
    ("train", "vidA_0_10000", "cat_1", 1, "The red object."),
    ("train", "vidA_0_10000", "cat_2", 1, "The sounding object"),
    ("train", "vidA_0_10000", "dog_1", 2, 'The green "dog", left of the cat'),
    ("train", "vidA_0_10000", "dog_2", 1, "The object appearing through the entire video"),
    ("train", "vidA_0_10000", "dog_3", 2, "The object appearing through the entire video"),
    ("TODO", "vidT_1_2", "airplane_1", 0, "The sounding object"),
    ("train", "-vidB_5000_15000", "tuba_1", 3, "The sounding object"),
    ("train", "-vidB_5000_15000", "tuba_2", 1, "错误: <b>a man\u2019s arm</b> 🎻"),
    ("train", "null_m-vidA_0_10000", "null_1", 0, "The sounding object"),
    ("val", "vidC_1_2", "hair-dryer_1", 2, "The green object."),
    ("val", "vidC_1_2", "hair-dryer_2", 3, "The sounding object"),
    ("val", "null_m-vidC_1_2", "null_1", 0, "The sounding object"),
    ("test_s", "--seenD_1_2", "car_1", 32, "The yellow object."),
    ("test_s", "--seenD_1_2", "car_1", 1, "The object making a loudest sound"),
    ("test_s", "--seenD_1_2", "car_2", 1, "The red object."),
    ("test_u", "Ünseen E_30_40", "harp_1", 1, "The first object to make a sound"),
    ("test_u", "Ünseen E_30_40", "harp_1", 1, "The first object to make a sound"),
    ("test_u", "Ünseen E_30_40", "harp_2", 2, "The green object."),
    ("test_n", "null_c---seenD_1_2", "null_1", 0, "The sounding object"),
    ("test_n", "null_m-Ünseen E_30_40", "null_1", 0, "The first object to make a sound"),
    ("test_n", "null_m-Ünseen E_30_40", "null_2", 0, "The object making a loudest sound"),
]


def build_index(root: Path) -> Index:
    """Return a data set's index, as the stage builds it."""
    return checked(survey(root))


def make_refavs(root: Path, *, families: bool = False, frames: int = 10) -> Path:
    """Write a data set with the real one's odd cases: 9 clips, 20 usable rows, 64 x 48 pixels."""
    for seed, (key, (fids, sample_rate_hz, channels)) in enumerate(CLIPS.items()):
        rng = np.random.default_rng(seed)
        masks = _moving_boxes(fids, rng, frames)
        _write_frames(root, key, masks, rng)
        for fid, mask in masks.items():
            _write_masks(root, key, fid, mask)
        _write_audio(root, key, 220.0 * (seed + 1), sample_rate_hz, channels, frames)
    for seed, (key, (source, muted, black)) in enumerate(NULL_CLIPS.items()):
        folder = root / "media" / key / "frames"
        folder.mkdir(parents=True)
        for picture in (root / "media" / source / "frames").iterdir():
            (folder / picture.name).write_bytes(picture.read_bytes())
        if black:
            _write_masks(root, key, 0, np.zeros((frames, HEIGHT, WIDTH), bool))
        _write_audio(root, key, 0.0 if muted else 1000.0 * (seed + 1), 16000, 1, frames)
    write_metadata(root, [_row(*row) for row in ROWS])
    if families:
        uids = {_row(*row)[1] for row in ROWS}
        lines = "".join(f"{uid},{'audio' if 'null' in uid else 'vision'}\n" for uid in sorted(uids))
        (root / "families.csv").write_text("uid,family\n" + lines, encoding="utf-8")
    return root


def write_metadata(root: Path, rows: list[tuple], *, encoding: str = "utf-8") -> None:
    """Write rows of (vid, uid, split, fid, exp) to metadata.csv, with CRLF as in the benchmark."""
    quoted = [['"' + str(value).replace('"', '""') + '"' for value in row] for row in rows]
    lines = ["vid,uid,split,fid,exp", *(",".join(row) for row in quoted)]
    text = "\r\n".join(lines) + "\r\n"
    (root / "metadata.csv").write_bytes(text.encode(encoding))


def _row(split: str, key: str, ending: str, fid: int, exp: str) -> tuple:
    vid = NULL_CLIPS[key][0] if key in NULL_CLIPS else key
    return vid, f"{key}_{ending}", split, fid, exp


def _moving_boxes(
    fids: tuple[int, ...], rng: np.random.Generator, frames: int
) -> dict[int, np.ndarray]:
    """Return masks (N, H, W) of boxes that move a pixel per frame, each in its own column."""
    masks = {}
    column = WIDTH // len(fids)
    for place, fid in enumerate(fids):
        masks[fid] = mask = np.zeros((frames, HEIGHT, WIDTH), bool)
        top, size = int(rng.integers(4, 20)), int(rng.integers(9, 14))
        for t in range(frames):
            mask[t, top + t : top + t + size, place * column + 2 : place * column + 2 + size] = True
    return masks


def _write_frames(root: Path, key: str, masks: dict, rng: np.random.Generator) -> None:
    folder = root / "media" / key / "frames"
    folder.mkdir(parents=True)
    background = rng.integers(60, 120, (HEIGHT // 8, WIDTH // 8, 3)).astype(np.uint8)
    background = background.repeat(8, axis=0).repeat(8, axis=1)
    for t in range(len(next(iter(masks.values())))):
        frame = background.copy()
        for fid, mask in masks.items():
            frame[mask[t]] = COLOURS[fid]
        Image.fromarray(frame).save(folder / f"{t}.jpg", quality=90)


def _write_masks(root: Path, key: str, fid: int, mask: np.ndarray) -> None:
    folder = root / "gt_mask" / key / f"fid_{fid}"
    folder.mkdir(parents=True)
    for t in range(len(mask)):
        Image.fromarray(mask[t].astype(np.uint8) * 255).save(folder / f"{t:05d}.png")


def _write_audio(
    root: Path, key: str, hz: float, sample_rate_hz: int, channels: int, length: int
) -> None:
    seconds = np.arange(length * sample_rate_hz) / sample_rate_hz
    wave = 0.4 * np.sin(2 * np.pi * hz * seconds) * (1 + np.sin(2 * np.pi * 0.3 * seconds)) / 2
    samples = np.repeat(wave[:, None], channels, axis=1)
    soundfile.write(root / "media" / key / "audio.wav", samples, sample_rate_hz, subtype="PCM_16")


# ---- encoders with small random weights ---------------------------------------------------------


def make_vggish(path: Path, *, seed: int = 0) -> Path:
    """Write a VGGish of 12 features, as .safetensors or .pth."""
    torch.manual_seed(seed)
    state = VGGish(channels=(2, 2, 4, 4, 8, 8), embeddings=(16, 16, 12)).state_dict()
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


def make_vit(folder: Path, *, seed: int = 0) -> Path:
    """Write a timm ViT of 8 features and 4 x 4 patches on pictures of 32 x 32."""
    torch.manual_seed(seed)
    small = {"img_size": 32, "patch_size": 8, "embed_dim": 8, "depth": 1, "num_heads": 2}
    return save_vit(folder, num_classes=0, **small)


def save_vit(
    folder: Path,
    *,
    architecture: str = "vit_tiny_patch16_224",
    img_size: int = 224,
    **arguments: int,
) -> Path:
    """Write a timm ViT with random weights, whole: before 1.0.31 timm left out its arguments."""
    arguments["img_size"] = img_size
    model = timm.create_model(
        architecture,
        pretrained_cfg_overlay={"input_size": (3, img_size, img_size)},
        **arguments,
    )
    save_for_hf(model, folder, model_args=arguments, safe_serialization=True)
    return folder


def make_sam2(folder: Path, *, seed: int = 0) -> Path:
    """Write the mini SAM 2's config.yaml with random weights, model.safetensors."""
    torch.manual_seed(seed)
    shutil.copy(SAM2_CONFIG, folder / "config.yaml")
    save_file(build_sam2(str(SAM2_CONFIG)).state_dict(), folder / "model.safetensors")
    return folder


def see_objects(*sam2: torch.nn.Module) -> None:
    """Raise the object scores, so that models with random weights show masks on every frame."""
    for model in sam2:
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.data += 9


def write_params(
    path: Path,
    root: Path,
    *,
    vggish: Path,
    vit: Path,
    roberta: Path,
    sam2: Path,
    **changes: object,
) -> None:
    """Write the default params.yaml, changed to one thread and to the given encoders.

    Args:
        changes: values by dotted name, such as `**{"sam2.cache_test_frames": "first"}`.
    """
    params = yaml.safe_load(DEFAULT_PARAMS.read_text(encoding="utf-8"))
    params["data"]["root"] = str(root)
    params["runtime"]["threads"] = 1
    model = sam2 / "model.safetensors"
    for name, weights in (("audio", vggish), ("vision", vit), ("text", roberta), ("sam2", model)):
        params[name] |= {"weights": str(weights), "digest": digest(weights)}
    params["sam2"]["config"] = str(sam2 / "config.yaml")
    for name, value in changes.items():
        section, key = name.split(".")
        params[section][key] = value
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def change_params(path: Path, changes: dict[str, object]) -> None:
    """Change values of a parameter file, by dotted names of any depth."""
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, value in changes.items():
        *sections, key = name.split(".")
        inside = params
        for section in sections:
            inside = inside[section]
        inside[key] = value
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def stage_runs(root: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield each stage's name and a call to run it in the working folder, with dvc.yaml's paths."""
    short = {"fusion.dim": 16, "fusion.heads": 2, "fusion.layers": 1, "train.grounding_steps": 1}
    change_params(Path("params.yaml"), short | {"train.steps": 1, "score.bootstrap": 10})
    for stage, described in yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"].items():
        module, *paths = described["cmd"].partition(" -m ")[2].split()
        main = importlib.import_module(module).main
        takes_root = "root" in next(iter(inspect.signature(main).parameters))
        yield stage, partial(main, *[root] * takes_root, *map(Path, paths))


def make_roberta(folder: Path, *, seed: int = 0) -> Path:
    """Write a RoBERTa of 8 features with a byte-level tokenizer of its own."""
    torch.manual_seed(seed)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*special, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = dict(zip(("bos", "pad", "eos", "unk", "mask"), special, strict=True))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{name}_token": token for name, token in names.items()}
    ).save_pretrained(folder)
    config = RobertaConfig(
        vocab_size=len(vocabulary),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    RobertaModel(config, add_pooling_layer=False).eval().save_pretrained(folder)
    return folder


def make_sentence_encoder(folder: Path, model: type, config: type, *, seed: int = 0) -> Path:
    """Write an encoder of 8 features in the layout of sentence-transformers.

    Args:
        model, config: classes of transformers.
    """
    make_roberta(folder)  # its tokenizer
    torch.manual_seed(seed)
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    small = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    sizes = config(hidden_size=8, vocab_size=vocabulary, pad_token_id=1, **small)
    model(sizes).eval().save_pretrained(folder)
    parts = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(parts)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 8, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    return folder


def make_clip(folder: Path, *, seed: int = 0) -> Path:
    """Write a CLIP as published: both encoders and their preprocessing in one folder.

    Pictures of 32 x 32 have 4 x 4 patches of 12 features; each letter is a token of 8 features.
    """
    torch.manual_seed(seed)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=77
    ).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    text = {
        "hidden_size": 8,
        "vocab_size": len(tokens),
        "bos_token_id": len(tokens) - 2,
        "eos_token_id": len(tokens) - 1,
    }
    vision = {"hidden_size": 12, "image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=layers | text, vision_config=layers | vision, projection_dim=4)
    CLIPModel(config).eval().save_pretrained(folder)
    return folder


def make_clap(folder: Path, *, seed: int = 0, fused: bool = False) -> Path:
    """Write a CLAP as published, without a tokenizer: both encoders and the feature extractor.

    A second, repeated to two, has 201 windows of 16 mel bands, and 12 features.

    Args:
        fused: with the branch for audio of more than two seconds.
    """
    torch.manual_seed(seed)
    text = ClapTextConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
    )
    audio = ClapAudioConfig(
        window_size=4,
        num_mel_bins=16,
        spec_size=64,
        hidden_size=16,
        depths=[1, 1],
        num_attention_heads=[2, 2],
        patch_embeds_hidden_size=8,
        enable_fusion=fused,
    )
    config = ClapConfig(text_config=text, audio_config=audio, projection_dim=12)
    ClapModel(config).eval().save_pretrained(folder)
    ClapFeatureExtractor(
        feature_size=16, max_length_s=2, truncation="fusion" if fused else "rand_trunc"
    ).save_pretrained(folder)
    return folder


class Pickled:
    """Runs a command when it is unpickled, as an untrusted file may."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)
