"""A few steps on the tiny data set, reopened, and compared with what training started from."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file

from sam2love.dataset.index import read_index
from sam2love.encoders.weights import digest
from sam2love.model import SAM2Love
from sam2love.stores.features import FeatureReader
from sam2love.training import batches
from stages import train
from tests import tiny
from tests.stores.test_store import contents

STEPS = {"train.grounding_steps": 1, "train.steps": 2, "train.warmup_steps": 1}
SMALL = STEPS | {
    "data.null_rows": True,
    "fusion.dim": 16,
    "fusion.heads": 2,
    "fusion.layers": 1,
    "sam2.train_prompt_encoder": True,
    "sam2.train_mask_decoder": True,
    "sam2.train_high_res_convs": False,
    "train.accumulation": 1,
    "train.batch_size": 8,
    "train.loss.bce": 1.0,
    "train.loss.dice": 1.0,
    "train.loss.object_score": 1.0,
}
OURS = ("fusion.", "prompt_projection.")
NO_MASK = "sam2.sam_prompt_encoder.no_mask_embed.weight"
DECODER = "sam2.sam_mask_decoder."
CONVS = (f"{DECODER}conv_s0.", f"{DECODER}conv_s1.")


@pytest.fixture
def run(run_folder, feature_folder, refavs_root):
    """Runs the stage with changed parameters, and returns the folder it wrote."""
    tiny.change_params(run_folder / "params.yaml", SMALL)

    def run(changes: dict | None = None, *, out: str = "model", features=feature_folder) -> Path:
        tiny.change_params(run_folder / "params.yaml", changes or {})
        train.main(refavs_root, run_folder / "index", features, run_folder / out)
        return run_folder / out

    return run


@pytest.fixture
def models(monkeypatch) -> list[tuple[SAM2Love, dict]]:
    """Every model that is built, and its weights before training."""
    built = []
    build = SAM2Love.build

    def watched(*args, **settings):
        model = build(*args, **settings)
        start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        built.append((model, start))
        return model

    monkeypatch.setattr(SAM2Love, "build", watched)
    return built


@pytest.fixture
def seen(monkeypatch) -> list[pd.DataFrame]:
    """The rows whose features are read, batch by batch."""
    batches = []
    features = FeatureReader.features

    def watched(self, expressions, **options):
        batches.append(expressions)
        return features(self, expressions, **options)

    monkeypatch.setattr(FeatureReader, "features", watched)
    return batches


def changed(model: SAM2Love, start: dict[str, torch.Tensor]) -> set[str]:
    end = model.state_dict()
    assert end.keys() == start.keys()
    assert all(torch.isfinite(tensor).all() for tensor in end.values())
    return {name for name, tensor in end.items() if not torch.equal(tensor, start[name])}


def test_what_it_writes(run, models, capsys):
    out = run()
    assert contents(out).keys() == {
        "model.safetensors",
        "loss.csv",
        "validation.csv",
        "pictures/0.png",  # of the two rows of val that are not null
        "pictures/1.png",
    }
    loss = pd.read_csv(out / "loss.csv")
    assert loss["step"].tolist() == [0, 1, 2]
    assert np.isfinite(loss["loss"]).all()
    assert np.isfinite(loss[["bce", "dice"]].iloc[1:]).all(axis=None)
    validation = pd.read_csv(out / "validation.csv")
    assert validation.columns.tolist() == ["step", "J", "right"]
    assert validation["step"].iloc[-1] == 2
    assert validation[["J", "right"]].apply(lambda column: column.between(0, 100)).all(axis=None)
    assert "3 steps on 8 rows" in capsys.readouterr().out
    model = models[0][0]
    saved = load_file(out / "model.safetensors")
    assert saved.keys() == model.trained_state().keys()
    for name, tensor in model.state_dict().items():
        assert name not in saved or torch.equal(saved[name], tensor), name


def test_weights_change_only_where_they_are_trained(run, models, sam2_folder):
    run()
    model, start = models[0]
    for name, tensor in load_file(sam2_folder / "model.safetensors").items():
        assert torch.equal(start[f"sam2.{name}"], tensor), f"{name} did not start from SAM 2's"
    moved = changed(model, start)
    for part in (*OURS, DECODER, NO_MASK):
        assert any(name.startswith(part) for name in moved), f"{part} did not learn"
    allowed = (*OURS, DECODER, NO_MASK)
    assert not [name for name in moved if not name.startswith(allowed)]
    assert not [name for name in moved if name.startswith(CONVS)]
    assert not {"fusion.aud", "fusion.vis"} & moved  # fixed, as in the paper
    assert "fusion.seg" in moved


def test_frozen_heads_stay(run, models):
    run({"sam2.train_prompt_encoder": False, "sam2.train_mask_decoder": False})
    moved = changed(*models[0])
    assert moved
    assert all(name.startswith(OURS) for name in moved)


def test_the_same_parameters_give_the_same_bytes(run):
    first, again, other = run(out="first"), run(out="again"), run({"train.seed": 7}, out="other")
    assert contents(first) == contents(again)
    for name in ("model.safetensors", "loss.csv"):
        assert (first / name).read_bytes() != (other / name).read_bytes(), name


@pytest.mark.parametrize("null_rows", [False, True])
def test_null_rows_are_seen_only_if_wanted(run, run_folder, seen, capsys, null_rows):
    run({"data.null_rows": null_rows})
    rows = pd.concat(seen)
    assert set(rows["split"]) == {"train", "val"}  # never one of test
    index = read_index(run_folder / "index").expressions
    wanted = index[(index["split"] == "train") & (null_rows | ~index["null"])]
    assert len(wanted) == (8 if null_rows else 7)
    # Three steps of eight rows are three epochs, or nearly.
    assert set(rows.loc[rows["split"] == "train", "row"]) == set(wanted["row"])
    assert f"on {len(wanted)} rows" in capsys.readouterr().out


def test_batches_as_accumulation_says(run, seen):
    out = run({"train.accumulation": 2, "train.batch_size": 3})
    assert len(pd.read_csv(out / "loss.csv")) == 3
    batches = [batch for batch in seen if set(batch["split"]) == {"train"}]
    assert [len(batch) for batch in batches] == [3] * 6
    drawn = pd.concat(batches)["row"].tolist()
    assert len(set(drawn[:8])) == 8  # an epoch shows every row once


@pytest.fixture
def break_off(run, monkeypatch):
    """Runs the stage until it breaks, after its first two steps."""

    def break_off(out: str) -> None:
        def draw(*args, **settings):
            if settings["step"] == 2:
                raise RuntimeError("broken off")
            return draw_rows(*args, **settings)

        draw_rows = batches.draw_rows
        with monkeypatch.context() as patch:
            patch.setattr(batches, "draw_rows", draw)
            with pytest.raises(RuntimeError, match="broken off"):
                run(out=out)

    return break_off


def batches_of_train(seen: list[pd.DataFrame]) -> int:
    return sum(set(batch["split"]) == {"train"} for batch in seen)


def test_a_broken_run_goes_on_and_ends_with_the_same_bytes(run, break_off, seen):
    break_off("broken")
    assert not Path("broken/model.safetensors").exists()
    for name in ("loss.csv", "validation.csv"):  # of three steps, each is validated
        assert pd.read_csv(f"broken/{name}")["step"].tolist() == [0, 1]
    assert [path.name for path in Path(".staging/broken").glob("*/*")] == ["2"]
    kept = load_file(next(Path(".staging/broken").glob("*/2/model.safetensors")))
    of_sam2 = {name.split(".")[2] for name in kept if name.startswith("model.sam2.")}
    assert of_sam2 == {"sam_prompt_encoder", "sam_mask_decoder"}
    torn = next(Path(".staging/broken").iterdir()) / "3.partial"
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"torn")
    seen.clear()
    broken = run(out="broken")
    assert batches_of_train(seen) == 1
    assert not Path(".staging/broken").exists()
    assert contents(run(out="whole")) == contents(broken)


def test_another_parameter_or_input_begins_anew(run, break_off, seen, run_folder):
    break_off("model")
    seen.clear()
    run({"train.seed": 7})
    assert batches_of_train(seen) == 3
    break_off("model")
    os.utime(run_folder / "index" / "clips.csv")  # written again
    seen.clear()
    run()
    assert batches_of_train(seen) == 3


def test_a_broken_run_leaves_no_model_of_an_earlier_one(run, break_off):
    assert (run() / "model.safetensors").exists()
    tiny.change_params(Path("params.yaml"), {"train.seed": 7})
    break_off("model")
    assert not Path("model/model.safetensors").exists()


def init(folder: Path | str) -> dict[str, object]:
    return {"train.init": {"weights": str(folder), "digest": digest(folder)}}


def test_no_step_from_a_trained_model_keeps_its_weights(run):
    trained = run(out="trained")
    none = {"train.grounding_steps": 0, "train.steps": 0}
    kept = run(init(trained) | none, out="kept")
    name = "model.safetensors"
    assert (kept / name).read_bytes() == (trained / name).read_bytes()
    anew = run({"train.init": None}, out="anew")
    assert (anew / name).read_bytes() != (trained / name).read_bytes()


def test_training_goes_on_at_the_loss_where_it_ended(run):
    """By a run of one step more: every step sees all eight rows, at a rate that warms up."""
    schedule = {"train.warmup_steps": 100, "train.grounding_steps": 0}

    def losses(out: str, steps: int, start: dict) -> list[float]:
        folder = run(schedule | {"train.steps": steps} | start, out=out)
        return pd.read_csv(folder / "loss.csv")["loss"].tolist()

    anew = {"train.init": None}
    *_, ended = losses("longer", 9, anew)
    first, *_ = losses("trained", 8, anew)
    resumed, *_ = losses("resumed", 1, init("trained"))
    assert resumed == pytest.approx(ended, rel=1e-4)
    assert resumed < 0.98 * first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"fusion.layers": 2},
            r"model\.safetensors does not fit the parameters \(\d+ tensors diff",
        ),
        (
            {"fusion.dim": 32},
            r"model\.safetensors does not fit the parameters \(\d+ tensors differ",
        ),
        ({"train.init.digest": "0" * 64}, r"its SHA-256 is \w+, the parameters expect 0{64}"),
        ({"train.init.weights": "gone"}, "gone: no such file or folder; expected a path, a hub id"),
        ({"train.init.weights": "index"}, r"index/model\.safetensors: no such file; expected"),
        (
            {"train.init.weights": "model/model.safetensors"},
            "train.init is what this training will",
        ),
        ({"train.init.weights": "./model"}, r"\./model: train.init is what this training will r"),
    ],
)
def test_weights_to_start_from_that_do_not_fit(run, changes, message):
    trained = run(out="trained")
    with pytest.raises((ValueError, FileNotFoundError), match=message) as told:
        run(init(trained) | changes)
    assert "\n" not in str(told.value)
    assert not Path("model").exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"fusion.heads": 4}, "fusion.heads is 2, not 4"),
        ({"fusion.modalities": ["text"]}, r"fusion.modalities is \('audio', .*, not \('text',\)"),
    ],
)
def test_a_trained_folder_says_what_shapes_do_not(model_folder, run, changes, named):
    run(init(model_folder))
    described = rf"pretrained/config\.json: does not fit the parameters \({named}.*\); set the par"
    with pytest.raises(ValueError, match=described):
        run({"train.loss.attention": 0.0} | changes)


def test_another_encoder_than_the_trained_model_s_is_refused(model_folder, run):
    path = model_folder / "config.json"
    config = json.loads(path.read_text())
    config["vision"]["digest"] = "0" * 64
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json: .* \(vision\.digest is 0{64}, not "):
        run(init(model_folder))


def test_another_model_to_start_from_begins_anew(run, break_off, seen):
    first, other = run(out="first"), run({"train.seed": 7}, out="other")
    tiny.change_params(Path("params.yaml"), init(first))
    break_off("model")
    shutil.copy(other / "model.safetensors", first)  # its digest has to follow
    with pytest.raises(ValueError, match=r"first/model\.safetensors: its SHA-256 is"):
        run()
    seen.clear()
    tuned = run(init(first))
    assert batches_of_train(seen) == 3
    assert contents(tuned) == contents(run(out="whole"))


def test_tensorboard_sees_every_step_and_changes_nothing(run, monkeypatch):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    watched = run(out="watched")
    (folder,) = Path("tensorboard").iterdir()
    log = events.EventAccumulator(str(folder)).Reload()
    assert [event.step for event in log.Scalars("train/loss")] == [0, 1, 2]
    assert [event.step for event in log.Scalars("val/J")] == [0, 1, 2]
    monkeypatch.setattr("sam2love.training.engine.find_spec", lambda name: None)
    assert contents(run(out="unwatched")) == contents(watched)
    assert len(list(Path("tensorboard").rglob("events.*"))) == 1


def launch(out: str, features: Path) -> subprocess.Popen:
    """Start the stage as the pipeline does, in a process of its own."""
    command = [sys.executable, "-m", "stages.train", "index", features, out]  # adds data.root
    environment = os.environ | {"PYTHONPATH": str(tiny.REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(list(map(str, command)), env=environment)


def launch_until_checkpoint(features: Path) -> subprocess.Popen:
    launched = launch("killed", features)
    while not list(Path(".staging/killed").glob("*/[1-9]*[0-9]")):
        assert launched.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    return launched


@pytest.mark.slow
def test_a_killed_stage_goes_on(run, feature_folder):
    whole = run({"train.steps": 30}, out="whole")
    killed = launch_until_checkpoint(feature_folder)
    killed.kill()
    killed.wait()
    assert not Path("killed/model.safetensors").exists()
    assert launch("killed", feature_folder).wait() == 0
    assert contents(whole) == contents(Path("killed"))


@pytest.mark.slow
def test_dvc_plots_a_training_that_runs(run_folder, run, feature_folder):
    tiny.change_params(run_folder / "params.yaml", {"train.steps": 4000})
    described = yaml.safe_load((tiny.REPOSITORY / "dvc.yaml").read_text())["stages"]["train"]
    command = f"exec {sys.executable} -m stages.train index {feature_folder} model"
    stage = {"cmd": command, "deps": ["index"], **{k: described[k] for k in ("outs", "plots")}}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": stage}}))
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "--quiet"], check=True)
    running = subprocess.Popen([*dvc, "repro"], env=os.environ | {"PYTHONPATH": tiny.REPOSITORY})
    try:
        while (
            not Path("model/validation.csv").exists()
            or Path("model/validation.csv").stat().st_size < 9
        ):
            assert running.poll() is None, "it ended before it could be looked at"
            time.sleep(0.1)
        show = [*dvc, "plots", "show", "--json"]
        shown = json.loads(subprocess.run(show, check=True, capture_output=True, text=True).stdout)
        assert running.poll() is None
    finally:
        running.kill()
        running.wait()
    assert "errors" not in shown
    plots = {name: plot for name, (plot,) in shown["data"].items()}
    for name, column in {"loss": "loss", "validation": "J"}.items():
        first = plots[f"model/{name}.csv"]["content"]["data"]["values"][0]
        assert float(first[column]) >= 0
    for number in (0, 1):
        assert plots[f"model/pictures/{number}.png"]["type"] == "image"
    assert not Path("dvc.lock").exists()


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_stage_leaves_no_worker_behind(run_folder, run, feature_folder, sign):
    changes = {"train.steps": 400, "runtime.workers": 2}
    tiny.change_params(run_folder / "params.yaml", changes)
    killed = launch_until_checkpoint(feature_folder)
    workers = psutil.Process(killed.pid).children()
    assert len(workers) == 2
    killed.send_signal(sign)
    assert killed.wait()
    _, alive = psutil.wait_procs(workers, timeout=15)  # they look for their parent every 5 seconds
    assert not alive


@pytest.mark.slow
@pytest.mark.parametrize("tuned", [False, True])
def test_two_processes_do_what_one_does(run, run_folder, feature_folder, tuned):
    start = init(run(out="trained")) if tuned else {}
    one = run(start | {"train.accumulation": 4, "train.batch_size": 2}, out="one")
    shared = {"train.accumulation": 2, "train.processes": 2}
    tiny.change_params(run_folder / "params.yaml", shared)
    assert launch("two", feature_folder).wait() == 0
    weights = load_file("two/model.safetensors")
    for name, tensor in load_file(one / "model.safetensors").items():
        # Softmax doesn't see a bias of the keys, so its gradient is rounding that Adam blows up.
        if not name.endswith(("key_value.bias", "k_proj.bias")):
            torch.testing.assert_close(weights[name], tensor, atol=1e-5, rtol=0, msg=name)
    for name in ("loss.csv", "validation.csv"):
        found, expected = pd.read_csv(f"two/{name}"), pd.read_csv(one / name)
        pd.testing.assert_frame_equal(found, expected, rtol=1e-4)


def test_no_rows_to_learn_from_is_told_at_once(run, run_folder, tmp_path):
    path = run_folder / "index" / "expressions.csv"
    rows = pd.read_csv(path)
    rows[(rows["split"] != "train") | rows["null"]].to_csv(path, index=False)
    told = r"index: no rows of split 'train' .* is false\); add some"
    with pytest.raises(ValueError, match=told):
        run({"data.null_rows": False}, features=tmp_path / "none")


def test_a_store_that_only_all_frame_steps_read_is_refused_at_once(
    run, seen, feature_folder, tmp_path
):
    for store in ("audio", "vision", "text", "sam2", "labels"):
        (tmp_path / f"{store}.zarr").symlink_to(feature_folder / f"{store}.zarr")
    (tmp_path / "sam2.zarr").unlink()
    with pytest.raises(FileNotFoundError, match=r"sam2\.zarr: no such store"):
        run(features=tmp_path)
    assert not seen
    shutil.copytree(feature_folder / "sam2.zarr", tmp_path / "sam2.zarr")
    path = tmp_path / "sam2.zarr" / "zarr.json"
    attributes = json.loads(path.read_text())
    attributes["attributes"]["provenance"]["weights"] = "0" * 64
    path.write_text(json.dumps(attributes))
    with pytest.raises(ValueError, match=r"sam2\.zarr: its provenance has weights '0{64}', e"):
        run(features=tmp_path)
    assert not seen


def test_a_training_that_blows_up_stops_in_a_line_and_leaves_no_model(run):
    named = r"^step 1 of the training: \w+ is (nan|inf).*, expected finite numbers; .*train.lear"
    with pytest.raises(ValueError, match=named) as error:
        run({"train.learning_rate": 1e30})
    assert "\n" not in str(error.value)
    assert not Path("model/model.safetensors").exists()
    assert [path.name for path in Path(".staging/model").glob("*/*")] == ["1"]


def test_missing_features_name_what_makes_them(run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"audio\.zarr: no such store; run the stage 'au"):
        run(features=tmp_path)
