"""Weights by name and digest: fetching, refusals, and the command's output."""

import errno
import hashlib
import os
import pickle
import re
from pathlib import Path

import pytest
import torch
from click.testing import Result
from safetensors.torch import save_file
from typer.testing import CliRunner

from sam2love.cli import app
from sam2love.encoders import tensors, weights
from sam2love.params import load_params
from tests import tiny


def test_digest_of_a_file_is_sha256(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")
    assert weights.digest(path) == hashlib.sha256(b"weights").hexdigest()


def make_folder(folder):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_digest_of_a_folder_is_its_weights(tmp_path):
    """As the hub shows it, whatever other files the folder has."""
    folder = make_folder(tmp_path / "vit")
    (folder / "other.safetensors").write_bytes(b"others")
    assert weights.digest(folder) == hashlib.sha256(b"weights").hexdigest()
    assert weights.digest(folder) == weights.digest(folder / "model.safetensors")


def test_missing_weights(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"gone: no such file; expected weights or a folder"
    ):
        weights.digest(tmp_path / "gone")
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors: no such file; expected"):
        weights.digest(tmp_path)


@pytest.mark.parametrize("name", ["vit", "vit/model.safetensors"])
def test_wrong_weights_are_refused_with_both_digests(tmp_path, name):
    make_folder(tmp_path / "vit")
    path = tmp_path / name
    weights.verify(path, weights.digest(path))
    with pytest.raises(
        ValueError, match=r"model\.safetensors: its SHA-256 is [0-9a-f]{64}"
    ) as error:
        weights.verify(path, "0" * 64)
    assert weights.digest(path) in str(error.value)
    assert "0" * 64 in str(error.value)
    assert "params.yaml" in str(error.value)


REVISION = "0123456789abcdef0123456789abcdef01234567"
HUB_ID = f"owner/name@{REVISION}"
ADDRESS = "https://host.org/v0.1/model.pth"
PULL_REQUEST = "owner/name@refs/pr/10"
KEPT = {
    HUB_ID: f"owner--name@{REVISION}",
    PULL_REQUEST: "owner--name@refs--pr--10",
    ADDRESS: "host.org--v0.1--model.pth",
}


@pytest.fixture
def network(tmp_path, monkeypatch) -> list:
    """Fake a hub and a host, in an empty working directory; return the list of requests."""

    def snapshot_download(repository, *, revision, local_dir, allow_patterns):
        requests.append((repository, revision, *allow_patterns))
        make_folder(local_dir)

    def download_url_to_file(address, path):
        requests.append(address)
        Path(path).write_bytes(b"weights")

    requests: list = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setattr("torch.hub.download_url_to_file", download_url_to_file)
    return requests


def test_existing_paths_are_not_fetched(network, tmp_path):
    folder = make_folder(tmp_path / "vit")
    assert weights.fetch("vit") == Path("vit")
    assert weights.fetch(folder, weights.digest(folder)) == folder
    odd = make_folder(tmp_path / "my@vit")
    assert weights.fetch("../" + tmp_path.name + "/my@vit").samefile(odd)
    with pytest.raises(ValueError, match="the parameters expect 0000"):
        weights.fetch("vit", "0" * 64)
    assert not network


@pytest.mark.parametrize("wrong", ["vit", "owner/name", "a/b/c@d", "./gone", "http://host.org/a"])
def test_a_name_of_no_known_kind(network, wrong):
    with pytest.raises(FileNotFoundError, match=f"^{wrong}: no such file or folder; expected a"):
        weights.fetch(wrong)
    assert not network


@pytest.mark.parametrize(("name", "revision"), [(HUB_ID, REVISION), (PULL_REQUEST, "refs/pr/10")])
def test_a_folder_of_the_hub_is_fetched_once_at_its_revision(network, name, revision):
    for _ in range(2):
        assert weights.fetch(name) == weights.HUB_FOLDER / KEPT[name]
    assert network == [("owner/name", revision, "*.json", "*.txt", "model.safetensors")]


def test_a_file_is_fetched_once_from_its_address(network):
    for _ in range(2):
        assert weights.fetch(ADDRESS).read_bytes() == b"weights"
    assert network == [ADDRESS]


@pytest.mark.parametrize("name", [HUB_ID, ADDRESS])
def test_what_is_fetched_is_verified_each_time(network, name):
    for _ in range(2):
        with pytest.raises(ValueError, match=f"{KEPT[name]}.*: its SHA-256 is [0-9a-f]{{64}}, the"):
            weights.fetch(name, "0" * 64)


@pytest.mark.parametrize("name", [HUB_ID, ADDRESS])
def test_nothing_is_fetched_offline(tmp_path, monkeypatch, name):
    """With the real functions, which HF_HUB_OFFLINE=1 stops."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=f"^{name}: can't be fetched .*HF_HUB_OFF") as error:
        weights.fetch(name)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(f"or copy it to {weights.HUB_FOLDER / KEPT[name]}")
    assert not (weights.HUB_FOLDER / KEPT[name]).exists()


def test_a_revision_without_safetensors(network, monkeypatch):
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda *_, local_dir, **__: local_dir.mkdir()
    )
    with pytest.raises(FileNotFoundError, match=r"this revision has no model\.safetensors"):
        weights.fetch(HUB_ID)
    assert not (weights.HUB_FOLDER / KEPT[HUB_ID]).exists()


# ---- their contents -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>not found</html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 3\n",
        b"PK\x03\x04" + bytes(100),
        (1000).to_bytes(8, "little") + b'{"a": ',
        pickle.dumps({"weight": [1.0]}),
    ],
)
def test_unreadable_weights(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: neither \.safetensors nor a complete file "):
        tensors.read_tensors(path)


def test_truncated_weights(tmp_path):
    torch.save({"weight": torch.zeros(1000)}, tmp_path / "model.pt")
    save_file({"weight": torch.zeros(1000)}, tmp_path / "model.safetensors")
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:2000])
        with pytest.raises(ValueError, match="fetch or copy it again"):
            tensors.read_tensors(path)


def test_the_content_decides_how_a_file_is_read(tmp_path):
    torch.save({"weight": torch.ones(2)}, tmp_path / "torch.safetensors")
    save_file({"weight": torch.ones(2)}, tmp_path / "other.bin")
    old = {"_use_new_zipfile_serialization": False}  # as VGGish was published
    torch.save({"weight": torch.ones(2)}, tmp_path / "old.pth", **old)
    for path in tmp_path.iterdir():
        assert tensors.read_tensors(path)["weight"].tolist() == [1, 1]


def test_code_in_weights_is_not_run(tmp_path):
    torch.save({"model": Path("any object")}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"contains pathlib\S* next to the weights, .*: torch"):
        tensors.read_tensors(tmp_path / "model.pt")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    with pytest.raises(ValueError, match="a TorchScript archive, which is code; save only the wei"):
        tensors.read_tensors(tmp_path / "script.pt")
    torch.save({"weight": torch.ones(2)}, tmp_path / "late.pt", pickle_protocol=4)
    with pytest.raises(ValueError, match="saved with a pickle_protocol that needs code"):
        tensors.read_tensors(tmp_path / "late.pt")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.EIO])
def test_a_system_error_when_weights_are_read(tmp_path, monkeypatch, number):
    def refuse(*_: object, **__: object):
        raise OSError(number, os.strerror(number), "model.pt")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OSError, match=os.strerror(number)):
        tensors.read_tensors(tmp_path / "model.pt")


def test_misfit_names_what_does_not_fit():
    model = torch.nn.Linear(2, 3)
    assert tensors.misfit(model, model.state_dict()) == ""
    state = {"weight": torch.zeros(2, 3), **{f"more.{i}": torch.zeros(1) for i in range(5)}}
    assert tensors.misfit(model, state) == (
        "missing: bias; unknown: more.0, more.1, more.2 and 2 more; "
        "of another shape: weight (2, 3) for (3, 2)"
    )
    state = {"weight": torch.zeros(3, 2, dtype=torch.int8), "bias": torch.zeros(3).half()}
    assert tensors.misfit(model, state) == "not floating point: weight"


# ---- the command --------------------------------------------------------------------------------


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["weights", *map(str, arguments)])


def test_the_command_on_the_default_run(monkeypatch):
    monkeypatch.chdir(tiny.REPOSITORY)
    result = run()
    assert result.exit_code == 0
    params = load_params()
    assert result.stdout.splitlines() == [
        f"{name}: found: {weights.weights_file(part.weights)}, its SHA-256 is {part.digest}, "
        "as the parameters expect"
        for name, part in params
        if name in ("audio", "vision", "text", "sam2")
    ]


def test_the_command_looks_after_the_weights_to_start_from(monkeypatch, tmp_path):
    monkeypatch.chdir(tiny.REPOSITORY)
    path = tmp_path / "params.yaml"
    path.write_bytes(tiny.DEFAULT_PARAMS.read_bytes())
    start = {"weights": weights.DEFAULT, "digest": "0" * 64}
    tiny.change_params(path, {"train.init": start})
    result = run("--params", path)
    assert result.exit_code == 1
    file = f"{weights.DEFAULT}/model.safetensors"
    assert result.stdout.splitlines()[-1].startswith(f"train.init: found: {file}: its SHA-256 is ")


def test_the_command_fetches_and_reports_faults(network, tmp_path):
    path = tmp_path / "other.yaml"
    path.write_bytes(tiny.DEFAULT_PARAMS.read_bytes())
    well = hashlib.sha256(b"weights").hexdigest()
    names = {
        "audio.weights": ADDRESS,
        "audio.digest": well,
        "vision.weights": HUB_ID,
        "text.weights": "gone",
        "sam2.weights": ADDRESS,
        "sam2.digest": well,
    }
    tiny.change_params(path, names)
    result = run("--params", path)
    assert result.exit_code == 1
    audio, vision, text, sam2 = result.stdout.splitlines()
    kept = f"{weights.HUB_FOLDER / KEPT[ADDRESS]}, its SHA-256 is {well}, as the parameters expect"
    assert audio == f"audio: fetched: {kept}"
    assert sam2 == f"sam2: found: {kept}"
    kept = weights.HUB_FOLDER / KEPT[HUB_ID] / "model.safetensors"
    expected = load_params(path).vision.digest
    assert vision.startswith(
        f"vision: fetched: {kept}: its SHA-256 is {well}, the parameters expect {expected}; "
    )
    assert text.startswith("text: missing: gone: no such file or folder")
    assert len(network) == 2


def test_the_command_without_parameters(tmp_path):
    result = run("--params", tmp_path / "params.yaml")
    assert result.exit_code == 1
    assert "no such file; run from the repository's root" in result.output


def test_the_papers_weights_are_pinned():
    params = load_params(tiny.REPOSITORY / "profiles/paper.yaml")
    for name in (params.audio.weights, params.sam2.weights):
        assert name.startswith("https://")
    for name in (params.vision.weights, params.text.weights):
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", name)
    for part in (params.audio, params.vision, params.text, params.sam2):
        assert len(set(part.digest)) > 1, f"{part.weights}: a placeholder"


def test_the_papers_names_and_digests_are_in_the_docs():
    params = load_params(tiny.REPOSITORY / "profiles/paper.yaml")
    page = (tiny.REPOSITORY / "docs/weights.md").read_text(encoding="utf-8")
    for part in (params.audio, params.vision, params.text, params.sam2):
        assert f"`{part.digest}`" in page
    for part in (params.audio, params.vision, params.text):
        assert f"`{part.weights}`" in page
    ablations = (tiny.REPOSITORY / "docs/ablations.md").read_text(encoding="utf-8")
    (clip,) = re.findall(r"`(openai/clip-vit-base-patch16@\S+?)`", ablations)
    (digest,) = re.findall(r"`([0-9a-f]{64})`", ablations)
    assert f"`{clip}`" in page
    assert f"`{digest}`" in page


def containing_itself() -> dict:
    state: dict = {"weight": torch.ones(1)}
    state["state"] = state
    return state


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"a": torch.ones(2), "b": torch.eye(2).to_sparse()}, "b is not a dense tensor"),
        ({"a": torch.ones(2, device="meta")}, "a is not a dense tensor"),
        (containing_itself(), "a state dict that contains itself"),
    ],
)
def test_tensors_that_are_not_weights(tmp_path, state, reason):
    path = tmp_path / "weights.pt"
    torch.save(state, path)
    with pytest.raises(ValueError, match=rf"weights\.pt: {reason}.*; save only the weights"):
        tensors.read_tensors(path)
