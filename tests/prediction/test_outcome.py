"""The folder of a prediction, from masks that are made up."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2love.prediction.outcome import Outcome, Sentence, whole_or_none
from sam2love.prediction.video import Video
from tests import tiny
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
    before = sorted(tmp_path.iterdir())
    with (
        pytest.raises(OSError, match="No space left"),
        whole_or_none(tmp_path / "out") as folder,
    ):
        outcome().write(folder, video=video, tracked=tracked(video, fails_at=2))
    assert sorted(tmp_path.iterdir()) == before


# ---- what is shown, in words --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("11111111", "in all 8 frames"),
        ("00000000", "in no frame"),
        ("11100000", "in 3 of 8 frames, seconds 0.0 to 1.0"),
        ("00000001", "in 1 of 8 frames, seconds 3.5 to 3.5"),
        ("11001111", "in 6 of 8 frames, seconds 0.0 to 0.5, 2.0 to 3.5"),
        ("10101010", "in 4 of 8 frames, seconds 0.0 to 0.0, 1.0 to 1.0, 2.0 to 2.0 and 1 more"),
    ],
)
def test_what_is_shown_in_words(shown, said):
    sentence = Sentence.numbered(0, "x", prompted_at=0.0, windows=[0.9])
    sentence.shown.extend(frame == "1" for frame in shown)
    sentence.beliefs.extend([0.3] * len(shown))
    times = [0.5 * number for number in range(len(shown))]
    assert sentence.describe(times) == f'"x" is shown {said} (belief 0.30 to 0.90)'


@pytest.mark.parametrize("odd", ["\n", "\r\n", "\0", "\x1b[2J", "\x07", "\x9b", "\u2028", "\u202e"])
def test_a_line_of_the_result_stays_one_and_steers_no_terminal(odd):
    sentence = Sentence.numbered(0, f"the{odd}star", prompted_at=0.0, windows=[0.9])
    told = Outcome(f"a{odd}b.mp4", [f"a{odd}b.mp4 has no sound"], [0.0], [], [sentence])
    assert len(told.lines) == 2
    assert all(line.isprintable() and len(line.splitlines()) == 1 for line in told.lines)


@pytest.mark.parametrize("text", ["الكائن الأعلى صوتا", "👩‍🚀 🦒", "می‌خواهم", "café"])
def test_any_script_is_printed_as_typed(text):
    sentence = Sentence.numbered(0, text, prompted_at=0.0, windows=[0.9])
    assert f'"{text}"' in Outcome("v.mkv", [], [0.0], [], [sentence]).lines[0]


# ---- the scratch folder -------------------------------------------------------------------------


def write(out: Path, text: str = "mine") -> None:
    with whole_or_none(out) as folder:
        (folder / "file").write_text(text)


def an_own_folder(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("an afternoon's work")


def an_own_file(path: Path) -> None:
    path.write_text("an afternoon's work")


def an_own_link(path: Path) -> None:
    an_own_folder(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def an_own_link_into_a_killed_run_s(path: Path) -> None:
    an_own_link(path)
    (path / "sam2love.lock").touch()
    an_own_folder(path / "unfinished")


def an_own_empty_folder(path: Path) -> None:
    path.mkdir()


OWN = [
    an_own_folder,
    an_own_file,
    an_own_link,
    an_own_link_into_a_killed_run_s,
    an_own_empty_folder,
]


def everything(folder: Path) -> list[tuple[str, str | None]]:
    return [
        (str(path.relative_to(folder)), path.read_text() if path.is_file() else None)
        for path in sorted(folder.rglob("*"))
    ]


@pytest.mark.parametrize("own", OWN)
def test_what_somebody_calls_like_the_scratch_folder_is_left_alone(own, tmp_path):
    own(tmp_path / ".out.partial")
    before = everything(tmp_path)
    with pytest.raises(
        FileExistsError, match=r"\.out\.partial: needed to write .*did not create it"
    ):
        write(tmp_path / "out")
    assert everything(tmp_path) == before


@pytest.mark.parametrize("own", [*OWN[:3], lambda path: path.symlink_to("nowhere")])
def test_what_is_called_like_the_output_is_left_alone(own, tmp_path):
    own(tmp_path / "out")
    before = everything(tmp_path)
    with pytest.raises(FileExistsError, match="out: already there; remove it or write elsewhere"):
        write(tmp_path / "out")
    assert everything(tmp_path) == before


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    write(tmp_path / "out")
    assert everything(tmp_path) == [("out", None), ("out/file", "mine")]


def test_a_second_run_on_the_same_output_is_refused(tmp_path):
    with whole_or_none(tmp_path / "out") as folder:
        (folder / "file").write_text("first")
        with pytest.raises(FileExistsError, match="out: another run is writing it"):
            write(tmp_path / "out", "second")
        write(tmp_path / "other")  # does not wait
    assert everything(tmp_path / "out") == [("file", "first")]
    with pytest.raises(FileExistsError, match="already there"):
        write(tmp_path / "out", "third")


def test_an_output_that_appears_meanwhile_is_kept(tmp_path):
    with (
        pytest.raises(OSError, match="out"),
        whole_or_none(tmp_path / "out"),
    ):
        an_own_folder(tmp_path / "out")
    assert everything(tmp_path) == [("out", None), ("out/notes.txt", "an afternoon's work")]


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path):
    code = (
        "import os, sys; from pathlib import Path\n"
        "from sam2love.prediction.outcome import whole_or_none\n"
        "with whole_or_none(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'torn').write_text('half')\n"
        "    os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "out"], cwd=tiny.REPOSITORY)
    assert (tmp_path / ".out.partial/unfinished/torn").is_file()
    (tmp_path / ".out.partial/notes.txt").write_text("put there since")
    write(tmp_path / "out")
    assert everything(tmp_path / "out") == [("file", "mine")]
    assert everything(tmp_path / ".out.partial") == [("notes.txt", "put there since")]
