"""Predictions on small videos, compared with the pipeline's masks."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from sam2love.dataset import refavs
from sam2love.dataset.index import read_index
from sam2love.evaluation.metrics import probabilities
from sam2love.prediction.outcome import Choice
from sam2love.prediction.predictor import Predictor
from sam2love.prediction.prompter import masks_of
from sam2love.prediction.video import Video
from sam2love.sam.decode import click
from sam2love.sam.propagate import propagate
from sam2love.segmentation import segment_clips
from sam2love.stores.features import FeatureReader
from tests import tiny
from tests.videos import make_video

KEY = "--seenD_1_2"


@pytest.fixture
def predictor(model_folder):
    return Predictor.from_pretrained(model_folder, device="cpu")


@pytest.fixture
def sure(predictor, monkeypatch):
    """The predictor with beliefs set by the test: for each window, one per sentence."""

    def sure(*beliefs: list[float]) -> Predictor:
        watch = Predictor._watch

        def watched(self, *args, **settings):
            windows, times = watch(self, *args, **settings)
            for window, row in zip(windows, beliefs, strict=True):
                window.beliefs[:] = row
            return windows, times

        monkeypatch.setattr(Predictor, "_watch", watched)
        return predictor

    return sure


def pictures(count: int, *, height: int = 20, width: int = 30) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def read_masks(folder) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])


def test_masks_match_the_pipeline(sure, feature_folder, refavs_root, run_folder, tmp_path):
    index = read_index(run_folder / "index")
    rows = index.expressions[index.expressions["key"] == KEY]
    predictor = sure([0.9] * len(rows))
    samples, rate_hz = refavs.read_audio(refavs_root, KEY)
    video = make_video(
        tmp_path / "clip.mkv",
        refavs.read_frames(refavs_root, KEY),
        sound=samples[None].astype(np.float32),
        rate_hz=rate_hz,
    )
    prediction = predictor.predict(video, rows["exp"].tolist(), out=tmp_path / "out")
    reader = FeatureReader(feature_folder, index)
    with torch.inference_mode():
        prompts = predictor.model.prompts(reader.features(rows).to("cpu"))
    expected = segment_clips(
        predictor.model.sam2,
        rows["key"].tolist(),
        prompts,
        lambda clip: [level[0] for level in reader.embeddings([clip])],
        tracker=predictor.tracker,
    )
    size = refavs.read_frames(refavs_root, KEY).shape[1:3]
    for row, sentence in enumerate(prediction.sentences):
        masks = read_masks(tmp_path / "out" / sentence.masks) / 255
        wanted = probabilities(expected["logits"][row], size=size, logits=True)
        assert np.abs(masks - wanted).max() < 0.02  # halves in the store, eighths of bits in PNGs
        scores = torch.from_numpy(expected["object_score"][row]).sigmoid()
        assert np.allclose(sentence.beliefs, scores, atol=0.01)


def test_all_files_are_written(sure, tmp_path):
    predictor = sure([0.2, 0.9], [0.7, 0.1])
    video = make_video(tmp_path / "v.mkv", pictures(13))
    texts = ["A <b>bold</b> $x_1$ & 错误?", "../up"]
    prediction = predictor.predict(video, texts, out=tmp_path / "out")
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "masks",
        "masks.json",
        "overlay.mp4",
        "strip.png",
        "belief.json",
    }
    assert [s.masks for s in prediction.sentences] == ["masks/0-a-b-bold-b-x_1-错误", "masks/1-up"]
    later, first = (read_masks(out / sentence.masks) for sentence in prediction.sentences)
    assert later.shape == first.shape == (13, 20, 30)
    assert later.dtype == np.uint8
    assert not later[:10].any()  # nothing is shown before the window that believes
    assert later[10].any()
    assert first[0].any()
    assert [s.prompted_at for s in prediction.sentences] == [10, 0]
    assert prediction.sentences[0].beliefs[:10] == [0.2] * 10
    assert prediction.window_starts == [0, 10]
    silent, long = prediction.notes
    assert silent == "v.mkv has no sound; treated as silent"
    assert long.startswith(
        f'"{texts[0]}" has 31 tokens, of which the model reads 25: "A <b>bold</b>'
    )
    written = json.loads((out / "belief.json").read_text(encoding="utf-8"))
    assert written["times"] == list(range(13))
    assert written["sentences"][0]["text"] == texts[0]
    assert [len(sentence["beliefs"]) for sentence in written["sentences"]] == [13, 13]
    overlaid = list(Video(out / "overlay.mp4").frames())
    assert [frame.time for frame in overlaid] == pytest.approx(range(13))


def test_low_belief_gives_empty_masks(sure, tmp_path):
    video = make_video(tmp_path / "v.mkv", pictures(2))
    prediction = sure([0.4]).predict(video, ["x"], out=tmp_path / "out")
    (sentence,) = prediction.sentences
    assert sentence.prompted_at is None
    assert prediction.lines[-1] == '"x" is shown in no frame (belief 0.40 to 0.40)'
    assert not read_masks(tmp_path / "out" / sentence.masks).any()


def test_shown_agrees_with_the_masks(sure, tmp_path):
    video = make_video(tmp_path / "v.mkv", pictures(12))
    prediction = sure([0.2], [0.9]).predict(video, ["x"], out=tmp_path / "out")
    (sentence,) = prediction.sentences
    masks = read_masks(tmp_path / "out" / sentence.masks)
    assert sentence.shown == [bool((mask > 127).any()) for mask in masks]
    assert not any(sentence.shown[:10])


def test_a_truncated_sentence_is_noted(sure, tmp_path):
    video = make_video(tmp_path / "v.mkv", pictures(1), sound=np.zeros((1, 16_000), np.float32))
    whole, longer = "a" * 23, "b" * 24  # with <s> and </s> the model reads 25 letters
    prediction = sure([0.9] * 3).predict(video, [whole, longer, whole], out=tmp_path / "out")
    (note,) = prediction.notes
    assert note == f'"{longer}" has 26 tokens, of which the model reads 25: "{longer[:23]}"'
    assert prediction.lines[0] == f"note: {note}"
    assert json.loads((tmp_path / "out/belief.json").read_text())["notes"] == [note]


def test_words_can_be_hidden_from_the_model(predictor, monkeypatch, tmp_path):
    video = make_video(tmp_path / "v.mkv", pictures(1))
    given = []
    encode = predictor.text.encode
    monkeypatch.setattr(
        predictor.text, "encode", lambda texts: given.append(texts) or encode(texts)
    )
    prediction = predictor.predict(video, ["x", "y"], out=tmp_path / "out", words=False)
    assert given == [["", ""]]
    assert [sentence.text for sentence in prediction.sentences] == ["x", "y"]


def test_file_names_that_are_not_utf8(predictor, tmp_path):
    video = make_video(tmp_path / "v.mkv", pictures(1)).rename(tmp_path / "caf\udce9.mkv")
    out = tmp_path / "caf\udce9-masks"
    predictor.predict(video, ["x"], out=out)
    written = json.loads((out / "belief.json").read_text(encoding="utf-8"))
    assert written["video"] == video.name
    assert {path.name for path in out.iterdir()} >= {"overlay.mp4", "strip.png"}


def test_output_is_reproducible(predictor, tmp_path):
    # On frames of only a few blocks the H.264 encoder itself is not deterministic.
    video = make_video(tmp_path / "v.mkv", pictures(3, height=48, width=64))
    for name in ("one", "two"):
        predictor.predict(video, ["the object"], out=tmp_path / name)
    files = sorted(path for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == 7
    again = [tmp_path / "two" / path.relative_to(tmp_path / "one") for path in files]
    same = [a.read_bytes() == b.read_bytes() for a, b in zip(files, again, strict=True)]
    assert all(same), [path.name for path, right in zip(files, same, strict=True) if not right]


def test_sound_is_heard_unless_muted(predictor, tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.2, (1, 48_000)).astype(np.float32)
    video = Video(make_video(tmp_path / "v.mkv", pictures(3), sound=noise))
    silent = Video(make_video(tmp_path / "s.mkv", pictures(3)))

    def prompts(video: Video, *, sound: bool) -> torch.Tensor:
        windows, _ = predictor._watch(video, ["the object"], Choice(), sound=sound, progress=False)
        return windows[0].prompts

    heard, muted = prompts(video, sound=True), prompts(video, sound=False)
    assert not torch.allclose(heard, muted)
    assert torch.equal(muted, prompts(silent, sound=True))


def test_the_frame_that_the_model_chooses_is_prompted(predictor, monkeypatch, tmp_path):
    """The first sentence's object comes after four seconds, the second's is never there."""
    tiny.see_objects(predictor.model.sam2, predictor.tracker)
    predictor.gate, choose = True, predictor.model.prompts

    def late(features):
        return choose(features)._replace(
            frame=torch.tensor([4, 2]), presence=torch.tensor([3.0, -2.0])
        )

    monkeypatch.setattr(predictor.model, "prompts", late)
    video = make_video(tmp_path / "v.mkv", pictures(6))
    first, second = predictor.predict(video, ["x", "y"], out=tmp_path / "out").sentences
    assert first.prompted_at == 4.0
    assert second.prompted_at is None
    assert first.windows == [0.9526]
    assert second.windows == [0.1192]
    assert [bool(mask.any()) for mask in read_masks(tmp_path / "out" / first.masks)] == (
        [False] * 4 + [True] * 2
    )
    assert not read_masks(tmp_path / "out" / second.masks).any()


@pytest.mark.parametrize(("frame", "chunk"), [(0, 50), (3, 50), (11, 4), (12, 1)])
def test_a_chosen_frame_is_prompted_and_tracked_both_ways(
    predictor, monkeypatch, frame, chunk, tmp_path
):
    monkeypatch.setattr("sam2love.prediction.predictor.CHUNK", chunk)
    tiny.see_objects(predictor.model.sam2, predictor.tracker)
    noise = np.random.default_rng(0).normal(0, 0.2, (1, 13 * 16_000)).astype(np.float32)
    video = make_video(tmp_path / "v.mkv", pictures(13), sound=noise)
    prediction = predictor.predict(video, ["the object", "x"], out=tmp_path / "out", frame=frame)
    shown = [f.pixels for f in Video(video).frames()]
    heard = np.concatenate([piece for piece, _ in Video(video).sound(seconds=1)])
    window = heard[16_000 * frame :][:160_000]
    read = predictor.read(["the object", "x"])
    prompts = predictor.prompts(read, shown[frame:][:10], window, 16_000, first=True).tokens
    levels = [torch.cat(level)[None] for level in zip(*map(predictor.levels, shown), strict=True)]
    rows = torch.zeros(2, dtype=torch.int64)
    logits, scores = propagate(
        predictor.model.sam2,
        tuple(levels),
        prompts,
        rows,
        prompted=rows + frame,
        tracker=predictor.tracker,
    )
    for row, sentence in enumerate(prediction.sentences):
        assert sentence.prompted_at == frame
        masks = read_masks(tmp_path / "out" / sentence.masks) / 255
        assert np.abs(masks - masks_of(logits[row], (20, 30))).max() < 0.01
        assert masks.any(axis=(1, 2)).all()
        assert np.allclose(sentence.beliefs, scores[row].sigmoid(), atol=1e-3)
    assert prediction.window_starts[0] == frame


def test_every_nth_frame(sure, tmp_path):
    video = make_video(tmp_path / "v.mkv", pictures(13))
    prediction = sure([0.9]).predict(video, ["x"], out=tmp_path / "out", every=5, frame=10)
    out = tmp_path / "out"
    names = [path.name for path in sorted((out / prediction.sentences[0].masks).iterdir())]
    assert names == ["00000.png", "00005.png", "00010.png"]
    assert (prediction.frames, prediction.times) == ([0, 5, 10], [0, 5, 10])
    assert prediction.sentences[0].prompted_at == 10
    overlaid = list(Video(out / "overlay.mp4").frames())
    assert [frame.time for frame in overlaid] == pytest.approx([0, 5, 10])
    assert overlaid[-1].seconds == pytest.approx(3)  # it ends with the video
    annotated = json.loads((out / "masks.json").read_text())["images"]
    assert [image["id"] for image in annotated] == [0, 5, 10]


def test_a_point_is_a_click_with_the_tracker_s_heads(predictor, tmp_path):
    tiny.see_objects(predictor.model.sam2, predictor.tracker)
    video = make_video(tmp_path / "v.mkv", pictures(3))
    predictor.predict(video, ["x"], out=tmp_path / "out", frame=1, point=(6, 15))
    shown = [f.pixels for f in Video(video).frames()]
    tracker = predictor.tracker
    assert tracker is not None
    size = tracker.image_size
    levels = [torch.cat(level)[None] for level in zip(*map(predictor.levels, shown), strict=True)]
    row = torch.zeros(1, dtype=torch.int64)
    logits, _ = propagate(
        tracker,
        tuple(levels),
        click(tracker, torch.tensor([[6 / 30 * size, 15 / 20 * size]])),
        row,
        prompted=row + 1,
    )
    masks = read_masks(tmp_path / "out/masks/0-x") / 255
    assert np.abs(masks - masks_of(logits[0], (20, 30))).max() < 0.01


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frame": 2}, r"frame 2: not in v\.mkv; expected 0 to 1"),
        ({"frame": -1}, "frame -1: expected 0 or more"),
        ({"frame": 40, "every": 20}, r"frame 40: not in v\.mkv; expected 0 to 0"),
        ({"frame": 37, "every": 5}, "frame 37: not among every 5th .*; choose 35 or 40"),
        ({"every": 0}, "every 0: expected 1 or more"),
        ({"point": (1, 1)}, "a point needs the number of the frame"),
        ({"frame": 0, "point": (30, 1)}, "point 30,1: outside the picture of 30 x 20 pixels"),
        ({"frame": 0, "point": (1, -1)}, "x from 0 to 29 and y from 0 to 19"),
    ],
)
def test_wrong_choices_are_named(settings, message, predictor, tmp_path):
    video = make_video(tmp_path / "v.mkv", pictures(2))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=message):
        predictor.predict(video, ["x"], out=tmp_path / "out", **settings)
    assert sorted(tmp_path.iterdir()) == before


def test_a_point_is_for_one_sentence(predictor, tmp_path):
    video = make_video(tmp_path / "v.mkv", pictures(2))
    with pytest.raises(ValueError, match="on one object, found 2 sentences"):
        predictor.predict(video, ["x", "y"], out=tmp_path / "out", frame=0, point=(1, 1))


def test_impossible_requests_are_refused(predictor, tmp_path):
    video = make_video(tmp_path / "v.mkv", pictures(2))
    with pytest.raises(FileExistsError, match="already exists; remove it or write elsewhere"):
        predictor.predict(video, ["the object"], out=tmp_path)
    with pytest.raises(NotADirectoryError, match=r"v\.mkv"):  # before the video is read
        predictor.predict(tmp_path / "missing.mp4", ["the object"], out=video / "out")
    with pytest.raises(IsADirectoryError, match="a folder; expected a video file"):
        predictor.predict(tmp_path, ["the object"], out=tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir() if path != video] == ["run"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "no sentences; expected"),
        ("the blue square", "expected a list of one or more"),
        ([""], "'': empty sentence"),
        (["the object", " \t\n"], r"' \\t\\n': empty sentence"),
        (["\u200b\u00a0"], "empty sentence"),  # zero-width and no-break space
        (["the caf\udce9 sign"], r"'the caf\\udce9 sign': not valid UTF-8"),
        (["\ud83d"], "empty sentence"),  # half of an emoji is no character
        (["a \ud83d dog"], "not valid UTF-8"),
    ],
)
def test_unreadable_sentences_are_named(texts, message, predictor, tmp_path):
    video = make_video(tmp_path / "v.mkv", pictures(1))
    with pytest.raises(ValueError, match=message) as refused:
        predictor.predict(video, texts, out=tmp_path / "out")
    str(refused.value).encode()  # can be printed
    assert not (tmp_path / "out").exists()
