"""Clips of another length than Ref-AVS's, from data to scores, report and prediction."""

import base64
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sam2love.cli import app
from sam2love.dataset.index import read_index
from sam2love.dataset.survey import survey
from sam2love.params import load_params
from sam2love.prediction.predictor import Predictor
from sam2love.stores.features import FeatureReader
from sam2love.stores.store import FeatureStore
from tests import tiny
from tests.videos import make_video

FRAMES = 6


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """The tiny data set with clips of six seconds: never modify it."""
    return tiny.make_refavs(tmp_path_factory.mktemp("six"), frames=FRAMES)


@pytest.fixture(scope="module")
def run(root, vggish_file, vit_folder, roberta_folder, sam2_folder, tmp_path_factory):
    """A finished run of every stage: never modify it."""
    folder = tmp_path_factory.mktemp("run")
    encoders = {"vggish": vggish_file, "vit": vit_folder, "roberta": roberta_folder}
    tiny.write_params(
        folder / "params.yaml", root, **encoders, sam2=sam2_folder, **{"data.frames": FRAMES}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for _, stage in tiny.stage_runs(root):
            stage()
    return folder


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    return {spec.name: spec.item_shape for spec in FeatureStore.open(path).specs}


@pytest.mark.slow
def test_every_store_has_as_many_frames(run):
    features, predictions = run / "features", run / "predictions"
    assert shapes(features / "audio.zarr")["audio"][0] == FRAMES
    for array in ("patches", "cls"):
        assert shapes(features / "vision.zarr")[array][0] == FRAMES
    of_rows = {"prompted", "presence"}
    for store in ("masks.zarr", "objects.zarr"):
        of_frames = {
            name: s for name, s in shapes(predictions / store).items() if name not in of_rows
        }
        assert {shape[0] for shape in of_frames.values()} == {FRAMES}
    frames = {name.rpartition("/")[2] for name in FeatureStore.open(features / "sam2.zarr").ids}
    assert frames == {str(t) for t in range(FRAMES)}
    assert "16 kHz, 6 s," in FeatureStore.open(features / "audio.zarr").provenance["preprocessing"]


@pytest.mark.slow
def test_training_sees_them_all(run):
    header, *steps = (line.split(",") for line in (run / "model/loss.csv").read_text().splitlines())
    assert [step[header.index("frames")] for step in steps] == ["1", str(FRAMES)]


@pytest.mark.slow
def test_masks_are_scored_and_shown(run):
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"test_s", "test_u", "mix", "test_n"} <= set(metrics["refavs"])
    assert metrics["refavs"]["mix"].keys() >= {"J", "F", "J&F"}
    page = (run / "report/index.html").read_text()
    strips = re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    sizes = {Image.open(io.BytesIO(base64.b64decode(strip))).size for strip in strips}
    assert sizes == {(FRAMES * tiny.WIDTH, tiny.HEIGHT)}


@pytest.mark.slow
def test_an_exported_model_predicts_in_windows_of_that_length(run, tmp_path, monkeypatch):
    monkeypatch.chdir(run)
    assert CliRunner().invoke(app, ["export", ".", str(tmp_path / "model")]).exit_code == 0
    config = json.loads((tmp_path / "model/config.json").read_text())
    assert config["data"] == {"frames": FRAMES}
    pictures = np.random.default_rng(0).integers(0, 256, (13, 20, 30, 3), dtype=np.uint8)
    video = make_video(tmp_path / "v.mkv", pictures)  # a frame per second
    predictor = Predictor.from_pretrained(tmp_path / "model", device="cpu")
    outcome = predictor.predict(video, ["The red object."], out=tmp_path / "out")
    assert outcome.window_starts == [0.0, 6.0, 12.0]


@pytest.mark.slow
def test_stores_of_another_length_are_refused(run, monkeypatch):
    monkeypatch.chdir(run)
    params = load_params()
    longer = params.model_copy(update={"data": params.data.model_copy(update={"frames": 7})})
    reader = FeatureReader(run / "features", read_index(run / "index"), params=longer)
    with pytest.raises(ValueError, match=r"audio\.zarr.*6 s"):
        reader.check()


def test_check_and_score_are_told_the_length(root, tmp_path):
    def sam2love(*arguments: object) -> tuple[int, str]:
        done = CliRunner().invoke(app, [*map(str, arguments)])
        return done.exit_code, done.output

    assert sam2love("check", root, "--frames", FRAMES)[0] == 0
    code, output = sam2love("check", root)
    assert code == 1
    assert "6.jpg: no such file; expected one per frame" in output
    assert "--frames" in output
    notes = [str(fault) for fault in survey(root, frames=5).faults]
    assert any("only the 5 pictures 0.jpg to 4.jpg are read" in note for note in notes)
    assert any("6.0 s of sound, expected 5; the rest is cut off" in note for note in notes)
    for uid, fid in (("Ünseen E_30_40_harp_1", 1), ("Ünseen E_30_40_harp_2", 2)):
        truth = root / "gt_mask/Ünseen E_30_40" / f"fid_{fid}"
        shutil.copytree(truth, tmp_path / "masks" / uid)
    scores = tmp_path / "scores.json"
    code, output = sam2love("score", tmp_path / "masks", root, "--json", scores, "--frames", FRAMES)
    assert code == 0, output
    assert json.loads(scores.read_text())["davis"]["test_u"] == {"J": 100, "F": 100, "J&F": 100}
    code, output = sam2love("score", tmp_path / "masks", root)
    assert code == 1
    assert "00006.png is missing" in output
