""".github/workflows: what they run is there, and DVC's commands work in a clone without data."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.tiny import REPOSITORY

WORKFLOWS = sorted((REPOSITORY / ".github/workflows").glob("*.yml"))
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    """The words of each line that a step runs, in order, without where its output goes."""
    return [
        shlex.split(line.split(" >> ")[0])
        for workflow in WORKFLOWS
        for job in yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"].values()
        for step in job["steps"]
        for line in step.get("run", "").splitlines()
    ]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_a_step_runs_what_exists(command):
    program, *arguments = command
    if program == "make":
        targets = set(re.findall(r"^([\w-]+):", MAKEFILE, re.M))
        assert set(arguments) <= targets
    elif program.startswith(".venv/bin/"):
        name, what = program.removeprefix(".venv/bin/"), arguments[: 2 if "diff" in command else 1]
        help_text = subprocess.run(
            [Path(sys.executable).parent / name, *what, "--help"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        options = {word for word in arguments if word.startswith("--") and word != "--"}
        assert options <= set(re.findall(r"--[\w-]+", help_text))
    else:
        assert os.access(REPOSITORY / program, os.X_OK)


def test_a_pull_request_gets_the_tests_and_a_dry_run_and_the_night_a_run():
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/pipeline.yml").read_text())
    steps = [step for step in workflow["jobs"]["pipeline"]["steps"] if "run" in step]
    always = "\n".join(step["run"] for step in steps if "if" not in step)
    assert {"pull_request", "schedule"} <= workflow[True].keys()  # YAML 1.1 reads `on` as a boolean
    assert "make check test" in always
    assert "dvc repro --dry --allow-missing" in always
    assert "make repro" not in always
    assert "make repro" in "\n".join(step["run"] for step in steps)


@pytest.mark.slow
def test_dvc_s_commands_work_without_data(tmp_path):
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", REPOSITORY, folder], check=True)
    (folder / ".venv").symlink_to(sys.prefix)
    for command in commands():
        if command[0] == ".venv/bin/dvc":
            words = ["HEAD" if word == "origin/main" else word for word in command]
            done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
            assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
