"""A stream: its prompts against the predictor's parts, its memory, and what it refuses."""

import gc

import numpy as np
import pytest
import torch

from sam2love.prediction.predictor import Predictor
from sam2love.prediction.prompter import beliefs_of, masks_of
from sam2love.prediction.stream import ENDLESS
from tests import tiny

RATE_HZ = 1000
"""Low, so that the sound of many windows is heard quickly."""


@pytest.fixture
def predictor(model_folder):
    predictor = Predictor.from_pretrained(model_folder, device="cpu")
    predictor.gate = False
    tiny.see_objects(predictor.model.sam2, predictor.tracker)
    return predictor


def camera(steps: int, *, samples: int = RATE_HZ) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        (
            rng.integers(0, 256, (20, 30, 3), np.uint8),
            rng.normal(0, 0.2, samples).astype(np.float32),
        )
        for _ in range(steps)
    ]


def expected(predictor, texts, pictures, sound, tracked) -> tuple[np.ndarray, list[float]]:
    """The last of `tracked` pictures, from a prompt on the first of a window's `pictures`."""
    prompts = predictor.prompts(predictor.read(texts), pictures, sound, RATE_HZ)
    stream = predictor.track(prompts.tokens, frames=ENDLESS)
    for picture in tracked:
        logits, scores = stream.step(predictor.levels(picture))
    return masks_of(logits, pictures[0].shape[:2]), beliefs_of(scores)


def agree(found: tuple, wanted: tuple) -> bool:
    """Compare closely: with random weights, one frame more or less in memory changes 1e-4."""
    return all(np.allclose(a, b, atol=1e-5, rtol=0) for a, b in zip(found, wanted, strict=True))


def test_the_first_frame_is_prompted_from_the_sound_so_far(predictor):
    texts, steps = ["the object", "x"], camera(3)
    stream = predictor.stream(texts, rate_hz=RATE_HZ)
    pictures = [frame for frame, _ in steps]
    for number, (frame, sound) in enumerate(steps):
        wanted = expected(
            predictor, texts, pictures[:1], steps[0][1], tracked=pictures[: number + 1]
        )
        assert agree(stream.step(frame, sound), wanted)


@pytest.mark.parametrize("per_second", [1, 2])
def test_ten_seconds_prompt_their_first_frame_anew(predictor, monkeypatch, per_second):
    texts, steps = ["the object"], camera(11 * per_second, samples=RATE_HZ // per_second)
    prompts, prompted = predictor.prompts, []

    def recorded(read, pictures, sound, rate_hz):
        prompted.append((np.stack(pictures), sound))
        return prompts(read, pictures, sound, rate_hz)

    stream = predictor.stream(texts, rate_hz=RATE_HZ)
    with monkeypatch.context() as patch:
        patch.setattr(predictor, "prompts", recorded)
        results = [stream.step(frame, sound) for frame, sound in steps]
    pictures = [frame for frame, _ in steps[: 10 * per_second : per_second]]
    window = np.concatenate([sound for _, sound in steps[: 10 * per_second]])
    (_, first), (shown, heard) = prompted
    assert np.array_equal(first, steps[0][1])
    assert np.array_equal(shown, pictures)
    assert np.array_equal(heard, window)
    last = 10 * per_second - 1  # the step with which the window is complete
    past = pictures if per_second == 2 else pictures[:-1]
    for number in range(last, len(steps)):
        tracked = [*past, *(frame for frame, _ in steps[last : number + 1])]
        assert agree(results[number], expected(predictor, texts, pictures, window, tracked))
        assert not agree(results[number], expected(predictor, texts, pictures, window, tracked[1:]))


def test_a_window_prompts_the_picture_that_the_model_chooses(predictor, monkeypatch):
    steps, choose = camera(12), predictor.model.prompts

    def late(features):
        chosen = choose(features)
        seconds = features.cls.shape[1] - 1
        return chosen._replace(frame=torch.tensor([min(4, seconds)]), presence=torch.tensor([2.0]))

    monkeypatch.setattr(predictor.model, "prompts", late)
    stream = predictor.stream(["x"], rate_hz=RATE_HZ)
    results = [stream.step(*step) for step in steps]
    shown = [frame for frame, _ in steps]
    heard = np.concatenate([sound for _, sound in steps[:10]])
    for number in (9, 11):
        tracked = shown[4 : number + 1] if number > 9 else shown[4:10]
        assert agree(results[number], expected(predictor, ["x"], shown[:10], heard, tracked))


def test_only_believed_windows_prompt(predictor, monkeypatch):
    predictor.gate = True
    beliefs = iter([[0.2, 0.9], [0.7, 0.1], [0.1, 0.1]])
    prompted: list[int] = []
    track = predictor.track

    def counted(prompts, *, frames):
        prompted.extend([len(prompts)] * (frames == ENDLESS))
        return track(prompts, frames=frames)

    monkeypatch.setattr(predictor, "track", counted)
    monkeypatch.setattr(predictor, "beliefs", lambda prompts, pictures: next(beliefs))
    stream = predictor.stream(["x", "y"], rate_hz=RATE_HZ)
    steps = camera(20)
    masks, shown = stream.step(*steps[0])
    assert not masks[0].any()
    assert masks[1].any()
    assert shown[0] == 0.2
    assert len(prompted) == 1
    for step in steps[1:10]:
        masks, _ = stream.step(*step)
    assert masks[0].any()
    assert len(prompted) == 2
    for step in steps[10:]:
        masks, _ = stream.step(*step)
    assert len(prompted) == 2  # the third window prompts nothing: both keep their masks
    assert masks[0].any()
    assert masks[1].any()


@pytest.mark.parametrize(
    ("anew", "seconds"),
    [(True, 60), (False, 60), pytest.param(True, 3600, marks=pytest.mark.slow)],
    ids=["prompted anew", "prompted once", "an hour"],
)
def test_memory_is_flat(predictor, monkeypatch, anew, seconds):
    stream = predictor.stream(["x"], rate_hz=RATE_HZ)

    def held() -> int:
        gc.collect()
        found = [each for each in gc.get_objects() if torch.is_tensor(each)]
        tensors = sum(each.nbytes for each in found if each.layout == torch.strided)
        return tensors + stream._sound.nbytes + sum(p.nbytes for p in stream._pictures)

    step, sizes = camera(1)[0], []
    for number in range(seconds):
        stream.step(*step)
        if number == 0 and not anew:
            predictor.gate = True
            monkeypatch.setattr("sam2love.prediction.stream.SHOWN", 2.0)  # no belief exceeds it
        if number % (seconds // 6) == seconds // 6 - 2:
            sizes.append(held())
    assert len(set(sizes[2:])) == 1, sizes


@pytest.mark.parametrize(
    ("frame", "sound", "message"),
    [
        (np.zeros((4, 4), np.uint8), np.zeros(9), r"frame: found uint8 of shape \(4, 4\)"),
        (np.zeros((4, 4, 3)), np.zeros(9), "frame: found float64 .*expected uint8"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((2, 9)), r"sound: found shape \(2, 9\)"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros(10 * RATE_HZ), "less than 10 seconds"),
    ],
)
def test_wrong_input_is_named(predictor, frame, sound, message):
    with pytest.raises(ValueError, match=message):
        predictor.stream(["x"], rate_hz=RATE_HZ).step(frame, sound)


def test_a_stream_needs_sentences(predictor):
    with pytest.raises(ValueError, match="empty sentence"):
        predictor.stream([" "], rate_hz=RATE_HZ)
