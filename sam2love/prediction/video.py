"""Anyone's video files, read and written by PyAV: any size, rotation, frame rate and length.

Nothing holds more than a few frames, or the seconds of sound asked for. Times are in seconds from
the first frame.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, groupby
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.codec.context import Flags

from sam2love.prediction.tracks import LONGEST_GAP, Tracks

TIME_BASE = Fraction(1, 90_000)
"""Of what is written: fine enough for any frame rate, or none."""
SOUND_RATE_HZ = 48_000
"""Of what is written, in two channels."""
HIGHEST_RATE_HZ = 192_000
"""Sound sampled more often is resampled to this rate."""
ROUNDING = 1e-3
"""Seconds by which files round their times."""
CLOSEST_FRAMES = 1e-4
"""Seconds between two frames, at least."""
SHORTEST_GAP = 0.01
"""Seconds; shorter gaps between pieces of sound come from rounded times and are no silence."""
MOST_OBLONG = 8.0
"""Width of a pixel for its height, or the inverse; more is taken as this."""
LOUDEST = 8.0
"""What sound in [-1, 1] may reach if amplified too far; larger floats are integers or damage."""
INTEGER_SCALES = (2.0**15, 2.0**23, 2.0**31)


@dataclass(frozen=True)
class Frame:
    """A picture (H, W, 3) uint8 RGB, upright with square pixels.

    time: when it is shown.
    seconds: how long it is shown if no other one follows.
    """

    time: float
    pixels: np.ndarray
    seconds: float


class Video:
    """A video file to read.

    Raises:
        OSError, ValueError: there is none, it can't be read or has no pictures.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._tracks = tracks = Tracks(self.path)
        if not tracks.films:
            raise ValueError(f"{self.path}: no pictures in it, so there is nothing to segment")
        decodable = tracks.first_decoded(tracks.films)
        if decodable is None:
            raise ValueError(f"{self.path}: none of its pictures can be decoded")
        self._film, picture = decodable
        self._start = picture.time or 0.0
        self._matrix = _display_matrix(picture)
        self._size = _in_square_pixels(picture, self._film.pixel_aspect)
        self._seconds_per_frame = min(1 / float(self._film.rate or 25), LONGEST_GAP)
        self.frame_count = self._film.frames
        audible = tracks.first_decoded(tracks.sounds)
        self.has_sound = audible is not None
        if audible is None:
            which = " that can be decoded" if tracks.sounds else ""
            tracks.notes["sound"] = f" has no sound{which}: taken as silence"
            return
        self._sound, heard = audible
        self._rate_hz, self._scale = min(heard.sample_rate, HIGHEST_RATE_HZ), 1.0
        if str(self._sound.codec).startswith("pcm_f"):  # other codecs know their full scale
            self._scale = self._full_scale()

    @property
    def notes(self) -> list[str]:
        """What was repaired or left out as far as the file has been read, a line each."""
        return [f"{self.path.name}{note}" for note in self._tracks.notes.values()]

    def frames(self) -> Iterator[Frame]:
        """Every frame that can be decoded, in the order of time.

        One without a time comes after the last one, and so does one whose time is not later.
        """
        width, height = self._size
        last, step = 0.0, 0.0
        for number, decoded in enumerate(self._tracks.decoded(self._film)):
            seconds = float(decoded.duration * decoded.time_base)
            if not 0 < seconds <= LONGEST_GAP:
                seconds = self._seconds_per_frame
            time = last + step if decoded.time is None else decoded.time - self._start
            if number == 0:
                step = seconds
            elif time < last + CLOSEST_FRAMES:
                time = last + step / 2
            else:
                step = min(seconds, time - last)
            last = time
            pixels = decoded.to_ndarray(format="rgb24", width=width, height=height)
            yield Frame(time, _upright(pixels, self._matrix), seconds)

    def sound(self, *, seconds: int) -> Iterator[tuple[np.ndarray, int]]:
        """The mean of the channels in pieces of so many seconds: (n,) float32, and the rate in Hz.

        Gaps are silent; the last piece may be shorter. Nothing comes if the file has no sound.
        """
        if not self.has_sound:
            return
        piece, length = np.zeros(0, np.float32), seconds * self._rate_hz
        for samples in self._samples(rate_hz=self._rate_hz):
            piece = np.concatenate([piece, samples.mean(0)])
            while len(piece) >= length:
                yield piece[:length], self._rate_hz
                piece = piece[length:]
        if len(piece):
            yield piece, self._rate_hz

    def stereo(self) -> Iterator[np.ndarray]:
        """The sound as `VideoWriter` takes it: (2, n) float32, without gaps from the start on."""
        if self.has_sound:
            for samples in self._samples(rate_hz=SOUND_RATE_HZ):
                two = samples if len(samples) == 2 else samples.mean(0, keepdims=True)
                yield np.ascontiguousarray(np.broadcast_to(two, (2, samples.shape[1])))

    def _samples(self, *, rate_hz: int) -> Iterator[np.ndarray]:
        """The sound from the first frame on, gaps filled: (channels, n) float32, a second at most.

        The number of channels may change.
        """
        heard = 0.0
        # A track may change its rate, channels and format; a resampler may not.
        for _, alike in groupby(self._tracks.decoded(self._sound), _sound_format):
            resampler = av.AudioResampler(format="fltp", rate=rate_hz)
            time = heard
            for decoded in chain(alike, [None]):
                if decoded is not None and decoded.time is not None:
                    time = decoded.time - self._start
                if heard:  # only what comes before the first frame is left out
                    time = max(time, heard)
                for frame in resampler.resample(decoded):
                    if time > heard + SHORTEST_GAP:
                        yield from _silence(time - heard, rate_hz)
                        heard = time
                    early = max(0, -round(time * rate_hz))
                    samples = frame.to_ndarray()[:, early:]
                    if samples.size:
                        yield self._in_full_scale(samples)
                        heard += samples.shape[1] / rate_hz
                    time += frame.samples / rate_hz

    def _full_scale(self) -> float:
        """What the loudest sample in the file stands for: 1, or an integer."""
        peak = 0.0
        for decoded in self._tracks.decoded(self._sound):
            samples = np.nan_to_num(np.abs(decoded.to_ndarray()), posinf=0)
            peak = max(peak, samples.max(initial=0))
        scale = full_scale(peak)
        if scale > 1:
            self._tracks.notes["scale"] = (
                f": sound as loud as {peak:.0f}, expected 1 at most; divided by {scale:.0f}"
            )
        return scale

    def _in_full_scale(self, samples: np.ndarray) -> np.ndarray:
        if not np.isfinite(samples).all():
            self._tracks.notes["finite"] = ": samples that are no numbers are taken as silence"
            samples = np.nan_to_num(samples, posinf=0, neginf=0)
        # Damaged sound may be decoded to thousands of times full scale.
        return (samples / np.float32(self._scale)).clip(-LOUDEST, LOUDEST)


def full_scale(peak: float) -> float:
    """Find what stands for 1 in sound whose loudest sample is `peak`.

    Floats are meant to lie in [-1, 1], but some files hold the integers of 16, 24 or 32 bits.
    """
    if peak <= LOUDEST:
        return 1.0
    return next((scale for scale in INTEGER_SCALES if peak <= scale), peak)


def _sound_format(frame: Any) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _silence(seconds: float, rate_hz: int) -> Iterator[np.ndarray]:
    """So much silence, (1, n) float32, at most a second at a time."""
    missing = round(seconds * rate_hz)
    for start in range(0, missing, rate_hz):
        yield np.zeros((1, min(rate_hz, missing - start)), np.float32)


def _display_matrix(frame: Any) -> np.ndarray | None:
    """How a file says to place its pictures: rows are where x, y and the origin go, or None."""
    data = frame.side_data.get("DISPLAYMATRIX")
    return None if data is None else np.frombuffer(bytes(data), np.int32).reshape(3, 3)


def _in_square_pixels(frame: Any, aspect: Fraction | None) -> tuple[int, int]:
    """Width and height of a picture whose pixels are `aspect` times as wide as high."""
    wide = min(max(float(aspect or 1), 1 / MOST_OBLONG), MOST_OBLONG)
    return round(frame.width * max(1, wide)), round(frame.height * max(1, 1 / wide))


def _upright(pixels: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """Turn and flip a picture (H, W, 3) as its display matrix says, by quarter turns."""
    if matrix is None:
        return pixels
    (x_by_x, y_by_x), (x_by_y, y_by_y) = matrix[:2, :2].tolist()
    if abs(x_by_y) + abs(y_by_x) > abs(x_by_x) + abs(y_by_y):
        pixels, x_by_x, y_by_y = pixels.swapaxes(0, 1), x_by_y, y_by_x
    return np.ascontiguousarray(pixels[:: -1 if y_by_y < 0 else 1, :: -1 if x_by_x < 0 else 1])


def each_second(frames: Iterable[Frame]) -> Iterator[tuple[int, Frame]]:
    """The frame on show at each whole second, with its number."""
    second, before = 0, None
    for number, frame in enumerate(frames):
        while before and second < frame.time - ROUNDING:
            yield before
            second += 1
        before = number, frame
    while before and second < before[1].time + before[1].seconds - ROUNDING:
        yield before
        second += 1


class VideoWriter:
    """Writes an MP4 (H.264, AAC) frame by frame, with sound; use it in a `with` statement.

    Args:
        sound: samples as `Video.stereo` gives them; they are taken as frames come.
        has_sound: whether any will come.
    """

    def __init__(self, path: Path, *, sound: Iterator[np.ndarray], has_sound: bool) -> None:
        # Without the protocol's name, what stands before a colon would be taken for it.
        self._container = av.open(f"file:{path}", "w", options={"movflags": "faststart"})
        self._sound, self._heard = sound, 0
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
            # Frames of both directions would change the length where rates vary.
            options = {"crf": "20", "bf": "0"}
            self._pictures = self._container.add_stream("libx264", options=options)
            self._pictures.height, self._pictures.width = pixels.shape[:2]
            self._pictures.pix_fmt = "yuv420p"
            self._pictures.codec_context.time_base = TIME_BASE
            self._pictures.codec_context.flags |= Flags.frame_duration
        picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        picture.pts, picture.time_base = round(frame.time / TIME_BASE), TIME_BASE
        picture.duration = round(frame.seconds / TIME_BASE)
        self._container.mux(self._pictures.encode(picture))
        self._write_sound(until=frame.time)

    def _write_sound(self, *, until: float) -> None:
        for samples in self._sound if self._voice else ():
            piece = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
            piece.sample_rate = SOUND_RATE_HZ
            piece.pts, piece.time_base = self._heard, Fraction(1, SOUND_RATE_HZ)
            self._container.mux(self._voice.encode(piece))
            self._heard += piece.samples
            if self._heard >= until * SOUND_RATE_HZ:
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
