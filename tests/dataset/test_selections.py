"""Which rows a selection keeps, compared with lists worked out by hand."""

import pandas as pd
import pytest

from sam2love.dataset import selections
from sam2love.dataset.selections import read_expressions
from tests import tiny

ROWS = pd.DataFrame(
    [
        # key, split, fid, exp
        ("a", "train", 1, "The cat."),
        ("a", "train", 2, "The dog"),
        ("b", "test_s", 1, "the  CAT"),
        ("b", "test_s", 1, "The cat ."),
        ("b", "test_s", 2, "The cow"),
        ("b", "test_s", 3, "the cow."),
        ("b", "test_s", 3, "NO."),
        ("c", "test_u", 1, "The cow"),
        ("c", "test_u", 2, "[Error] \u9519\u8bef"),
        ("c", "test_u", 3, "No cow"),
    ],
    columns=["key", "split", "fid", "exp"],
    index=range(10, 20),
)


@pytest.mark.parametrize(
    ("ask", "rows"),
    [
        (selections.repeated, [13]),
        (selections.ambiguous, [14, 15]),
        (selections.placeholder, [16, 18]),
        (selections.in_train, [10, 11, 12, 13]),
        (selections.SELECTIONS["cleaned"], [10, 11, 12, 17, 19]),
        (selections.SELECTIONS["unseen-expressions"], [14, 15, 16, 17, 18, 19]),
    ],
)
def test_rows(ask, rows):
    assert list(ROWS.index[ask(ROWS)]) == rows


def test_expressions_of_a_selection(refavs_root):
    every = read_expressions(refavs_root, ["test_s", "test_u"])
    kept = read_expressions(refavs_root, ["test_s", "test_u"], only="unseen-expressions")
    assert list(every["row"]) == [12, 13, 14, 15, 16, 17]
    assert list(kept["row"]) == [12, 13, 15, 16, 17]
    assert list(kept.columns) == list(every.columns)
    assert list(kept.index) == [0, 1, 2, 3, 4]


def test_unknown_and_empty_selections(refavs_root):
    with pytest.raises(ValueError, match="no selection 'x', expected one of cleaned, unseen-expr"):
        read_expressions(refavs_root, ["test_s"], only="x")
    with pytest.raises(ValueError, match="'unseen-expressions' keeps no row of train"):
        read_expressions(refavs_root, ["train"], only="unseen-expressions")


def test_faults_of_other_splits_are_ignored(own_refavs_root):
    rows = [tiny._row(*entry) for entry in tiny.ROWS]
    tiny.write_metadata(own_refavs_root, [*rows, ("a", "a_1_cat_1", "train", "?", "x")])
    assert len(read_expressions(own_refavs_root, ["test_s"], only="cleaned")) == 3
    with pytest.raises(
        ValueError, match=r"metadata\.csv row 21 .+ fid '\?' is not an object number"
    ):
        read_expressions(own_refavs_root, ["train"])
