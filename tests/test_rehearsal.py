"""The rehearsal: inputs load, profiles are as they are but for devices, estimates are correct."""

import time
from functools import partial
from pathlib import Path

import pytest
import yaml

from rehearsal import __main__ as rehearsal
from rehearsal import estimate, inputs
from sam2love.dataset.survey import checked, survey
from sam2love.encoders.audio import VGGish, load_audio_encoder
from sam2love.encoders.text import load_text_encoder
from sam2love.encoders.vision import load_vision_encoder
from sam2love.encoders.weights import digest, local_path
from sam2love.params import load_params
from sam2love.sam.build import build_sam2
from tests.tiny import REPOSITORY, SAM2_CONFIG


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def flat(params: dict) -> dict:
    return {
        f"{section}.{key}": value for section, keys in params.items() for key, value in keys.items()
    }


# ---- profile and stages -------------------------------------------------------------------------


FULL_SIZE = (rehearsal.PROFILE, Path("profiles/best-full.yaml"))
ONE_PROCESS = {"runtime.processes", "train.processes", "train.engine", "train.accumulation"}


@pytest.mark.parametrize("profile", FULL_SIZE, ids=str)
@pytest.mark.parametrize(
    ("gpus", "differ"),
    [(0, ONE_PROCESS | {"runtime.device", "runtime.threads"}), (1, ONE_PROCESS), (2, set())],
)
def test_only_the_devices_change_the_profile(profile, gpus, differ, tmp_path):
    changes = rehearsal.device_changes(profile, gpus)
    rehearsal.write_profile(profile, tmp_path / "params.yaml", changes)
    given, written = (
        flat(yaml.safe_load(path.read_text())) for path in (profile, tmp_path / "params.yaml")
    )
    # A change may set the profile's own value.
    assert {key for key in given if given[key] != written[key]} <= differ == set(changes)
    assert given.keys() == written.keys()
    load_params(tmp_path / "params.yaml")


def test_a_step_on_one_gpu_has_as_many_rows_as_the_profiles(tmp_path):
    profile, written = rehearsal.PROFILE, tmp_path / "params.yaml"
    rehearsal.write_profile(profile, written, rehearsal.device_changes(profile, 1))
    one, paper = (load_params(path).train for path in (written, profile))
    assert one.accumulation == paper.accumulation * paper.processes


def test_without_dvc_the_commands_are_those_of_dvc_yaml(tmp_path, monkeypatch):
    monkeypatch.setattr(rehearsal.shutil, "which", lambda name: None)
    (tmp_path / "dvc.yaml").write_bytes((REPOSITORY / "dvc.yaml").read_bytes())
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    assert rehearsal.commands(tmp_path) == {name: stage["cmd"] for name, stage in stages.items()}


def test_a_stage_is_measured(tmp_path, capfd):
    bars = "x:   0%|      | 0/3 [00:00<?]", "x:  33%|##    | 1/3 [0", "x: 100%|######| 3/3 [0"
    command = "; sleep 0.1; ".join(f"printf '{bar.replace('%', '%%')}' >&2" for bar in bars)
    found = rehearsal.run(command, tmp_path, typical=False)
    assert found["units"] == 3
    assert 0.04 < found["pace"] < found["seconds"]
    assert found["memory"] > 1e5
    assert bars[2] in capfd.readouterr().err


def test_a_failing_stage_ends_the_rehearsal(tmp_path):
    with pytest.raises(SystemExit, match="status 3"):
        rehearsal.run("exit 3", tmp_path, typical=False)


def test_an_interruption_is_told_even_if_it_ended_the_stage_first(tmp_path, monkeypatch):
    def interrupted(*_: object) -> int:
        time.sleep(0.3)
        raise SystemExit("error: terminated")

    monkeypatch.setattr(rehearsal.os, "write", interrupted)
    with pytest.raises(SystemExit, match="terminated"):
        rehearsal.run("echo started >&2", tmp_path, typical=False)


# ---- inputs -------------------------------------------------------------------------------------


def test_weights_have_the_formats_that_the_loaders_accept(tmp_path, monkeypatch):
    small = {"channels": (2, 2, 4, 4, 8, 8), "embeddings": (16, 16, 12)}
    monkeypatch.setattr(inputs, "VGGish", partial(VGGish, **small))
    roberta = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}
    monkeypatch.setattr(inputs, "DISTILROBERTA", inputs.DISTILROBERTA | roberta)
    changes = {
        "sam2.config": str(SAM2_CONFIG),
        "vision.weights": "timm/vit_tiny_patch16_224.augreg_in21k@0",
    }
    rehearsal.write_profile(rehearsal.PROFILE, tmp_path / "params.yaml", changes)
    params = load_params(tmp_path / "params.yaml")
    inputs.write_weights(tmp_path, params)
    monkeypatch.chdir(tmp_path)

    def named(section) -> tuple[str, str]:
        return section.weights, digest(local_path(section.weights))

    assert load_audio_encoder(*named(params.audio)).dim == 12
    assert load_vision_encoder(*named(params.vision)).patches == 196
    assert load_text_encoder(*named(params.text), max_tokens=params.text.max_tokens).dim == 8
    weights, right = named(params.sam2)
    build_sam2(params.sam2.config, weights, digest=right)


def test_clips_have_the_layout_of_refavs(tmp_path):
    inputs.write_clips(tmp_path, clips=4, rows=2)
    index = checked(survey(tmp_path))
    assert index.expressions["split"].value_counts().to_dict() == {
        "train": 2, "val": 2, "test_s": 2, "test_n": 2
    }  # fmt: skip
    assert set(index.clips["width"]) == {1280}
    assert index.clips["frames_key"].nunique() == 3  # a null clip shows another's frames


@pytest.mark.parametrize("clips", [1, 3])
def test_too_few_clips_are_an_error(clips, tmp_path):
    with pytest.raises(ValueError, match=f"--clips is {clips}, expected at least 4"):
        inputs.write_clips(tmp_path, clips=clips, rows=1)
    assert not any(tmp_path.iterdir())


# ---- estimates ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marks", "typical", "pace"),
    [
        ([], False, 0),
        ([(4, 0)], False, 0),
        ([(4, 0), (9, 3)], False, 2),  # up to the stage's end at 10
        ([(4, 0), (7, 1), (8, 3), (8.5, 3)], False, 0.5),  # the first batch warms up
        ([(4, 0), (5, 1), (6, 2), (9, 3), (10, 4), (11, 5)], True, 1),  # step 3 validates
    ],
)
def test_pace(marks, typical, pace):
    assert estimate.pace(marks, 10, typical=typical) == pytest.approx(pace)


def measured(*, seconds=10.0, pace=1.0, items=6, encoded=0, size=6000) -> dict:
    return {
        "seconds": seconds,
        "pace": pace,
        "units": items,
        "items": items,
        "encoded": encoded,
        "bytes": size,
    }


def test_extrapolation():
    stages = {
        "audio": measured(),
        "embeddings": measured(),
        "train": measured(items=2),
        "propagate": measured(seconds=40, pace=5, encoded=2),
        "report": measured(items=2),
    }
    whole = estimate.extrapolate(stages, rows_trained=1000)
    assert whole["audio"]["fixed"] == 4
    assert whole["audio"]["hours"] * 3600 == pytest.approx(4 + 3993)
    assert whole["audio"]["bytes"] == 1000 * 3993
    # 1,000 rows and ten validations of 1,349, a third each; the model stays as large.
    assert whole["train"]["hours"] * 3600 == pytest.approx(8 + 1000 + 4497)
    assert whole["train"]["bytes"] == 6000
    # 6 rows took 30 seconds, of them 18 for 9 frames of each of two clips, and started in 10.
    assert whole["propagate"]["pace"] == 2
    assert whole["propagate"]["hours"] * 3600 == pytest.approx(10 + 2 * 6321 + 9 * 806)
    assert whole["report"]["hours"] * 3600 == pytest.approx(10)


def test_misfits():
    stages = {"train": {"memory": 60e9, "gpu_memory": [70e9, 75e9]}}
    machine = {"disk": 30e9, "memory": 64e9, "gpu_memory": [80e9, 80e9]}
    assert estimate.misfits(stages, {"train": {"bytes": 31e9}}, machine) == [
        "disk: 31.0 GB, 30.0 GB available",
        "train, memory: 60.0 GB, 57.6 GB available",
        "train, GPU 1: 75.0 GB, 72.0 GB available",
    ]
    machine |= {"disk": 32e9, "memory": 128e9, "gpu_memory": [141e9, 141e9]}
    assert estimate.misfits(stages, {"train": {"bytes": 31e9}}, machine) == []


def test_the_table_names_every_stage_and_gpu():
    stages = {
        name: measured() | {"cpu_seconds": 1.0, "memory": 1e9, "gpu_memory": [2e9, 3e9]}
        for name in ("audio", "report")
    }
    whole = estimate.extrapolate(stages, rows_trained=1)
    result = {
        "stages": stages,
        "whole": whole,
        "misfits": ["disk"],
        "processor": "any",
        "cores": 2,
        "memory": 1e9,
        "gpu_memory": [80e9, 80e9],
        "disk": 1e9,
    }
    lines = rehearsal.table(result).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["audio", "report", "all"]
    assert "GPU 0" in lines[0]
    assert "GPU 1" in lines[0]
    assert lines[-1] == "doesn't fit: disk"
