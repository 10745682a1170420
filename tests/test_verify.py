"""`make verify` itself: what it takes for a difference."""

import math
import subprocess
from pathlib import Path

import pytest

from tests import verify
from tests.verify import TOLERANCE, differences, merge

COMMITTED = {"mix": {"J": 60.0, "F": 70.0}, "test_n": {"S": 0.1}}


def test_figures_within_the_tolerance_agree():
    made = {"mix": {"J": 60.0 + TOLERANCE, "F": 70.0 - TOLERANCE}, "test_n": {"S": 0.1}, "new": 1}
    assert differences(COMMITTED, made) == []


@pytest.mark.parametrize(
    ("made", "fault"),
    [
        ({"mix": {"J": 60.0, "F": 65.9}, "test_n": {"S": 0.1}}, "mix.F is 65.9, committed 70.0"),
        ({"mix": {"J": math.nan, "F": 70.0}, "test_n": {"S": 0.1}}, "mix.J is nan, committed 60.0"),
        ({"mix": {"J": 60.0, "F": 70.0}, "test_n": {"S": 0.15}}, "test_n.S is 0.15, committed 0.1"),
        ({"mix": {"J": 60.0}, "test_n": {"S": 0.1}}, "mix.F is missing"),
        ({"mix": {"J": 60.0, "F": 70.0}}, "test_n is missing"),
    ],
)
def test_what_is_further_off_or_missing_is_named(made, fault):
    assert differences(COMMITTED, made) == [fault]


def test_only_what_is_there_can_be_changed():
    assert merge({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 4}}) == {
        "a": {"b": 4, "c": 2},
        "d": 3,
    }
    with pytest.raises(ValueError, match="'e'"):
        merge({"a": {"b": 1}}, {"a": {"e": 4}})


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A repository with a pipeline of one stage, whose metrics are committed, as ours."""
    monkeypatch.chdir(tmp_path)
    figures = '{"refavs": {"mix": {"J": 60.0}}}'
    for name, text in {
        "dvc.yaml": "stages:\n  score:\n    cmd: cp input.json metrics.json && touch scores\n"
        "    deps: [input.json]\n    outs: [scores]\n"
        "    metrics:\n      - metrics.json: {cache: false}\n",
        "input.json": figures,
        "metrics.json": figures,
        ".gitignore": "/scores\n",
    }.items():
        Path(name).write_text(text)
    for command in (
        "git init --quiet",
        "dvc init --quiet",
        "git add --all",
        "git -c user.name=a -c user.email=a@b commit --quiet --message all",
    ):
        subprocess.run(command.split(), check=True, env=verify.environment())
    return tmp_path


def test_metrics_without_a_run_behind_them_are_not_compared(checkout, monkeypatch, capsys):
    monkeypatch.setattr(verify, "clone", lambda folder: folder)
    monkeypatch.setattr(verify, "take_few_steps", lambda folder, params: None)
    monkeypatch.setattr(verify, "run", lambda folder: "the same")
    with pytest.raises(SystemExit, match=r"to be run: score\); run `make repro` first"):
        verify.main()
    subprocess.run(["dvc", "repro", "--quiet"], check=True, env=verify.environment())
    verify.main()
    assert "agrees with the committed figures" in capsys.readouterr().out
    Path("metrics.json").write_text('{"refavs": {"mix": {"J": 61.0}}}')  # by hand
    with pytest.raises(SystemExit, match="to be run: score"):
        verify.main()
