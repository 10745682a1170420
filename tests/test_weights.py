"""Digests of weights, and the refusal of wrong ones."""

import hashlib

import pytest

from sam2love import weights


def test_digest_of_a_file_is_sha256(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")
    assert weights.digest(path) == hashlib.sha256(b"weights").hexdigest()


def make_folder(folder):
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "model.safetensors").write_bytes(b"weights")
    return folder


def test_digest_of_a_folder_is_of_names_and_contents(tmp_path):
    one, other = make_folder(tmp_path / "one"), make_folder(tmp_path / "other")
    assert weights.digest(one) == weights.digest(other)
    (other / ".cache").mkdir()
    (other / ".cache" / "lock").touch()
    assert weights.digest(one) == weights.digest(other)
    (other / "config.json").write_text("{ }")
    assert weights.digest(one) != weights.digest(other)
    (one / "config.json").rename(one / "other.json")
    assert weights.digest(one) != weights.digest(make_folder(tmp_path / "third"))


def test_nothing_there(tmp_path):
    for path in (tmp_path / "gone", tmp_path):
        with pytest.raises(FileNotFoundError, match="no such file or folder"):
            weights.digest(path)


def test_wrong_weights_are_refused_with_both_digests(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")
    weights.verify(path, weights.digest(path))
    with pytest.raises(
        ValueError, match=r"model\.safetensors: its SHA-256 is [0-9a-f]{64}"
    ) as told:
        weights.verify(path, "0" * 64)
    assert weights.digest(path) in str(told.value)
    assert "0" * 64 in str(told.value)
    assert "params.yaml" in str(told.value)


def test_locate_takes_what_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vit").mkdir()
    assert str(weights.locate("vit")) == "vit"
    make_folder(tmp_path / "weights/hub/owner--name")
    assert weights.locate("owner/name") == weights.HUB_FOLDER / "owner--name"
    for wrong in ("vit_base", "a/b/c", "./gone", "/gone"):
        with pytest.raises(FileNotFoundError, match="no such weights"):
            weights.locate(wrong)


def test_a_hub_id_is_downloaded_once(tmp_path, monkeypatch):
    def snapshot_download(name, *, local_dir, allow_patterns):
        calls.append((name, allow_patterns))
        make_folder(local_dir)

    calls: list = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    for _ in range(2):
        assert weights.locate("owner/name", (".json",)) == weights.HUB_FOLDER / "owner--name"
    assert calls == [("owner/name", ["*.json"])]


def test_a_hub_id_that_is_not_to_be_had(tmp_path, monkeypatch):
    def snapshot_download(*_, **__):
        raise OSError("no network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(FileNotFoundError, match="the hub does not give it"):
        weights.locate("owner/name")
