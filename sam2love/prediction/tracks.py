"""The tracks of a video or sound file, decoded by PyAV, with times by one rising clock.

Only the file itself is opened, whatever its name and whatever other files it names. What can't be
decoded is left out, and noted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

LONGEST_GAP = 600.0
"""Seconds in which no track of a file need hold anything; a longer gap is a leap."""
LONGEST_STEP_BACK = 0.5
"""Seconds by which the times of a track may fall; a longer step is a leap."""
SHORTEST_LOSS = 1.0
"""Seconds missing at the end of a file that are noted."""
NO_OTHER_FILES = {"protocol_whitelist": "none"}


@dataclass(frozen=True)
class Track:
    """What a file says of one of its tracks.

    codec: FFmpeg's name of its decoder; None if it has none.
    frames: how many there are, if it says so.
    rate: frames a second, on average, if it says so.
    pixel_aspect: width of a pixel for its height.
    """

    index: int
    codec: str | None
    frames: int | None = None
    rate: Fraction | None = None
    pixel_aspect: Fraction | None = None


class Tracks:
    """A file's tracks of pictures, without covers, and of sound.

    notes: what was repaired or left out as far as the file has been read, by track or kind.

    Raises:
        OSError, ValueError: there is no such file, or it can't be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: dict[str, str] = {}
        with self._opened() as container:
            self.sounds = [Track(s.index, _codec(s)) for s in container.streams.audio]
            self.films = [
                Track(s.index, _codec(s), s.frames or None, s.average_rate, s.sample_aspect_ratio)
                for s in container.streams.video
                if not s.disposition & Disposition.attached_pic
            ]
        self._all = [track.index for track in (*self.films, *self.sounds)]

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        if self.path.is_dir():
            raise IsADirectoryError(f"{self.path}: a folder; expected a video file")
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: no such file; expected a video")
        try:
            with (
                self.path.open("rb") as named,
                # FFmpeg would take some names for addresses or patterns; this file has none.
                open(named.fileno(), "rb", closefd=False) as file,
                av.open(file, metadata_errors="ignore", options=NO_OTHER_FILES) as container,
            ):
                yield container
        except av.FFmpegError as error:
            raise ValueError(
                f"{self.path}: not a video that can be read, or a damaged one ({error.strerror})"
            ) from None

    def first_decoded(self, tracks: list[Track]) -> tuple[Track, Any] | None:
        """Find the first of some tracks that can be decoded, and decode its first frame."""
        for number, track in enumerate(tracks, 1):
            for frame in self.decoded(track):
                return track, frame
            what = "sound" if track in self.sounds else "picture"
            self.notes[f"track {track.index}"] = f": {what} track {number} can't be decoded"
        return None

    def decoded(self, track: Track) -> Iterator[Any]:
        """Decode what can be decoded of a track, frame by frame (`av.Frame`)."""
        if track.codec is None:
            return
        damaged = 0
        with self._opened() as container:
            stream = container.streams[track.index]
            for packet in chain(self._packets(container), [None]):
                if packet is not None and packet.stream_index != track.index:
                    continue
                try:
                    frames = stream.codec_context.decode(packet)
                except av.FFmpegError:
                    frames, damaged = [], damaged + 1
                damaged += sum(frame.is_corrupt for frame in frames)
                if damaged:
                    self.notes[f"track {track.index}"] = (
                        f": damaged frames or packets of {stream.type}: {damaged}; those that "
                        "can't be decoded are left out"
                    )
                for frame in frames:
                    frame.time_base = stream.time_base
                    yield frame

    def _packets(self, container: Any) -> Iterator[Any]:
        """Read the packets of all tracks, their times corrected, as far as they can be read."""
        clock = Clock()
        try:
            for packet in container.demux([container.streams[index] for index in self._all]):
                if packet.size:  # an empty one would end the decoder
                    clock.correct(packet)
                    yield packet
                if clock.leaps:
                    self.notes["leaps"] = (
                        f": jumps in its timestamps: {clock.leaps}; what follows a jump is "
                        "appended without a gap"
                    )
            # Matroska counts a file's duration from 0, other formats from its first packet.
            reached = clock.latest - min(clock.start or 0, 0)
            missing = (container.duration or 0) / av.time_base - reached
            if missing > SHORTEST_LOSS and not clock.leaps:
                self.notes["end"] = f": ends {missing:.1f} s earlier than the file says"
        except av.FFmpegError as error:
            self.notes["end"] = f": can't be read to its end ({error.strerror})"


def _codec(stream: Any) -> str | None:
    return stream.codec_context.name if stream.codec_context else None


class Clock:
    """Corrects the times of all packets of a file, in the file's order.

    After a leap a track goes on where it was, and all its later packets move along. Tracks that
    leap together stay together.
    """

    def __init__(self) -> None:
        self.leaps = 0
        self.start: float | None = None
        self.latest = 0.0
        """When the file starts, and ends as far as it has been read; in seconds."""
        self._starts: dict[int, float] = {}
        self._ends: dict[int, float] = {}
        self._shifts: dict[int, float] = {}
        self._before_leap: dict[int, float] = {}
        self._newest_shift = 0.0

    def correct(self, packet: Any) -> None:
        """Shift a packet (`av.Packet`), if it has a time."""
        unit, ordered = float(packet.time_base), packet.dts is not None
        apart = abs(packet.pts - packet.dts) * unit if ordered and packet.pts is not None else 0
        if apart > LONGEST_GAP:
            packet.pts = None  # decoders go by the other one then
        stamp = packet.dts if ordered else packet.pts
        if stamp is None:
            return
        track, time = packet.stream_index, stamp * unit
        shift = self._shift(track, time, ordered=ordered)
        duration = (packet.duration or 0) * unit
        end = time + shift + (duration if duration < LONGEST_GAP else 0)
        self.latest = max(self.latest, end)
        if ordered:
            self._starts[track], self._ends[track] = time + shift, end
        ticks = round(shift / unit)
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks

    def _shift(self, track: int, time: float, *, ordered: bool) -> float:
        """Find by how much a packet moves: as before, as another track, or by a leap of its own.

        Args:
            ordered: whether the time is one that rises from packet to packet (dts).
        """
        if self.start is None:
            self.start = self.latest = time
        own = self._shifts.get(track, self._newest_shift)
        expected = self._ends.get(track, self.latest if track in self._shifts else self.start)
        low = expected - LONGEST_GAP
        if ordered and track in self._starts:
            low = self._starts[track] - LONGEST_STEP_BACK
        # A single wrong time is a leap and a leap back.
        known = (own, self._newest_shift, self._before_leap.pop(track, own))
        high = self.latest + LONGEST_GAP
        if fitting := [shift for shift in known if low <= time + shift <= high]:
            shift = min(fitting, key=lambda shift: abs(time + shift - expected))
        else:
            self.leaps += 1
            shift, self._before_leap[track] = expected - time, own
        if shift != own:
            self._newest_shift = shift
        self._shifts[track] = shift
        return shift
