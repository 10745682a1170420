"""The folder of work in progress; tests/stores/test_store.py kills and races its users."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from sam2love.work import replacing, staged, stamps


def test_the_same_work_is_resumed(tmp_path):
    out = tmp_path / "out"
    with suppress(RuntimeError), staged(out, [1]) as staging:
        (staging / "half").touch()
        raise RuntimeError
    with suppress(RuntimeError), staged(out, [2]) as staging:
        assert not list(staging.iterdir())
        raise RuntimeError
    with staged(out, [1]) as staging:
        assert (staging / "half").is_file()
    assert [path.name for path in (tmp_path / ".staging").iterdir()] == ["out.lock"]


def test_only_the_owner_cleans_up(tmp_path):
    with staged(tmp_path / "out", [1]) as staging:
        with staged(tmp_path / "out", [1], owner=False) as same:
            assert same == staging
        assert staging.is_dir()


def test_stamps_detect_rewritten_files(tmp_path):
    inside = tmp_path / "store" / "c" / "0"
    inside.parent.mkdir(parents=True)
    for file in (inside, tmp_path / "table"):
        file.write_text("a")
        before = stamps([tmp_path / "store", tmp_path / "table"])
        assert before == stamps([tmp_path / "store", tmp_path / "table"])
        os.utime(file, (0, 0))
    assert len(before) == 2
    assert before != stamps([tmp_path / "store", tmp_path / "table"])


@pytest.mark.parametrize("link", [os.link, os.symlink, None])
def test_replacing_a_link_keeps_its_target(tmp_path, link):
    cached, file = tmp_path / "cached", tmp_path / "out.csv.gz"
    cached.write_text("before")
    if link:
        link(cached, file)
    with replacing(file) as partial:
        assert partial.suffixes == [".csv", ".gz"]
        partial.write_text("after")
        assert not link or file.read_text() == "before"
    assert file.read_text() == "after"
    assert not file.is_symlink()
    assert cached.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cached", "out.csv.gz"]


def test_no_partial_file_remains(tmp_path):
    (tmp_path / "out.json").write_text("before")
    with suppress(RuntimeError), replacing(tmp_path / "out.json") as partial:
        partial.write_text("half")
        raise RuntimeError
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [
        ("out.json", "before")
    ]


def test_a_device_is_written_to_directly():
    with replacing(Path("/dev/null")) as file:
        assert file == Path("/dev/null")
