"""The report: rows chosen, drawings, and a page that is complete, safe and reproducible."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from itertools import chain

import numpy as np
import pandas as pd
import pytest
import soundfile
from scipy.signal import resample_poly

from sam2love.dataset import index
from sam2love.dataset.index import read_index, read_metadata
from sam2love.dataset.refavs import read_audio
from sam2love.evaluation.reliance import CONDITIONS, reliance
from sam2love.params import load_params
from sam2love.report import results
from sam2love.report.charts import line_chart
from sam2love.report.examples import choose_examples
from sam2love.report.page import flatten, write_report
from sam2love.report.rejection import section
from sam2love.report.strips import BARS, outline, strip_size, waveform
from tests.made_run import fill, make_run, write_scores

STRIPS = 8
"""Of the tiny data set: best and worst of two clips each, one of the only family, 3 null."""
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """Elements, texts and unbalanced tags of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.elements if name == tag]


def report(root, run):
    """Write the report of a run; its strips and its page."""
    strips = write_report(
        run / "report",
        root=root,
        index_folder=run / "index",
        predictions=run / "predictions",
        scores=run / "scores",
        model=run / "model",
        metrics=run / "metrics.json",
        diagnostics=run / "diagnostics.csv",
        settings=load_params().model_dump(include={"fusion", "train"}),
    )
    return strips, (run / "report" / "index.html").read_text(encoding="utf-8")


@pytest.fixture
def made_run(finished_run, tmp_path):
    """A copy that the test may change."""
    return shutil.copytree(finished_run, tmp_path / "run")


# ---- the page -----------------------------------------------------------------------------------


def test_shows_scores_families_curves_and_strips(refavs_root, made_run):
    strips, html = report(refavs_root, made_run)
    page = Page(html)
    metrics = json.loads((made_run / "metrics.json").read_text())
    for system in (metrics, *metrics["baselines"].values()):
        assert f"{system['refavs']['mix']['J&F']:.1f}" in page.texts
    assert f"{metrics['refavs']['test_n']['S_ungated']:.3f}" in page.texts
    charts = {"Loss", *(f"{name} on val, first frame, percent" for name in ("J", "Right object"))}
    assert {"vision", "all", "loss.attention", "unseen kinds", *charts} <= set(page.texts)
    assert strips == STRIPS
    assert len(page.all("image")) == strips
    assert len(html) < 500_000


def test_shows_how_the_presence_separates_null_rows(refavs_root, made_run):
    """Rows of the made run score 2, or -1.5 and 0.5 if null, so that the order is right."""
    page = Page(report(refavs_root, made_run)[1])
    assert {"href": "#rejection"} in page.all("a")
    assert {"belief", "calibrated", "test, threshold 0"} <= set(page.texts)
    rows = results.read_rows(
        made_run / "scores" / "expressions.csv", read_index(made_run / "index")
    )
    shown = section(rows)
    assert [(line.split, line.family, line.auc) for line in shown.table] == [
        ("val", "", 1),
        ("test", "", 1),
    ]
    val, test = shown.table
    assert (val.null_rows, val.present_rows) == (1, 2)
    assert test.undecided == test.null_rows + test.present_rows
    _, trade_off = shown.charts
    lines = {line.name: line for line in trade_off.lines}
    of_test = rows[rows["split"].str.startswith("test")]
    none_blank = of_test[["frame_J_ungated", "frame_F_ungated"]].mean().mean()
    assert lines["test"].last == pytest.approx(none_blank)
    # At 0 the rows whose object is there are shown, as without any gate, and less is on null rows.
    assert lines["test, threshold 0"].last == pytest.approx(none_blank)
    assert lines["test, threshold 0"].points[0][0] < lines["test"].points[-1][0]
    assert trade_off.x_ticks[-1][0] <= lines["test"].points[-1][0] == trade_off.right


def test_each_family_of_null_rows_has_a_line(refavs_root, made_run):
    path = made_run / "scores" / "expressions.csv"
    rows = results.read_rows(path, read_index(made_run / "index"))
    null = rows["null"] & (rows["split"] == "test_n")
    rows.loc[null, "family"] = ["absent"] + ["null"] * (null.sum() - 1)
    table = section(rows).table
    assert [(line.split, line.family) for line in table] == [
        ("val", ""),
        ("test", ""),
        ("test", "absent"),
        ("test", "null"),
    ]
    assert [line.null_rows for line in table[1:]] == [null.sum(), 1, null.sum() - 1]
    assert table[2].calibration_error is None


def test_without_null_rows_or_presences_there_is_no_such_section(refavs_root, made_run):
    path = made_run / "scores" / "expressions.csv"
    table = pd.read_csv(path, keep_default_na=False)
    for changed in (table[table["null"].astype(str) == "False"], table.assign(presence="")):
        changed.to_csv(path, index=False)
        page = Page(report(refavs_root, made_run)[1])
        assert "When the object is not there" not in page.texts
        assert {"href": "#rejection"} not in page.all("a")


def test_the_papers_figures_are_shown_only_on_ref_avs(refavs_root, made_run, monkeypatch):
    def table() -> list[str]:
        html = report(refavs_root, made_run)[1]
        return re.findall(r'<th scope="row">([^<]*figures)</th>(.*?)</tr>', html, re.S)

    assert not table()
    metadata = index.read_metadata(refavs_root)[index.METADATA_COLUMNS]
    monkeypatch.setattr(index, "REFAVS_METADATA", index.table_digest(metadata))
    (_, eemc), (name, ours) = table()
    assert name == "SAM2-LOVE, the paper&#39;s figures"
    numbers = re.findall(r"<td[^>]*>([\d.]+)</td>", ours)
    assert " ".join(numbers) == "43.5 51.9 47.7 66.5 72.3 69.4 55.0 62.1 58.5 0.230"
    assert "57.2" in eemc


def test_is_reproducible(refavs_root, made_run):
    assert report(refavs_root, made_run) == report(refavs_root, made_run)


def test_is_self_contained(refavs_root, made_run):
    page = Page(report(refavs_root, made_run)[1])
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in page.elements:
        assert tag not in ("script", "link", "img", "iframe")
        assert attrs.get("src", "data:audio/mpeg;base64,").startswith("data:audio/mpeg;base64,")
        if link := attrs.get("href"):
            assert link.startswith("data:image/jpeg;base64,") or link[1:] in ids
    assert "default-src 'none'" in page.all("meta")[2]["content"]


def test_plays_the_clips_sound(refavs_root, made_run):
    html = report(refavs_root, made_run)[1]
    played = 0
    for strip in re.findall(r"<article .*?</article>", html, re.S):
        key = re.search("clip <bdi>(.*?)</bdi>", strip)[1]
        samples, rate_hz = read_audio(refavs_root, key)
        sound = re.search(r'<audio .*?base64,(.*?)"', strip)
        assert bool(sound) == samples.any()
        if sound:
            heard, heard_rate_hz = soundfile.read(io.BytesIO(base64.b64decode(sound[1])))
            expected = resample_poly(samples, heard_rate_hz, rate_hz)
            assert len(heard) == len(expected)
            assert np.corrcoef(heard, expected)[0, 1] > 0.99
            played += 1
    assert 0 < played < STRIPS


def test_pictures_have_text_alternatives(refavs_root, made_run):
    page = Page(report(refavs_root, made_run)[1])
    pictures = [attrs for attrs in page.all("svg") if attrs.get("role") == "img"]
    assert len(pictures) == STRIPS + 6
    assert all(attrs["aria-label"] for attrs in pictures)
    (loss,) = (attrs for attrs in pictures if attrs["aria-label"].startswith("Loss"))
    assert loss["aria-label"] == "Loss: loss ends at 0.05"


def test_expressions_are_text(own_refavs_root, tmp_path):
    nasty = {
        "The yellow object.": '<script>alert("x")</script>',
        "The object making a loudest sound": "\"' onmouseover='alert(1)' {{ 7 * 7 }} &lt;",
        "The red object.": "\u202eأكبر جسم \U0001f3bb </svg><img src=x onerror=alert(1)>",
        "The green object.": "NA",
    }
    table = own_refavs_root / "metadata.csv"
    text = table.read_text(encoding="utf-8")
    for plain, harmful in nasty.items():
        text = text.replace(f'"{plain}"', '"' + harmful.replace('"', '""') + '"')
    table.write_text(text, encoding="utf-8")
    run = make_run(own_refavs_root, tmp_path / "run")
    page = Page(report(own_refavs_root, run)[1])
    assert set(nasty.values()) <= set(page.texts)
    assert not page.all("script") + page.all("img")
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]


def test_families_are_text(own_refavs_root, tmp_path):
    lines = ["uid,family"]
    for uid in read_metadata(own_refavs_root)["uid"].unique():
        lines.append(f"{uid},<b onclick=x>&amp;")
    (own_refavs_root / "families.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    run = make_run(own_refavs_root, tmp_path / "run")
    page = Page(report(own_refavs_root, run)[1])
    assert "<b onclick=x>&amp;" in page.texts
    assert not [attrs for attrs in page.all("b") if attrs.get("onclick")]


def test_a_family_may_have_any_name(refavs_root, made_run):
    scores = made_run / "scores" / "expressions.csv"
    scores.write_text(scores.read_text(encoding="utf-8").replace(",vision,", ",NA,"))
    page = Page(report(refavs_root, made_run)[1])
    assert page.texts.count("NA") == 1 + STRIPS - 3  # in the table and on strips, but for null rows


def test_a_closed_gate_shows_only_the_mask_it_hides(refavs_root, made_run):
    html = report(refavs_root, made_run)[1]
    gated, shown = 0, 0
    for row, strip in re.findall(
        r'<article class="strip" id="row-(\d+)">(.*?)</article>', html, re.S
    ):
        drawn = re.search(r'class="mask shown" d="(.*?)"', strip)[1]
        contours = drawn.count("M") - 1  # the frame around everything is the first
        closed = "closed, nothing is shown" in strip
        assert closed == ("null" in strip and int(row) % 2 == 1)
        assert contours == (0 if closed else 10)
        assert re.search(r'class="ghost" d="(.*?)"', strip)[1].count("M") == (
            10 if closed or "J <b>" in strip else 0
        )
        gated, shown = gated + closed, shown + (not closed)
    assert gated
    assert shown


# ---- what the model relies on -------------------------------------------------------------------


def write_diagnostics(run):
    """Write a table of 20 clips in which half of the rows of a family called "NA" hear."""
    rows = [(row, condition) for row in range(20) for condition in CONDITIONS]
    scores = pd.DataFrame(rows, columns=["row", "condition"])
    deaf = scores["condition"].isin(["sound muted", "sound swapped"]) & (scores["row"] < 10)
    scores = scores.assign(right=np.where(deaf, 0.0, 100.0), key=scores["row"], objects=4)
    family = np.where(scores["row"] < 12, "NA", "<i>sight")
    reliance(scores.assign(family=family)).to_csv(run / "diagnostics.csv", index=False)


def test_says_what_the_model_relies_on(refavs_root, made_run):
    write_diagnostics(made_run)
    page = Page(report(refavs_root, made_run)[1])
    assert "The model relies on the sound: swapping it costs 50.0 points" in page.text
    assert "most in NA (83)" in page.text
    assert "No effect of the picture found" in page.text
    assert {"What the model relies on", "<i>sight", *CONDITIONS} <= set(page.texts)
    html = (made_run / "report" / "index.html").read_text(encoding="utf-8")
    lines = re.findall(
        r'<th scope="row">(\S+?)</th><td>(\d+)</td><td>25.0</td>(.*?)</tr>', html, re.S
    )
    assert [(name, rows) for name, rows, _ in lines] == [
        ("&lt;i&gt;sight", "8"),
        ("NA", "12"),
        ("all", "20"),
    ]
    bold = [re.findall("<b>(.*?)</b>", cells) for *_, cells in lines]
    assert bold == [[], ["16.7", "16.7"], ["50.0", "50.0"]]


def test_says_nothing_of_modalities_without_rows_of_val(refavs_root, made_run):
    write_diagnostics(made_run)
    path = made_run / "diagnostics.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    assert "relies on" not in Page(report(refavs_root, made_run)[1]).text


def test_damaged_diagnostics_name_the_stage(refavs_root, made_run):
    (made_run / "diagnostics.csv").write_text("family,condition\n")
    with pytest.raises(ValueError, match=r"diagnostics.csv: column 'rows' .*'diagnose' again"):
        report(refavs_root, made_run)


# ---- missing inputs -----------------------------------------------------------------------------


def keep_rows(run, root, keep):
    """Keep only some rows of the test splits in the index, and score them again."""
    path = run / "index" / "expressions.csv"
    table = pd.read_csv(path, keep_default_na=False)
    table[~table["split"].str.startswith("test") | keep(table)].to_csv(path, index=False)
    write_scores(root, run)


@pytest.mark.parametrize(
    ("keep", "shown", "missing"),
    [
        (lambda rows: rows["split"] != "test_u", "seen", "unseen J"),
        (lambda rows: rows["split"] != "test_n", "mix", "S on null rows"),
        (lambda rows: rows["split"] == "test_n", "S on null rows", "J&F, seen"),
        (lambda rows: rows["row"] == 15, "unseen", "Worst"),
    ],
    ids=["no unseen", "no null", "only null", "one row"],
)
def test_splits_may_be_missing(refavs_root, made_run, keep, shown, missing):
    keep_rows(made_run, refavs_root, keep)
    page = Page(report(refavs_root, made_run)[1])
    assert shown in page.text
    assert missing not in page.text
    assert "nan" not in page.text.lower().split()


def test_families_curves_baselines_and_gate_may_be_missing(own_refavs_root, tmp_path):
    run = make_run(own_refavs_root, tmp_path / "run")
    (run / "model" / "loss.csv").unlink()
    (run / "model" / "validation.csv").write_text("\n")
    metrics = json.loads((run / "metrics.json").read_text())
    del metrics["baselines"], metrics["clips"], metrics["refavs"]["test_n"]["S_ungated"]
    (run / "metrics.json").write_text(json.dumps(metrics))
    index = read_index(run / "index").expressions
    logits = np.full((10, 16, 16), -6.0)
    fill(run / "predictions" / "masks.zarr", {str(row): (logits, 0.0) for row in index["row"]})
    strips, html = report(own_refavs_root, run)
    page = Page(html)
    assert strips == 9
    for missing in ("By family", "Training", "Gap closed", "every object", "gate at", "loss.csv"):
        assert missing not in page.text


def test_errors_name_the_stage_to_run_again(refavs_root, made_run):
    scores = made_run / "scores" / "expressions.csv"
    table = pd.read_csv(scores)
    table.assign(row=table["row"] + 1000).to_csv(scores, index=False)
    with pytest.raises(ValueError, match="row 1009 is not in the index; run the stage 'score'"):
        report(refavs_root, made_run)
    table.drop(columns="picked").to_csv(scores, index=False)
    with pytest.raises(ValueError, match="column 'picked' is missing; run the stage 'score'"):
        report(refavs_root, made_run)
    scores.unlink()
    with pytest.raises(FileNotFoundError, match=r"expressions.csv: no such file.*'score'"):
        report(refavs_root, made_run)
    (made_run / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match=r"metrics.json: not JSON"):
        report(refavs_root, made_run)
    (made_run / "metrics.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"metrics.json: no such file; run the stage"):
        report(refavs_root, made_run)


def test_masks_of_another_run_are_refused(refavs_root, made_run):
    fill(made_run / "predictions" / "masks.zarr", {"0": (np.zeros((10, 16, 16)), 0.0)})
    with pytest.raises(ValueError, match="not in the store; run the stages 'propagate'"):
        report(refavs_root, made_run)


# ---- tables -------------------------------------------------------------------------------------


def test_gap_closed():
    def mix(value):
        return {"refavs": {"mix": {"J&F": value}}}

    baselines = {"every_object": mix(40.0), "oracle_point": mix(90.0)}
    assert results.gap_closed({**mix(70.0), "baselines": baselines}) == pytest.approx(0.6)
    assert results.gap_closed({**mix(70.0), "baselines": {}}) is None
    assert results.gap_closed({"refavs": {}, "baselines": baselines}) is None


def test_family_means():
    rows = pd.DataFrame(
        {
            "split": ["test_s", "test_u", "test_u", "test_n"],
            "family": ["colour", "colour", "order", "null"],
            "null": [False, False, False, True],
            "objects": [2, 4, 2, 0],
            "picked": [True, False, True, None],
            "refavs_J": [80.0, 40.0, 10.0, None],
            "refavs_F": [90.0, 50.0, 30.0, None],
        }
    )
    rows["J&F"] = (rows["refavs_J"] + rows["refavs_F"]) / 2
    colour, order, everything = results.families(rows)
    assert (colour.name, colour.rows, colour.j, colour.f, colour.jf) == ("colour", 2, 60, 70, 65)
    assert (colour.picked, colour.chance) == (50, 37.5)
    assert colour.by_split == {"seen": 85, "unseen": 45}
    assert order.by_split == {"unseen": 20}
    assert (everything.name, everything.rows, everything.total) == ("all", 3, True)
    assert results.families(rows.assign(family="")) == []


def test_settings_are_named_as_on_the_command_line():
    section = {"steps": 3, "loss": {"bce": 1.0}, "betas": (0.9, 0.95), "on": True, "init": None}
    assert flatten(section) == {
        "steps": "3",
        "loss.bce": "1.0",
        "betas": "0.9, 0.95",
        "on": "true",
        "init": "null",
    }


# ---- examples -----------------------------------------------------------------------------------


def rows_of(count, *, families=("",), null=0, per_clip=2):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"row": range(100, 100 + count + null)})
    table["null"] = table["row"] >= 100 + count
    table["key"] = [f"clip{row // per_clip}" for row in table["row"]]
    table["family"] = [families[row % len(families)] for row in table["row"]]
    table["J&F"] = np.where(table["null"], np.nan, rng.integers(0, 100, len(table)))
    table["S"] = np.where(table["null"], rng.random(len(table)), 0.0)
    return table


def test_chooses_best_worst_typical_and_null():
    rows = rows_of(200, families=("colour", "order", "place"), null=40)
    groups = {group.name: group.rows for group in choose_examples(rows)}
    by_row = rows.set_index("row")
    assert list(groups) == ["best", "worst", "typical", "null"]
    for name in ("best", "worst"):
        assert by_row.loc[groups[name], "key"].is_unique
    best, worst = by_row.loc[groups["best"], "J&F"], by_row.loc[groups["worst"], "J&F"]
    assert best.max() == by_row["J&F"].max()
    assert best.is_monotonic_decreasing
    assert worst.min() == by_row["J&F"].min()
    assert worst.is_monotonic_increasing
    typical = by_row.loc[groups["typical"]]
    assert typical["family"].tolist() == ["colour", "order", "place"]
    medians = by_row.groupby("family")["J&F"].median()
    assert np.abs(typical["J&F"].to_numpy() - medians.to_numpy()).max() < 5
    null = by_row.loc[groups["null"], "S"]
    assert [null.iloc[0], null.iloc[-1]] == [by_row.S[by_row.null].min(), by_row.S.max()]
    shown = list(chain.from_iterable(groups.values()))
    assert len(shown) == len(set(shown))


def test_without_families_typical_rows_span_the_ranking():
    rows = rows_of(300)
    typical = {group.name: group.rows for group in choose_examples(rows)}["typical"]
    scores = rows.set_index("row").loc[typical, "J&F"]
    assert len(typical) == 12
    assert scores.is_monotonic_decreasing
    assert scores.iloc[0] > 90
    assert scores.iloc[-1] < 10


@pytest.mark.parametrize(("count", "null"), [(1, 0), (0, 1), (3, 2), (0, 0)])
def test_few_rows_are_shown_once_each(count, null):
    groups = choose_examples(rows_of(count, null=null))
    shown = list(chain.from_iterable(group.rows for group in groups))
    assert len(shown) == len(set(shown))
    assert len(shown) == count + null


# ---- drawings -----------------------------------------------------------------------------------


def test_outline_of_squares_and_holes():
    masks = np.zeros((2, 20, 40), bool)
    masks[1, 5:15, 10:20] = True
    assert outline(masks, height=20, width=40) == "M100 10L100 29L119 29L119 10z"
    masks[1, 8:12, 13:17] = False
    assert outline(masks, height=20, width=40).count("z") == 2
    assert outline(masks[:1], height=20, width=40) == ""


def test_strips_keep_the_shape_of_pictures():
    assert strip_size(96, 96) == (108, 108)
    assert strip_size(720, 1280) == (61, 108)
    assert strip_size(1280, 720) == (128, 72)
    assert strip_size(1, 5000) == (1, 108)


def heights(samples, rate):
    drawn = re.findall(r"M[\d.]+ \d+v(\d+)", waveform(samples, rate, seconds=10, width=360))
    assert len(drawn) == BARS
    return np.array(drawn, int)


def test_waveform():
    rate = 1000
    sound = np.zeros(10 * rate, np.float32)
    assert set(heights(sound, rate)) == {2}
    sound[5 * rate : 6 * rate] = 0.5
    sound[8 * rate : 9 * rate] = -0.25
    bars = heights(sound, rate)
    assert set(bars[BARS // 2 : BARS * 6 // 10]) == {bars.max()}
    assert bars[BARS * 85 // 100] == bars.max() / 2
    assert bars[0] == 2
    # The noise of a muted track isn't scaled up; after a track that ends early the line is flat.
    assert heights(sound / 1000, rate).max() == 2
    assert heights(sound[: 7 * rate], rate)[BARS * 7 // 10 :].max() == 2


def test_line_chart():
    chart = line_chart("Loss", {"loss": ([0, 50, 100], [4.0, float("nan"), 1.0])})
    (line,) = chart.lines
    assert line.points == [(chart.left, line.points[0][1]), (chart.right, line.points[1][1])]
    assert line.last == 1
    assert [label for _, label in chart.y_ticks] == ["0", "1", "2", "3", "4"]
    assert [label for _, label in chart.x_ticks] == ["0", "20", "40", "60", "80", "100"]
    assert chart.y_ticks[0][0] == chart.bottom
    assert chart.y_ticks[-1][0] == line.points[0][1] == chart.top
    assert line_chart("Loss", {"loss": ([0], [float("nan")])}) is None
    assert line_chart("Loss", {}) is None


def test_line_chart_of_another_quantity_than_steps():
    chart = line_chart("J", {"val": ([0, 0.04], [1, 2]), "gate": ([0], [2])}, x_label="S")
    assert chart.x_label == "S"
    assert [label for _, label in chart.x_ticks] == ["0", "0.01", "0.02", "0.03", "0.04"]
    assert chart.lines[0].points[-1][0] == chart.right
    assert line_chart("J", {"gate": ([0], [2])}).lines[0].points[0][0] == chart.left


def test_long_curves_are_averaged():
    steps = np.arange(16_000)
    chart = line_chart("Loss", {"loss": (steps, np.where(steps % 2, 3.0, 1.0))})
    drawn = re.findall(r"[\d.]+ ([\d.]+)", chart.lines[0].path)
    assert len(drawn) == 160
    assert set(drawn) == {f"{chart.top}"}  # 2, which is the highest tick
    assert chart.lines[0].points == []


@pytest.mark.parametrize("values", [[0.0], [5.0, 5.0], [-3.0, 2.0], [1e-7, 2e-7], [1e6]])
def test_charts_fit_any_values(values):
    chart = line_chart("x", {"x": (range(len(values)), values)})
    assert all(chart.top <= y <= chart.bottom for _, y in chart.lines[0].points)
    assert 2 <= len(chart.y_ticks) <= 8
