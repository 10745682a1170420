"""Which of a data set's rows scores may go by, and what can be asked of its texts.

Texts are compared without case, doubled blanks and final full stop. Tables are those of usable rows
in metadata order, of all splits (index.EXPRESSION_COLUMNS).
"""

from collections.abc import Callable, Collection
from pathlib import Path

import pandas as pd

from sam2love.dataset.index import read_metadata
from sam2love.dataset.rows import PLACEHOLDER, usable_rows


def plain(texts: pd.Series) -> pd.Series:
    """Texts as they are compared."""
    return texts.str.casefold().str.split().str.join(" ").str.strip(" .")


def repeated(rows: pd.DataFrame) -> pd.Series:
    """Whether an earlier row says the same of the same object."""
    return rows.assign(exp=plain(rows["exp"])).duplicated(["key", "fid", "exp"])


def ambiguous(rows: pd.DataFrame) -> pd.Series:
    """Whether a row's text names another object of the clip too."""
    fids = rows["fid"].groupby([rows["key"], plain(rows["exp"])])
    return fids.transform("nunique") > 1


def placeholder(rows: pd.DataFrame) -> pd.Series:
    """Whether a row's text is none."""
    return rows["exp"].str.strip().str.fullmatch(PLACEHOLDER)


def in_train(rows: pd.DataFrame) -> pd.Series:
    """Whether a row's text stands in the split 'train'."""
    texts = plain(rows["exp"])
    return texts.isin(texts[rows["split"] == "train"])


SELECTIONS: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "cleaned": lambda rows: ~(repeated(rows) | ambiguous(rows) | placeholder(rows)),
    "unseen-expressions": lambda rows: ~in_train(rows),
}
"""By name, whether a row is kept."""


def read_expressions(
    root: str | Path, splits: Collection[str], *, only: str | None = None
) -> pd.DataFrame:
    """The index's expressions of some splits, from metadata.csv alone: no clip is opened.

    Args:
        only: a name of SELECTIONS.

    Raises:
        FileNotFoundError, ValueError: metadata.csv can't be read, a row of those splits has a
            fault (the first is named), there is none, or no such selection or nothing in it.
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
