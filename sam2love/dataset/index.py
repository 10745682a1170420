"""The tables of a data set: metadata.csv as published, and the index built from it once checked.

A clip's folder is `clip_key(uid)`, not `vid`: null rows (uid null_c-... or null_m-...) show another
clip's frames with different or muted sound, and the object they name is not in the clip.
"""

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sam2love.work import replacing

SPLITS = ("train", "val", "test_s", "test_u", "test_n")
VAL_SPLIT = "val"
POSITIVE_SPLITS = ("test_s", "test_u")
"""The object is in the clip; scored by J and F."""
NULL_SPLIT = "test_n"
"""The object is not in the clip; scored by S. Train and val have rows of both kinds."""
SPLIT_NAMES = {"test_s": "seen", "test_u": "unseen", "mix": "mix"}
"""Column names of J and F in the paper's tables; mix is the mean of the other two."""
UNUSABLE_SPLIT = "TODO"
"""The benchmark's own mark for unfinished rows, which are ignored."""

REFAVS_METADATA = "f625981f27c2bde6c57757a50660af9d36469d9c757372046f49c25799a1d308"
"""`table_digest` METADATA_COLUMNS of Ref-AVS; line endings and quoting of the file don't matter."""
METADATA_COLUMNS = ["vid", "uid", "split", "fid", "exp"]
CLIP_COLUMNS = [
    "key", "split", "frames_key", "width", "height", "frames_digest", "audio_digest", "masks_digest"
]  # fmt: skip
EXPRESSION_COLUMNS = ["row", "uid", "key", "split", "fid", "exp", "null"]
FAMILY_COLUMNS = ["uid", "family"]
KIND_COLUMNS = ["uid", "kinds"]
KINDS = ("seen", "unseen")


@dataclass(frozen=True)
class Index:
    """The validated table of a data set.

    clips: CLIP_COLUMNS, a row per folder, sorted by key. `frames_key` is the first key with the
        same frames, which are encoded only once.
    expressions: EXPRESSION_COLUMNS, a row per usable metadata row, in metadata order. `row` is the
        0-based row of metadata.csv, on which the benchmark's batches depend.
    families: FAMILY_COLUMNS, empty if the data set has none. Used to break scores down, never for
        training.
    kinds: KIND_COLUMNS, whether the kinds of object in a clip of val are "seen" or "unseen" in
        train; empty if the data set has none, and never used for training either.
    """

    clips: pd.DataFrame
    expressions: pd.DataFrame
    families: pd.DataFrame
    kinds: pd.DataFrame


def clip_key(uid: str) -> str:
    """Return the clip's folder: the uid without its last two parts, object and number."""
    return uid.rsplit("_", 2)[0]


def is_null(uid: str) -> bool:
    """Return whether a uid or key is that of a null row or clip."""
    return uid.startswith(("null_c-", "null_m-"))


def is_refavs(root: str | Path) -> bool:
    """Return whether a data set is Ref-AVS itself; the paper's figures compare with no other."""
    return table_digest(read_metadata(root)[METADATA_COLUMNS]) == REFAVS_METADATA


def read_metadata(root: str | Path) -> pd.DataFrame:
    """Read every row of metadata.csv as text, unchecked, and add `row`, `key` and `null`.

    Raises:
        FileNotFoundError: the folder or the file is missing.
        ValueError: the file is not UTF-8 or not CSV, has no rows, or lacks a column.
    """
    path = Path(root) / "metadata.csv"
    expected = "expected a data set, a folder with metadata.csv, media/ and gt_mask/"
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; {expected}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; {expected}")
    table = read_table(path, METADATA_COLUMNS)
    if table.empty:
        raise ValueError(f"{path}: no rows below the header")
    table.insert(0, "row", np.arange(len(table)))
    table["key"] = [clip_key(uid) for uid in table["uid"]]
    table["null"] = [is_null(uid) for uid in table["uid"]]
    return table


def read_families(root: str | Path) -> pd.DataFrame:
    """Read uid and family of expressions; no rows if the data set has no families.csv."""
    return _read_optional(Path(root) / "families.csv", FAMILY_COLUMNS)


def read_kinds(root: str | Path) -> pd.DataFrame:
    """Read uid and kinds ("seen" or "unseen") of val's rows; no rows if there is no kinds.csv.

    Raises:
        ValueError: the file can't be read as a table, or has other kinds.
    """
    path = Path(root) / "kinds.csv"
    table = _read_optional(path, KIND_COLUMNS)
    for uid, kinds in table[~table["kinds"].isin(KINDS)].itertuples(index=False):
        raise ValueError(f"{path}: kinds of {uid!r} are {kinds!r}, expected {' or '.join(KINDS)}")
    return table


def write_index(index: Index, folder: str | Path) -> None:
    """Write each table of an index as a CSV file into a folder, created if missing."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in vars(index).items():
        with replacing(folder / f"{name}.csv") as file:
            table.to_csv(file, index=False, lineterminator="\n")


def read_index(folder: str | Path) -> Index:
    """Read an index with the column types it was built with.

    Raises:
        FileNotFoundError, ValueError: a table is missing or lacks a column.
    """
    folder = Path(folder)
    if not (folder / "clips.csv").is_file():
        raise FileNotFoundError(f"{folder}: no index there; run the stage 'index'")
    clips = read_table(folder / "clips.csv", CLIP_COLUMNS)
    expressions = read_table(folder / "expressions.csv", EXPRESSION_COLUMNS)
    return Index(
        clips=clips.astype({"width": int, "height": int}),
        expressions=expressions.assign(null=expressions["null"] == "True").astype(
            {"row": int, "fid": int}
        ),
        families=read_table(folder / "families.csv", FAMILY_COLUMNS),
        kinds=read_kinds(folder),
    )


def files_digest(paths: Iterable[Path], folder: Path) -> str:
    """Return the SHA-256 of the files' relative names and digests, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def index_digest(folder: Path) -> str:
    """Return the SHA-256 of the names and contents of an index's tables."""
    return files_digest(sorted(folder.glob("*.csv")), folder)


def table_digest(table: pd.DataFrame) -> str:
    """Return the SHA-256 of a table's text, to record which columns an output was computed from."""
    text = table.to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(text.encode()).hexdigest()


def _read_optional(path: Path, columns: list[str]) -> pd.DataFrame:
    return read_table(path, columns) if path.is_file() else pd.DataFrame(columns=columns)


def read_table(path: Path, columns: list[str]) -> pd.DataFrame:
    """Read some columns of a CSV file as text.

    Raises:
        FileNotFoundError, ValueError: the file is missing, not a table, or lacks a column.
    """
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
        raise ValueError(f"{path}: rows have more fields than the header")
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
