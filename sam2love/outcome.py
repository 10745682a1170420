"""What came of some sentences, and the folder that tells it: masks, overlay, strip, beliefs."""

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from sam2love.drawing import COLOURS, STRIP_FRAMES, film_strip, overlay, thumbnail
from sam2love.video import Frame, Video, VideoWriter

MASKS, OVERLAY, BELIEF, STRIP = "masks", "overlay.mp4", "belief.json", "strip.png"
Tracked = Iterable[tuple[Frame, list[np.ndarray], list[float]]]
"""Every frame with the mask (H, W), float32 in [0, 1], and the belief of each sentence."""


@contextmanager
def whole_or_none(out: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `out` at the end and is gone if it doesn't come to that.

    Raises:
        FileExistsError: `out` is there already.
        OSError: nothing can be written there.
    """
    if out.exists():
        raise FileExistsError(f"{out}: already there; remove it or write elsewhere")
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@dataclass(frozen=True)
class Sentence:
    """What came of a sentence.

    masks: folder of its masks, a PNG a frame, value / 255 the probability.
    colour: RGB of its tint in the overlay.
    prompted_at: seconds at which its mask starts; None if nothing was found.
    windows: belief of each window.
    beliefs: belief of each frame; before the mask starts, that of the window.
    """

    text: str
    masks: str
    colour: tuple[int, int, int]
    prompted_at: float | None
    windows: list[float]
    beliefs: list[float] = field(default_factory=list)

    @classmethod
    def numbered(
        cls, row: int, text: str, *, prompted_at: float | None, windows: list[float]
    ) -> "Sentence":
        """The sentence that stands at `row` among those asked, before any frame was segmented."""
        words = re.sub(r"\W+", "-", text.lower()).strip("-")[:40] or "blank"
        colour = COLOURS[row % len(COLOURS)]
        return cls(text, f"{MASKS}/{row}-{words}", colour, prompted_at, windows)

    @property
    def told(self) -> str:
        """What came of it, in words."""
        if self.prompted_at is None:
            return f"is not believed to be there (at most {max(self.windows):.2f})"
        return f"is shown from second {self.prompted_at:g} on (belief {max(self.windows):.2f})"


@dataclass(frozen=True)
class Outcome:
    """What belief.json holds; times are in seconds from the first frame."""

    video: str
    notes: list[str]
    window_starts: list[float]
    times: list[float]
    sentences: list[Sentence]

    def write(self, folder: Path, *, video: Video, tracked: Tracked) -> None:
        """Fill the folder, and note the beliefs as frames come."""
        films = self._write_frames(folder, video, tracked)
        texts = [sentence.text for sentence in self.sentences]
        beliefs = [sentence.beliefs for sentence in self.sentences]
        film_strip(folder / STRIP, texts, films, self.times, beliefs)
        told = json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"
        (folder / BELIEF).write_text(told, encoding="utf-8")

    def _write_frames(self, folder: Path, video: Video, tracked: Tracked) -> list[list[np.ndarray]]:
        """Write masks and overlay; returns each sentence's pictures of the film strip."""
        for sentence in self.sentences:
            (folder / sentence.masks).mkdir(parents=True)
        colours = [sentence.colour for sentence in self.sentences]
        films: list[list[np.ndarray]] = [[] for _ in self.sentences]
        in_films = set(np.linspace(0, len(self.times) - 1, STRIP_FRAMES).astype(int).tolist())
        with VideoWriter(
            folder / OVERLAY, sound=video.stereo(), has_sound=video.has_sound
        ) as writer:
            for number, (frame, masks, beliefs) in enumerate(tracked):
                writer.write(replace(frame, pixels=overlay(frame.pixels, masks, colours)))
                for row, sentence in enumerate(self.sentences):
                    sentence.beliefs.append(beliefs[row])
                    gray = np.rint(255 * masks[row]).astype(np.uint8)
                    Image.fromarray(gray).save(folder / sentence.masks / f"{number:05d}.png")
                    if number in in_films:
                        own = overlay(frame.pixels, [masks[row]], [colours[row]])
                        films[row].append(thumbnail(own))
        return films
