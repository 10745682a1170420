"""dvc.yaml against the code: names, and what each stage depends on."""

import ast
import subprocess
from pathlib import Path

import pytest
import yaml

from sam2love.params import Params, Section, load_params
from tests import tiny

ROOT = Path(__file__).parent.parent
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# What every stage shares counts by other means: parameters by DVC's own comparison of values, the
# store by the format version in it; where work lies meanwhile changes nothing that it yields.
IN_VENV = "PATH=$PWD/.venv/bin:$PATH "
SPEED = {"runtime", "vision.batch_size", "propagate.rows_per_batch"}
"""Parameters that change speed and rounding, but not what is computed."""
SHARED = {"sam2love/params.py", "sam2love/stores/store.py", "sam2love/work.py"}


def imported(path: Path) -> set[str]:
    """The library's modules that a file imports by itself."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    files = {name.replace(".", "/") + ".py" for name in names if name.startswith("sam2love")}
    return {name for name in files if (ROOT / name).is_file()}


def reached(path: Path) -> set[str]:
    """The library's modules that a file needs in the end."""
    found: set[str] = set()
    new = imported(path)
    while new:
        found |= new
        new = {name for file in new - SHARED for name in imported(ROOT / file)} - found
    return found - SHARED


def declared(stage: str) -> set[str]:
    """The library's modules among a stage's deps; a folder stands for the modules in it."""
    modules = set()
    for dep in STAGES[stage]["deps"]:
        path = ROOT / dep
        files = path.rglob("*.py") if path.is_dir() else [path]
        modules |= {str(file.relative_to(ROOT)) for file in files}
    return {
        name
        for name in modules
        if name.startswith("sam2love/") and name.endswith(".py") and "__init__" not in name
    }


def test_every_stage_has_a_script_and_a_test_of_its_name():
    scripts = {path.stem for path in (ROOT / "stages").glob("[!_]*.py")}
    tests = {path.stem.removeprefix("test_") for path in (ROOT / "tests/stages").glob("test_*.py")}
    assert set(STAGES) == scripts == tests
    assert all(f"-m stages.{name} " in STAGES[name]["cmd"] for name in STAGES)


def test_no_shell_stays_between_dvc_and_a_stage():
    assert all(stage["cmd"].startswith(IN_VENV + "exec ") for stage in STAGES.values())


def test_a_command_s_words_are_fixed():
    """DVC quotes nothing: what may hold a blank or a quote stays out of the shell."""
    assert not any("${" in stage["cmd"] for stage in STAGES.values())


def test_the_interpreter_is_found_without_an_activated_environment(tmp_path):
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho .venv\n")
    python.chmod(0o755)
    command = [f"{IN_VENV}exec python"]
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == ".venv\n"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_its_script_and_just_the_modules_it_uses(stage):
    script = f"stages/{stage}.py"
    assert script in STAGES[stage]["deps"]
    assert declared(stage) == reached(ROOT / script)


@pytest.mark.slow
def test_a_stage_s_parameters_are_those_it_reads(run_folder, refavs_root, monkeypatch):
    """But for speed, and for what made the stores that it opens: those are its deps."""
    read: set[str] = set()
    get, each = Section.__getattribute__, Section.__iter__

    def watched_get(section, name):
        if name in type(section).model_fields:
            read.add(f"{type(section).__name__.lower()}.{name}")
        return get(section, name)

    def watched_each(section):
        read.update(f"{type(section).__name__.lower()}.{name}" for name in section.__dict__)
        return each(section)

    def among(key: str, params: set[str]) -> bool:
        return any(f"{key}.".startswith(f"{param}.") for param in params)

    listed = {stage: set(STAGES[stage].get("params", [])) for stage in STAGES}
    for stage, run in tiny.stage_runs(refavs_root):
        params = load_params()  # beforehand: to validate is to read everything
        read.clear()
        with monkeypatch.context() as patch:
            patch.setattr(f"stages.{stage}.load_params", lambda p=params: p, raising=False)
            patch.setattr(Section, "__getattribute__", watched_get)
            patch.setattr(Section, "__iter__", watched_each)
            run()
        used = {key for key in read if key.partition(".")[0] in Params.model_fields}
        opened = {other for other in STAGES if set(STAGES[stage]["deps"]) & outs(other)}
        known = listed[stage].union(SPEED, *(listed[other] for other in opened))
        assert {key for key in used if not among(key, known)} == set(), stage
        if stage != "report":  # it shows whole sections
            unused = {
                param for param in listed[stage] if not any(among(key, {param}) for key in used)
            }
            assert unused == set(), stage


def outs(stage: str) -> set[str]:
    """What a stage writes, as dvc.yaml names it."""
    return {
        next(iter([out] if isinstance(out, str) else out))
        for kind in ("outs", "metrics", "plots")
        for out in STAGES[stage].get(kind, [])
    }


def run_again(knob: str) -> list[str]:
    """The stages that a change of a parameter runs again: those that list it, and what follows."""
    again: list[str] = []
    written: list[str] = []
    for name, stage in STAGES.items():  # in the order in which they run
        params = stage.get("params", [])
        listed = any(f"{knob}.".startswith(f"{param}.") for param in params)
        follows = any(f"{a}/".startswith(f"{b}/") for b in stage["deps"] for a in written)
        if listed or follows:
            again.append(name)
            written += outs(name)
    return again


FROM_TRAINING_ON = ["train", "propagate", "score", "diagnose", "report"]


@pytest.mark.parametrize(
    ("knob", "stages"),
    [
        ("fusion.layers", FROM_TRAINING_ON),
        ("sam2.train_mask_decoder", FROM_TRAINING_ON),
        ("train.seed", FROM_TRAINING_ON),
        ("data.null_rows", FROM_TRAINING_ON),
        ("fusion.frame", ["labels", *FROM_TRAINING_ON]),
        ("data.frames", [stage for stage in STAGES if stage != "text"]),
        ("text.weights", ["text", *FROM_TRAINING_ON]),
        ("propagate.gate", ["propagate", "score", "report"]),
        ("score.bootstrap", ["score", "report"]),
        ("runtime.threads", []),
        ("vision.batch_size", []),
        ("sam2.train_high_res_convs", ["embeddings", "train", "baselines", *FROM_TRAINING_ON[1:]]),
    ],
)
def test_an_ablation_runs_again_only_what_it_changes(knob, stages):
    assert run_again(knob) == stages
