"""Which rows of metadata.csv can be used, and what is odd about them."""

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
"""As many as the benchmark's own loader keeps, and text.max_tokens by default."""
PIECE = re.compile(r"'(?:s|t|re|ve|m|ll|d)|[^\W\d_]+|\d+|(?:[^\w\s]|_)+")
"""Words, numbers and runs of signs, none of which RoBERTa or CLIP join: each is a token or more."""
PLACEHOLDER = re.compile(r"no\.?|\[error\].*", re.IGNORECASE | re.DOTALL)
"""What the benchmark's annotation tool left where there should be an expression."""
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
    """The expressions among what `read_metadata` returns, and why other rows can't be used, by row.

    The expressions keep their places in the table's index.
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
    """What is odd about usable rows."""
    for entry in _entries(rows):
        if PLACEHOLDER.fullmatch(entry.exp.strip()):
            what = f"{entry.exp!r} is no expression but what the annotation tool left"
            yield Fault(_row(entry), what, "placeholders", fatal=False)
        elif odd := _oddity(entry.exp):
            yield Fault(_row(entry), odd, "odd expressions", fatal=False)
    for uid, same in rows.groupby("uid", sort=False)["row"]:
        if len(same) > 1:
            what = f"the same uid {uid!r}; scores go by row"
            yield Fault(rows_named(same), what, "uids of several rows", fatal=False)
    for split in SPLITS:
        if not (rows["split"] == split).any():
            what = f"no usable rows of split {split!r}; without them no {NEEDED_FOR[split]}"
            yield Fault("metadata.csv", what, "splits", fatal=False)


def kinds_faults(rows: pd.DataFrame, kinds: pd.DataFrame) -> Iterator[Fault]:
    """Rows of val that mean something and that kinds.csv, if there is one, leaves out."""
    if kinds.empty:
        return
    val = rows[(rows["split"] == "val") & ~rows["null"]]
    for entry in _entries(val[~val["uid"].isin(kinds["uid"])]):
        yield Fault(
            _row(entry), "kinds.csv lacks its uid; add it with seen or unseen", "rows without kinds"
        )


def _entries(table: pd.DataFrame) -> Iterable[Any]:
    return table.itertuples()


def _row(entry: Any) -> str:
    return f"metadata.csv row {entry.row} (uid {entry.uid!r})"


def _unusable(entry: Any, splits: set[str]) -> tuple[str, str, bool] | None:
    """What keeps a row from being used, its kind, and whether that is fatal.

    Args:
        splits: in which the row's clip stands.
    """
    uid, split, fid = entry.uid, entry.split, entry.fid
    if split == UNUSABLE_SPLIT:
        return f"marked {split} by the benchmark, left out", f"{split} rows", False
    if split not in SPLITS:
        what = f"unknown split {split!r}, expected one of {', '.join(SPLITS)}"
    elif uid.count("_") < 2:
        what = "the uid does not end in _<object>_<number>"
    elif entry.key in ("", ".", "..") or any(letter in uid for letter in "/\\\0"):
        what = "the uid names no folder inside the data set"
    elif len(os.fsencode(uid)) > MAX_NAME_BYTES:
        what = f"the uid is too long for a folder, at most {MAX_NAME_BYTES} bytes"
    elif not (fid.isascii() and fid.isdigit() and len(fid) <= 6):
        what = f"fid {fid!r} is no number of an object"
    elif not entry.exp.strip():
        what = "the expression is empty"
    elif entry.null and split in POSITIVE_SPLITS:
        what = f"null rows can't be scored in split {split}; move it to {NULL_SPLIT}"
    elif not entry.null and split == NULL_SPLIT:
        what = f"split {NULL_SPLIT} is for null rows, whose uids start with null_c- or null_m-"
    elif len(splits) > 1:
        what = f"clip {entry.key} stands in several splits: {', '.join(sorted(splits))}"
    else:
        return None
    return what, "faulty rows", True


def _oddity(text: str) -> str | None:
    if (tokens := len(PIECE.findall(text)) + 2) > MAX_TOKENS:  # a start and an end
        return (
            f"the expression has at least {tokens} tokens; text.max_tokens, {MAX_TOKENS} by "
            "default, cuts off the rest"
        )
    if not text.strip().isprintable():
        return "the expression has line breaks or other control characters"
    if re.search(r"<[^<>]+>|&\w+;", text):
        return "the expression has markup, which is read as text"
    if any(unicodedata.category(c)[0] in "LS" and ord(c) > LAST_LATIN for c in text):
        return "the expression has letters or signs that are not Latin"
    return None
