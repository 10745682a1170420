"""Reading the output of `dvc exp show --json`, on a sample from DVC 3.67.1.

The sample: a small pipeline with params.yaml and metrics.json, seeds 1 to 3, two depths without
history, one that failed, two seeds without sound, and one still running; `deps`, `outs`, `meta` and
paths are removed.
"""

import json
from pathlib import Path

import pytest

from sam2love.compare.experiments import read_experiments

SAMPLE = (Path(__file__).parent / "exp_show.json").read_text(encoding="utf-8")


def changed(change) -> str:
    """The sample after a change to its commit."""
    tree = json.loads(SAMPLE)
    change(tree[1])
    return json.dumps(tree)


def revisions(commit: dict) -> list[dict]:
    return [entry["revs"][0] for entry in commit["experiments"]]


def values(revision: dict) -> dict:
    """The content of params.yaml."""
    return revision["data"]["params"]["params.yaml"]["data"]


def entry(commit: dict, name: str) -> dict:
    return next(entry for entry in commit["experiments"] if entry["name"] == name)


def test_finished_experiments_are_read_oldest_first():
    (commit,), _ = read_experiments(SAMPLE)
    assert commit.name == "main (bfaa9ce)"
    assert commit.params == {
        "data.root": "mini/data",
        "fusion.layers": "3",
        "fusion.modalities": "[audio,text,vision]",
        "fusion.history": "previous",
        "train.seed": "1",
    }
    assert commit.run.metrics["refavs"]["mix"]["J"] == 52.5
    settings = [
        (run.params["fusion.layers"], run.params["fusion.modalities"], run.params["train.seed"])
        for run in commit.experiments
    ]
    everything = "[audio,text,vision]"
    assert sorted(settings[:3]) == [("3", everything, seed) for seed in "123"]
    assert sorted(settings[3:5]) == [("1", everything, "1"), ("6", everything, "1")]
    assert sorted(settings[5:]) == [("3", "[text,vision]", seed) for seed in "12"]


def test_failed_experiments_are_noted_and_left_out():
    """DVC repeats the commit's own figures for them."""
    (commit,), notes = read_experiments(SAMPLE)
    assert "testy-synd failed; `dvc queue logs testy-synd` shows why" in notes
    assert "bared-hems isn't finished (running)" in notes
    assert not {"testy-synd", "bared-hems"} & {run.name for run in commit.experiments}


def test_queued_experiments_are_one_note():
    def queue(commit):
        for name in ("testy-synd", "bared-hems"):
            entry(commit, name)["executor"]["state"] = "queued"
            entry(commit, name)["revs"][0]["error"] = None

    _, notes = read_experiments(changed(queue))
    assert notes == ["2 still queued (start them: `dvc exp run --run-all`): testy-synd, bared-hems"]


def test_experiments_without_figures_are_noted():
    def damage(commit):
        done = [each for each in commit["experiments"] if each["executor"]["state"] == "success"]
        first, second = (each["revs"][0]["data"] for each in done[:2])
        first["metrics"] = {}
        second["metrics"] = {"metrics.json": {"error": {"type": "E", "msg": "unable to read"}}}

    (commit,), notes = read_experiments(changed(damage))
    left_out = [note for note in notes if "it has no metrics.json with 'refavs'" in note]
    assert len(left_out) == 2
    assert len(commit.experiments) == 5


def test_a_commit_without_metrics_still_has_its_parameters():
    (commit,), _ = read_experiments(changed(lambda commit: commit["data"].update(metrics={})))
    assert commit.run is None
    assert commit.params["fusion.layers"] == "3"


def test_a_commit_that_dvc_could_not_read_is_noted():
    def damage(commit):
        commit.update(data=None, error={"type": "SomeError", "msg": "cannot be read"})

    with pytest.raises(ValueError, match=r"no finished experiments.*\n.*\(bfaa9ce\).*be read"):
        read_experiments(changed(damage))


def test_parameters_of_other_files_are_named_by_the_file():
    def add(commit):
        commit["data"]["params"]["mini/params.yaml"] = {
            "data": {"clips": {"train": 30, "on": True}}
        }

    (commit,), _ = read_experiments(changed(add))
    assert commit.params["mini/params.yaml:clips.train"] == "30"
    assert commit.params["mini/params.yaml:clips.on"] == "true"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "Invalid JSON"),
        ("ERROR: you are not inside of a DVC repository", "Invalid JSON"),
        ("{}", "should be a valid array"),
        ('[{"name": "main"}]', r"0\.rev: Field required"),
    ],
)
def test_other_texts_are_refused(text, fault):
    with pytest.raises(ValueError, match=f"^not the output of `dvc exp show --json`: .*{fault}"):
        read_experiments(text)


def test_without_experiments_the_error_says_what_to_do():
    with pytest.raises(
        ValueError, match=r"no finished experiments; .*ablations.md.*show --json -A"
    ):
        read_experiments(changed(lambda commit: commit.update(experiments=None)))
