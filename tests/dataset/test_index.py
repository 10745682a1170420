"""The tables of a data set as odd as the real one; faults are in test_check.py."""

import csv
import io

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam2love.dataset import index
from sam2love.dataset.index import (
    CLIP_COLUMNS,
    EXPRESSION_COLUMNS,
    FAMILY_COLUMNS,
    KIND_COLUMNS,
    METADATA_COLUMNS,
    Index,
    read_index,
    read_metadata,
    write_index,
)
from tests import tiny
from tests.tiny import build_index


def test_metadata_keeps_rows_and_marks_null(refavs_root):
    table = read_metadata(refavs_root)
    assert list(table["row"]) == list(range(len(tiny.ROWS)))
    assert not table["exp"].str.contains("\r").any()
    null = table[table["null"]]
    assert (null["key"] != null["vid"]).all()
    assert (table[~table["null"]]["key"] == table[~table["null"]]["vid"]).all()


def test_index_round_trip_keeps_types_and_bytes(refavs_root, tmp_path):
    index = build_index(refavs_root)
    write_index(index, tmp_path / "a")
    again = read_index(tmp_path / "a")
    for name, table in vars(index).items():
        pd.testing.assert_frame_equal(getattr(again, name), table, check_dtype=False)
    assert again.expressions["null"].dtype == bool
    assert again.expressions["row"].dtype.kind == "i"
    assert again.clips["width"].dtype.kind == "i"
    write_index(build_index(refavs_root), tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def csv_text(rows, *, quoting=csv.QUOTE_MINIMAL, lineterminator="\r\n", columns=METADATA_COLUMNS):
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=quoting, lineterminator=lineterminator)
    writer.writerows([columns, *rows])
    return file.getvalue()


ROWS = [list(map(str, tiny._row(*row))) for row in tiny.ROWS]
PUBLISHED = csv_text(ROWS)
FIRST = ROWS[0]


@pytest.mark.parametrize(
    "text",
    [
        PUBLISHED,
        csv_text(ROWS, lineterminator="\n"),
        csv_text(ROWS, lineterminator="\r"),
        "\ufeff" + PUBLISHED,
        PUBLISHED.rstrip(),
        PUBLISHED + "\r\n\r\n",
        csv_text(ROWS, quoting=csv.QUOTE_ALL),
        csv_text(ROWS, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n").rstrip(),
        csv_text([row[::-1] for row in ROWS], columns=METADATA_COLUMNS[::-1]),
    ],
    ids=["CRLF", "LF", "CR", "BOM", "unended", "blank", "quoted", "both", "columns"],
)
def test_refavs_is_recognised_in_any_csv_dialect(tmp_path, monkeypatch, text):
    (tmp_path / "metadata.csv").write_text(PUBLISHED, encoding="utf-8", newline="")
    published = index.table_digest(index.read_metadata(tmp_path)[METADATA_COLUMNS])
    monkeypatch.setattr(index, "REFAVS_METADATA", published)
    (tmp_path / "metadata.csv").write_text(text, encoding="utf-8", newline="")
    assert index.is_refavs(tmp_path)


@pytest.mark.parametrize(
    "rows",
    [ROWS[1:], ROWS[::-1], [*ROWS, FIRST], [[*FIRST[:4], "Another object."], *ROWS[1:]]],
    ids=["fewer", "reordered", "more", "reworded"],
)
def test_another_table_is_not_refavs(tmp_path, monkeypatch, rows):
    (tmp_path / "metadata.csv").write_text(PUBLISHED, encoding="utf-8", newline="")
    published = index.table_digest(index.read_metadata(tmp_path)[METADATA_COLUMNS])
    monkeypatch.setattr(index, "REFAVS_METADATA", published)
    (tmp_path / "metadata.csv").write_text(csv_text(rows), encoding="utf-8", newline="")
    assert not index.is_refavs(tmp_path)


@settings(max_examples=50)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1))
def test_any_expression_survives_the_index(tmp_path_factory, exp):
    folder = tmp_path_factory.mktemp("index")
    expressions = pd.DataFrame(
        [(0, "NA_1_1", "NA", "train", 1, exp, False)], columns=EXPRESSION_COLUMNS
    )
    index = Index(
        clips=pd.DataFrame(columns=CLIP_COLUMNS),
        expressions=expressions,
        families=pd.DataFrame(columns=FAMILY_COLUMNS),
        kinds=pd.DataFrame(columns=KIND_COLUMNS),
    )
    write_index(index, folder)
    again = read_index(folder).expressions
    assert list(again["exp"]) == [exp]
    assert list(again["key"]) == ["NA"]


def test_index_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the stage 'index'"):
        read_index(tmp_path)
