"""Decode the tracks of a video file with PyAV, correcting timestamps that jump.

Only the file itself is opened, whatever its name and whatever other files it refers to. Data that
can't be decoded is skipped and noted.
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

MAX_GAP = 600.0
"""Seconds in which a file may hold no packet of any track; a longer gap is a jump."""
MAX_STEP_BACK = 0.5
"""Seconds by which a track's timestamps may fall; a longer step is a jump."""
MIN_LOSS = 1.0
"""Seconds missing at the end of a file, above which that is noted."""
NO_OTHER_FILES = {"protocol_whitelist": "none"}


@dataclass(frozen=True)
class Track:
    """A track as the file's header describes it; None where the header says nothing.

    codec: FFmpeg's name of the decoder; None if there is none.
    frames: number of frames.
    rate: frames per second, on average.
    pixel_aspect: width / height of a pixel.
    """

    index: int
    codec: str | None
    frames: int | None = None
    rate: Fraction | None = None
    pixel_aspect: Fraction | None = None


class Tracks:
    """A file's video tracks, without cover pictures, and its audio tracks.

    notes: what was repaired or skipped in the part read so far, by track or kind.

    Raises:
        OSError, ValueError: the file doesn't exist or can't be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: dict[str, str] = {}
        with self._opened() as container:
            self.audio = [Track(s.index, _codec(s)) for s in container.streams.audio]
            self.video = [
                Track(s.index, _codec(s), s.frames or None, s.average_rate, s.sample_aspect_ratio)
                for s in container.streams.video
                if not s.disposition & Disposition.attached_pic
            ]
        self._all = [track.index for track in (*self.video, *self.audio)]

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        if self.path.is_dir():
            raise IsADirectoryError(f"{self.path}: a folder; expected a video file")
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: no such file; expected a video")
        try:
            with (
                self.path.open("rb") as by_name,
                # FFmpeg takes some names for URLs or patterns; a file opened by number has none.
                open(by_name.fileno(), "rb", closefd=False) as file,
                av.open(file, metadata_errors="ignore", options=NO_OTHER_FILES) as container,
            ):
                yield container
        except av.FFmpegError as error:
            raise ValueError(
                f"{self.path}: not a video that FFmpeg can read, or damaged ({error.strerror})"
            ) from None

    def first_decoded(self, tracks: list[Track]) -> tuple[Track, Any] | None:
        """Return the first of the tracks that can be decoded, and its first frame."""
        for number, track in enumerate(tracks, 1):
            for frame in self.decoded(track):
                return track, frame
            kind = "audio" if track in self.audio else "video"
            self.notes[f"track {track.index}"] = f": {kind} track {number} can't be decoded"
        return None

    def decoded(self, track: Track) -> Iterator[Any]:
        """Yield the frames (`av.Frame`) of a track that can be decoded."""
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
                        f": {damaged} damaged {stream.type} frames or packets; those that can't be "
                        "decoded are skipped"
                    )
                for frame in frames:
                    frame.time_base = stream.time_base
                    yield frame

    def _packets(self, container: Any) -> Iterator[Any]:
        """Yield all tracks' packets with corrected timestamps, up to the first unreadable one."""
        clock = Clock()
        try:
            for packet in container.demux([container.streams[index] for index in self._all]):
                if packet.size:  # an empty packet would flush the decoder
                    clock.correct(packet)
                    yield packet
                if clock.jumps:
                    self.notes["jumps"] = (
                        f": jumps in its timestamps: {clock.jumps}; the part after a jump is "
                        "appended without a gap"
                    )
            # Matroska counts the duration from 0, other formats from the first packet.
            reached = clock.latest - min(clock.start or 0, 0)
            missing = (container.duration or 0) / av.time_base - reached
            if missing > MIN_LOSS and not clock.jumps:
                self.notes["end"] = f": ends {missing:.1f} s earlier than its header states"
        except av.FFmpegError as error:
            self.notes["end"] = f": can't be read to the end ({error.strerror})"


def _codec(stream: Any) -> str | None:
    return stream.codec_context.name if stream.codec_context else None


class Clock:
    """Corrects the timestamps of a file's packets, in file order.

    After a jump a track continues where it was, and all its later packets are shifted alike. Tracks
    that jump together stay in sync.
    """

    def __init__(self) -> None:
        self.jumps = 0
        self.start: float | None = None
        self.latest = 0.0
        """Start of the file and end of the part read so far, in seconds."""
        self._starts: dict[int, float] = {}
        self._ends: dict[int, float] = {}
        self._shifts: dict[int, float] = {}
        self._before_jump: dict[int, float] = {}
        self._newest_shift = 0.0

    def correct(self, packet: Any) -> None:
        """Shift a packet (`av.Packet`), if it has a timestamp."""
        unit, ordered = float(packet.time_base), packet.dts is not None
        offset = abs(packet.pts - packet.dts) * unit if ordered and packet.pts is not None else 0
        if offset > MAX_GAP:
            packet.pts = None  # decoders then use dts
        timestamp = packet.dts if ordered else packet.pts
        if timestamp is None:
            return
        track, time = packet.stream_index, timestamp * unit
        shift = self._shift(track, time, ordered=ordered)
        duration = (packet.duration or 0) * unit
        end = time + shift + (duration if duration < MAX_GAP else 0)
        self.latest = max(self.latest, end)
        if ordered:
            self._starts[track], self._ends[track] = time + shift, end
        ticks = round(shift / unit)
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks

    def _shift(self, track: int, time: float, *, ordered: bool) -> float:
        """Return a packet's shift: the track's own, another track's, or a new one after a jump.

        Args:
            ordered: whether `time` is a dts, which increases from packet to packet.
        """
        if self.start is None:
            self.start = self.latest = time
        own = self._shifts.get(track, self._newest_shift)
        expected = self._ends.get(track, self.latest if track in self._shifts else self.start)
        low = expected - MAX_GAP
        if ordered and track in self._starts:
            low = self._starts[track] - MAX_STEP_BACK
        # A single wrong timestamp is a jump and a jump back.
        known = (own, self._newest_shift, self._before_jump.pop(track, own))
        high = self.latest + MAX_GAP
        if fitting := [shift for shift in known if low <= time + shift <= high]:
            shift = min(fitting, key=lambda shift: abs(time + shift - expected))
        else:
            self.jumps += 1
            shift, self._before_jump[track] = expected - time, own
        if shift != own:
            self._newest_shift = shift
        self._shifts[track] = shift
        return shift
