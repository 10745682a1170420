"""Stage score on generated stores: what it writes, prints, and leaves out."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sam2love.dataset import refavs
from sam2love.dataset.index import index_digest, read_index, write_index
from sam2love.dataset.selections import read_expressions
from sam2love.evaluation import rejection
from sam2love.evaluation.scoring import score_masks
from sam2love.stores import provenance
from sam2love.stores.store import ArraySpec, fill_store
from stages import score
from tests.tiny import build_index

SIDE = 16
STAGES = {"masks": "propagate", "objects": "baselines"}
SPECS = [
    ArraySpec("logits", (10, SIDE, SIDE), "float16", 4, "mask logits"),
    ArraySpec("presence", (), "float32", 4, "presence"),
]


def small_logits(masks: np.ndarray | None) -> np.ndarray:
    """Return masks (10, 48, 64) as logits of +-8 at 16 x 16; for None, all foreground."""
    if masks is None:
        return np.full((10, SIDE, SIDE), 8.0)
    return np.where(masks[:, 1::3, 2::4], 8.0, -8.0)


def fill(path, items: dict[str, tuple[np.ndarray, float]], **recorded) -> None:
    def encode(ids):
        return {
            "logits": np.stack([items[name][0] for name in ids]),
            "presence": np.array([items[name][1] for name in ids], np.float32),
        }

    fill_store(
        path,
        specs=SPECS,
        ids=list(items),
        provenance=provenance.of_masks(STAGES[path.stem], path.parent.parent / "index", **recorded),
        encode=encode,
        batch_size=4,
        description="test",
    )


@pytest.fixture
def work(refavs_root, tmp_path, monkeypatch):
    """An index, and perfect masks; null rows show everything, with odd rows gated."""
    index = build_index(refavs_root)
    write_index(index, tmp_path / "index")
    masks = {}
    for entry in index.expressions.itertuples():
        if entry.split in ("test_s", "test_u"):
            truth = refavs.read_masks(refavs_root, entry.key, entry.fid)
            masks[str(entry.row)] = (small_logits(truth), 5.0)
        elif entry.split in ("val", "test_n"):
            masks[str(entry.row)] = (small_logits(None), -1.0 if entry.row % 2 else 1.0)
    objects = {}
    for clip in index.clips.itertuples():
        for fid in refavs.objects(refavs_root, clip.key):
            truth = refavs.read_masks(refavs_root, clip.key, fid)
            objects[f"{clip.frames_key}/{fid}"] = (small_logits(truth), 5.0)
    fill(tmp_path / "predictions" / "masks.zarr", masks, gate=True)
    fill(tmp_path / "predictions" / "objects.zarr", objects)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def params(monkeypatch):
    """The repository's parameters, with few resamples."""
    loaded = score.load_params(Path(__file__).parents[2] / "params.yaml")
    few = loaded.score.model_copy(update={"bootstrap": 50})
    monkeypatch.setattr(score, "load_params", lambda: loaded.model_copy(update={"score": few}))


def run(root, work):
    score.main(root, work / "index", work / "predictions", work / "scores")
    return json.loads((work / "metrics.json").read_text())


def test_writes_metrics_and_rows(params, work, refavs_root, capsys):
    metrics = run(refavs_root, work)
    printed = capsys.readouterr().out
    assert metrics["picked"] == {"test_s": 100, "test_u": 100, "chance": 50}
    # The masks are those of the objects, so they equal the oracle's and beat a random choice.
    oracle = metrics["baselines"]["oracle_point"]["refavs"]
    assert {split: oracle[split] for split in ("test_s", "test_u", "mix")} == {
        split: metrics["refavs"][split] for split in ("test_s", "test_u", "mix")
    }
    for name in ("every_object", "largest", "central", "random"):
        baseline = metrics["baselines"][name]["refavs"]
        assert baseline["mix"]["J&F"] < metrics["refavs"]["mix"]["J&F"] - 5
        assert 0 < baseline["test_n"]["S"] < 1
        assert name in printed
    assert oracle["test_n"]["S"] == 0
    rows = pd.read_csv(work / "scores" / "expressions.csv")
    index = read_index(work / "index").expressions
    expected = index.loc[index["split"] != "train", "row"]
    assert rows["row"].tolist() == expected.tolist()
    assert set(rows["family"]) == {"audio", "vision"}
    assert "seen 100.0 %, unseen 100.0 % (chance 50.0 %)" in printed


def test_val_is_scored_by_its_kinds(params, work, refavs_root):
    """Val's masks show everything, which overlaps most with the larger of the two objects."""
    index = read_index(work / "index")
    val = index.expressions[(index.expressions["split"] == "val") & ~index.expressions["null"]]
    kinds = pd.DataFrame({"uid": val["uid"], "kinds": ["seen", "unseen"]})
    before = index_digest(work / "index")
    write_index(replace(index, kinds=kinds), work / "index")
    for store in (work / "predictions").glob("*.zarr/zarr.json"):
        store.write_text(store.read_text().replace(before, index_digest(work / "index")))
    metrics = run(refavs_root, work)
    rows = pd.read_csv(work / "scores" / "expressions.csv").set_index("uid")
    for uid, part in zip(val["uid"], ("seen", "unseen"), strict=True):
        line, means = rows.loc[uid], metrics["val"][part]
        assert line["kinds"] == part
        assert (means["J"], means["F"]) == pytest.approx((line["frame_J"], line["frame_F"]))
        assert (means["picked"], means["chance"]) == (100 * line["picked"], 50)
    assert metrics["val"]["all"]["rows"] == 2
    assert metrics["val"]["all"]["picked"] == 50
    assert metrics["val"]["null"]["rows"] == 1


def test_the_gate_blanks_null_rows(params, work, refavs_root):
    metrics = run(refavs_root, work)
    rows = read_expressions(refavs_root, ["test_n"])["row"]
    shown = (rows % 2 == 0).mean()
    assert 0 < shown < 1
    expected = {"S": np.sqrt(shown), "S_ungated": 1, "S_at_0.4": np.sqrt(shown)}
    assert metrics["refavs"]["test_n"] == pytest.approx(expected, abs=1e-6)
    assert metrics["gated"]["test_n"] == pytest.approx(100 * (1 - shown), abs=1e-5)


def test_the_gate_s_point_of_the_trade_off_is_what_was_scored(params, work, refavs_root):
    metrics = run(refavs_root, work)
    rows = pd.read_csv(work / "scores" / "expressions.csv")
    parts = rejection.comparable(rows)
    assert parts.keys() == metrics["rejection"].keys() == {"val", "test"}
    scored = {"val": metrics["val"]["null"]["S"], "test": metrics["frame"]["test_n"]["S"]}
    for name, part in parts.items():
        own = part.loc[~part["null"], ["frame_J", "frame_F"]].to_numpy().mean()
        assert rejection.with_gate(part, rejection.GATE_LOGIT) == pytest.approx(
            (own, scored[name]), abs=1e-5
        )


def test_other_thread_counts_give_the_same_bytes(params, work, refavs_root, monkeypatch):
    run(refavs_root, work)
    first = [(work / name).read_bytes() for name in ("metrics.json", "scores/expressions.csv")]
    loaded = score.load_params()
    one = loaded.runtime.model_copy(update={"threads": 1})
    monkeypatch.setattr(score, "load_params", lambda: loaded.model_copy(update={"runtime": one}))
    run(refavs_root, work)
    assert first == [(work / n).read_bytes() for n in ("metrics.json", "scores/expressions.csv")]


def test_the_command_agrees_with_the_stage(params, work, refavs_root):
    metrics = run(refavs_root, work)
    by_command = score_masks(work / "predictions" / "masks.zarr", refavs_root)
    for part in (
        "refavs",
        "frame",
        "original",
        "davis",
        "picked",
        "gated",
        "rejection",
        "families",
    ):
        assert by_command[part] == metrics[part]
    assert by_command["baselines"] == {}


def test_a_missing_row_names_the_store(params, work, refavs_root):
    index = read_index(work / "index")
    row = index.expressions.loc[index.expressions["split"] == "test_u", "row"].iloc[0]
    fill(work / "predictions" / "masks.zarr", {str(row): (small_logits(None), 1.0)})
    with pytest.raises(ValueError, match=r"rows are missing.*not in the store"):
        run(refavs_root, work)


def test_masks_of_another_index_are_refused(params, work, refavs_root):
    (work / "index" / "families.csv").write_text("uid,family\n")
    with pytest.raises(ValueError, match=r"masks\.zarr: its provenance has index .*'propagate'"):
        run(refavs_root, work)


def test_a_split_may_be_missing_from_the_index(params, work, refavs_root, capsys):
    path = work / "index" / "expressions.csv"
    table = pd.read_csv(path)
    before = index_digest(work / "index")
    table[~table["split"].isin(["test_u"])].to_csv(path, index=False)
    for store in (work / "predictions").glob("*.zarr/zarr.json"):
        store.write_text(store.read_text().replace(before, index_digest(work / "index")))
    metrics = run(refavs_root, work)
    assert set(metrics["refavs"]) == {"test_s", "test_n"}
    assert "unseen 100" not in capsys.readouterr().out


def test_an_index_without_rows_to_score_is_refused(params, work, refavs_root):
    path = work / "index" / "expressions.csv"
    rows = pd.read_csv(path)
    rows[rows["split"] == "train"].to_csv(path, index=False)
    with pytest.raises(ValueError, match="index: no row of val, test_s, test_u, test_n to score"):
        run(refavs_root, work)
