"""What a model relies on, worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from sam2love.evaluation.reliance import (
    ALL,
    COLUMNS,
    CONDITIONS,
    MODALITIES,
    as_text,
    reliance,
    verdicts,
)

CLIPS = 12


def scores(*, lost: dict[str, int], gained: dict[str, int] | None = None) -> pd.DataFrame:
    """Two rows in each of twelve clips: one hears, one sees.

    Intact, all rows that hear are right and none that see. Under each condition the first `lost`
    of those are wrong, and the first `gained` of these right.
    """
    lines = []
    for clip in range(CLIPS):
        for condition in CONDITIONS:
            hears = clip >= lost.get(condition, 0)
            sees = clip < (gained or {}).get(condition, 0)
            for row, family, right in ((2 * clip, "hears", hears), (2 * clip + 1, "sees", sees)):
                lines.append(
                    (row, f"clip{clip}", family, 2 + clip % 2 * 2, condition, 100.0 * right)
                )
    return pd.DataFrame(lines, columns=["row", "key", "family", "objects", "condition", "right"])


def test_counts_rows_clips_chance_and_what_is_lost():
    table = reliance(scores(lost={"sound muted": 12, "sound swapped": 6}))
    assert table.columns.tolist() == COLUMNS
    assert table["family"].unique().tolist() == ["hears", "sees", ALL]
    assert table["condition"].tolist() == CONDITIONS * 3
    lines = table.set_index(["family", "condition"])
    assert lines.loc["hears", "rows"].tolist() == [12] * 7
    assert lines.loc[ALL, "rows"].tolist() == [24] * 7
    assert lines["clips"].tolist() == [12] * 21
    assert lines["chance"].tolist() == pytest.approx([37.5] * 21)  # 1/2 and 1/4, in turn
    assert lines.loc["hears", "right"].tolist() == [100, 0, 50, 100, 100, 100, 100]
    assert lines.loc[ALL, "right"].tolist() == [50, 0, 25, 50, 50, 50, 50]
    assert lines.loc[ALL, "lost"].tolist()[1:] == [50, 25, 0, 0, 0, 0]
    assert np.isnan(lines.loc[(ALL, "intact"), ["lost", "low", "high"]]).all()
    low, high = lines.loc[(ALL, "sound swapped"), ["low", "high"]]
    assert 0 < low < 25 < high < 50
    # Every clip loses the same under silence, and nothing under the rest.
    assert lines.loc[(ALL, "sound muted"), ["low", "high"]].tolist() == [50, 50]
    assert lines.loc[(ALL, "picture swapped"), ["low", "high"]].tolist() == [0, 0]


def test_the_verdict_follows_the_swap():
    """A model that fails on silence but takes any sound for another ignores what it hears."""
    table = reliance(
        scores(lost={"sound muted": 12, "sentence swapped": 8}, gained={"picture swapped": 9})
    )
    sound, sentence, picture = verdicts(table)
    assert sound == (
        "No effect of the sound found: swapping it costs 0.0 points of right objects [0.0, 0.0]."
    )
    assert sentence.startswith("The model relies on the sentence: swapping it costs 33.3 points")
    assert sentence.endswith(", most in hears (67).")
    assert picture.startswith("The picture misleads the model: swapping it costs -37.5 points")


def test_an_interval_that_includes_0_is_no_effect():
    sound, *_ = verdicts(reliance(scores(lost={"sound swapped": 1})))
    assert sound.startswith("No effect of the sound found: swapping it costs 4.2 points")


def test_a_loss_in_one_family_only_is_named():
    """Of six rows lost where it hears, the rows that see gain as many back."""
    changed = {"sound swapped": 6}
    sound, *_ = verdicts(reliance(scores(lost=changed, gained=changed)))
    assert sound == (
        "No effect of the sound found: swapping it costs 0.0 points of right objects [0.0, 0.0], "
        "though more in hears (50)."
    )


def test_too_few_clips_have_no_verdict():
    few = scores(lost={"sound swapped": 12}).query("row < 18")
    sound, *_ = verdicts(reliance(few))
    assert sound == (
        "Too few clips to tell whether the model relies on the sound: 9 with rows to measure, at "
        "least 10 are needed."
    )


def test_without_families_there_is_one_group():
    table = reliance(scores(lost={}).assign(family=""))
    assert table["family"].tolist() == [ALL] * len(CONDITIONS)


def test_without_rows_nothing_is_said():
    table = reliance(scores(lost={})[:0])
    assert table.columns.tolist() == COLUMNS
    assert table.empty
    assert verdicts(table) == []


def test_prints_a_line_per_family():
    head, hears, _, everything = as_text(reliance(scores(lost={"sound muted": 3}))).splitlines()
    assert all(name in head for _, *changed in MODALITIES.values() for name in changed)
    assert hears.split() == ["hears", "12", "37.5", "100.0", "75.0", *["100.0"] * 5]
    assert everything.split()[:5] == ["all", "24", "37.5", "50.0", "37.5"]
