"""The output folder of a prediction, written from invented masks."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2love.prediction.outcome import Outcome, Sentence, atomic_folder
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
    return Outcome("v.mkv", [], [0.0], [0, 5, 10], [0.0, 1.0, 2.0], sentences)


def tracked(video: Video, *, fails_at: int | None = None) -> Iterator:
    left = np.zeros((48, 64), np.float32)
    left[:, :32] = 0.6
    for number, frame in enumerate(video.frames()):
        if number == fails_at:
            raise OSError(28, "No space left on device")
        yield frame, [left, 1 - left], [0.9, number / 10]


def test_the_folder_contains_masks_and_beliefs(video, tmp_path):
    result = outcome()
    result.write(tmp_path / "out", video=video, tracked=tracked(video))
    assert [sentence.masks for sentence in result.sentences] == [
        "masks/0-the-left-half",
        "masks/1-blank",
    ]
    left = np.asarray(Image.open(tmp_path / "out/masks/0-the-left-half/00010.png"))
    assert (left[:, :32] == round(255 * 0.6)).all()
    assert not left[:, 32:].any()
    coco = json.loads((tmp_path / "out/masks.json").read_text(encoding="utf-8"))
    assert [image["file_name"] for image in coco["images"]] == [
        "00000.png",
        "00005.png",
        "00010.png",
    ]
    assert [a["area"] for a in coco["annotations"]] == [48 * 32] * 6
    written = json.loads((tmp_path / "out/belief.json").read_text(encoding="utf-8"))
    assert written["frames"] == [0, 5, 10]
    assert written["sentences"][1]["beliefs"] == [0, 0.1, 0.2]
    assert written["sentences"][0]["colour"] != written["sentences"][1]["colour"]


def test_a_failure_leaves_no_files(video, tmp_path):
    before = sorted(tmp_path.iterdir())
    with (
        pytest.raises(OSError, match="No space left"),
        atomic_folder(tmp_path / "out") as folder,
    ):
        outcome().write(folder, video=video, tracked=tracked(video, fails_at=2))
    assert sorted(tmp_path.iterdir()) == before


# ---- what is shown, in words --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("11111111", "in all 8 frames"),
        ("00000000", "in no frame"),
        ("11100000", "in 3 of 8 frames, seconds 0.0 to 1.0"),
        ("00000001", "in 1 of 8 frames, seconds 3.5 to 3.5"),
        ("11001111", "in 6 of 8 frames, seconds 0.0 to 0.5, 2.0 to 3.5"),
        ("10101010", "in 4 of 8 frames, seconds 0.0 to 0.0, 1.0 to 1.0, 2.0 to 2.0 and 1 more"),
    ],
)
def test_shown_frames_are_described(shown, expected):
    sentence = Sentence.numbered(0, "x", prompted_at=0.0, windows=[0.9])
    sentence.shown.extend(frame == "1" for frame in shown)
    sentence.beliefs.extend([0.3] * len(shown))
    times = [0.5 * number for number in range(len(shown))]
    assert sentence.describe(times) == f'"x" is shown {expected} (belief 0.30 to 0.90)'


@pytest.mark.parametrize("odd", ["\n", "\r\n", "\0", "\x1b[2J", "\x07", "\x9b", "\u2028", "\u202e"])
def test_line_breaks_and_terminal_commands_are_escaped(odd):
    sentence = Sentence.numbered(0, f"the{odd}star", prompted_at=0.0, windows=[0.9])
    result = Outcome(f"a{odd}b.mp4", [f"a{odd}b.mp4 has no sound"], [0.0], [], [], [sentence])
    assert len(result.lines) == 2
    assert all(line.isprintable() and len(line.splitlines()) == 1 for line in result.lines)


@pytest.mark.parametrize("text", ["الكائن الأعلى صوتا", "👩‍🚀 🦒", "می‌خواهم", "café"])
def test_any_script_is_printed_unchanged(text):
    sentence = Sentence.numbered(0, text, prompted_at=0.0, windows=[0.9])
    assert f'"{text}"' in Outcome("v.mkv", [], [0.0], [], [], [sentence]).lines[0]


# ---- the scratch folder -------------------------------------------------------------------------


def write(out: Path, text: str = "mine") -> None:
    with atomic_folder(out) as folder:
        (folder / "file").write_text(text)


def user_folder(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("an afternoon's work")


def user_file(path: Path) -> None:
    path.write_text("an afternoon's work")


def user_link(path: Path) -> None:
    user_folder(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def user_link_to_a_killed_run(path: Path) -> None:
    user_link(path)
    (path / "sam2love.lock").touch()
    user_folder(path / "unfinished")


def user_empty_folder(path: Path) -> None:
    path.mkdir()


USER_FILES = [
    user_folder,
    user_file,
    user_link,
    user_link_to_a_killed_run,
    user_empty_folder,
]


def everything(folder: Path) -> list[tuple[str, str | None]]:
    return [
        (str(path.relative_to(folder)), path.read_text() if path.is_file() else None)
        for path in sorted(folder.rglob("*"))
    ]


@pytest.mark.parametrize("create", USER_FILES)
def test_user_files_with_the_scratch_folder_s_name_are_kept(create, tmp_path):
    create(tmp_path / ".out.partial")
    before = everything(tmp_path)
    with pytest.raises(
        FileExistsError, match=r"\.out\.partial: needed to write .*did not create it"
    ):
        write(tmp_path / "out")
    assert everything(tmp_path) == before


@pytest.mark.parametrize("create", [*USER_FILES[:3], lambda path: path.symlink_to("nowhere")])
def test_user_files_with_the_output_s_name_are_kept(create, tmp_path):
    create(tmp_path / "out")
    before = everything(tmp_path)
    with pytest.raises(FileExistsError, match="out: already exists; remove it or write elsewhere"):
        write(tmp_path / "out")
    assert everything(tmp_path) == before


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    write(tmp_path / "out")
    assert everything(tmp_path) == [("out", None), ("out/file", "mine")]


def test_a_second_run_on_the_same_output_is_refused(tmp_path):
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "file").write_text("first")
        with pytest.raises(FileExistsError, match="out: another run is writing it"):
            write(tmp_path / "out", "second")
        write(tmp_path / "other")  # does not wait
    assert everything(tmp_path / "out") == [("file", "first")]
    with pytest.raises(FileExistsError, match="already exists"):
        write(tmp_path / "out", "third")


def test_an_output_created_meanwhile_is_kept(tmp_path):
    with (
        pytest.raises(OSError, match="out"),
        atomic_folder(tmp_path / "out"),
    ):
        user_folder(tmp_path / "out")
    assert everything(tmp_path) == [("out", None), ("out/notes.txt", "an afternoon's work")]


def test_the_next_run_removes_the_files_of_a_killed_one(tmp_path):
    code = (
        "import os, sys; from pathlib import Path\n"
        "from sam2love.prediction.outcome import atomic_folder\n"
        "with atomic_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'torn').write_text('half')\n"
        "    os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "out"], cwd=tiny.REPOSITORY)
    assert (tmp_path / ".out.partial/unfinished/torn").is_file()
    (tmp_path / ".out.partial/notes.txt").write_text("put there since")
    write(tmp_path / "out")
    assert everything(tmp_path / "out") == [("file", "mine")]
    assert everything(tmp_path / ".out.partial") == [("notes.txt", "put there since")]
