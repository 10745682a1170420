"""metrics.json and the table of rows, from hand-made scores; and the scoreboard."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from sam2love.evaluation.protocols import RowScore, Statistics
from sam2love.evaluation.scoreboard import scoreboard
from sam2love.evaluation.summary import clip_means, row_table, summarise, with_mix

NO_FAMILIES = pd.DataFrame(columns=["uid", "family"])
NO_KINDS = pd.DataFrame(columns=["uid", "kinds"])


def statistics(j: float, peak: tuple[int, float] = (0, 0.0), shown: float = 0.0) -> Statistics:
    """One frame with a J, and an F that is not 0 at one threshold only."""
    curve = np.zeros(255)
    curve[peak[0]] = peak[1]
    return Statistics(np.array([j]), curve, 1, shown, foreground_at_region=min(1, 4 * shown))


def positive(
    j: float, peak: tuple[int, float], *, picked: bool, objects: int, late: bool = False
) -> RowScore:
    square = statistics(j, peak)
    return RowScore(
        square=square,
        ungated=square,
        empty=statistics(0, (peak[0], 0.1)),
        original=statistics(j / 2, peak),
        davis=(j / 4, 0.5),
        objects=objects,
        picked=picked,
        late=late,
        presence=3.0,
        gated=False,
        baselines={"largest": statistics(0.25, (0, 0.75))},
    )


def null(shown: float, ungated: float) -> RowScore:
    return RowScore(
        square=statistics(0, shown=shown),
        ungated=statistics(0, shown=ungated),
        empty=statistics(0),
        original=None,
        davis=None,
        objects=0,
        picked=None,
        late=None,
        presence=-2.0,
        gated=shown == 0,
        baselines={"largest": statistics(0, shown=1)},
    )


@pytest.fixture
def table():
    """Five rows seen in two clips, one unseen, two null."""
    rows = [
        (1, "test_s", "a", False),
        (2, "test_s", "a", False),
        (4, "test_s", "a", False),
        (5, "test_s", "a", False),
        (6, "test_s", "b", False),
        (7, "test_u", "c", False),
        (8, "test_n", "null_c-d", True),
        (9, "test_n", "null_c-d", True),
    ]
    table = pd.DataFrame(rows, columns=["row", "split", "key", "null"])
    table["uid"] = [f"{key}_x_{row}" for row, key in zip(table["row"], table["key"], strict=True)]
    scores = [
        positive(0.2, (10, 1.0), picked=True, objects=2),
        positive(0.2, (10, 1.0), picked=True, objects=2),
        positive(0.2, (20, 1.0), picked=False, objects=2),
        positive(0.2, (20, 0.6), picked=True, objects=2),
        positive(1.0, (10, 1.0), picked=True, objects=4),
        positive(0.5, (30, 0.5), picked=False, objects=1),
        null(0.04, 0.09),
        null(0.0, 0.16),
    ]
    return table, scores


def summaries(
    table, families=NO_FAMILIES, *, kinds=NO_KINDS, splits=("test_s", "test_u", "test_n")
):
    rows, scores = table
    kept = [i for i, split in enumerate(rows["split"]) if split in splits]
    scores = [scores[i] for i in kept]
    scored = row_table(rows.iloc[kept], scores, families, kinds)
    return scored, summarise(scored, scores, resamples=200, seed=0)


# ---- rows ---------------------------------------------------------------------------------------


def test_rows_hold_each_expressions_scores(table):
    rows, _ = summaries(table)
    first = rows.iloc[0]
    assert (first["refavs_J"], first["refavs_F"]) == (pytest.approx(20), pytest.approx(100))
    assert (first["original_J"], first["davis_J"], first["davis_F"]) == (10, 5, 50)
    assert (first["objects"], first["picked"], first["gated"]) == (2, True, False)
    assert rows["frame_J"].equals(rows["refavs_J"])
    assert (first["frame_J_ungated"], first["frame_F_ungated"]) == (20, 100)
    assert (first["frame_J_empty"], first["frame_F_empty"]) == (0, 10)


def test_a_rows_frame_f_is_at_the_threshold_of_its_split(table):
    """Seen: threshold 10 has 3 of 5, threshold 20 has 1.6 of 5. Unseen has its own."""
    rows, _ = summaries(table)
    assert rows["frame_F"].tolist()[:6] == [100, 100, 0, 0, 100, 50]
    assert rows["frame_F_ungated"].equals(rows["frame_F"])
    assert rows["frame_F_empty"].tolist()[:6] == [10, 10, 0, 0, 10, 10]


def test_null_rows_have_only_s(table):
    rows, _ = summaries(table)
    missing = rows[rows["null"]]
    assert missing["S"].tolist() == pytest.approx([0.2, 0])
    assert missing["S_ungated"].tolist() == pytest.approx([0.3, 0.4])
    assert missing[["refavs_J", "frame_F", "original_J", "davis_F", "picked"]].isna().all(axis=None)


# ---- metrics ------------------------------------------------------------------------------------


def test_the_documented_keys(table):
    _, metrics = summaries(table)
    for protocol in ("refavs", "frame", "original", "davis"):
        for split in ("test_s", "test_u", "mix"):
            assert set(metrics[protocol][split]) == {"J", "F", "J&F"}
    assert set(metrics["refavs"]["test_n"]) == {"S", "S_ungated", "S_at_0.4"}
    assert set(metrics["baselines"]["largest"]["refavs"]) == {"test_s", "test_u", "mix", "test_n"}
    assert set(metrics["picked"]) == {"test_s", "test_u", "chance"}
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_each_protocol_by_hand(table):
    """Seen: a batch of J 0.2, F peaks 2.0/4 at 10 and 1.6/4 at 20; then one of J 1, F 1."""
    _, metrics = summaries(table)
    assert metrics["refavs"]["test_s"] == {"J": 60, "F": 75, "J&F": 67.5}
    assert metrics["refavs"]["mix"] == {"J": 55, "F": 62.5, "J&F": 58.75}
    assert metrics["frame"]["test_s"] == {"J": 36, "F": 60, "J&F": 48}
    assert metrics["original"]["test_s"] == {"J": 18, "F": 92, "J&F": 55}
    assert metrics["davis"]["test_s"] == {"J": 9, "F": 50, "J&F": 29.5}


def test_null_by_hand(table):
    _, metrics = summaries(table)
    expected = {"S": np.sqrt(0.02), "S_ungated": np.sqrt(0.125), "S_at_0.4": np.sqrt(0.08)}
    assert metrics["refavs"]["test_n"] == pytest.approx(expected, abs=1e-6)
    assert metrics["baselines"]["largest"]["refavs"]["test_n"] == {"S": 1}
    assert metrics["gated"] == {"test_n": 50, "test_s": 0, "test_u": 0}


def test_picked_and_chance(table):
    _, metrics = summaries(table)
    chance = 100 * (4 / 2 + 1 / 4 + 1) / 6
    assert metrics["picked"] == {"test_s": 80, "test_u": 0, "chance": pytest.approx(chance)}


def test_families(table):
    rows, _ = table
    families = pd.DataFrame(
        {"uid": rows["uid"], "family": ["colour"] * 3 + ["order"] * 3 + ["muted"] * 2}
    )
    scored, metrics = summaries(table, families)
    assert scored["family"].tolist() == families["family"].tolist()
    assert metrics["families"]["colour"] == {
        "J&F": 60,
        "picked": pytest.approx(200 / 3, abs=1e-6),
        "chance": 50,
        "rows": 3,
    }
    assert set(metrics["families"]) == {"colour", "order"}  # J, F and picked need an object


def test_rejection_by_hand(table):
    """Five scores of 3 and one of -1 against null rows of -2 and 0: of 12 pairs 11 in order."""
    rows, scores = table
    scores = [*scores[:5], replace(scores[5], presence=-1.0), scores[6]]
    scores.append(replace(table[1][7], presence=0.0))
    _, metrics = summaries((rows, scores))
    beliefs = 1 / (1 + np.exp(-np.array([3.0, -1, -2, 0])))
    gaps = np.abs(beliefs - (1, 1, 0, 0)) * (5, 1, 1, 1)
    assert metrics["rejection"] == {
        "test": {
            "AUC": pytest.approx(11 / 12, abs=1e-6),
            "ECE": pytest.approx(gaps.sum() / 8, abs=1e-6),
            "rows": 8,
            "null_rows": 2,
        }
    }
    families = pd.DataFrame({"uid": rows["uid"], "family": ["colour"] * 6 + ["null", "absent"]})
    _, metrics = summaries((rows, scores), families)
    assert metrics["rejection"]["test"]["families"] == {
        "absent": {"AUC": pytest.approx(5 / 6, abs=1e-6), "S": 0, "rows": 1},
        "null": {"AUC": 1, "S": pytest.approx(0.2), "rows": 1},
    }
    printed = scoreboard(metrics, name="ours")
    assert "against null rows: test 0.917 (absent 0.833, null 1.000)" in printed


def test_without_null_rows_or_presences_there_is_no_rejection(table):
    rows, scores = table
    _, metrics = summaries(table, splits=("test_s", "test_u"))
    assert "rejection" not in metrics
    _, metrics = summaries((rows, [replace(score, presence=None) for score in scores]))
    assert "rejection" not in metrics
    assert "AUC" not in scoreboard(metrics, name="ours")


def of_val(table):
    """The table with all rows but a null one in val; the last two clips have unseen kinds."""
    rows, scores = table
    rows = rows.assign(split=["val"] * 7 + ["test_n"])
    kinds = pd.DataFrame({"uid": rows["uid"][:6], "kinds": ["seen"] * 4 + ["unseen"] * 2})
    return summaries((rows, scores), kinds=kinds, splits=("val", "test_n"))


def test_val_by_its_kinds(table):
    """By hand: J 0.2 four times, then 1 and 0.5; at threshold 10, the best, F 1, 1, 0, 0, 1, 0."""
    rows, metrics = of_val(table)
    assert rows["kinds"].fillna("").tolist() == ["seen"] * 4 + ["unseen"] * 2 + ["", ""]
    val = metrics["val"]
    assert val["seen"] == {
        **{"J": 20, "F": 50, "J&F": 35},
        **{"picked": 75, "chance": 50, "rows": 4},
    }
    assert val["unseen"] == {
        **{"J": 75, "F": 50, "J&F": 62.5},
        **{"picked": 50, "chance": 62.5, "rows": 2},
    }
    assert val["all"]["J&F"] == pytest.approx((4 * 35 + 2 * 62.5) / 6, abs=1e-5)
    assert val["null"] == {"S": 0.2, "rows": 1}
    assert metrics["rejection"].keys() == {"val"}
    assert metrics["refavs"].keys() == {"test_n"}  # val is no test split
    assert metrics["families"] == metrics["picked"] == {}
    printed = scoreboard(metrics, name="ours")
    assert "seen J&F 35.0, right object 75.0 %; unseen J&F 62.5, right object 50.0 %" in printed
    json.dumps(metrics, allow_nan=False)


def test_val_without_kinds_is_one_part(table):
    rows, scores = table
    scored, metrics = summaries((rows.assign(split="val"), scores), splits=("val",))
    assert scored["kinds"].isna().all()
    assert set(metrics["val"]) == {"all", "null"}


def test_val_with_only_null_rows(table):
    rows, scores = table
    _, metrics = summaries((rows.iloc[6:].assign(split="val"), scores[6:]), splits=("val",))
    assert metrics["val"] == {"null": {"S": pytest.approx(np.sqrt(0.02), abs=1e-6), "rows": 2}}
    scoreboard(metrics, name="ours")


@pytest.mark.parametrize("splits", [("test_s",), ("test_n",), ("test_u", "test_n")])
def test_a_missing_split_is_a_missing_key(table, splits):
    _, metrics = summaries(table, splits=splits)
    assert set(metrics["refavs"]) == set(splits)
    assert "mix" not in metrics["clips"]["refavs"]
    json.dumps(metrics, allow_nan=False)
    scoreboard(metrics, name="ours")


# ---- means over clips ---------------------------------------------------------------------------


def test_clips_have_equal_weight(table):
    rows, metrics = summaries(table)
    seen = metrics["clips"]["refavs"]["test_s"]
    assert (seen["J"], seen["F"], seen["clips"]) == (60, 95, 2)
    assert seen["low"] == pytest.approx((20 + 90) / 2)  # both draws the first clip, or the second
    assert seen["high"] == 100
    assert metrics["clips"]["refavs"]["mix"]["J&F"] == pytest.approx((77.5 + 50) / 2)
    assert metrics["clips"]["refavs"]["test_n"]["S"] == pytest.approx(0.1)
    assert clip_means(rows, protocol="davis", resamples=10, seed=0)["test_s"]["J"] == 15


def test_mix_is_the_mean_of_seen_and_unseen():
    assert with_mix({"test_s": {"J": 1.0}, "test_u": {"J": 4.0}})["mix"] == {"J": 2.5}
    assert with_mix({"test_s": {"J": 1.0}}) == {"test_s": {"J": 1.0}}


# ---- scoreboard ---------------------------------------------------------------------------------


def test_the_scoreboard_has_a_line_per_system(table):
    rows, _ = table
    families = pd.DataFrame({"uid": rows["uid"], "family": ["colour"] * 8})
    _, metrics = summaries(table, families)
    printed = scoreboard(metrics, name="ours")
    lines = {line[:18].strip(): line[18:].split() for line in printed.splitlines()}
    assert " ".join(lines["ours"]) == "60.0 75.0 67.5 50.0 50.0 50.0 55.0 62.5 58.8 0.141"
    assert lines["largest"][-2:] == ["50.0", "1.000"]
    assert lines["ours, davis"][-1] == "-"
    assert lines["colour"] == ["6", "61.7", "66.7", "%", "54.2", "%"]
    assert "right object: seen 80.0 %, unseen 0.0 % (chance 54.2 %)" in printed
    assert "S without the gate 0.354" in printed
    assert "seen 0.0 %, unseen 0.0 %, null 50.0 %" in printed
    assert all(len(line) <= 100 for line in printed.splitlines())


def test_late_objects_are_compared_with_the_others(table):
    """The frame's own thresholds: 10 for the seen rows, 30 for the unseen one."""
    rows, scores = table
    assert "late" not in summaries(table)[1]
    scores[4] = positive(1.0, (10, 1.0), picked=True, objects=4, late=True)
    scored, metrics = summaries((rows, scores))
    assert scored["late"].tolist()[:6] == [False] * 4 + [True, False]
    assert scored["late"].isna().tolist() == [False] * 6 + [True] * 2
    # J 20, 20, 20, 20 and 50; F 100, 100, 0, 0 and 50.
    others = (60 + 60 + 10 + 10 + 50) / 5
    assert metrics["late"] == {
        "test": {
            "J&F": 100.0,
            "over_others": pytest.approx(100 / others),
            "picked": 100.0,
            "chance": 25.0,
            "rows": 1,
        }
    }
