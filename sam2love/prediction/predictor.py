"""Segment every frame of any video by sentences.

The video is processed in windows as long as the clips in training: one frame per second and the
sound yield a token for each sentence. The first window with a belief above 0.5 prompts SAM 2, on
its first frame or, with `fusion.frame: any`, on the one that the model chooses, and memory carries
the mask through all later frames; earlier frames stay empty. Or the frame to prompt is given: the
windows begin there, and memory carries the mask both ways. So the file is read twice, and only one
window is held in memory.

Shapes: B sentences, C channels, H x W pixels.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sam2love.evaluation.metrics import SHOWN
from sam2love.prediction.outcome import (
    Choice,
    Outcome,
    Sentence,
    Tracked,
    atomic_folder,
    check_request,
    check_texts,
)
from sam2love.prediction.prompter import Prompter, beliefs_of, masks_of
from sam2love.prediction.stream import Stream
from sam2love.prediction.video import Frame, Video, each_second
from sam2love.sam.propagate import MaskStream

SILENCE = np.zeros(1, np.float32), 16_000
CHUNK = 50
"""Frames held at once where a file is read backwards."""
Item = TypeVar("Item")


@dataclass(frozen=True)
class Window:
    """A clip's length of the video, or what remains at its end.

    frames: number of the frame that each of the B tokens would prompt.
    seconds: B times of these frames, since the window's start.
    prompts: (B, 1, C).
    beliefs: (B,) in [0, 1], see `outcome.BELIEF_MEANS`.
    clicked: whether the prompts are clicks, not tokens.
    """

    start: float
    frames: list[int]
    seconds: list[int]
    prompts: Tensor
    beliefs: list[float]
    clicked: bool


class Predictor(Prompter):
    """A trained model with its encoders, see `Prompter`, for whole files and for streams."""

    def stream(self, texts: Sequence[str], *, rate_hz: int) -> Stream:
        """Return a `Stream`, to segment a camera step by step.

        Args:
            rate_hz: sample rate of its sound.

        Raises:
            ValueError: there are no sentences, or one is empty or not UTF-8.
        """
        check_texts(texts)
        return Stream(self, texts, rate_hz=rate_hz)

    def predict(
        self,
        video: str | Path,
        texts: Sequence[str],
        *,
        out: str | Path,
        frame: int | None = None,
        point: tuple[int, int] | None = None,
        every: int = 1,
        sound: bool = True,
        words: bool = True,
        progress: bool = False,
    ) -> Outcome:
        """Segment what each sentence refers to.

        Writes masks, masks.json, overlay.mp4, strip.png and belief.json.

        Args:
            out: folder to write; it appears when everything is done.
            frame: number of the frame to prompt, from 0, whatever its belief; by default the first
                frame of the first window with a belief above 0.5.
            point: pixel x, y of the object on `frame`, for a single sentence: a positive click
                in place of the sentence's token, which would outweigh it.
            every: segment and write only the frames 0, `every`, 2 `every` and so on.
            sound: False mutes the video for the model; the overlay keeps its sound.
            words: False hides the sentences from the model.
            progress: show progress bars.

        Raises:
            OSError, ValueError: `out` exists, can't be written or is being written by another run;
                the video can't be read; there are no sentences, or one is empty or not UTF-8; the
                frame is not among those to segment, or the point is outside it.
        """
        choice = Choice(frame, point, every)
        check_request(video, texts, out, choice)
        with atomic_folder(Path(out)) as folder:
            opened = Video(video)
            read = texts if words else [""] * len(texts)
            windows, times = self._watch(opened, read, choice, sound=sound, progress=progress)
            gated = self.gate and frame is None
            prompted = [_prompted(windows, row, gate=gated) for row in range(len(texts))]
            outcome = Outcome(
                video=opened.path.name,
                notes=[*opened.notes, *self.truncation_notes(read)],
                window_starts=[window.start for window in windows],
                frames=[every * number for number in range(len(times))],
                times=[round(time, 4) for time in times],
                sentences=[
                    Sentence.numbered(
                        row,
                        text,
                        prompted_at=window.start + window.seconds[row] if window else None,
                        windows=[w.beliefs[row] for w in windows],
                    )
                    for row, (text, window) in enumerate(zip(texts, prompted, strict=True))
                ],
            )
            tracked = self._track(opened, windows, prompted, choice, frames=len(times))
            bar = _bar(tracked, "track", len(times), show=progress)
            outcome.write(folder, video=opened, tracked=bar)
        return outcome

    @torch.inference_mode()
    def _watch(
        self, video: Video, texts: Sequence[str], choice: Choice, *, sound: bool, progress: bool
    ) -> tuple[list[Window], list[float]]:
        """First pass: compute each window's prompts and beliefs, and the time of every frame."""
        times: list[float] = []

        def frames() -> Iterator[Frame]:
            total = video.frame_count and -(-video.frame_count // choice.every)
            for frame in _bar(_frames(video, choice), "watch", total, show=progress):
                times.append(frame.time)
                yield frame

        first, read = choice.first, self.read(texts)
        seconds = each_second(islice(frames(), first, None))
        windows: list[Window] = []
        pieces: Iterator[tuple[np.ndarray, int]] = iter(())
        while shown := list(islice(seconds, self.seconds)):
            _, frame = shown[0]
            if not windows and sound:
                pieces = video.sound(seconds=self.seconds, start=frame.time)
            pictures = [frame.pixels for _, frame in shown]
            chosen = not windows and choice.frame is not None
            prompts = self.prompts(read, pictures, *next(pieces, SILENCE), first=chosen)
            point = None if windows else choice.point
            if point:
                prompts = self.first_picture(self.click(point, frame.pixels))
            begin = windows[0].start if windows else round(frame.time, 4)
            seen_at = prompts.frame.tolist()
            windows.append(
                Window(
                    start=begin + self.seconds * len(windows),
                    frames=[first + shown[second][0] for second in seen_at],
                    seconds=seen_at,
                    prompts=prompts.tokens,
                    beliefs=self.beliefs(prompts, pictures, clicked=bool(point)),
                    clicked=bool(point),
                )
            )
        if not windows:
            last = (len(times) - 1) * choice.every
            raise ValueError(
                f"frame {choice.frame}: not in {video.path.name}; expected 0 to {last}"
            )
        return windows, times

    @torch.inference_mode()
    def _track(
        self,
        video: Video,
        windows: list[Window],
        prompted: list[Window | None],
        choice: Choice,
        *,
        frames: int,
    ) -> Tracked:
        """Second pass: yield every frame with the sentences' masks (H, W) and beliefs."""
        streams: list[tuple[list[int], MaskStream]] = []
        past = self._past(video, windows[0], choice, frames=frames)
        for number, frame in enumerate(_frames(video, choice)):
            size = frame.pixels.shape[:2]
            masks = [np.zeros(size, np.float32) for _ in prompted]
            since = frame.time - windows[0].start
            window = windows[min(max(int(since // self.seconds), 0), len(windows) - 1)]
            beliefs = list(window.beliefs)
            for window in windows:  # sentences prompted on the same frame share a stream
                rows = [
                    row
                    for row, own in enumerate(prompted)
                    if own is window and own.frames[row] == number
                ]
                if rows:
                    prompts, clicked = window.prompts[rows], window.clicked
                    stream = self.track(prompts, frames=frames, clicked=clicked)
                    streams.append((rows, stream))
            if past:
                found = [(list(range(len(prompted))), past.pop())]
            elif streams:
                levels = self.levels(frame.pixels)
                found = [(rows, stream.step(levels)) for rows, stream in streams]
            else:
                found = []
            for rows, (logits, scores) in found:
                shown = masks_of(logits, size)  # (B, H, W)
                for row, mask, belief in zip(rows, shown, beliefs_of(scores), strict=True):
                    masks[row], beliefs[row] = mask, belief
            yield frame, masks, beliefs

    def _past(
        self, video: Video, window: Window, choice: Choice, *, frames: int
    ) -> list[tuple[Tensor, Tensor]]:
        """Track from the chosen frame back to frame 0; return logits and scores, frame 0 last."""
        if not choice.first:
            return []
        found: list[tuple[Tensor, Tensor]] = []
        stream = self.track(window.prompts, frames=frames, clicked=window.clicked)
        for stop in range(choice.first + 1, 0, -CHUNK):
            chunk = list(islice(_frames(video, choice), max(0, stop - CHUNK), stop))
            for frame in reversed(chunk):
                logits, scores = stream.step(self.levels(frame.pixels))
                found.append((logits.half().cpu(), scores))
        return found[1:]


def _prompted(windows: list[Window], row: int, *, gate: bool) -> Window | None:
    """Return the first window with a belief above 0.5 for a sentence, or the first without gate."""
    return next((w for w in windows if not gate or w.beliefs[row] > SHOWN), None)


def _frames(video: Video, choice: Choice) -> Iterator[Frame]:
    """Yield every nth frame, displayed until the next one or the end."""
    kept: Frame | None = None
    for number, frame in enumerate(video.frames()):
        if kept and number % choice.every:
            kept = replace(kept, seconds=frame.time + frame.seconds - kept.time)
            continue
        if kept:
            yield kept
        kept = frame
    if kept:
        yield kept


def _bar(items: Iterable[Item], name: str, total: int | None, *, show: bool) -> Iterable[Item]:
    # Not by disable=..., which would override the environment's TQDM_DISABLE.
    return tqdm(items, name, total, unit="frame") if show else items
