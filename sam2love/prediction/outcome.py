"""Check a request, and write its output folder: masks, overlay, film strip and beliefs."""

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image

from sam2love.evaluation.metrics import SHOWN
from sam2love.prediction.coco import CocoMasks
from sam2love.prediction.drawing import (
    COLOURS,
    STRIP_FRAMES,
    draw_strip,
    legend,
    overlay,
    thumbnail,
)
from sam2love.prediction.video import Frame, Video, VideoWriter

MASKS, OVERLAY, BELIEF, STRIP = "masks", "overlay.mp4", "belief.json", "strip.png"
COCO = "masks.json"
BELIEF_MEANS = (
    "belief is SAM 2's score that an object is in view, not that the sentence fits: absent objects "
    "and unknown words can score 1.00 too"
)
SPANS_LISTED = 3
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters, line separators and overrides of the writing direction."""
Tracked = Iterable[tuple[Frame, list[np.ndarray], list[float]]]
"""Each frame with a mask (H, W), float32 in [0, 1], and a belief per sentence."""


@contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """Yield a folder to fill; rename it to `out` on success, remove it on failure.

    It is created in `.<out>.partial` beside `out`, under a lock: a second run on the same `out` is
    refused, and the next run removes the unfinished folder of a killed one, and nothing else.

    Raises:
        FileExistsError: `out` exists and is not an empty folder, or another run is writing it.
        OSError: the folder can't be written.
    """
    refuse_existing(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = out.with_name(f".{out.name}.partial")
    folder, lock = scratch / "unfinished", FileLock(scratch / "sam2love.lock", timeout=0)
    try:
        scratch.mkdir()
    except FileExistsError:
        if scratch.is_symlink() or not Path(lock.lock_file).is_file():
            raise FileExistsError(
                f"{scratch}: needed to write {out}, but it exists and sam2love did not create it; "
                "remove it or write elsewhere"
            ) from None
    try:
        lock.acquire()
        refuse_existing(out)  # another run may have finished just before the lock was acquired
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield folder
        folder.rename(out)
    except Timeout:
        raise FileExistsError(f"{out}: another run is writing it; write elsewhere") from None
    finally:
        if lock.is_locked:
            shutil.rmtree(folder, ignore_errors=True)
            Path(lock.lock_file).unlink(missing_ok=True)
        with suppress(OSError):  # not empty: in use by another run, or holds files of the user
            scratch.rmdir()
        lock.release()


def refuse_existing(out: Path) -> None:
    """Raise FileExistsError if `out` exists and is not an empty folder."""
    empty = out.is_dir() and not out.is_symlink() and not any(out.iterdir())
    if os.path.lexists(out) and not empty:
        raise FileExistsError(f"{out}: already exists; remove it or write elsewhere")


@dataclass(frozen=True)
class Choice:
    """What is asked of a video besides the sentences; see `Predictor.predict`.

    Raises:
        ValueError: a value is out of range, or they contradict each other.
    """

    frame: int | None = None
    point: tuple[int, int] | None = None
    every: int = 1

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every {self.every}: expected 1 or more")
        if self.frame is None:
            if self.point:
                raise ValueError("a point needs the number of the frame that it is on; add frame")
        elif self.frame < 0:
            raise ValueError(f"frame {self.frame}: expected 0 or more")
        elif beyond := self.frame % self.every:
            before = self.frame - beyond
            raise ValueError(
                f"frame {self.frame}: not among every {self.every}th frame from 0 on; choose "
                f"{before} or {before + self.every}"
            )

    @property
    def first(self) -> int:
        """The number, among the frames that are segmented, of the first that a window may show."""
        return (self.frame or 0) // self.every


def check_texts(texts: Sequence[str]) -> None:
    """Raise ValueError if there are no sentences, or one is empty or not text."""
    if isinstance(texts, str) or not texts:
        raise ValueError(f"{texts!r}: no sentences; expected a list of one or more")
    for text in texts:
        if not any(c.isprintable() and not c.isspace() for c in text):
            raise ValueError(f"{text!r}: empty sentence; expected words that refer to an object")
        try:
            text.encode()
        except UnicodeEncodeError:  # the command line keeps such bytes as lone surrogates
            raise ValueError(f"{text!r}: not valid UTF-8; convert the sentence") from None


def check_request(video: str | Path, texts: Sequence[str], out: str | Path, choice: Choice) -> None:
    """Check everything that can be checked before a model is loaded.

    Raises:
        ValueError: see `check_texts`; or a point is given for several sentences.
        OSError, ValueError: `out` exists or can't be written, or `video` can't be read.
    """
    check_texts(texts)
    if choice.point and len(texts) > 1:
        raise ValueError(f"a point is on one object, found {len(texts)} sentences; give one")
    refuse_existing(Path(out))
    parent = next(parent for parent in Path(out).absolute().parents if parent.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise NotADirectoryError(f"{out}: can't be written; {parent} is not a writable folder")
    Video(video)


@dataclass(frozen=True)
class Sentence:
    """The result for a sentence.

    masks: folder with one PNG per frame, value / 255 is the probability.
    colour: RGB of its tint in the overlay.
    prompted_at: time in seconds at which SAM 2 is prompted; None if every window's belief is low.
    windows: belief of each window, see BELIEF_MEANS.
    beliefs: belief of each frame; before the prompt, that of its window.
    shown: for each frame, whether its mask has any foreground.
    """

    text: str
    masks: str
    colour: tuple[int, int, int]
    prompted_at: float | None
    windows: list[float]
    beliefs: list[float] = field(default_factory=list)
    shown: list[bool] = field(default_factory=list)

    @classmethod
    def numbered(
        cls, row: int, text: str, *, prompted_at: float | None, windows: list[float]
    ) -> "Sentence":
        """Create the result of sentence number `row`, before any frame is segmented."""
        words = re.sub(r"\W+", "-", text.lower()).strip("-")[:40] or "blank"
        colour = COLOURS[row % len(COLOURS)]
        return cls(text, f"{MASKS}/{row}-{words}", colour, prompted_at, windows)

    def describe(self, times: Sequence[float]) -> str:
        """Say in which frames it is shown, given all frames' times in seconds."""
        beliefs = [*self.windows, *self.beliefs]
        belief = f"(belief {min(beliefs):.2f} to {max(beliefs):.2f})"
        if not any(self.shown):
            return f'"{self.text}" is shown in no frame {belief}'
        if all(self.shown):
            return f'"{self.text}" is shown in all {len(times)} frames {belief}'
        groups = groupby(zip(self.shown, times, strict=True), key=lambda pair: pair[0])
        spans = [[time for _, time in pairs] for shown, pairs in groups if shown]
        listed = [f"{span[0]:.1f} to {span[-1]:.1f}" for span in spans]
        more = f" and {len(listed) - SPANS_LISTED} more" * (len(listed) > SPANS_LISTED)
        return (
            f'"{self.text}" is shown in {sum(self.shown)} of {len(times)} frames, '
            f"seconds {', '.join(listed[:SPANS_LISTED])}{more} {belief}"
        )


@dataclass(frozen=True)
class Outcome:
    """The contents of belief.json; times are in seconds from the first frame.

    video: file name.
    frames: the numbers of the frames, which their masks are named by.
    """

    video: str
    notes: list[str]
    window_starts: list[float]
    frames: list[int]
    times: list[float]
    sentences: list[Sentence]

    @property
    def lines(self) -> list[str]:
        """The result as printed lines, notes first."""
        sentences = [sentence.describe(self.times) for sentence in self.sentences]
        return [_printable(line) for line in [*(f"note: {n}" for n in self.notes), *sentences]]

    def write(self, folder: Path, *, video: Video, tracked: Tracked) -> None:
        """Write all files, filling in the sentences' `beliefs` and `shown` frame by frame."""
        texts = [_printable(sentence.text) for sentence in self.sentences]
        coco = CocoMasks([sentence.text for sentence in self.sentences])
        thumbnails = self._write_frames(folder, texts, video, tracked, coco)
        beliefs = [sentence.beliefs for sentence in self.sentences]
        draw_strip(folder / STRIP, texts, thumbnails, self.times, beliefs)
        content = json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"
        # A file name need not be UTF-8; its other bytes are written as JSON escapes.
        (folder / BELIEF).write_text(content, encoding="utf-8", errors="backslashreplace")
        masks = json.dumps(coco.content(), ensure_ascii=False) + "\n"
        (folder / COCO).write_text(masks, encoding="utf-8")

    def _write_frames(
        self, folder: Path, texts: list[str], video: Video, tracked: Tracked, coco: CocoMasks
    ) -> list[list[np.ndarray]]:
        """Write masks and overlay, and add to `coco`; return each sentence's thumbnails."""
        for sentence in self.sentences:
            (folder / sentence.masks).mkdir(parents=True)
        colours = [sentence.colour for sentence in self.sentences]
        thumbnails: list[list[np.ndarray]] = [[] for _ in self.sentences]
        in_strip = set(np.linspace(0, len(self.times) - 1, STRIP_FRAMES).astype(int).tolist())
        with VideoWriter(
            folder / OVERLAY, sound=video.stereo(), has_sound=video.has_sound
        ) as writer:
            for place, (frame, masks, beliefs) in enumerate(tracked):
                name = f"{self.frames[place]:05d}.png"
                shown = [mask > SHOWN for mask in masks]
                coco.add(self.frames[place], name, shown)
                # Masks are drawn over the legend, so it hides none.
                labelled = legend(frame.pixels, texts, colours)
                writer.write(replace(frame, pixels=overlay(labelled, masks, colours)))
                for row, sentence in enumerate(self.sentences):
                    sentence.beliefs.append(beliefs[row])
                    sentence.shown.append(bool(shown[row].any()))
                    gray = np.rint(255 * masks[row]).astype(np.uint8)
                    Image.fromarray(gray).save(folder / sentence.masks / name)
                    if place in in_strip:
                        tinted = overlay(frame.pixels, [masks[row]], [colours[row]])
                        thumbnails[row].append(thumbnail(tinted))
        return thumbnails


def _printable(line: str) -> str:
    """Escape the line breaks and terminal commands that sentences and file names may contain."""
    return CONTROLS.sub(lambda found: repr(found[0])[1:-1], line)
