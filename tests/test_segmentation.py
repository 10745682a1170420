"""Clicks inside masks, and rows that share clips."""

import numpy as np
import pytest
import torch
from sam2.sam2_image_predictor import SAM2ImagePredictor

from sam2love.dataset import refavs
from sam2love.sam.build import build_sam2
from sam2love.sam.decode import Prompts
from sam2love.sam.encode import encode_frames, preprocess
from sam2love.segmentation import (
    click_inside,
    clip_reader,
    deepest_point,
    frame_encoder,
    prediction_specs,
    segment_clips,
)
from sam2love.stores.names import EMBEDDING_LEVELS
from sam2love.stores.store import ArraySpec, FeatureStore, fill_store
from tests import tiny


@pytest.fixture(scope="module")
def sam2():
    """The mini SAM 2 with random weights, and positive object scores."""
    torch.manual_seed(0)
    model = build_sam2(str(tiny.SAM2_CONFIG))
    torch.nn.init.constant_(model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 3.0)
    return model


class Clips:
    """A fake `clip_reader`: embeddings of random clips, and the clips requested."""

    def __init__(self, sam2, names: str) -> None:
        torch.manual_seed(1)
        pictures = {name: torch.randn(10, 3, 128, 128) for name in names}
        self._clips = {name: encode_frames(sam2, clip) for name, clip in pictures.items()}
        self.asked: list[str] = []

    def __call__(self, clip: str):
        self.asked.append(clip)
        return self._clips[clip]


class OddFrames:
    """A fake FeatureReader with the odd frames of each clip; every value is the frame's number."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.frames = 10

    def missing_frames(self, key: str) -> list[int]:
        return [] if key == "stored" else [0, 2, 4, 6, 8]

    def embeddings(self, keys, *, frames):
        self.read += keys
        return tuple(level[None] for level in numbered(frames))


def numbered(frames) -> tuple[torch.Tensor, ...]:
    numbers = torch.tensor(frames).half().view(-1, 1, 1, 1)
    return tuple(numbers.expand(-1, *shape) for shape in [(8, 2, 2), (1, 8, 8), (2, 4, 4)])


def box(height: int, width: int, rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[rows, columns] = True
    return mask


def test_deepest_point_is_the_middle_of_a_box():
    assert deepest_point(box(40, 80, slice(10, 21), slice(50, 61))) == (55, 15)


def test_the_border_of_the_frame_is_an_edge_too():
    assert deepest_point(box(40, 40, slice(0, 11), slice(0, 11))) == (5, 5)
    x, y = deepest_point(np.ones((41, 21), bool))
    assert x == 10
    assert 10 <= y <= 30


def test_deepest_point_is_inside_where_the_centre_is_not():
    mask = box(60, 60, slice(5, 55), slice(5, 55))
    mask[10:50, 15:60] = False  # a C, thickest on its left
    x, y = deepest_point(mask)
    assert mask[y, x]
    assert 5 <= x < 15


def test_a_single_pixel_is_its_own_deepest_point():
    mask = box(9, 7, slice(8, 9), slice(6, 7))
    assert deepest_point(mask) == (6, 8)


def test_an_empty_mask_has_no_deepest_point():
    with pytest.raises(ValueError, match="empty mask"):
        deepest_point(np.zeros((4, 4), bool))


def test_click_inside_is_the_packages_click_on_that_pixel(sam2, monkeypatch):
    masks = {
        (45, 15): box(48, 64, slice(10, 21), slice(40, 51)),
        (60, 20): box(128, 128, slice(15, 26), slice(55, 66)),
        (10, 110): box(128, 32, slice(100, 121), slice(0, 21)),
        (300, 500): box(1080, 1920, slice(400, 601), slice(200, 401)),
    }
    embedded = []
    embed = sam2.sam_prompt_encoder._embed_points

    def watched(points, labels, pad):
        embedded.append(embed(points, labels, pad))
        return embedded[-1]

    predictor = SAM2ImagePredictor(sam2)
    predictor._bb_feat_sizes = [(32, 32), (16, 16), (8, 8)]  # its defaults are for 1024 pixels
    with monkeypatch.context() as patch:
        patch.setattr(sam2.sam_prompt_encoder, "_embed_points", watched)
        for point, mask in masks.items():
            predictor.set_image(np.zeros((*mask.shape, 3), np.uint8))
            predictor.predict(np.array([point]), np.array([1]), multimask_output=False)
    expected = torch.cat(embedded)[:, :1]  # the second is SAM 2's padding
    torch.testing.assert_close(click_inside(sam2, list(masks.values())), expected)


def test_rows_of_a_clip_share_its_embeddings(sam2):
    clips = Clips(sam2, "abc")
    keys = ["c", "a", "c", "b", "a"]
    tokens, frame0 = torch.randn(5, 1, 64), torch.zeros(5, dtype=torch.int64)
    prompts = Prompts(tokens, frame0, None)
    together = segment_clips(sam2, keys, prompts, clips)
    assert clips.asked == ["c", "a", "b"]
    for spec in prediction_specs(sam2, frames=10):
        assert together[spec.name].shape == (5, *spec.item_shape)
        assert together[spec.name].dtype == spec.dtype
    logits = together["logits"].astype(np.float32)
    assert np.abs(logits[0] - logits[2]).max() > 0.01  # masks depend on the prompt
    for row, key in enumerate(keys):
        alone = segment_clips(sam2, [key], Prompts(tokens[[row]], frame0[[row]], None), clips)
        np.testing.assert_allclose(logits[row], alone["logits"][0], atol=2e-3, rtol=2e-3)
        score = together["object_score"][row]
        np.testing.assert_allclose(score, alone["object_score"][0], atol=1e-4)
    np.testing.assert_array_equal(together["presence"], together["object_score"][:, 0])


def test_each_row_may_have_a_prompted_frame_of_its_own(sam2):
    clips, tokens = Clips(sam2, "a"), torch.randn(1, 1, 64).expand(2, -1, -1)
    frame, presence = torch.tensor([0, 4]), torch.tensor([0.5, -2.0])
    segmented = segment_clips(sam2, ["a", "a"], Prompts(tokens, frame, presence), clips)
    logits = segmented["logits"]
    assert segmented["prompted"].tolist() == frame.tolist()
    assert segmented["presence"].tolist() == presence.tolist()
    for row in range(2):
        prompt = Prompts(tokens[:1], frame[[row]], None)
        alone = segment_clips(sam2, ["a"], prompt, clips)
        assert alone["presence"][0] == alone["object_score"][0, frame[row]]
        np.testing.assert_allclose(logits[row], alone["logits"][0], atol=2e-3, rtol=2e-3)
    assert np.abs(logits[0, 4] - logits[1, 4]).max() > 0.01


def test_masks_depend_on_the_clip(sam2):
    tokens = torch.randn(1, 1, 64).expand(2, -1, -1)
    prompts = Prompts(tokens, torch.zeros(2, dtype=torch.int64), None)
    logits = segment_clips(sam2, ["a", "b"], prompts, Clips(sam2, "ab"))["logits"]
    assert np.abs(logits[0] - logits[1]).max() > 0.01


def test_consecutive_rows_of_a_clip_read_and_encode_it_once():
    reader, encoded = OddFrames(), []

    def encode(clip, frames):
        encoded.append((clip, frames))
        return numbered(frames)

    read_clip = clip_reader(reader, encode, device=torch.device("cpu"))
    for batch in (["a", "b"], ["b"], ["b", "stored"]):
        for clip in batch:
            for level in read_clip(clip):
                assert level.dtype == torch.float16
                assert level[:, 0, 0, 0].tolist() == list(range(10))
    assert reader.read == ["a", "b", "stored"]
    assert encoded == [("a", [0, 2, 4, 6, 8]), ("b", [0, 2, 4, 6, 8])]


@pytest.mark.parametrize("before_convs", [False, True])
def test_frame_encoder_encodes_the_given_frames(sam2, refavs_root, before_convs):
    encode = frame_encoder(sam2, refavs_root, before_high_res_convs=before_convs, keep_bits=None)
    chosen = encode("vidC_1_2", [7, 2])
    for number, frame in enumerate([7, 2]):
        alone = encode("vidC_1_2", [frame])
        for level, expected in zip(chosen, alone, strict=True):
            torch.testing.assert_close(level[number], expected[0], atol=1e-3, rtol=1e-3)  # float16
    assert chosen[1].shape[1] == (64 if before_convs else 8)
    assert not torch.allclose(chosen[0][0], chosen[0][1])


@pytest.mark.parametrize("keep_bits", [None, 1, 5, 7, 10])
@pytest.mark.parametrize("before_convs", [False, True])
def test_frames_encoded_at_test_time_equal_the_stored_ones_bit_for_bit(
    sam2, refavs_root, tmp_path, before_convs, keep_bits
):
    key, frames = "vidC_1_2", [2, 7, 9]

    def encode(ids: list[str]) -> dict[str, np.ndarray]:
        pictures = np.stack([refavs.read_frame(refavs_root, key, int(frame)) for frame in ids])
        images = preprocess(pictures, sam2.image_size)
        levels = encode_frames(sam2, images, before_high_res_convs=before_convs)
        return {name: level.numpy() for name, level in zip(EMBEDDING_LEVELS, levels, strict=True)}

    fill_store(
        tmp_path / "sam2.zarr",
        specs=[
            ArraySpec(name, array.shape[1:], "float16", 16, "a level", keep_bits)
            for name, array in encode(["0"]).items()
        ],
        ids=[str(frame) for frame in frames],
        provenance={},
        encode=encode,
        batch_size=len(frames),
        description="embeddings",
    )
    store = FeatureStore.open(tmp_path / "sam2.zarr")
    levels = frame_encoder(
        sam2, refavs_root, before_high_res_convs=before_convs, keep_bits=keep_bits
    )(key, frames)
    for name, level in zip(EMBEDDING_LEVELS, levels, strict=True):
        stored = np.stack([store.read(name, item) for item in store.ids])
        assert level.dtype == torch.float16
        np.testing.assert_array_equal(level.numpy(), stored)
