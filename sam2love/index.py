"""The tables of a data set: metadata.csv as it comes, and the index made of it once it was checked.

A clip's folder is `clip_key(uid)`, not `vid`: null rows (uid null_c-... or null_m-...) show another
clip's frames with other or muted sound, and what they name is not there.
"""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

SPLITS = ("train", "val", "test_s", "test_u", "test_n")
SPLIT_NAMES = {"test_s": "seen", "test_u": "unseen", "mix": "mix"}
"""As the paper's tables name what J and F are told of; mix is the mean of the two."""
UNUSABLE_SPLIT = "TODO"
"""The benchmark's own mark for rows that were never finished; they are left out."""

REFAVS_METADATA = "ab03ab83b69f15399d9b3e3dce442664c432cdd1e4072b7f89f6a03f78cd18a0"
"""SHA-256 of Ref-AVS's own metadata.csv."""
METADATA_COLUMNS = ["vid", "uid", "split", "fid", "exp"]
CLIP_COLUMNS = [
    "key", "split", "frames_key", "width", "height", "frames_digest", "audio_digest", "masks_digest"
]  # fmt: skip
EXPRESSION_COLUMNS = ["row", "uid", "key", "split", "fid", "exp", "null"]
FAMILY_COLUMNS = ["uid", "family"]


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


def is_refavs(root: str | Path) -> bool:
    """Whether a data set is Ref-AVS itself, with which alone the paper's figures compare."""
    return hashlib.sha256((Path(root) / "metadata.csv").read_bytes()).hexdigest() == REFAVS_METADATA


def read_metadata(root: str | Path) -> pd.DataFrame:
    """Every row of metadata.csv as text, with `row`, `key` and `null` added; nothing is judged.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is not UTF-8 or no CSV, has no rows, or lacks a column.
    """
    path = Path(root) / "metadata.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected in a data set like Ref-AVS")
    table = _read_csv(path, METADATA_COLUMNS)
    if table.empty:
        raise ValueError(f"{path}: no rows below the header")
    table.insert(0, "row", np.arange(len(table)))
    table["key"] = [clip_key(uid) for uid in table["uid"]]
    table["null"] = [is_null(uid) for uid in table["uid"]]
    return table


def read_families(root: str | Path) -> pd.DataFrame:
    """uid and family of expressions; no rows if the data set doesn't tell. Never for training."""
    path = Path(root) / "families.csv"
    if not path.is_file():
        return pd.DataFrame(columns=FAMILY_COLUMNS)
    return _read_csv(path, FAMILY_COLUMNS)


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


def digest_of(table: pd.DataFrame) -> str:
    """SHA-256 of a table's text: names the inputs of what is made from some of the columns."""
    text = table.to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(text.encode()).hexdigest()


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
