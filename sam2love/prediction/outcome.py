"""A request, and the folder that it results in: masks, overlay, strip, beliefs."""

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
from sam2love.prediction.drawing import (
    COLOURS,
    STRIP_FRAMES,
    film_strip,
    legend,
    overlay,
    thumbnail,
)
from sam2love.prediction.video import Frame, Video, VideoWriter

MASKS, OVERLAY, BELIEF, STRIP = "masks", "overlay.mp4", "belief.json", "strip.png"
BELIEF_MEANS = (
    "belief is SAM 2's score that an object is in view, not that the sentence fits: absent objects "
    "and unknown words can score 1.00 too"
)
STRETCHES_LISTED = 3
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters, line separators and what turns the direction of writing."""
Tracked = Iterable[tuple[Frame, list[np.ndarray], list[float]]]
"""Every frame with the mask (H, W), float32 in [0, 1], and the belief of each sentence."""


@contextmanager
def whole_or_none(out: Path) -> Iterator[Path]:
    """A folder to fill that becomes `out` at the end, and is removed if the work fails.

    It lies in `.<out>.partial` beside `out`, with a lock: a second run on the same `out` is
    refused, and the next run removes what a killed one left there, and nothing else.

    Raises:
        FileExistsError: `out` exists and is not an empty folder, or another run is writing it.
        OSError: nothing can be written there.
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
        refuse_existing(out)  # the run that held the lock may have finished it
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
        with suppress(OSError):  # not empty: another run's, or somebody put something there
            scratch.rmdir()
        lock.release()


def refuse_existing(out: Path) -> None:
    """Raise FileExistsError if something is at `out`, other than an empty folder."""
    empty = out.is_dir() and not out.is_symlink() and not any(out.iterdir())
    if os.path.lexists(out) and not empty:
        raise FileExistsError(f"{out}: already there; remove it or write elsewhere")


def check_request(video: str | Path, texts: Sequence[str], out: str | Path) -> None:
    """Raise what is wrong with a request and can be seen before a model is loaded.

    Raises:
        ValueError: there are no sentences, or one is empty or not text.
        OSError, ValueError: `out` exists or can't be written, or `video` can't be read.
    """
    if isinstance(texts, str) or not texts:
        raise ValueError(f"{texts!r}: no sentence to segment by; expected a list of one or more")
    for text in texts:
        if not any(letter.isprintable() and not letter.isspace() for letter in text):
            raise ValueError(f"{text!r}: an empty sentence; expected words that name an object")
        try:
            text.encode()
        except UnicodeEncodeError:  # the command line keeps such bytes as lone surrogates
            raise ValueError(f"{text!r}: a sentence that is not UTF-8; save it as such") from None
    refuse_existing(Path(out))
    parent = next(parent for parent in Path(out).absolute().parents if parent.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise NotADirectoryError(f"{out}: can't be written, {parent} is no folder to write in")
    Video(video)


@dataclass(frozen=True)
class Sentence:
    """The result for a sentence.

    masks: folder of its masks, a PNG a frame, value / 255 the probability.
    colour: RGB of its tint in the overlay.
    prompted_at: seconds at which SAM 2 was prompted; None if no window was believed.
    windows: belief of each window, see BELIEF_MEANS.
    beliefs: belief of each frame; before the prompt, that of the window.
    shown: of each frame whether its mask shows any pixel.
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
        """The sentence that stands at `row` among those asked, before any frame was segmented."""
        words = re.sub(r"\W+", "-", text.lower()).strip("-")[:40] or "blank"
        colour = COLOURS[row % len(COLOURS)]
        return cls(text, f"{MASKS}/{row}-{words}", colour, prompted_at, windows)

    def describe(self, times: Sequence[float]) -> str:
        """In which frames, at these times in seconds, it is shown, in words."""
        beliefs = [*self.windows, *self.beliefs]
        belief = f"(belief {min(beliefs):.2f} to {max(beliefs):.2f})"
        if not any(self.shown):
            return f'"{self.text}" is shown in no frame {belief}'
        if all(self.shown):
            return f'"{self.text}" is shown in all {len(times)} frames {belief}'
        groups = groupby(zip(self.shown, times, strict=True), key=lambda pair: pair[0])
        stretches = [[time for _, time in pairs] for shown, pairs in groups if shown]
        listed = [f"{stretch[0]:.1f} to {stretch[-1]:.1f}" for stretch in stretches]
        more = f" and {len(listed) - STRETCHES_LISTED} more" * (len(listed) > STRETCHES_LISTED)
        return (
            f'"{self.text}" is shown in {sum(self.shown)} of {len(times)} frames, '
            f"seconds {', '.join(listed[:STRETCHES_LISTED])}{more} {belief}"
        )


@dataclass(frozen=True)
class Outcome:
    """What belief.json holds; times are in seconds from the first frame.

    video: name of the file.
    """

    video: str
    notes: list[str]
    window_starts: list[float]
    times: list[float]
    sentences: list[Sentence]

    @property
    def lines(self) -> list[str]:
        """The result in words, notes first."""
        sentences = [sentence.describe(self.times) for sentence in self.sentences]
        lines = [f"note: {note}" for note in self.notes] + sentences
        # Sentences and names of files may hold line breaks and a terminal's commands.
        return [CONTROLS.sub(lambda found: repr(found[0])[1:-1], line) for line in lines]

    def write(self, folder: Path, *, video: Video, tracked: Tracked) -> None:
        """Fill the folder, and add beliefs and what is shown as frames come."""
        films = self._write_frames(folder, video, tracked)
        texts = [sentence.text for sentence in self.sentences]
        beliefs = [sentence.beliefs for sentence in self.sentences]
        film_strip(folder / STRIP, texts, films, self.times, beliefs)
        written = json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"
        # A file's name need not be UTF-8; its other bytes become JSON's escapes.
        (folder / BELIEF).write_text(written, encoding="utf-8", errors="backslashreplace")

    def _write_frames(self, folder: Path, video: Video, tracked: Tracked) -> list[list[np.ndarray]]:
        """Write masks and overlay; returns each sentence's pictures of the film strip."""
        for sentence in self.sentences:
            (folder / sentence.masks).mkdir(parents=True)
        colours = [sentence.colour for sentence in self.sentences]
        films: list[list[np.ndarray]] = [[] for _ in self.sentences]
        texts = [sentence.text for sentence in self.sentences]
        in_films = set(np.linspace(0, len(self.times) - 1, STRIP_FRAMES).astype(int).tolist())
        with VideoWriter(
            folder / OVERLAY, sound=video.stereo(), has_sound=video.has_sound
        ) as writer:
            for number, (frame, masks, beliefs) in enumerate(tracked):
                # The masks lie over the legend, so that it hides none.
                named = legend(frame.pixels, texts, colours)
                writer.write(replace(frame, pixels=overlay(named, masks, colours)))
                for row, sentence in enumerate(self.sentences):
                    sentence.beliefs.append(beliefs[row])
                    sentence.shown.append(bool((masks[row] > SHOWN).any()))
                    gray = np.rint(255 * masks[row]).astype(np.uint8)
                    Image.fromarray(gray).save(folder / sentence.masks / f"{number:05d}.png")
                    if number in in_films:
                        own = overlay(frame.pixels, [masks[row]], [colours[row]])
                        films[row].append(thumbnail(own))
        return films
