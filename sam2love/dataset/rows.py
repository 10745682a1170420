"""Decide which rows of metadata.csv are usable, and note what is unusual about them."""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from sam2love.dataset.faults import Fault, rows_named
from sam2love.dataset.index import (
    EXPRESSION_COLUMNS,
    NULL_SPLIT,
    POSITIVE_SPLITS,
    SPLITS,
    UNUSABLE_SPLIT,
)

MAX_TOKENS = 25
"""The limit of the benchmark's own loader, and the default of text.max_tokens."""
PIECE = re.compile(r"'(?:s|t|re|ve|m|ll|d)|[^\W\d_]+|\d+|(?:[^\w\s]|_)+")
"""A word, a number or a run of punctuation: RoBERTa and CLIP give each at least one token."""
PLACEHOLDER = re.compile(r"no\.?|\[error\].*", re.IGNORECASE | re.DOTALL)
"""Text that the benchmark's annotation tool left in place of an expression."""
MAX_NAME_BYTES = 255
LAST_LATIN = 0x24F
NEEDED_FOR = {
    "train": "training",
    "val": "validation",
    "test_s": "scores on seen objects",
    "test_u": "scores on unseen objects",
    "test_n": "scores on null",
}


def usable_rows(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[int, Fault]]:
    """Split the table of `read_metadata` into usable expressions and, by row, faults of the others.

    The expressions keep their index labels.
    """
    splits = table[table["split"].isin(SPLITS)].groupby("key")["split"].agg(set)
    unusable = {
        entry.row: Fault(_row(entry), *reason)
        for entry in _entries(table)
        if (reason := _unusable(entry, splits.get(entry.key, set())))
    }
    usable = table.loc[~table["row"].isin(unusable), EXPRESSION_COLUMNS]
    return usable.astype({"fid": int}), unusable


def row_notes(rows: pd.DataFrame) -> Iterator[Fault]:
    """Yield notes on usable rows."""
    for entry in _entries(rows):
        if PLACEHOLDER.fullmatch(entry.exp.strip()):
            what = f"{entry.exp!r} is a placeholder of the annotation tool, not an expression"
            yield Fault(_row(entry), what, "placeholders", fatal=False)
        elif oddity := _oddity(entry.exp):
            yield Fault(_row(entry), oddity, "odd expressions", fatal=False)
    for uid, same in rows.groupby("uid", sort=False)["row"]:
        if len(same) > 1:
            what = f"they share the uid {uid!r}; each row is scored separately"
            yield Fault(rows_named(same), what, "uids of several rows", fatal=False)
    for split in SPLITS:
        if not (rows["split"] == split).any():
            what = f"no usable rows in split {split!r}, required for {NEEDED_FOR[split]}"
            yield Fault("metadata.csv", what, "splits", fatal=False)


def kinds_faults(rows: pd.DataFrame, kinds: pd.DataFrame) -> Iterator[Fault]:
    """Yield a fault per row of val that is not null and that kinds.csv, if it exists, lacks."""
    if kinds.empty:
        return
    val = rows[(rows["split"] == "val") & ~rows["null"]]
    for entry in _entries(val[~val["uid"].isin(kinds["uid"])]):
        what = "its uid is missing from kinds.csv; add it with seen or unseen"
        yield Fault(_row(entry), what, "rows without kinds")


def _entries(table: pd.DataFrame) -> Iterable[Any]:
    # Any, since pandas-stubs type every field of a row as a scalar of unknown kind.
    return table.itertuples()


def _row(entry: Any) -> str:
    return f"metadata.csv row {entry.row} (uid {entry.uid!r})"


def _unusable(entry: Any, splits: set[str]) -> tuple[str, str, bool] | None:
    """Return why a row is unusable, the kind of fault and whether it is fatal; None if usable.

    Args:
        splits: the splits in which the row's clip occurs.
    """
    uid, split, fid = entry.uid, entry.split, entry.fid
    if split == UNUSABLE_SPLIT:
        return f"marked {split} by the benchmark, ignored", f"{split} rows", False
    if split not in SPLITS:
        what = f"unknown split {split!r}, expected one of {', '.join(SPLITS)}"
    elif uid.count("_") < 2:
        what = "the uid does not end in _<object>_<number>"
    elif entry.key in ("", ".", "..") or any(letter in uid for letter in "/\\\0"):
        what = "the uid does not name a folder inside the data set"
    elif len(os.fsencode(uid)) > MAX_NAME_BYTES:
        what = f"the uid is too long for a folder name, at most {MAX_NAME_BYTES} bytes are allowed"
    elif not (fid.isascii() and fid.isdigit() and len(fid) <= 6):
        what = f"fid {fid!r} is not an object number, expected 1 to 6 digits"
    elif not entry.exp.strip():
        what = "the expression is empty"
    elif entry.null and split in POSITIVE_SPLITS:
        what = f"null rows can't be scored in split {split}; move it to {NULL_SPLIT}"
    elif not entry.null and split == NULL_SPLIT:
        what = f"split {NULL_SPLIT} is for null rows, whose uids start with null_c- or null_m-"
    elif len(splits) > 1:
        what = f"clip {entry.key} is in several splits: {', '.join(sorted(splits))}"
    else:
        return None
    return what, "faulty rows", True


def _oddity(text: str) -> str | None:
    if (tokens := len(PIECE.findall(text)) + 2) > MAX_TOKENS:  # plus start and end
        return (
            f"the expression has at least {tokens} tokens; text.max_tokens, {MAX_TOKENS} by "
            "default, cuts off the rest"
        )
    if not text.strip().isprintable():
        return "the expression has line breaks or other control characters"
    if re.search(r"<[^<>]+>|&\w+;", text):
        return "the expression has markup, which is read as text"
    if any(unicodedata.category(c)[0] in "LS" and ord(c) > LAST_LATIN for c in text):
        return "the expression has letters or symbols that are not Latin"
    return None
