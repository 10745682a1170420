"""The command `sam2love score`: what it prints and writes, and how it fails."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from sam2love.cli import app
from sam2love.dataset import refavs
from sam2love.dataset.selections import SELECTIONS, read_expressions
from sam2love.evaluation import scoring
from sam2love.evaluation.scoring import score_masks
from tests import tiny


@pytest.fixture
def perfect(refavs_root, tmp_path):
    """The truth of every test row as masks; one uid names two objects and gets only one of them."""
    expressions = read_expressions(refavs_root, ["test_s", "test_u", "test_n"])
    for entry in expressions.itertuples():
        folder = tmp_path / "masks" / entry.uid
        folder.mkdir(parents=True, exist_ok=True)
        masks = np.zeros((10, tiny.HEIGHT, tiny.WIDTH), bool)
        if not entry.null:
            masks = refavs.read_masks(refavs_root, entry.key, entry.fid)
        for t in range(10):
            Image.fromarray(masks[t].astype(np.uint8) * 255).save(folder / f"{t:05d}.png")
    return tmp_path / "masks"


def command(*arguments):
    return CliRunner().invoke(app, ["score", *map(str, arguments)])


def test_scores_a_folder(refavs_root, perfect, tmp_path):
    done = command(perfect, refavs_root, "--json", tmp_path / "out.json")
    assert done.exit_code == 0
    metrics = json.loads((tmp_path / "out.json").read_text())
    assert metrics["davis"]["test_u"] == {"J": 100, "F": 100, "J&F": 100}
    assert metrics["original"]["test_u"]["F"] == 100
    assert metrics["refavs"]["test_n"] == {"S": 0, "S_ungated": 0, "S_at_0.4": 0}
    # One uid of test_s names two objects, of which its folder shows only one.
    assert metrics["davis"]["test_s"]["J"] == pytest.approx(200 / 3, abs=1e-4)
    assert metrics["picked"]["test_s"] == pytest.approx(200 / 3, abs=1e-4)
    assert metrics["picked"]["chance"] == 50
    assert metrics["families"]["vision"]["rows"] == 6
    assert "right object: seen 66.7 %, unseen 100.0 % (chance 50.0 %)" in done.output


def test_writes_a_row_per_expression(refavs_root, perfect, tmp_path):
    done = command(perfect, refavs_root, "--csv", tmp_path / "rows.csv")
    assert done.exit_code == 0
    rows = pd.read_csv(tmp_path / "rows.csv")
    assert rows["split"].value_counts().to_dict() == {"test_s": 3, "test_u": 3, "test_n": 3}
    unseen = rows[rows["split"] == "test_u"]
    assert (unseen[["davis_J", "davis_F", "original_J", "original_F"]] == 100).all(axis=None)
    assert (rows.loc[rows["split"] == "test_n", "S"] == 0).all()


def test_nan_is_never_written_to_json(refavs_root, perfect, tmp_path, monkeypatch):
    summarise = scoring.summarise

    def broken(*args, **more):
        return summarise(*args, **more) | {"gated": {"x": np.nan}}

    monkeypatch.setattr(scoring, "summarise", broken)
    with pytest.raises(ValueError, match="not JSON compliant"):
        score_masks(perfect, refavs_root, json_file=tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_folders_shared_by_several_rows_are_noted(refavs_root, perfect):
    done = command(perfect, refavs_root)
    assert "warning: 2 uids name several rows" in done.output
    assert "--seenD_1_2_car_1" in done.output


def test_masks_beyond_ten_are_noted(refavs_root, perfect):
    folder = next(perfect.iterdir())
    (folder / "00010.png").write_bytes((folder / "00009.png").read_bytes())
    assert (
        "warning: 1 folders have pictures other than 00000.png"
        in command(perfect, refavs_root).output
    )


def test_a_split_without_masks_is_noted(refavs_root, perfect):
    for folder in perfect.glob("null*"):
        folder.rename(folder.with_name(f"other {folder.name}"))
    done = command(perfect, refavs_root)
    assert done.exit_code == 0
    assert "warning: test_n is left out: no masks for any of its 3 rows" in done.output


def test_masks_of_zeros_and_ones_give_a_warning(refavs_root, perfect):
    for path in perfect.glob("*/*.png"):
        Image.fromarray(np.asarray(Image.open(path)) // 255).save(path)
    assert "are they 0 or 1 instead of 0 to 255?" in command(perfect, refavs_root).output


def test_a_fault_is_one_line(refavs_root, perfect, tmp_path):
    missing = next(perfect.glob("--seenD*2")) / "00003.png"
    missing.unlink()
    done = command(perfect, refavs_root, "--json", tmp_path / "out.json")
    assert done.exit_code == 1
    error = (
        "error: masks of 1 rows are missing or malformed: --seenD_1_2_car_2/00003.png is missing"
    )
    assert done.output.splitlines() == [error]
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("wrong", ["masks", "root", "json", "csv"])
def test_missing_paths_are_one_line(refavs_root, perfect, tmp_path, wrong):
    paths = {"masks": perfect, "root": refavs_root, "json": tmp_path / "j", "csv": tmp_path / "c"}
    paths[wrong] = tmp_path / "absent" / "entry"
    files = ("--json", paths["json"], "--csv", paths["csv"])
    done = command(paths["masks"], paths["root"], *files)
    assert done.exit_code == 1
    assert done.output.startswith(f"error: {paths[wrong]}")
    assert len(done.output.splitlines()) == 1


@pytest.mark.parametrize("option", ["--json", "--csv"])
@pytest.mark.parametrize("file", ["", ".", "folder"])
def test_a_folder_instead_of_a_file_is_refused_before_scoring(
    refavs_root, perfect, tmp_path, monkeypatch, option, file
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scoring, "score_rows", lambda *_, **__: pytest.fail("scored"))
    (tmp_path / "folder").mkdir()
    done = command(perfect, refavs_root, option, file)
    assert done.exit_code == 1
    assert done.output == f"error: {file or '.'}: is a folder; name a file to write\n"


@pytest.mark.parametrize("splits", [["train"], ["TODO"], ["train", "TODO"]])
def test_a_data_set_without_rows_to_score(own_refavs_root, perfect, splits):
    table = pd.read_csv(own_refavs_root / "metadata.csv", dtype=str)
    table[table["split"].isin(splits)].to_csv(own_refavs_root / "metadata.csv", index=False)
    done = command(perfect, own_refavs_root)
    assert done.exit_code == 1
    assert "metadata.csv has no usable row of val, test_s, test_u, test_n" in done.output
    assert len(done.output.splitlines()) == 1


def test_rows_with_faults_are_named(own_refavs_root, perfect):
    metadata = own_refavs_root / "metadata.csv"
    metadata.write_text(metadata.read_text().replace('"32"', '"?"'))
    done = command(perfect, own_refavs_root)
    assert done.exit_code == 1
    assert "metadata.csv row 12" in done.output


@pytest.mark.parametrize(
    ("split", "key", "fault"),
    [
        ("test_s", "null_m-vidA_0_10000", "null rows can't be scored in split test_s"),
        ("test_u", "null_m-vidA_0_10000", "null rows can't be scored in split test_u"),
        ("test_n", "vidA_0_10000", "split test_n is for null rows"),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_rows_of_the_wrong_split_are_named(own_refavs_root, tmp_path, split, key, fault, alone):
    """Their J or S would be NaN or meaningless."""
    rows = [] if alone else [tiny._row(*row) for row in tiny.ROWS if row[1] != key]
    tiny.write_metadata(own_refavs_root, [*rows, (key, f"{key}_x_1", split, 1, "It")])
    out = tmp_path / "out.json"
    masks = tmp_path / "masks"
    masks.mkdir()
    done = command(masks, own_refavs_root, "--json", out)
    assert done.exit_code == 1
    row = f"metadata.csv row {len(rows)} (uid '{key}_x_1')"
    assert done.output.splitlines() == [done.output.strip()]
    assert done.output.startswith(f"error: {own_refavs_root}: {row}: {fault}")
    assert not out.exists()


def test_a_selection_of_rows(refavs_root, perfect, tmp_path):
    for folder in perfect.glob("*car_2"):  # its text occurs in train
        folder.rename(folder.with_name("not of the selection"))
    options = ("--only", "unseen-expressions", "--json", tmp_path / "out.json")
    done = command(perfect, refavs_root, *options)
    assert done.exit_code == 0
    assert "warning: only unseen-expressions: 7 rows, not comparable" in done.output
    metrics = json.loads((tmp_path / "out.json").read_text())
    assert metrics["only"] == "unseen-expressions"
    assert metrics["davis"]["test_s"]["J"] == 50  # one uid names two objects, its folder shows one
    done = command(perfect, refavs_root, "--only", "clean")
    assert done.exit_code == 1
    assert "error: no selection 'clean', expected one of cleaned, unseen-exp" in done.output


def test_the_help_names_every_selection():
    help_text = " ".join(command("--help").output.replace("\u2502", " ").split())
    assert all(f"--only {name}" in help_text for name in SELECTIONS)


def test_media_are_not_needed(own_refavs_root, perfect):
    (own_refavs_root / "media").rename(own_refavs_root / "elsewhere")
    assert score_masks(perfect, own_refavs_root)["davis"]["test_u"]["J"] == 100
