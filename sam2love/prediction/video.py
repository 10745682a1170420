"""Read and write videos with PyAV: any size, rotation, frame rate and length.

At most a few frames and the requested seconds of sound are held in memory. Times are in seconds
from the first frame.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import Flags

from sam2love.prediction.tracks import MAX_GAP, Tracks

TIME_BASE = Fraction(1, 90_000)
"""Of written videos: fine enough for any frame rate, constant or not."""
SOUND_RATE_HZ = 48_000
"""Of written videos, in stereo."""
MAX_RATE_HZ = 192_000
"""Sound with a higher sample rate is resampled to this one."""
ROUNDING = 1e-3
"""Seconds by which files may round their timestamps."""
MIN_FRAME_GAP = 1e-4
"""Seconds between two frames."""
MIN_SOUND_GAP = 0.01
"""Seconds; shorter gaps in the sound come from rounded timestamps and are not filled."""
MAX_PIXEL_ASPECT = 8.0
"""Width / height of a pixel, or the inverse; larger values are clipped."""
MAX_AMPLITUDE = 8.0
"""What over-amplified sound in [-1, 1] may reach; larger floats are integers or damage."""
INTEGER_SCALES = (2.0**15, 2.0**23, 2.0**31)
"""Full scales of integers of 16, 24 and 32 bits, which some files store as floats."""


@dataclass(frozen=True)
class Frame:
    """A frame (H, W, 3) uint8 RGB, upright with square pixels.

    time: when it is shown.
    seconds: how long it is shown if no frame follows.
    """

    time: float
    pixels: np.ndarray
    seconds: float


class Video:
    """A video file to read.

    Raises:
        OSError, ValueError: the file doesn't exist, can't be read or has no decodable video track.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._tracks = tracks = Tracks(self.path)
        if not tracks.video:
            raise ValueError(f"{self.path}: no video track; expected a file with pictures")
        decodable = tracks.first_decoded(tracks.video)
        if decodable is None:
            raise ValueError(f"{self.path}: no frame can be decoded; convert the file")
        self._pictures, first = decodable
        self._start = first.time or 0.0
        self._matrix = _display_matrix(first)
        self._size = _square_pixel_size(first, self._pictures.pixel_aspect)
        self._seconds_per_frame = min(1 / float(self._pictures.rate or 25), MAX_GAP)
        self.frame_count = self._pictures.frames
        decodable = tracks.first_decoded(tracks.audio)
        self.has_sound = decodable is not None
        if decodable is None:
            which = " that can be decoded" if tracks.audio else ""
            tracks.notes["sound"] = f" has no sound{which}; treated as silent"
            return
        self._sound, first = decodable
        self._rate_hz, self._scale = min(first.sample_rate, MAX_RATE_HZ), 1.0
        if str(self._sound.codec).startswith("pcm_f"):  # other codecs define their full scale
            self._scale = self._full_scale()

    @property
    def notes(self) -> list[str]:
        """What was repaired or skipped in the part read so far, one line each."""
        return [f"{self.path.name}{note}" for note in self._tracks.notes.values()]

    def frames(self) -> Iterator[Frame]:
        """Yield every frame that can be decoded, in temporal order.

        A frame whose timestamp is missing or not later than the last frame's is put after it.
        """
        width, height = self._size
        last, step = 0.0, 0.0
        for number, decoded in enumerate(self._tracks.decoded(self._pictures)):
            seconds = float(decoded.duration * decoded.time_base)
            if not 0 < seconds <= MAX_GAP:
                seconds = self._seconds_per_frame
            time = last + step if decoded.time is None else decoded.time - self._start
            if number == 0:
                step = seconds
            elif time < last + MIN_FRAME_GAP:
                time = last + step / 2
            else:
                step = min(seconds, time - last)
            last = time
            pixels = decoded.to_ndarray(format="rgb24", width=width, height=height)
            yield Frame(time, _upright(pixels, self._matrix), seconds)

    def sound(self, *, seconds: int, start: float = 0.0) -> Iterator[tuple[np.ndarray, int]]:
        """Yield the channels' mean in pieces of the given length: (n,) float32, and the rate in Hz.

        Gaps are silent; the last piece may be shorter. A file without sound yields nothing.

        Args:
            start: time in seconds at which the first piece begins.
        """
        if not self.has_sound:
            return
        piece, length = np.zeros(0, np.float32), seconds * self._rate_hz
        early = round(start * self._rate_hz)
        for samples in self._samples(rate_hz=self._rate_hz):
            piece = np.concatenate([piece, samples[:, early:].mean(0)])
            early = max(0, early - samples.shape[1])
            while len(piece) >= length:
                yield piece[:length], self._rate_hz
                piece = piece[length:]
        if len(piece):
            yield piece, self._rate_hz

    def stereo(self) -> Iterator[np.ndarray]:
        """Yield the sound for `VideoWriter`, (2, n) float32; gaps are filled with silence."""
        if self.has_sound:
            for samples in self._samples(rate_hz=SOUND_RATE_HZ):
                mixed = samples if len(samples) == 2 else samples.mean(0, keepdims=True)
                yield np.ascontiguousarray(np.broadcast_to(mixed, (2, samples.shape[1])))

    def _samples(self, *, rate_hz: int) -> Iterator[np.ndarray]:
        """Yield the sound from the first frame on, gaps filled, at most a second at a time.

        Each piece is (channels, n) float32; the number of channels may change.
        """
        heard = 0.0
        # A track may change its rate, channels and format, but a resampler takes only one.
        for _, alike in groupby(self._tracks.decoded(self._sound), _sound_format):
            resampler = av.AudioResampler(format="fltp", rate=rate_hz)
            time = heard
            for decoded in chain(alike, [None]):
                if decoded is not None and decoded.time is not None:
                    time = decoded.time - self._start
                if heard:  # only sound before the first frame is dropped
                    time = max(time, heard)
                for frame in resampler.resample(decoded):
                    if time > heard + MIN_SOUND_GAP:
                        yield from _silence(time - heard, rate_hz)
                        heard = time
                    early = max(0, -round(time * rate_hz))
                    samples = frame.to_ndarray()[:, early:]
                    if samples.size:
                        yield self._in_full_scale(samples)
                        heard += samples.shape[1] / rate_hz
                    time += frame.samples / rate_hz

    def _full_scale(self) -> float:
        """Return the full scale of float samples: 1, or an integer format's if any exceeds 8."""
        peak = 0.0
        for decoded in self._tracks.decoded(self._sound):
            samples = np.nan_to_num(np.abs(decoded.to_ndarray()), posinf=0)
            peak = max(peak, samples.max(initial=0))
        if peak <= MAX_AMPLITUDE:
            return 1.0
        scale = next((scale for scale in INTEGER_SCALES if peak <= scale), peak)
        self._tracks.notes["scale"] = (
            f": samples up to {peak:.0f}, expected 1 at most; divided by {scale:.0f}"
        )
        return scale

    def _in_full_scale(self, samples: np.ndarray) -> np.ndarray:
        if not np.isfinite(samples).all():
            self._tracks.notes["finite"] = ": samples that are not finite are treated as silent"
            samples = np.nan_to_num(samples, posinf=0, neginf=0)
        # Damaged sound may be decoded to thousands of times full scale.
        return (samples / np.float32(self._scale)).clip(-MAX_AMPLITUDE, MAX_AMPLITUDE)


def _sound_format(frame: Any) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _silence(seconds: float, rate_hz: int) -> Iterator[np.ndarray]:
    """Yield silence, (1, n) float32, at most a second at a time."""
    total = round(seconds * rate_hz)
    for start in range(0, total, rate_hz):
        yield np.zeros((1, min(rate_hz, total - start)), np.float32)


def _display_matrix(frame: Any) -> np.ndarray | None:
    """Return a frame's display matrix (3, 3), if any; its rows map x, y and the origin."""
    data = frame.side_data.get("DISPLAYMATRIX")
    return None if data is None else np.frombuffer(bytes(data), np.int32).reshape(3, 3)


def _square_pixel_size(frame: Any, aspect: Fraction | None) -> tuple[int, int]:
    """Return width and height of a frame once its pixels, `aspect` = width / height, are square."""
    wide = min(max(float(aspect or 1), 1 / MAX_PIXEL_ASPECT), MAX_PIXEL_ASPECT)
    return round(frame.width * max(1, wide)), round(frame.height * max(1, 1 / wide))


def _upright(pixels: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """Rotate by quarter turns and flip a frame (H, W, 3) according to its display matrix."""
    if matrix is None:
        return pixels
    (x_by_x, y_by_x), (x_by_y, y_by_y) = matrix[:2, :2].tolist()
    if abs(x_by_y) + abs(y_by_x) > abs(x_by_x) + abs(y_by_y):
        pixels, x_by_x, y_by_y = pixels.swapaxes(0, 1), x_by_y, y_by_x
    return np.ascontiguousarray(pixels[:: -1 if y_by_y < 0 else 1, :: -1 if x_by_x < 0 else 1])


def each_second(frames: Iterable[Frame]) -> Iterator[tuple[int, Frame]]:
    """Yield the frame displayed at each whole second from the first frame on, with its number."""
    second, before = 0.0, None
    for number, frame in enumerate(frames):
        if before is None:
            second = frame.time
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
        sound: samples as `Video.stereo` yields them; consumed as frames are written.
        has_sound: whether to write an audio track.
    """

    def __init__(self, path: Path, *, sound: Iterator[np.ndarray], has_sound: bool) -> None:
        # Without a protocol, FFmpeg would take anything before a colon for one.
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
        # H.264 halves the chroma resolution, so sides must be even.
        padding = [(0, side % 2) for side in frame.pixels.shape[:2]]
        pixels = np.pad(frame.pixels, [*padding, (0, 0)], mode="edge")
        if self._pictures is None:
            # B-frames would change the length where frame rates vary.
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

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._container:
            if kind is None:
                self._write_sound(until=float("inf"))
                for stream in filter(None, (self._pictures, self._voice)):
                    self._container.mux(stream.encode(None))
