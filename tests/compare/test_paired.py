"""Comparing settings row by row: pairing of runs, refusals, and the printed table."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from sam2love.cli import app
from sam2love.compare.paired import differences, read_runs
from sam2love.evaluation.intervals import paired_difference
from tests.compare.test_tables import tables

CLIPS = {"val": 24, "test_s": 12, "test_u": 12, "test_n": 3}
FAMILIES = ("colour", "order", "NA")


def rows() -> pd.DataFrame:
    """Two rows per clip; the first half of val's clips shows seen kinds."""
    lines = []
    for split, count in CLIPS.items():
        null = split == "test_n"
        for clip in range(count):
            key = f"{'null_c-' if null else ''}{split}{clip}_0_10"
            kinds = ("seen" if clip < count // 2 else "unseen") if split == "val" else ""
            for place in range(2):
                line = {"uid": f"{key}_cat_{place}", "key": key, "split": split, "fid": place}
                line |= {"exp": 'Der "Hund", rechts', "null": null, "kinds": kinds}
                lines.append(line | {"family": FAMILIES[len(lines) % 3]})
    return pd.DataFrame(lines).rename_axis("row").reset_index()


def write(run: Path, seed: int, *, gain: float = 0.0, table: pd.DataFrame | None = None) -> None:
    """Write scores as the stage does: J 80 and F 90 for rows picked, 10 and 20 for the others."""
    table = rows() if table is None else table
    picked = np.random.default_rng(seed).random(len(table)) < 0.5 + gain
    table = table.assign(picked=picked.astype(object), frame_J=80.0 * picked + 10 * ~picked)
    table["frame_F"] = table["frame_J"] + 10
    table.loc[table["null"], ["picked", "frame_J", "frame_F"]] = None
    (run / "scores").mkdir(parents=True)
    table.to_csv(run / "scores" / "expressions.csv", index=False, float_format="%.6f")


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """Three seeds of a setting and of a baseline that picks less."""
    for seed in (1, 2, 3):
        write(tmp_path / f"ours/seed{seed}", seed, gain=0.4)
        write(tmp_path / f"base/seed{seed}", seed)
    monkeypatch.chdir(tmp_path)
    return Path()


def changed(file: Path, change) -> None:
    """Change a table of scores and write it back."""
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    change(table).to_csv(file, index=False)


def test_every_group_of_rows_has_both_measures(runs):
    table, notes = differences(runs / "ours", runs / "base")
    assert notes == []
    of = {name: part for name, part in table.groupby("group", sort=False)}
    assert list(of) == [
        *("val seen", "val unseen", "val mix", "val, NA", "val, colour", "val, order"),
        *("test seen", "test unseen", "test mix", "test, NA", "test, colour", "test, order"),
    ]
    assert all(list(part["measure"]) == ["J&F", "right object"] for part in of.values())
    assert set(table["seeds"]) == {3}
    for name, counts in (("val unseen", [24, 12]), ("test mix", [48, 24])):
        assert of[name][["rows", "clips"]].to_numpy().tolist() == [counts, counts]
    assert set(of["test mix"]["verdict"]) == {"helps"}
    back, _ = differences(runs / "base", runs / "ours")
    assert back["difference"].tolist() == (-table["difference"]).tolist()
    assert set(back.loc[back["group"] == "test mix", "verdict"]) == {"hurts"}


def test_figures_by_hand(runs):
    """Computed from the files without the module: means over rows, then over seeds."""
    table, _ = differences(runs / "ours", runs / "base")
    found = table.set_index(["group", "measure"])
    scores = {}
    for name in ("ours", "base"):
        every = [pd.read_csv(runs / name / f"seed{n}/scores/expressions.csv") for n in (1, 2, 3)]
        part = [run[(run["split"] == "val") & (run["kinds"] == "unseen")] for run in every]
        scores[name] = np.array([(run["frame_J"] + run["frame_F"]) / 2 for run in part])
        right = 100 * np.mean([run["picked"].astype(float).mean() for run in part])
        column = "setting" if name == "ours" else "baseline"
        assert found.loc[("val unseen", "right object"), column] == pytest.approx(right)
    line = found.loc[("val unseen", "J&F")]
    assert line["setting"] == pytest.approx(scores["ours"].mean())
    expected = paired_difference(scores["ours"], scores["base"], part[0]["key"].to_numpy())
    assert (line["difference"], line["low"], line["high"]) == pytest.approx(
        (expected.difference, expected.low, expected.high)
    )


def test_a_mix_is_the_mean_of_its_parts(runs):
    for seed in (1, 2, 3):  # one part is smaller
        for name in ("ours", "base"):
            file = runs / name / f"seed{seed}/scores/expressions.csv"
            changed(file, lambda t: t[(t["split"] != "test_u") | (t["fid"] == "0")])
    found = differences(runs / "ours", runs / "base")[0].set_index(["group", "measure"])
    seen, unseen, mix = (
        found.loc[(f"test {name}", "J&F"), ["setting", "baseline", "difference"]]
        for name in ("seen", "unseen", "mix")
    )
    assert list(mix) == pytest.approx(list((seen + unseen) / 2))


def test_single_runs_need_no_common_name(runs):
    table, notes = differences(runs / "ours/seed1", runs / "base/seed3")
    assert set(table["seeds"]) == {1}
    assert notes == []


def test_seeds_that_only_one_setting_has_are_left_out_with_a_note(runs):
    (runs / "ours/seed3").rename(runs / "ours/seed4")
    table, notes = differences(runs / "ours", runs / "base")
    assert set(table["seeds"]) == {2}
    assert notes == [
        "ours/seed4 is left out: the other setting has no run of that name",
        "base/seed3 is left out: the other setting has no run of that name",
    ]


def test_groups_without_rows_have_no_line(runs):
    """No kinds, families or unseen rows; rows of test_n are ignored even if they aren't null."""
    for seed in (1, 2, 3):
        for name in ("ours", "base"):
            file = runs / name / f"seed{seed}/scores/expressions.csv"
            changed(
                file, lambda t: t[t["split"] != "test_u"].assign(kinds="", family="", null="False")
            )
    groups = differences(runs / "ours", runs / "base")[0]["group"]
    assert list(dict.fromkeys(groups)) == ["val", "test seen"]


# ---- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda t: t.drop(5), r"row 6 \(uid 'val3_0_10_cat_0', row '6'\) against row 5 \(uid"),
        (
            lambda t: t.assign(fid=t["fid"].mask(t["row"] == "7", "9")),
            r"row 7 .* fid '9'\) against",
        ),
        (
            lambda t: t.assign(exp=t["exp"].mask(t["row"] == "3", "x")),
            r"row 3 .* exp 'x'\) against",
        ),
        (lambda t: t.assign(kinds=""), r"row 0 .* kinds ''\) against row 0 .* kinds 'seen'\)"),
        (lambda t: t.drop(range(90, len(t))), r"row 90 is only in base/seed1"),
        (
            lambda t: t.drop(columns="kinds"),
            r"csv: column 'kinds' is missing, .*; run the stage 'score' again",
        ),
        (lambda t: t.assign(picked=""), r"row 0 \(uid .*\) has picked '', expected a score"),
        (lambda t: t.assign(frame_F="inf"), r"row 0 \(uid .*\) has frame_F 'inf'"),
        (
            lambda t: t.assign(null="True"),
            "nothing to compare: every row of val, test_s, test_u is null",
        ),
    ],
)
def test_different_rows_are_refused_and_the_first_is_named(runs, change, fault):
    file = runs / "ours/seed2/scores/expressions.csv"
    changed(file, change)
    with pytest.raises(ValueError, match=fault) as found:
        differences(runs / "ours", runs / "base")
    assert "ours/seed2" in str(found.value)


def test_seeds_of_one_setting_must_agree_too(runs):
    changed(runs / "base/seed3/scores/expressions.csv", lambda table: table.drop(0))
    with pytest.raises(ValueError, match=r"base/seed3 and base/seed1 scored different rows"):
        differences(runs / "ours", runs / "base")


def test_no_runs_in_common(runs):
    with pytest.raises(
        ValueError, match=r"ours has the runs seed1, .* and base/seed1 has a single"
    ):
        differences(runs / "ours", runs / "base/seed1")
    with pytest.raises(
        FileNotFoundError, match=r"gone: found neither scores/expressions\.csv nor <seed>"
    ):
        read_runs(runs / "gone")


# ---- the command --------------------------------------------------------------------------------


def command(*arguments: str):
    return CliRunner().invoke(app, ["report", *arguments])


def test_prints_a_table_per_setting(runs):
    (runs / "ours/seed3").rename(runs / "ours/seed4")
    done = command("ours", "base", "--compare", "base")
    assert done.exit_code == 0
    assert "warning: base/seed3 is left out" in done.stderr
    printed = tables(done.stdout)
    assert list(printed) == ["ours against base", "base against base"]
    line = printed["ours against base"]["test mix"]
    assert (line["rows"], line["clips"], line["seeds"]) == ("48", "24", "2")
    itself = printed["base against base"]["val unseen"]
    assert itself["difference"] == "+0.0 [+0.0, +0.0]"
    assert itself["verdict"] == "can't be told"
    assert done.stdout == command("ours", "base", "--compare", "base").stdout


def test_too_few_clips_have_no_interval(runs):
    for name in ("ours", "base"):
        file = runs / name / "seed1/scores/expressions.csv"
        changed(file, lambda table: table[table["key"].isin(table["key"].unique()[:5])])
    done = command("ours/seed1", "--compare", "base/seed1")
    assert "[too few clips] | can't be told" in done.stdout


def test_faults_are_one_line(runs):
    done = command("ours", "--compare", "absent")
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert done.output.startswith("error: absent: no folder of runs")
    several = command("ours", "base")
    assert (several.exit_code, several.output.count("\n")) == (1, 1)
    assert several.output.startswith("error: a page is about one run, found 2")
