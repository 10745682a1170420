"""The folder of a prediction, from masks that are made up."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from sam2love.outcome import Outcome, Sentence, whole_or_none
from sam2love.video import Video
from tests.videos import make_video

TEXTS = ["The left half", "!?"]


@pytest.fixture
def video(tmp_path) -> Video:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)
    return Video(make_video(tmp_path / "v.mkv", pictures))


def outcome() -> Outcome:
    sentences = [
        Sentence.numbered(row, text, prompted_at=0.0, windows=[0.9])
        for row, text in enumerate(TEXTS)
    ]
    return Outcome("v.mkv", [], [0.0], [0.0, 1.0, 2.0], sentences)


def tracked(video: Video, *, fails_at: int | None = None) -> Iterator:
    left = np.zeros((48, 64), np.float32)
    left[:, :32] = 0.6
    for number, frame in enumerate(video.frames()):
        if number == fails_at:
            raise OSError(28, "No space left on device")
        yield frame, [left, 1 - left], [0.9, number / 10]


def test_the_folder_holds_the_masks_and_the_beliefs(video, tmp_path):
    told = outcome()
    told.write(tmp_path / "out", video=video, tracked=tracked(video))
    assert [sentence.masks for sentence in told.sentences] == [
        "masks/0-the-left-half",
        "masks/1-blank",
    ]
    left = np.asarray(Image.open(tmp_path / "out/masks/0-the-left-half/00002.png"))
    assert (left[:, :32] == round(255 * 0.6)).all()
    assert not left[:, 32:].any()
    written = json.loads((tmp_path / "out/belief.json").read_text(encoding="utf-8"))
    assert written["sentences"][1]["beliefs"] == [0, 0.1, 0.2]
    assert written["sentences"][0]["colour"] != written["sentences"][1]["colour"]


def test_a_failure_leaves_nothing(video, tmp_path):
    (tmp_path / "out.partial").mkdir()  # as a killed run leaves it
    with (
        pytest.raises(OSError, match="No space left"),
        whole_or_none(tmp_path / "out") as folder,
    ):
        outcome().write(folder, video=video, tracked=tracked(video, fails_at=2))
    assert [path.name for path in tmp_path.glob("out*")] == []
