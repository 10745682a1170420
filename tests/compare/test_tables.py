"""The tables of experiments: rows, means and spreads by hand, and the paper's tables."""

from statistics import stdev

import pytest
from typer.testing import CliRunner

from sam2love.cli import app
from sam2love.compare.paper import TABLES
from sam2love.compare.tables import compare_experiments, markdown
from sam2love.report.results import PAPER
from tests.compare.test_experiments import SAMPLE, changed, entry, revisions, values

MEASURES = ("J", "F", "J&F")


def tables(text: str) -> dict[str, dict[str, dict[str, str]]]:
    """Return cells by the table's heading, the row's first cell, and the column's head."""
    found = {}
    for block in text.split("\n\n"):
        if block.startswith("#"):
            heading = block.splitlines()[0].strip("# ")
        if not block.startswith("|"):
            continue
        head, _, *rows = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()
        ]
        found[heading] = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    return found


@pytest.fixture(scope="module")
def printed() -> dict:
    return tables(compare_experiments(SAMPLE)[0])


def test_seeds_are_one_row_with_mean_and_sample_deviation(printed):
    """The sample has J 57.5, 59 and 60.5; the commit's own run is seed 1."""
    row = printed["Experiments from main (bfaa9ce)"]["the commit's parameters"]
    assert row["n"] == "3"
    assert row["seen J"] == "59.0 ± 1.5"
    assert row["mix J&F"] == "56.0 ± 1.5"
    assert row["null S"] == f"{(0.1 + 0.05 + 0.1 / 3) / 3:.3f} ± {stdev([0.1, 0.05, 0.1 / 3]):.3f}"
    assert row["picked unseen"] == "60.0 ± 0.0"


def test_a_row_is_named_by_what_differs(printed):
    rows = printed["Experiments from main (bfaa9ce)"]
    assert set(rows) == {
        "the commit's parameters",
        "fusion.history=none, fusion.layers=1",
        "fusion.history=none, fusion.layers=6",
        "fusion.modalities=[text,vision]",
    }
    single = rows["fusion.history=none, fusion.layers=6"]
    assert (single["n"], single["unseen F"]) == ("1", "56.5")
    assert rows["fusion.modalities=[text,vision]"]["n"] == "2"


def test_the_papers_figures_are_next_to_ours(printed):
    table = printed["Table 3, transformer blocks"]
    assert list(table) == ["1 layer", "6 layers", "12 layers"]
    assert table["6 layers"]["seen J"] == "62.5"
    assert table["6 layers"]["paper's seen J"] == "42.6"
    assert table["12 layers"]["n"] == table["12 layers"]["unseen F"] == "-"
    assert table["12 layers"]["paper's unseen F"] == "73.3"


def test_names_the_data_set_and_other_changes():
    text = compare_experiments(SAMPLE)[0]
    assert (
        "Ours on `mini/data` with fusion.history=none; the paper's figures are on Ref-AVS." in text
    )


def test_figure_1_has_no_columns_of_the_paper(printed):
    (title,) = (title for title in printed if title.startswith("Figure 1"))
    assert printed[title]["text and vision (a)"]["seen J"].startswith("55.2 ± ")
    assert printed[title]["audio, text and vision (c)"]["n"] == "3"
    assert not [column for column in printed[title]["audio and vision (b)"] if "paper" in column]


def test_settings_that_the_paper_lacks_are_rows_of_their_own():
    def deeper(commit):
        one = entry(commit, "bared-hems")
        one["executor"]["state"] = "success"
        values(one["revs"][0])["fusion"].update(layers=7, history="none")
        one["revs"][0]["data"]["metrics"] = commit["data"]["metrics"]

    table = tables(compare_experiments(changed(deeper))[0])["Table 3, transformer blocks"]
    assert table["fusion.layers=7"]["seen J"] == "57.5"
    assert table["fusion.layers=7"]["paper's seen J"] == "-"


def test_experiments_that_differ_in_other_parameters_make_no_table():
    def only_one(commit):
        for run in revisions(commit):
            if values(run)["fusion"]["layers"] == 6:
                values(run)["fusion"]["history"] = "inclusive"

    assert "Table 3, transformer blocks" not in tables(compare_experiments(changed(only_one))[0])


def test_backbones_are_recognised_by_their_weights():
    def backbones(commit):
        for run in (commit, *revisions(commit)):
            clip = values(run)["fusion"]["layers"] == 6
            vision, text = ("clip-vit", "clip-vit") if clip else ("mini/vit", "distilroberta")
            values(run)["vision"] = {"weights": vision, "digest": vision}
            values(run)["text"] = {"weights": text, "digest": text}
            if clip:
                values(run)["fusion"].update(layers=3, history="previous")

    text = compare_experiments(changed(backbones))[0]
    table = tables(text)["Table 2, backbones and [cls] accumulation"]
    assert table["CLIP-T and CLIP-V, [cls] accumulated"]["seen J"] == "62.5"
    assert table["RoBERTa and ViT, [cls] accumulated"]["n"] == "3"
    assert table["RoBERTa and ViT"]["n"] == "-"
    assert "| text.weights=clip-vit, vision.weights=clip-vit " in text  # no digests


@pytest.mark.parametrize(
    ("vision", "text", "row"),
    [
        ("weights/mini/vit", "weights/mini/roberta", 1),
        ("weights/mini/clip", "weights/mini/clip", 0),
        (
            "timm/vit_base_patch16_224.augreg2@3feba4",
            "distilbert/distilroberta-base@f",
            1,
        ),
        ("openai/clip-vit-base-patch32@abc", "openai/clip-vit-base-patch32@abc", 0),
        ("laion/CLIP-ViT-H-14-laion2B-s32B-b79K@a", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K@a", 0),
        ("google/ViT-B_16@main", "FacebookAI/RoBERTa-large@refs/pr/1", 1),
        ("data/clips-2024/vit", "data/clips-2024/roberta", 1),
        ("models/clip/vitb16/", "models/clip/roberta/", 1),
        ("openai/clip-vit-base-patch32@abc", "distilbert/distilroberta-base@f", None),
        ("timm/vit_base_patch16_clip_224.openai@a", "distilbert/distilroberta-base@f", None),
        ("timm/vit_base_patch16_siglip_224.webli@a", "distilbert/distilroberta-base@f", None),
        ("laion/CLIP-ViT-B-32@a", "distilbert/distilroberta-base@f", None),
        ("apple/mobilevit-small@a", "distilbert/distilroberta-base@f", None),
        ("timm/levit_128.fb_dist_in1k@a", "distilbert/distilroberta-base@f", None),
        ("timm/resnet50@vit", "distilbert/distilroberta-base@f", None),
        ("weights/vit/resnet50", "weights/roberta/model", None),
        ("timm/vit_base_patch16_224.a@b", "openai/clip-vit-base-patch32@abc", None),
        ("timm/vit_base_patch16_224.a@b", "bert-base@a", None),
        ("openai/clip-vit-base-patch32@abc", "bert-base@a", None),
    ],
)
def test_the_papers_backbones_are_recognised_by_name(vision, text, row):
    params = {
        "vision.weights": vision,
        "vision.digest": "0",
        "text.weights": text,
        "text.digest": "1",
        "fusion.history": "previous",
    }
    backbones = TABLES[0]
    assert backbones.row_of(params) is (None if row is None else backbones.rows[row])
    without = backbones.row_of(params | {"fusion.history": "none"})
    assert without is (backbones.rows[2] if row == 1 else None)


def test_different_figures_for_the_same_parameters_are_noted():
    def repeat(commit):
        newer, older = (
            run for run in revisions(commit) if "audio" not in values(run)["fusion"]["modalities"]
        )
        newer["data"]["params"] = older["data"]["params"]

    text, notes = compare_experiments(changed(repeat))
    rows = tables(text)["Experiments from main (bfaa9ce)"]
    assert rows["fusion.modalities=[text,vision]"]["n"] == "1"
    assert any(
        "same parameters but different figures" in note and "is left out" in note for note in notes
    )


def test_splits_may_be_missing():
    def no_null(commit):
        for run in (commit, *revisions(commit)):
            if found := run["data"]["metrics"]:
                found["metrics.json"]["data"]["refavs"].pop("test_n", None)

    rows = tables(compare_experiments(changed(no_null))[0])["Experiments from main (bfaa9ce)"]
    assert {row["null S"] for row in rows.values()} == {"-"}


def test_columns_line_up():
    lines = compare_experiments(SAMPLE)[0].splitlines()
    blocks = [line for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in blocks}) == 2  # with S and picked, and without
    assert markdown(["", "n"], [["a|b", "1"]]).splitlines()[2] == r"| a\|b |  1 |"


def test_the_papers_j_and_f_is_their_mean():
    """Guards against typos; the paper rounds after averaging."""
    for table in TABLES:
        for row in table.rows:
            assert len(row.figures) == (3 * len(table.splits) if table.has_figures else 0)
            for j, f, both in zip(*(row.figures[place::3] for place in range(3)), strict=True):
                assert both == pytest.approx((j + f) / 2, abs=0.1001)
            assert set(row.values) == set(table.varied)


def test_table_2_repeats_the_papers_result():
    """Table 1, which the report shows, and Table 2 print the same J, F and J&F."""
    figures, _ = PAPER["SAM2-LOVE"]
    assert TABLES[0].rows[1].figures == tuple(figures[:6])


# ---- the command --------------------------------------------------------------------------------


def command(*arguments: str, text: str | None = None):
    return CliRunner().invoke(app, ["report", *arguments], input=text)


def test_reads_a_pipe_or_a_file(tmp_path):
    file = tmp_path / "shown.json"
    file.write_text(SAMPLE, encoding="utf-8")
    piped, read = command("--compare", "-", text=SAMPLE), command("--compare", str(file))
    assert piped.exit_code == read.exit_code == 0
    assert piped.stdout == read.stdout == compare_experiments(SAMPLE)[0] + "\n"
    assert "warning: testy-synd failed" in piped.stderr


def test_a_fault_is_one_line():
    done = command("--compare", "-", text="oops")
    assert done.exit_code == 1
    assert done.output.startswith("error: not the output of `dvc exp show --json`: Invalid JSON")
    assert len(done.output.splitlines()) == 1
    missing = command("--compare", "absent.json")
    assert missing.exit_code == 1
    assert missing.output == "error: absent.json: no folder of runs, and no file of experiments\n"
