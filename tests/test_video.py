"""Videos as people have them, read and written again."""

import av
import numpy as np
import pytest

from sam2love.video import Frame, Video, VideoWriter, each_second
from tests.videos import make_video

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (4, 48, 64, 3), dtype=np.uint8)


def sine(seconds: float, *, rate_hz: int = 16_000, channels: int = 1) -> np.ndarray:
    wave = 0.5 * np.sin(np.arange(round(seconds * rate_hz)) * 2 * np.pi * 440 / rate_hz)
    return np.tile(wave.astype(np.float32), (channels, 1))


def test_frames_at_their_own_times_without_loss(tmp_path):
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


def test_sound_comes_in_pieces_and_gaps_are_silent(tmp_path):
    path = make_video(tmp_path / "v.mkv", PICTURES, sound=sine(7, channels=2), sound_starts=1.5)
    pieces = list(Video(path).sound(seconds=4))
    assert [len(samples) for samples, _ in pieces] == [64_000, 64_000, 8_000]
    whole = np.concatenate([samples for samples, _ in pieces])
    assert not whole[:24_000].any()
    assert np.allclose(whole[24_000:], sine(7)[0], atol=1e-4)


def test_a_turned_telephone_shows_upright_pictures(tmp_path):
    plain, turned = tmp_path / "plain.mp4", tmp_path / "turned.mp4"
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32] = 255  # bright at the top left
    with VideoWriter(plain, sound=iter(()), has_sound=False) as writer:
        writer.write(Frame(0.0, picture))
    data = plain.read_bytes()
    unity = b"".join(
        int(v).to_bytes(4, "big") for v in (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    )
    # A quarter turn clockwise: x' = height - y, y' = x.
    entries = (0, 1 << 16, 0, (1 << 32) - (1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
    matrix = b"".join(int(v).to_bytes(4, "big") for v in entries)
    at = data.index(unity, data.index(b"tkhd"))
    turned.write_bytes(data[:at] + matrix + data[at + len(matrix) :])
    (frame,) = Video(turned).frames()
    assert frame.pixels.shape == (64, 48, 3)
    corners = frame.pixels[[5, 5, -5, -5], [5, -5, 5, -5]].mean(1)
    assert (corners > 128).tolist() == [False, True, False, False]  # now at the top right


def test_what_is_written_keeps_times_sound_and_odd_sizes(tmp_path):
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
def test_what_is_no_video_is_told_in_a_line(tmp_path, content, message):
    path = tmp_path / "broken.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        Video(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_file_that_was_cut_off_is_told_or_gives_what_is_there(tmp_path):
    whole = make_video(tmp_path / "whole.mkv", PICTURES, sound=sine(4))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    assert 1 <= len(list(Video(cut).frames())) < 4


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=1600)
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
    with pytest.raises(ValueError, match="no pictures in it"):
        Video(path)


@pytest.mark.parametrize(
    ("times", "last_seconds", "expected"),
    [
        ([0], 0.04, [0]),
        ([0, 1, 2], 1, [0, 1, 2]),
        ([0, 0.5, 0.99, 1.01, 1.5], 0.5, [0, 2]),
        ([0, 3.5, 4], 0.1, [0, 0, 0, 0, 2]),  # a still picture stays on show
        ([0, 0.999999, 2], 0.5, [0, 1, 2]),  # files round their times
    ],
)
def test_the_frame_on_show_at_each_second(times, last_seconds, expected):
    frames = [Frame(time, np.zeros((1, 1, 3), np.uint8)) for time in times]
    shown = list(each_second(frames, last_seconds=last_seconds))
    assert [number for number, _ in shown] == expected
    assert all(frame is frames[number] for number, frame in shown)
