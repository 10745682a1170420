"""Select the rows of a data set that are scored, and answer questions about their texts.

Texts are compared ignoring case, repeated spaces and a final full stop. Tables hold the usable rows
of all splits in metadata order (index.EXPRESSION_COLUMNS).
"""

from collections.abc import Callable, Collection
from pathlib import Path

import pandas as pd

from sam2love.dataset.index import read_metadata
from sam2love.dataset.rows import PLACEHOLDER, usable_rows


def plain(texts: pd.Series) -> pd.Series:
    """Normalise texts for comparison."""
    return texts.str.casefold().str.split().str.join(" ").str.strip(" .")


def repeated(rows: pd.DataFrame) -> pd.Series:
    """Return whether an earlier row has the same text for the same object."""
    return rows.assign(exp=plain(rows["exp"])).duplicated(["key", "fid", "exp"])


def ambiguous(rows: pd.DataFrame) -> pd.Series:
    """Return whether a row's text also refers to another object of the clip."""
    fids = rows["fid"].groupby([rows["key"], plain(rows["exp"])])
    return fids.transform("nunique") > 1


def placeholder(rows: pd.DataFrame) -> pd.Series:
    """Return whether a row has a placeholder instead of an expression."""
    return rows["exp"].str.strip().str.fullmatch(PLACEHOLDER)


def in_train(rows: pd.DataFrame) -> pd.Series:
    """Return whether a row's text occurs in the split 'train'."""
    texts = plain(rows["exp"])
    return texts.isin(texts[rows["split"] == "train"])


SELECTIONS: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "cleaned": lambda rows: ~(repeated(rows) | ambiguous(rows) | placeholder(rows)),
    "unseen-expressions": lambda rows: ~in_train(rows),
}
"""By name, a function that returns which rows to keep."""


def read_expressions(
    root: str | Path, splits: Collection[str], *, only: str | None = None
) -> pd.DataFrame:
    """Read the expressions of some splits from metadata.csv, as in the index; no clip is opened.

    Args:
        only: a name of SELECTIONS.

    Raises:
        FileNotFoundError, ValueError: metadata.csv can't be read, those splits have a faulty row
            (the first is named) or no usable one, or the selection is unknown or empty.
    """
    if only is not None and only not in SELECTIONS:
        raise ValueError(f"no selection {only!r}, expected one of {', '.join(SELECTIONS)}")
    table = read_metadata(root)
    rows, unusable = usable_rows(table)
    for row in table.loc[table["split"].isin(splits), "row"]:
        if row in unusable:
            raise ValueError(f"{root}: {unusable[row]}")
    chosen = rows[rows["split"].isin(splits)]
    if only is not None:
        chosen = chosen[SELECTIONS[only](rows)[chosen.index]]
        if chosen.empty:
            raise ValueError(f"{root}: selection {only!r} keeps no row of {', '.join(splits)}")
    if chosen.empty:
        raise ValueError(f"{root}: metadata.csv has no usable row of {', '.join(splits)}")
    return chosen.reset_index(drop=True)
