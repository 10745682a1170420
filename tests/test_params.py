"""Every fault of a parameter file is told by key, with what is allowed."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from dvc.utils.serialize import load_yaml, modify_yaml

from sam2love.params import Params, load_params
from tests import tiny


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A copy of the default run's parameters, to be damaged."""
    copy = tmp_path / "params.yaml"
    copy.write_bytes(tiny.DEFAULT_PARAMS.read_bytes())
    return copy


def test_the_default_run_is_valid():
    values = yaml.safe_load(tiny.DEFAULT_PARAMS.read_text(encoding="utf-8"))
    params = load_params(tiny.DEFAULT_PARAMS)
    assert params.model_dump(mode="json") == values  # nothing is filled in or converted


def test_the_papers_profile_is_valid_and_the_papers():
    params = load_params(tiny.REPOSITORY / "profiles/paper.yaml")
    weighted = {name: weight for name, weight in params.train.loss if weight}
    assert weighted == {"bce": 1.0, "dice": 1.0}  # Eq. 5; what is ours stays out
    assert params.train.grounding_steps == 0
    assert (params.propagate.tracker, params.propagate.gate) == ("trained", False)
    assert params.propagate.tracking_masks == "configured"
    assert (params.fusion.order, params.fusion.positions) == ("forward", "none")
    assert (params.fusion.strategy, params.fusion.projections) == ("token", "mlp")
    assert params.fusion.frame == "first"
    assert not params.fusion.trajectories


BEYOND = {f"fusion.{name}" for name in ("strategy", "trajectories", "projections", "frame")}


def differences(profile: str, other: str) -> set[str]:
    """The parameters, by dotted names, that two profiles don't share."""
    one, two = (
        flattened(load_params(tiny.REPOSITORY / name).model_dump()) for name in (profile, other)
    )
    return {key for key, value in one.items() if value != two[key]}


def test_the_best_profile_is_the_default_but_for_what_is_beyond_the_paper():
    recipe = {"grounding_steps", "steps", "batch_size", "learning_rate"}
    changed = differences("profiles/best.yaml", "params.yaml")
    assert changed == BEYOND | {f"train.{name}" for name in recipe}


def test_the_best_profile_at_full_size_is_the_paper_s_but_for_what_is_ours():
    """The data, the backbones and the size are the paper's."""
    losses = {f"train.loss.{name}" for name in ("attention", "pointing", "object_score")}
    ours = {"fusion.positions", "fusion.order", "propagate.tracker", "propagate.gate"}
    changed = differences("profiles/best-full.yaml", "profiles/paper.yaml")
    assert changed == BEYOND | ours | losses | {"train.grounding_steps", "train.steps"}
    best, full = (
        flattened(load_params(tiny.REPOSITORY / f"profiles/{name}.yaml").model_dump())
        for name in ("best", "best-full")
    )
    for key in BEYOND | ours | losses:
        assert best[key] == full[key], key


def test_the_papers_recipe_in_small_is_the_papers_profile_but_for_data_weights_and_size():
    paper, small, default = (
        flattened(load_params(tiny.REPOSITORY / name).model_dump())
        for name in ("profiles/paper.yaml", "profiles/paper-mini.yaml", "params.yaml")
    )
    sizes = {"fusion.dim", "fusion.layers", "fusion.heads", "propagate.rows_per_batch"}
    machine = {"runtime.device", "runtime.threads", "runtime.workers"}
    machine |= {"runtime.processes", "train.engine"}
    rows_a_step = {"train.processes", "train.batch_size", "train.accumulation"}
    for key, value in small.items():
        if (
            key == "data.root"
            or key.endswith((".weights", ".digest", "sam2.config"))
            or key in sizes | machine
        ):
            assert value == default[key]
        elif key not in rows_a_step:
            assert value == paper[key], key
    assert small["train.accumulation"] == paper["train.accumulation"] == 2
    assert np.prod([small[key] for key in rows_a_step]) == np.prod(
        [paper[key] for key in rows_a_step]
    )


def flattened(values: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in values.items():
        nested = isinstance(value, dict)
        flat |= flattened(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return flat


def test_every_key_must_be_there():
    values = yaml.safe_load(tiny.DEFAULT_PARAMS.read_text(encoding="utf-8"))
    assert set(values) == set(Params.model_fields)
    assert all(field.is_required() for field in Params.model_fields.values())


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("audio.digest", "0" * 63, "match pattern"),
        ("data.null_rows", "yes", "valid boolean"),
        ("fusion.dim", 0, "greater than or equal to 1"),
        ("fusion.dim", 64.0, "valid integer"),
        ("fusion.history", "next", "'previous', 'inclusive' or 'none'"),
        ("fusion.mlp_ratio", 0.0, "greater than 0"),
        ("fusion.modalities", ["audio", "smell"], "'audio', 'text' or 'vision'"),
        ("fusion.modalities", [], "at least one of audio, text, vision, each once"),
        ("fusion.modalities", ["audio", "audio"], "at least one of audio, text, vision, each once"),
        ("propagate.gate", 0.01, "valid boolean"),
        ("propagate.tracking_masks", 3, "'configured' or 'single'"),
        ("runtime.device", "tpu", "'cpu' or 'cuda'"),
        ("sam2.cache_test_frames", "none", "'first' or 'all'"),
        ("train.learning_rate", -0.1, "greater than 0"),
        ("train.learning_rate", "fast", "valid number"),
        ("train.loss.bce", -1.0, "greater than or equal to 0"),
        ("train.loss.bce", float("inf"), "finite number"),
        ("train.seed", None, "valid integer"),
    ],
)
def test_a_value_that_is_not_allowed(path, key, value, allowed):
    tiny.change_params(path, {key: value})
    with pytest.raises(ValueError, match=r"params\.yaml") as error:
        load_params(path)
    section = key.rpartition(".")[0] if "each once" in allowed else key
    message = str(error.value)
    assert message.startswith(f"{path}: {section}")
    assert allowed in message
    assert "\n" not in message


def test_heads_must_divide_dim(path):
    tiny.change_params(path, {"fusion.dim": 60, "fusion.heads": 7})
    with pytest.raises(ValueError, match=r"fusion: .*dim 60 must be a multiple of heads 7"):
        load_params(path)


NO_LOSS = {f"train.loss.{name}": 0.0 for name in dict(load_params(tiny.DEFAULT_PARAMS).train.loss)}
MASK_LOSS = NO_LOSS | {"train.loss.bce": 1.0, "train.loss.dice": 1.0}
ATTENTION = NO_LOSS | {"train.loss.attention": 1.0}
AT_ONCE = {"train.grounding_steps": 0}


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        (NO_LOSS, ["train.loss"]),
        (NO_LOSS | AT_ONCE, ["train.loss"]),
        (ATTENTION | AT_ONCE | {"fusion.strategy": "mean"}, ["train.loss", "fusion.strategy"]),
        (
            ATTENTION | {"fusion.modalities": ["audio", "text"]},
            ["train.loss", "fusion.modalities"],
        ),
        (MASK_LOSS, ["train.grounding_steps", "train.loss.pointing"]),
        (
            MASK_LOSS | {"train.loss.attention": 1.0, "fusion.modalities": ["text"]},
            ["train.grounding_steps", "fusion.modalities"],
        ),
        ({"fusion.trajectories": True}, ["fusion", "strategy joint"]),
        ({"text.max_tokens": 65}, ["text.max_tokens", "fusion.positions", "64"]),
    ],
)
def test_values_that_do_not_go_together_are_named_in_a_line(path, changes, keys):
    tiny.change_params(path, changes)
    with pytest.raises(ValueError, match=keys[0]) as error:
        load_params(path)
    message = str(error.value)
    assert message.startswith(f"{path}: {keys[0]}")
    assert all(key in message for key in keys)
    assert "\n" not in message
    assert len(message) < 400  # not the whole file


@pytest.mark.parametrize(
    "changes",
    [
        MASK_LOSS | AT_ONCE,
        ATTENTION,
        NO_LOSS | {"train.loss.pointing": 1.0, "fusion.strategy": "mean"},
        NO_LOSS | AT_ONCE | {"train.loss.object_score": 1.0, "fusion.modalities": ["audio"]},
        {"text.max_tokens": 64},
        {"text.max_tokens": 77, "fusion.positions": "none"},
    ],
)
def test_values_that_go_together(path, changes):
    tiny.change_params(path, changes)
    load_params(path)


def test_an_unknown_key(path):
    tiny.change_params(path, {"fusion.dropout": 0.1})
    with pytest.raises(ValueError, match=r"fusion\.dropout: there is no such parameter"):
        load_params(path)


def test_a_missing_key_and_a_missing_section(path):
    values = yaml.safe_load(path.read_text())
    del values["train"]["seed"], values["score"]
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match="is missing") as error:
        load_params(path)
    lines = str(error.value).splitlines()  # a fault a line
    assert [line.split(": ")[1] for line in lines] == ["train.seed", "score"]


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "fusion"])
def test_a_file_without_sections(path, text):
    path.write_text(text)
    with pytest.raises(ValueError, match="expected sections such as 'data:'"):
        load_params(path)


def test_no_file(tmp_path):
    with pytest.raises(ValueError, match="no such file; run from the repository's root"):
        load_params(tmp_path / "params.yaml")


def test_values_do_not_change_once_read(path):
    params = load_params(path)
    with pytest.raises(ValueError, match="frozen"):
        params.train.seed = 2


# ---- as DVC writes them -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [1e-5, 2.5e-7, 1e-300, 0.1, 1.0, 3.0e5, 1e16, 1e22, 5e-324, 123456.789]
)
def test_a_number_that_dvc_wrote(path, value):
    with modify_yaml(str(path)) as values:  # as `dvc exp run -S` does
        values["train"]["learning_rate"] = value
    assert load_params(path).train.learning_rate == value


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-05", 1e-5),
        ("1e-5", 1e-5),
        ("1E5", 1e5),
        ("1e5", 1e5),
        ("1.e-3", 1e-3),
        ("1.", 1.0),
        (".5", 0.5),
        ("+.5", 0.5),
        ("+1.5", 1.5),
        ("2", 2.0),
    ],
)
def test_numbers_by_the_rules_that_dvc_reads_by(path, written, value):
    text = path.read_text()
    path.write_text(re.sub(r"learning_rate: .*", f"learning_rate: {written}", text))
    assert load_params(path).train.learning_rate == value
    assert load_yaml(str(path))["train"]["learning_rate"] == value


@pytest.mark.parametrize("written", [".inf", "-.inf", ".nan", ".NaN", "inf", "nan", "1e999", "1e"])
@pytest.mark.parametrize("key", ["learning_rate", "weight_decay", "dice"])
def test_what_is_no_finite_number_is_refused_in_a_line(path, key, written):
    path.write_text(re.sub(rf"(\b{key}): .*", rf"\1: {written}", path.read_text()))
    with pytest.raises(ValueError, match=rf"{key}: .*, got ") as told:
        load_params(path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "1:30"])
def test_words_that_yaml_1_1_took_for_other_things(path, word):
    path.write_text(re.sub(r"root: .*", f"root: {word}", path.read_text()))
    assert load_params(path).data.root == word


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"train: [1, 2\n", "while parsing a flow sequence"),
        (b"train:\n  steps: 1\n  steps: 2\n", "found duplicate key"),
        (b"data: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
        (b"data:\n  root: caf\xe9\n", "can't decode byte"),
        (b"data:\n\troot: a\n", "cannot start any token"),
    ],
)
def test_what_is_no_yaml_is_told_in_a_line(path, content, reason):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=reason) as told:
        load_params(path)
    assert str(told.value).startswith(f"{path}: not readable as YAML: ")
    assert "\n" not in str(told.value)
