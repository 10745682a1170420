"""Reads a data set in the layout of Ref-AVS: the one module that knows its folders.

    metadata.csv                              vid,uid,split,fid,exp: a row per expression
    families.csv                              uid,family: optional, and only for telling scores
    media/<key>/frames/{0..9}.jpg             a frame a second
    media/<key>/audio.wav                     10 s, any sample rate, any number of channels
    gt_mask/<key>/fid_<fid>/0000{0..9}.png    any non-zero pixel is the object

A clip's folder is `clip_key(uid)`, not `vid`: null rows (uid null_c-... or null_m-...) show another
clip's frames with other or muted sound, and what they name is not there. Their masks may be black
or missing: both mean 'nothing'.
"""

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import soundfile
from PIL import Image

FRAMES = 10
CLIP_SECONDS = 10
MAX_PIXELS = 4096 * 4096
"""Of a frame or mask; a larger one is refused before it is decoded."""
MAX_SAMPLES = 2**24
"""Of a sound, over all channels, refused likewise: 10 s of 8 channels at 192 kHz have fewer."""
MAX_SAMPLE_RATE_HZ = 192000
SPLITS = ("train", "val", "test_s", "test_u", "test_n")
UNUSABLE_SPLIT = "TODO"
"""The benchmark's own mark for rows that were never finished; they are left out."""

METADATA_COLUMNS = ["vid", "uid", "split", "fid", "exp"]
CLIP_COLUMNS = [
    "key", "split", "frames_key", "width", "height", "frames_digest", "audio_digest", "masks_digest"
]  # fmt: skip
EXPRESSION_COLUMNS = ["row", "uid", "key", "split", "fid", "exp", "null"]
FAMILY_COLUMNS = ["uid", "family"]

# MAX_PIXELS is stricter, and is told as an error.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Index:
    """The validated table of a data set.

    clips: a row per folder, sorted by key: CLIP_COLUMNS. `frames_key` is the first key that shows
        the same frames; features of pictures are made once for each.
    expressions: a row per usable metadata row, in metadata order: EXPRESSION_COLUMNS. `row` is the
        0-based row of metadata.csv, on which the benchmark's batches depend.
    families: uid and family of expressions, if the data set tells; never for training.
    """

    clips: pd.DataFrame
    expressions: pd.DataFrame
    families: pd.DataFrame


def clip_key(uid: str) -> str:
    """The clip's folder: the uid without its last two parts, object and number."""
    return uid.rsplit("_", 2)[0]


def is_null(uid: str) -> bool:
    """Whether the uid, or the key, says that what is meant is not in the clip."""
    return uid.startswith(("null_c-", "null_m-"))


# ---- metadata -----------------------------------------------------------------------------------


def read_metadata(root: str | Path) -> pd.DataFrame:
    """Every row of metadata.csv as text, with `row`, `key` and `null` added; nothing is judged.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is not UTF-8 or no CSV, has no rows, or lacks a column.
    """
    path = Path(root) / "metadata.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; data.root must name the folder that has it")
    table = _read_csv(path, METADATA_COLUMNS)
    if table.empty:
        raise ValueError(f"{path}: no rows below the header")
    table.insert(0, "row", np.arange(len(table)))
    table["key"] = [clip_key(uid) for uid in table["uid"]]
    table["null"] = [is_null(uid) for uid in table["uid"]]
    return table


def _read_csv(path: Path, columns: list[str]) -> pd.DataFrame:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        text = io.StringIO(_decode(path), newline="")
        table = pd.read_csv(text, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{path}: not a CSV table ({str(error).strip()})") from None
    missing = [column for column in columns if column not in table.columns]
    if missing:
        found = ", ".join(map(repr, table.columns))
        raise ValueError(f"{path}: column {missing[0]!r} is missing, found: {found}")
    if not isinstance(table.index, pd.RangeIndex):
        raise ValueError(f"{path}: its rows have more fields than the header names")
    return table[columns].fillna("")


def _decode(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        raise ValueError(
            f"{path}: line {line} is not UTF-8 (byte 0x{byte:02x}); save the file as UTF-8"
        ) from None


def read_families(root: str | Path) -> pd.DataFrame:
    """uid and family of expressions; no rows if the data set doesn't tell. Never for training."""
    path = Path(root) / "families.csv"
    if not path.is_file():
        return pd.DataFrame(columns=FAMILY_COLUMNS)
    return _read_csv(path, FAMILY_COLUMNS)


# ---- files of a clip ----------------------------------------------------------------------------


def frame_path(root: str | Path, key: str, t: int) -> Path:
    return Path(root) / "media" / key / "frames" / f"{t}.jpg"


def audio_path(root: str | Path, key: str) -> Path:
    return Path(root) / "media" / key / "audio.wav"


def mask_path(root: str | Path, key: str, fid: int, t: int) -> Path:
    return Path(root) / "gt_mask" / key / f"fid_{fid}" / f"{t:05d}.png"


def missing_folders(root: str | Path) -> list[str]:
    """Those of media/ and gt_mask/ that are not there."""
    return [f"{name}/" for name in ("media", "gt_mask") if not (Path(root) / name).is_dir()]


def objects(root: str | Path, key: str) -> list[int]:
    """Sorted fids that are annotated in a clip; a null clip has none, whatever its folder holds."""
    if is_null(key):
        return []
    names = [folder.name for folder in (Path(root) / "gt_mask" / key).glob("fid_*")]
    return sorted(int(name[4:]) for name in names if name[4:].isascii() and name[4:].isdigit())


def read_frame(root: str | Path, key: str, t: int) -> np.ndarray:
    """Frame t of a clip: (H, W, 3) uint8 RGB.

    Raises:
        FileNotFoundError, ValueError: the file is missing, or no whole picture.
    """
    return _read_rgb(frame_path(root, key, t))


def read_frames(root: str | Path, key: str) -> np.ndarray:
    """All frames of a clip: (10, H, W, 3) uint8 RGB.

    Raises:
        FileNotFoundError, ValueError: a frame is missing, damaged, or of another size.
    """
    return _stack([read_frame(root, key, t) for t in range(FRAMES)], frame_path(root, key, 0))


def read_audio(root: str | Path, key: str) -> tuple[np.ndarray, int]:
    """The clip's sound, channels averaged: (n,) float32 in [-1, 1], and its sample rate in Hz.

    Raises:
        FileNotFoundError, ValueError: what `read_channels` raises.
    """
    samples, sample_rate_hz = read_channels(root, key)
    return samples.mean(axis=1), sample_rate_hz


def read_channels(root: str | Path, key: str) -> tuple[np.ndarray, int]:
    """The clip's sound as it is: (n, channels) float32, and its sample rate in Hz.

    Raises:
        FileNotFoundError, ValueError: the file is missing, not sound, empty, absurdly long, or not
            finite.
    """
    path = audio_path(root, key)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; every clip needs its sound")
    try:
        with soundfile.SoundFile(path) as file:
            sample_rate_hz = file.samplerate
            _check_size(path, file)
            samples = file.read(dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise ValueError(f"{path}: not readable as sound ({error})") from None
    if not len(samples):
        raise ValueError(f"{path}: no samples; expected {CLIP_SECONDS} s of sound")
    if not np.isfinite(samples).all():
        raise ValueError(f"{path}: samples that are no numbers (NaN or infinite)")
    return samples, sample_rate_hz


def _check_size(path: Path, sound: soundfile.SoundFile) -> None:
    """Refuse what would not fit into memory, by the header alone."""
    frames, channels, sample_rate_hz = sound.frames, sound.channels, sound.samplerate
    if sample_rate_hz > MAX_SAMPLE_RATE_HZ:
        raise ValueError(
            f"{path}: sampled at {sample_rate_hz} Hz, at most {MAX_SAMPLE_RATE_HZ} are accepted"
        )
    if frames * channels > MAX_SAMPLES:
        raise ValueError(
            f"{path}: {frames / sample_rate_hz:.0f} s at {sample_rate_hz} Hz, channels: "
            f"{channels}; at most {MAX_SAMPLES} samples are accepted; cut it to {CLIP_SECONDS} s"
        )


def read_mask(root: str | Path, key: str, fid: int, t: int) -> np.ndarray | None:
    """The object's mask on frame t: (H, W) bool; None for a null clip without masks.

    Raises:
        FileNotFoundError, ValueError: the file is missing, or no whole picture.
    """
    picture = _read_mask_picture(root, key, fid, t)
    return None if picture is None else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) > 0


def read_masks(root: str | Path, key: str, fid: int) -> np.ndarray | None:
    """The object's masks on all frames: (10, H, W) bool; None for a null clip without masks.

    Raises:
        FileNotFoundError, ValueError: a mask is missing, damaged, or of another size.
    """
    pictures = read_mask_pictures(root, key, fid)
    if pictures is None:
        return None
    return np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) > 0 for picture in pictures])


def read_mask_pictures(root: str | Path, key: str, fid: int) -> np.ndarray | None:
    """The files behind `read_masks` as they are: (10, H, W, 3) uint8 RGB, or None.

    The benchmark's code resizes them before it asks what is black.

    Raises:
        FileNotFoundError, ValueError: a mask is missing, damaged, or of another size.
    """
    pictures = [_read_mask_picture(root, key, fid, t) for t in range(FRAMES)]
    if any(picture is None for picture in pictures):
        return None
    return _stack(pictures, mask_path(root, key, fid, 0))


def _read_mask_picture(root: str | Path, key: str, fid: int, t: int) -> np.ndarray | None:
    path = mask_path(root, key, fid, t)
    return None if is_null(key) and not path.is_file() else _read_rgb(path)


def _read_rgb(path: Path) -> np.ndarray:
    try:
        # PIL, not cv2: it refuses truncated files, of which cv2 makes grey stripes without a word.
        with Image.open(path, formats=("JPEG", "PNG")) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise ValueError(f"{width}x{height} pixels, at most {MAX_PIXELS} are accepted")
            return np.array(picture.convert("RGB"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; a clip needs {FRAMES} of them") from None
    except Exception as error:  # damaged files make PIL's decoders raise what they like
        reason = str(error).replace(str(path), "the file")
        raise ValueError(f"{path}: not a readable picture ({reason})") from None


def _stack(pictures: list, first: Path) -> np.ndarray:
    for t, picture in enumerate(pictures):
        if picture.shape != pictures[0].shape:
            (h, w), (height, width) = picture.shape[:2], pictures[0].shape[:2]
            raise ValueError(
                f"{first.parent}: picture {t} is {w}x{h}, the first one is {width}x{height}; "
                "all pictures of a clip must have one size"
            )
    return np.stack(pictures)


def frames_digest(root: str | Path, key: str) -> str:
    """SHA-256 over the names and contents of a clip's frames."""
    paths = [frame_path(root, key, t) for t in range(FRAMES)]
    return _digest(paths, paths[0].parent.parent)


def audio_digest(root: str | Path, key: str) -> str:
    """SHA-256 over the name and content of a clip's sound."""
    path = audio_path(root, key)
    return _digest([path], path.parent)


def masks_digest(root: str | Path, key: str) -> str:
    """SHA-256 over the names and contents of all the masks in a clip's folder."""
    folder = Path(root) / "gt_mask" / key
    return _digest(sorted(folder.glob("fid_*/*.png")), folder)


def _digest(paths: list[Path], folder: Path) -> str:
    """SHA-256 over names relative to a folder and the files' own digests, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()


# ---- the index ----------------------------------------------------------------------------------


def digest_of(table: pd.DataFrame) -> str:
    """SHA-256 of a table's text: names the inputs of what is made from some of the columns."""
    text = table.to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(text.encode()).hexdigest()


def write_index(index: Index, folder: str | Path) -> None:
    """Write clips.csv, expressions.csv and families.csv into a folder, made if need be."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in vars(index).items():
        table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")


def read_index(folder: str | Path) -> Index:
    """Read an index back, with the types it was built with.

    Raises:
        FileNotFoundError, ValueError: a table is missing or lacks a column.
    """
    folder = Path(folder)
    if not (folder / "clips.csv").is_file():
        raise FileNotFoundError(
            f"{folder}: no index there; run the stage 'index' (dvc repro index)"
        )
    clips = _read_csv(folder / "clips.csv", CLIP_COLUMNS)
    expressions = _read_csv(folder / "expressions.csv", EXPRESSION_COLUMNS)
    return Index(
        clips=clips.astype({"width": int, "height": int}),
        expressions=expressions.assign(null=expressions["null"] == "True").astype(
            {"row": int, "fid": int}
        ),
        families=_read_csv(folder / "families.csv", FAMILY_COLUMNS),
    )
