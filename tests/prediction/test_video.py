"""Real-world videos, read and written again."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from sam2love.prediction.video import Frame, Video, VideoWriter, each_second
from tests.videos import make_stamped, make_video

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (4, 48, 64, 3), dtype=np.uint8)


def sine(seconds: float, *, rate_hz: int = 16_000, channels: int = 1) -> np.ndarray:
    wave = 0.5 * np.sin(np.arange(round(seconds * rate_hz)) * 2 * np.pi * 440 / rate_hz)
    return np.tile(wave.astype(np.float32), (channels, 1))


def test_frames_are_read_without_loss_at_their_own_times(tmp_path):
    times = [0.0, 0.04, 1.5, 7.25]  # no frame rate at all
    video = Video(make_video(tmp_path / "v.mkv", PICTURES, times=times))
    frames = list(video.frames())
    assert [frame.time for frame in frames] == pytest.approx(times)
    assert np.array_equal(np.stack([frame.pixels for frame in frames]), PICTURES)
    assert not video.has_sound
    assert list(video.sound(seconds=10)) == []


def test_times_count_from_the_first_frame(tmp_path):
    path = make_video(
        tmp_path / "v.mkv", PICTURES, times=[2, 3, 4, 5], sound=sine(6), sound_starts=0
    )
    video = Video(path)
    assert [frame.time for frame in video.frames()] == [0, 1, 2, 3]
    ((samples, rate_hz),) = video.sound(seconds=10)
    assert len(samples) / rate_hz == pytest.approx(4, abs=0.01)  # what came before is cut off
    assert np.allclose(samples[:1000], sine(6)[0, 32_000:33_000], atol=1e-4)


def test_sound_is_read_in_pieces_with_silent_gaps(tmp_path):
    path = make_video(tmp_path / "v.mkv", PICTURES, sound=sine(7, channels=2), sound_starts=1.5)
    pieces = list(Video(path).sound(seconds=4))
    assert [len(samples) for samples, _ in pieces] == [64_000, 64_000, 8_000]
    whole = np.concatenate([samples for samples, _ in pieces])
    assert not whole[:24_000].any()
    assert np.allclose(whole[24_000:], sine(7)[0], atol=1e-4)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("flipped", [False, True])
def test_frames_are_turned_upright(tmp_path, turns, flipped):
    plain, placed = tmp_path / "plain.mp4", tmp_path / "placed.mp4"
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32] = 255  # bright at the top left
    with VideoWriter(plain, sound=iter(()), has_sound=False) as writer:
        writer.write(Frame(0.0, picture, 1.0))
    turn = np.linalg.matrix_power(np.array([[0, 1], [-1, 0]]), turns)  # rows: where x and y go
    turn = np.diag([-1, 1]) @ turn if flipped else turn
    data, unit = plain.read_bytes(), 1 << 16
    unity, matrix = (
        np.array([a * unit, b * unit, 0, c * unit, d * unit, 0, 0, 0, 1 << 30], ">i4").tobytes()
        for ((a, b), (c, d)) in (np.eye(2, dtype=int), turn)
    )
    at = data.index(unity, data.index(b"tkhd"))
    placed.write_bytes(data[:at] + matrix + data[at + len(matrix) :])
    (frame,) = Video(placed).frames()
    expected = np.rot90(picture[:, ::-1] if flipped else picture, -turns)
    assert frame.pixels.shape == expected.shape
    assert np.abs(frame.pixels.astype(int) - expected).mean() < 8


@pytest.mark.parametrize(
    ("aspect", "shape"),
    [("1:1", (48, 64)), ("4:3", (48, 85)), ("3:4", (64, 64)), ("16:11", (48, 93)),
     ("1000:1", (48, 512))],
)  # fmt: skip
def test_pixels_are_made_square(tmp_path, aspect, shape):
    wide, high = map(int, aspect.split(":"))
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=1)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(wide, high)
        for _ in range(2):
            picture = av.VideoFrame.from_ndarray(PICTURES[0], format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    frame, *_ = Video(path).frames()
    if aspect == "1000:1":  # beyond what the format can say
        assert frame.pixels.shape[1] <= 512
    else:
        assert frame.pixels.shape[:2] == shape


@pytest.mark.parametrize(
    ("times", "last"),
    [([0, 1, 2, 3], 1.0), ([0, 0.04, 1.5, 7.25], 0.5), ([0, 20, 40], 20.0), ([0], 3.0)],
)
def test_a_written_video_has_the_right_duration(tmp_path, times, last):
    with VideoWriter(tmp_path / "v.mp4", sound=iter(()), has_sound=False) as writer:
        for time in times:
            writer.write(Frame(time, PICTURES[0], last))
    with av.open(str(tmp_path / "v.mp4")) as container:
        stream = container.streams.video[0]
        assert float(stream.duration * stream.time_base) == pytest.approx(times[-1] + last)
    frames = list(Video(tmp_path / "v.mp4").frames())
    assert [frame.time for frame in frames] == pytest.approx(times)
    assert frames[-1].seconds == pytest.approx(last)


def test_a_written_video_keeps_times_sound_and_odd_sizes(tmp_path):
    times = [0.0, 0.5, 0.6, 3.0]
    path = make_video(
        tmp_path / "in.mkv", PICTURES[:, :47, :63], times=times, sound=sine(4), sound_starts=0
    )
    video = Video(path)
    out = tmp_path / "out.mp4"
    with VideoWriter(out, sound=video.stereo(), has_sound=True) as writer:
        for frame in video.frames():
            writer.write(frame)
    again = Video(out)
    frames = list(again.frames())
    assert [frame.time for frame in frames] == pytest.approx(times, abs=1e-3)
    assert frames[0].pixels.shape == (48, 64, 3)
    (heard, rate_hz), *_ = again.sound(seconds=10)
    assert rate_hz == 48_000
    assert len(heard) / rate_hz == pytest.approx(4, abs=0.1)
    spectrum = np.abs(np.fft.rfft(heard[48_000:96_000]))
    assert spectrum.argmax() == 440


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"", "not a video"), (b"no video" * 99, "not a video")],
)
def test_a_file_that_is_no_video_gives_a_one_line_error(tmp_path, content, message):
    path = tmp_path / "broken.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        Video(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_truncated_file_is_read_to_its_end_and_noted(tmp_path):
    whole = make_video(tmp_path / "whole.mkv", np.tile(PICTURES, (3, 1, 1, 1)))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    video = Video(cut)
    assert 6 <= len(list(video.frames())) < 12
    assert len(video.notes) == 2
    assert video.notes[1].endswith(" s earlier than its header states")
    video = Video(whole)
    assert len(list(video.frames())) == 12
    assert len(video.notes) == 1  # no sound


@pytest.mark.parametrize("starts", [-2.0, 5.0, 300.0, 10_800.0, 86_400.0])
def test_a_file_may_start_at_any_time(tmp_path, starts):
    times = [starts + number for number in range(len(PICTURES))]
    whole = make_video(tmp_path / "whole.mkv", PICTURES, times=times)
    video = Video(whole)
    assert [frame.time for frame in video.frames()] == pytest.approx([0, 1, 2, 3])
    assert len(video.notes) == 1  # no sound
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    video = Video(cut)
    assert 2 <= len(list(video.frames())) < 4
    assert video.notes[1].endswith(" s earlier than its header states")


def test_a_sound_file_is_refused(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=1600)
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
    with pytest.raises(ValueError, match="no video track"):
        Video(path)


@pytest.mark.parametrize(
    ("times", "last", "expected"),
    [
        ([0], 0.04, [0]),
        ([0, 1, 2], 1, [0, 1, 2]),
        ([0, 0.5, 0.99, 1.01, 1.5], 0.5, [0, 2]),
        ([0, 3.5, 4], 0.1, [0, 0, 0, 0, 2]),  # a still frame remains displayed
        ([0, 0.999999, 2], 0.5, [0, 1, 2]),  # files round their timestamps
    ],
)
def test_the_frame_displayed_at_each_second(times, last, expected):
    frames = [Frame(time, np.zeros((1, 1, 3), np.uint8), last) for time in times]
    shown = list(each_second(frames))
    assert [number for number, _ in shown] == expected
    assert all(frame is frames[number] for number, frame in shown)


# ---- timestamps that jump -----------------------------------------------------------------------

STEPS = [i / 5 for i in range(8)]
DAY = 86_400


def later(seconds: float, times: list[float] = STEPS) -> list[float]:
    return [time + seconds for time in times]


@pytest.mark.parametrize(
    ("pictures", "sound"),
    [
        (STEPS, STEPS),
        ([0] * 8, STEPS),
        ([0, 0.2, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2], STEPS),
        ([0, 0.2, 0.4, 0.2, 0.4, 0.6, 0.8, 1.0], STEPS),
        (STEPS[::-1], STEPS[::-1]),
        (STEPS[:4] * 2, STEPS[:4] * 2),
        ([*later(300, STEPS[:4]), 0, *later(300, STEPS[5:])], later(300)),
        ([*STEPS[:4], DAY, *STEPS[5:]], STEPS),
        (STEPS, [*STEPS[:4], DAY, *STEPS[5:]]),
        (STEPS[:4] + later(DAY, STEPS[4:]), STEPS[:4] + later(DAY, STEPS[4:])),
        (later(DAY, STEPS[:4]) + STEPS[4:], later(DAY, STEPS[:4]) + STEPS[4:]),
        (STEPS[:4] + later(DAY, STEPS[4:]), STEPS),
        (STEPS, STEPS[:4] + later(DAY, STEPS[4:])),
        (later(DAY), STEPS),
        (STEPS, later(DAY)),
        ([0, DAY / 2] * 4, STEPS),
        (STEPS, [0, 2_000_000] * 4),
    ],
)
def test_wrong_times_lose_no_frame_or_sound_and_add_no_hours(tmp_path, pictures, sound):
    video = Video(make_stamped(tmp_path / "v.flv", pictures, sound=sound))
    frames = list(video.frames())
    assert [frame.pixels[16, 16, 0] for frame in frames] == pytest.approx(
        [20 * i + 10 for i in range(8)], abs=3
    )
    times = [frame.time for frame in frames]
    assert min(np.diff(times)) > 1e-4
    assert times[-1] < 2
    heard = np.concatenate([samples for samples, _ in video.sound(seconds=10)])
    assert len(heard) / 11_025 == pytest.approx(1.6, abs=0.45)
    assert (heard > 0.25).sum() / 11_025 == pytest.approx(1.6, abs=0.05)
    jumps = any(max(abs(np.diff(t))) > 10 for t in (pictures, sound))
    assert any("jumps in its timestamps" in note for note in video.notes) >= jumps


def test_gaps_of_minutes_are_kept(tmp_path):
    times, sound = [*STEPS[:4], 500, 500.2], [*STEPS[:4], 500]
    video = Video(make_stamped(tmp_path / "v.flv", times, sound=sound))
    assert [frame.time for frame in video.frames()] == pytest.approx(times, abs=0.01)
    assert max(samples.shape[1] for samples in video.stereo()) <= 48_000
    pieces = [samples for samples, _ in video.sound(seconds=10)]
    assert sum(map(len, pieces)) / 11_025 == pytest.approx(500.2, abs=0.01)
    assert not pieces[1].any()
    assert video.notes == []


def make_programme(path: Path, *, start: float, rate_hz: int, layout: str) -> bytes:
    """Return two seconds of a transport stream at 25 frames per second, with a tone."""
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        voice = container.add_stream("mp2", rate=rate_hz, layout=layout)
        for i in range(50):
            picture = av.VideoFrame.from_ndarray(PICTURES[i % 4], format="rgb24")
            picture.pts, picture.time_base = round(25 * start) + i, Fraction(1, 25)
            container.mux(stream.encode(picture))
        wave = sine(2, rate_hz=rate_hz, channels=len(av.AudioLayout(layout).channels))
        interleaved = np.ascontiguousarray((wave * 32767).astype(np.int16).T).reshape(1, -1)
        piece = av.AudioFrame.from_ndarray(interleaved, format="s16", layout=layout)
        piece.sample_rate, piece.time_base = rate_hz, Fraction(1, rate_hz)
        piece.pts = round(start * rate_hz)
        container.mux(voice.encode(piece))
        for encoder in (stream, voice):
            container.mux(encoder.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize("starts", [(0, 2, 4), (0, 0, 0), (50_000, 0, 2), (0, 90_000, 90_002)])
def test_joined_programmes_of_any_times_rates_and_channels(tmp_path, starts):
    kinds = [(44_100, "stereo"), (48_000, "mono"), (32_000, "stereo")]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(
        b"".join(
            make_programme(tmp_path / "one.ts", start=start, rate_hz=rate_hz, layout=layout)
            for start, (rate_hz, layout) in zip(starts, kinds, strict=True)
        )
    )
    video = Video(joined)
    times = [frame.time for frame in video.frames()]
    assert len(times) == 150
    assert np.diff(times) == pytest.approx(0.04, abs=0.03)
    assert times[-1] == pytest.approx(149 / 25, abs=0.2)
    (heard, rate_hz), *_ = video.sound(seconds=10)
    assert rate_hz == 44_100
    assert len(heard) / rate_hz == pytest.approx(6, abs=0.25)
    for second in (1, 3, 5):  # the same tone at every rate
        spectrum = np.abs(np.fft.rfft(heard[second * rate_hz - 22_050 :][:22_050]))
        assert 2 * spectrum.argmax() == pytest.approx(440, abs=2)
    with VideoWriter(tmp_path / "out.mp4", sound=video.stereo(), has_sound=True) as writer:
        for frame in video.frames():
            writer.write(frame)
    assert len(list(Video(tmp_path / "out.mp4").frames())) == 150


# ---- names and other files ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["10:02:33.mkv", "http:x.mkv", "concat:a|b.mkv", "-y.mkv", "v%03d.mkv", "*.mkv", "file:a.mkv",
     "pipe:0", "a b?#&.mkv", "\u9519\u8bef.mkv", "latin\udce9.mkv"],
)  # fmt: skip
def test_a_path_is_a_file_whatever_its_name(tmp_path, monkeypatch, name):
    make_video(tmp_path / "plain.mkv", PICTURES, sound=sine(4)).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    video = Video(name)
    with VideoWriter(Path(f"{name}.mp4"), sound=video.stereo(), has_sound=True) as writer:
        for frame in video.frames():
            writer.write(frame)
    assert len(list(Video(f"{name}.mp4").frames())) == 4


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("v.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{}\n#EXT-X-ENDLIST\n"),
        ("v.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nfile:{}\n#EXT-X-ENDLIST\n"),
        ("v.ffconcat", "ffconcat version 1.0\nfile {}\n"),
        ("v.sdp", "v=0\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=x {}\n"),
        ("v.mpd", '<?xml version="1.0"?><MPD type="static"><BaseURL>{}</BaseURL></MPD>\n'),
    ],
)
@pytest.mark.parametrize("relative", [True, False])
def test_no_other_file_is_opened(tmp_path, monkeypatch, name, content, relative):
    secret = tmp_path / "secret.ts"
    make_programme(secret, start=0, rate_hz=32_000, layout="mono")
    (tmp_path / name).write_text(content.format("secret.ts" if relative else secret))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=rf"^{name}: not a video that FFmpeg can read") as error:
        Video(name)
    assert "\n" not in str(error.value)
    secret.unlink()  # the outcome is the same without it
    with pytest.raises(ValueError, match="not a video") as without:
        Video(name)
    assert str(without.value) == str(error.value)


def test_a_number_pattern_in_a_name_opens_no_other_file(tmp_path):
    for name, value in (("v%03d.png", 200), ("v001.png", 50)):
        Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(tmp_path / name)
    (frame,) = Video(tmp_path / "v%03d.png").frames()
    assert (frame.pixels == 200).all()


# ---- covers, damage, tracks without a decoder --------------------------------------------------


def add_cover(container: av.container.OutputContainer) -> None:
    cover = container.add_stream("png")
    cover.height, cover.width, cover.pix_fmt = 48, 64, "rgb24"
    cover.disposition = Disposition.attached_pic
    picture = av.VideoFrame.from_ndarray(PICTURES[0], format="rgb24")
    packets = cover.encode(picture) + cover.encode(None)
    container.mux(packets)


@pytest.mark.parametrize(
    ("name", "codec"), [("s.mp3", "libmp3lame"), ("s.m4a", "aac"), ("s.flac", "flac")]
)
def test_a_cover_picture_is_no_video(tmp_path, name, codec):
    with av.open(str(tmp_path / name), "w", format="mp4" if name == "s.m4a" else None) as container:
        voice = container.add_stream(codec, rate=48_000, layout="stereo")
        voice.codec_context.open()
        add_cover(container)
        for start in range(0, 96_000, 4_000):
            kind = voice.codec_context.format.name
            dtype = {"flt": np.float32, "s16": np.int16, "s32": np.int32}[kind.rstrip("p")]
            shape = (2, 4_000) if kind.endswith("p") else (1, 8_000)
            piece = av.AudioFrame.from_ndarray(np.zeros(shape, dtype), format=kind, layout="stereo")
            piece.sample_rate, piece.pts = 48_000, start
            container.mux(voice.encode(piece))
        container.mux(voice.encode(None))
    with av.open(str(tmp_path / name)) as container:
        assert len(container.streams.video) == 1
    with pytest.raises(ValueError, match="no video track"):
        Video(tmp_path / name)


def test_a_cover_before_the_video_track_is_ignored(tmp_path):
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=1)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        stream.codec_context.open()
        add_cover(container)
        for _ in range(3):
            gray = np.full((32, 32, 3), 99, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(gray, format="rgb24")))
        container.mux(stream.encode(None))
    assert [frame.pixels.shape for frame in Video(path).frames()] == [(32, 32, 3)] * 3


@pytest.mark.parametrize("usable", [0, 1])
def test_sound_without_a_decoder(tmp_path, usable):
    path = tmp_path / "v.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        voices = [
            container.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(1 + usable)
        ]
        container.mux(stream.encode(av.VideoFrame.from_ndarray(PICTURES[0], format="rgb24")))
        container.mux(stream.encode(None))
        for voice in voices:
            piece = av.AudioFrame.from_ndarray(
                np.full((1, 3_200), 9_999, np.int16), format="s16", layout="mono"
            )
            piece.sample_rate = 16_000
            container.mux(voice.encode(piece))
    path.write_bytes(path.read_bytes().replace(b"sowt", b"apac", 1))
    video = Video(path)
    assert len(list(video.frames())) == 1
    assert video.has_sound == bool(usable)
    assert video.notes[0] == "v.mov: audio track 1 can't be decoded"
    if usable:
        ((heard, _),) = video.sound(seconds=10)
        assert heard.max() > 0.3
    else:
        assert video.notes[1] == "v.mov has no sound that can be decoded; treated as silent"


def test_a_damaged_file_is_decoded_as_far_as_possible(tmp_path):
    frames = np.repeat(PICTURES[:1], 10, axis=0)
    path = make_video(tmp_path / "v.mov", frames, codec="png", pixels="rgb24")
    data = bytearray(path.read_bytes())
    for at in (len(data) // 3, len(data) // 2):
        data[at : at + 200] = bytes(200)
    path.write_bytes(data)
    video = Video(path)
    found = list(video.frames())
    assert len(found) == 8
    assert all(np.array_equal(frame.pixels, PICTURES[0]) for frame in found)
    assert [frame.time for frame in found[-4:]] == pytest.approx([6, 7, 8, 9])
    assert video.notes[1:] == [
        "v.mov: 2 damaged video frames or packets; those that can't be decoded are skipped"
    ]


@pytest.mark.parametrize("scale", [1.0, 3.0, 2.0**15, 2.0**23, 2.0**31])
def test_floats_in_the_range_of_integers_are_scaled(tmp_path, scale):
    wave = sine(3)
    wave[:, :16_000] *= 1e-5  # almost silent at first
    video = Video(make_video(tmp_path / "v.mkv", PICTURES, sound=wave * np.float32(scale)))
    ((heard, _),) = video.sound(seconds=10)
    expected = wave[0] * (scale if scale < 8 else 1)
    assert np.allclose(heard, expected, atol=1e-4)
    assert any("expected 1 at most" in note for note in video.notes) == (scale > 8)


def test_samples_that_are_not_finite_are_silent(tmp_path):
    wave = sine(3)
    wave[0, 100:200], wave[0, 300] = np.nan, np.inf
    video = Video(make_video(tmp_path / "v.mkv", PICTURES, sound=wave))
    ((heard, _),) = video.sound(seconds=10)
    assert not heard[100:200].any()
    assert np.allclose(heard[400:], wave[0, 400:], atol=1e-4)
    assert "v.mkv: samples that are not finite are treated as silent" in video.notes
    with VideoWriter(tmp_path / "out.mp4", sound=video.stereo(), has_sound=True) as writer:
        writer.write(Frame(0.0, PICTURES[0], 1.0))
