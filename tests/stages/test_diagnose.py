"""The stage on the tiny data set with a random model."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from sam2love.dataset.index import read_index, write_index
from sam2love.evaluation.reliance import COLUMNS, CONDITIONS
from sam2love.model import SAM2Love
from sam2love.params import load_params
from sam2love.report.reliance import read_reliance
from sam2love.stores.features import FeatureReader
from stages import diagnose
from tests import tiny
from tests.tiny import build_index

SMALL = {"fusion.dim": 16, "fusion.heads": 2, "fusion.layers": 1}


@pytest.fixture
def run(run_folder, feature_folder):
    """Return a function that runs the stage with changed parameters and a random model."""

    def run(**changes: object) -> pd.DataFrame:
        tiny.change_params(run_folder / "params.yaml", SMALL | changes)
        torch.manual_seed(0)
        reader = FeatureReader(feature_folder, read_index(run_folder / "index"))
        model = SAM2Love.build(load_params(), **reader.dims)
        Path("model").mkdir(exist_ok=True)
        model.save(Path("model/model.safetensors"))
        diagnose.main(Path("index"), feature_folder, Path("model"), Path("diagnostics.csv"))
        return pd.read_csv("diagnostics.csv", keep_default_na=False, na_values={"lost": [""]})

    return run


def move_to_val(root: Path, *, families: bool = True) -> None:
    """Make every train row one of val, and index the data set again."""
    moved = [("val", *row[1:]) if row[0] == "train" else row for row in tiny.ROWS]
    tiny.write_metadata(root, [tiny._row(*row) for row in moved])
    index = build_index(root)
    if families:
        uids = index.expressions["uid"].drop_duplicates()
        names = ["colour" if uid.endswith("1") else "NA" for uid in uids]
        object.__setattr__(index, "families", pd.DataFrame({"uid": uids, "family": names}))
    write_index(index, Path("index"))


def test_a_line_per_family_and_condition(run, own_refavs_root, capsys):
    move_to_val(own_refavs_root)
    table = run()
    assert table.columns.tolist() == COLUMNS
    assert table["condition"].tolist() == CONDITIONS * 3
    assert table["family"].tolist() == [name for name in ("NA", "colour", "") for _ in CONDITIONS]
    # Nine rows of three clips aren't null; vidB has three objects, the others two.
    rows = table.groupby("family")[["rows", "clips"]].first()
    assert rows.loc[["colour", ""]].values.tolist() == [[4, 3], [9, 3]]
    assert table["chance"].tolist()[-1] == pytest.approx(100 * (2 / 3 + 7 / 2) / 9, abs=1e-5)
    assert table["right"].between(0, 100).all()
    assert table["lost"].isna().tolist() == ([True] + [False] * 6) * 3
    printed = capsys.readouterr().out
    assert "Too few clips to tell whether the model relies on the sound: 3 with" in printed
    assert "diagnostics.csv: 9 rows of val" in printed


def test_without_sound_among_its_modalities_nothing_is_lost(run, own_refavs_root):
    move_to_val(own_refavs_root, families=False)
    table = run(**{"fusion.modalities": ["text", "vision"]}).set_index("condition")
    assert set(table["family"]) == {""}
    assert table.loc[["sound muted", "sound swapped"], "lost"].tolist() == [0, 0]


def test_one_clip_of_val_is_no_fault(run):
    table = run()
    assert table["clips"].unique().tolist() == [1]
    swapped = table["condition"].isin(["sound swapped", "picture swapped"])
    assert (table.loc[swapped, "lost"] == 0).all()  # there is nothing else to swap in


def test_without_val_the_table_is_empty(run, own_refavs_root):
    moved = [("train", *row[1:]) if row[0] == "val" else row for row in tiny.ROWS]
    tiny.write_metadata(own_refavs_root, [tiny._row(*row) for row in moved])
    write_index(build_index(own_refavs_root), Path("index"))
    assert run().empty
    assert Path("diagnostics.csv").read_text() == ",".join(COLUMNS) + "\n"
    assert read_reliance(Path("diagnostics.csv")) is None


def test_is_reproducible(run):
    run()
    first = Path("diagnostics.csv").read_bytes()
    run()
    assert Path("diagnostics.csv").read_bytes() == first
