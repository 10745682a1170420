"""Anyone's video files, read and written by PyAV: any size, rotation, frame rate and length.

Nothing holds more than a few frames, or the seconds of sound asked for. Times are in seconds from
the first frame.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np

TIME_BASE = Fraction(1, 90_000)
"""Of what is written: fine enough for any frame rate, or none."""
SOUND_RATE_HZ = 48_000
"""Of what is written, in two channels."""
ROUNDING = 1e-3
"""Seconds by which files round their times."""


@dataclass(frozen=True)
class Frame:
    """A picture (H, W, 3) uint8 RGB, upright, and when it is shown."""

    time: float
    pixels: np.ndarray


class Video:
    """A video file to read.

    Raises:
        FileNotFoundError, ValueError: there is none, it can't be read or has no pictures.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with self._opened() as container:
            if not container.streams.video:
                raise ValueError(f"{self.path}: no pictures in it, so there is nothing to segment")
            stream = container.streams.video[0]
            first = next(container.decode(stream), None)
            if first is None:
                raise ValueError(f"{self.path}: none of its pictures can be decoded")
            self._size = {"width": first.width, "height": first.height}
            self.has_sound = bool(container.streams.audio)
            self.frame_count = stream.frames or None
            """As the file says, if it does."""
            self.seconds_per_frame = 1 / float(stream.average_rate or 25)
            self._start = first.time or 0.0

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        if self.path.is_dir():
            raise IsADirectoryError(f"{self.path}: a folder; expected a video file")
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: no such file; expected a video")
        try:
            with av.open(str(self.path), metadata_errors="ignore") as container:
                yield container
        except av.FFmpegError as error:
            raise ValueError(
                f"{self.path}: not a video that can be read, or a damaged one ({error.strerror})"
            ) from None

    def frames(self) -> Iterator[Frame]:
        """Every frame in the order of time; one that does not come after the last is left out."""
        last = -1.0
        with self._opened() as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for number, decoded in enumerate(container.decode(stream)):
                untimed = decoded.time is None
                time = number * self.seconds_per_frame if untimed else decoded.time - self._start
                if time > last:
                    turns = round(decoded.rotation / 90)
                    upright = np.rot90(decoded.to_ndarray(format="rgb24", **self._size), turns)
                    yield Frame(time, np.ascontiguousarray(upright))
                    last = time

    def sound(self, *, seconds: int) -> Iterator[tuple[np.ndarray, int]]:
        """The mean of the channels in pieces of so many seconds: (n,) float32, and the rate in Hz.

        Gaps are silent; the last piece may be shorter. Nothing comes if the file has no sound.
        """
        if not self.has_sound:
            return
        with self._opened() as container:
            rate_hz = container.streams.audio[0].rate
            piece, length = np.zeros(0, np.float32), seconds * rate_hz
            yielded = 0
            for time, samples in _samples(container, self._start, layout=None, rate_hz=rate_hz):
                gap = max(0, round(time * rate_hz) - yielded - len(piece))
                piece = np.concatenate([piece, np.zeros(gap, np.float32), samples.mean(0)])
                while len(piece) >= length:
                    yield piece[:length], rate_hz
                    piece, yielded = piece[length:], yielded + length
            if len(piece):
                yield piece, rate_hz

    def stereo(self) -> Iterator[tuple[float, np.ndarray]]:
        """The sound as `VideoWriter` takes it: times and samples (2, n) float32."""
        if self.has_sound:
            with self._opened() as container:
                yield from _samples(container, self._start, layout="stereo", rate_hz=SOUND_RATE_HZ)


def _samples(
    container: Any, start: float, *, layout: str | None, rate_hz: int
) -> Iterator[tuple[float, np.ndarray]]:
    """The sound from `start` on, in the pieces that the decoder gives: times, (channels, n)."""
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate_hz)
    time = 0.0
    for decoded in chain(container.decode(container.streams.audio[0]), [None]):
        if decoded is not None and decoded.time is not None:
            time = decoded.time - start
        for frame in resampler.resample(decoded):
            early = max(0, -round(time * rate_hz))
            samples = frame.to_ndarray()[:, early:]
            if samples.size:
                yield max(0.0, time), samples
            time += frame.samples / rate_hz


def each_second(frames: Iterable[Frame], *, last_seconds: float) -> Iterator[tuple[int, Frame]]:
    """The frame on show at each whole second, with its number.

    Args:
        last_seconds: how long the last frame is shown.
    """
    second, before = 0, None
    for number, frame in enumerate(frames):
        while before and second < frame.time - ROUNDING:
            yield before
            second += 1
        before = number, frame
    while before and second < before[1].time + last_seconds - ROUNDING:
        yield before
        second += 1


class VideoWriter:
    """Writes an MP4 (H.264, AAC) frame by frame, with sound; use it in a `with` statement.

    Args:
        sound: times and samples as `Video.stereo` gives them; they are taken as frames come.
        has_sound: whether any will come.
    """

    def __init__(
        self, path: Path, *, sound: Iterator[tuple[float, np.ndarray]], has_sound: bool
    ) -> None:
        self._container = av.open(str(path), "w", options={"movflags": "faststart"})
        self._sound = sound
        self._pictures: Any = None
        self._voice: Any = None
        if has_sound:
            self._voice = self._container.add_stream("aac", rate=SOUND_RATE_HZ, layout="stereo")

    def __enter__(self) -> "VideoWriter":
        return self

    def write(self, frame: Frame) -> None:
        """Write a frame of the same size as the first, and the sound up to its time."""
        # H.264 halves the colours' resolution, so sides are even.
        odd = [(0, side % 2) for side in frame.pixels.shape[:2]]
        pixels = np.pad(frame.pixels, [*odd, (0, 0)], mode="edge")
        if self._pictures is None:
            self._pictures = self._container.add_stream("libx264", options={"crf": "20"})
            self._pictures.height, self._pictures.width = pixels.shape[:2]
            self._pictures.pix_fmt = "yuv420p"
            self._pictures.codec_context.time_base = TIME_BASE
        picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        picture.pts, picture.time_base = round(frame.time / TIME_BASE), TIME_BASE
        self._container.mux(self._pictures.encode(picture))
        self._write_sound(until=frame.time)

    def _write_sound(self, *, until: float) -> None:
        for time, samples in self._sound if self._voice else ():
            piece = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
            piece.sample_rate = SOUND_RATE_HZ
            piece.pts, piece.time_base = round(time * SOUND_RATE_HZ), Fraction(1, SOUND_RATE_HZ)
            self._container.mux(self._voice.encode(piece))
            if time >= until:
                return

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._container:
            if kind is None:
                self._write_sound(until=float("inf"))
                for stream in filter(None, (self._pictures, self._voice)):
                    self._container.mux(stream.encode(None))
