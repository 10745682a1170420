"""The objects that each baseline shows, on hand-drawn masks."""

from types import SimpleNamespace

import numpy as np
import pytest

from sam2love.evaluation.baselines import NAMES, ObjectBaselines, centre_distance


class FakeStore:
    """Three objects of 'clip' and none of 'bare', 16 x 16 logits of +-4."""

    def __init__(self) -> None:
        masks = {fid: np.zeros((10, 16, 16), bool) for fid in (2, 5, 11)}
        masks[2][:, :9, :9] = True  # large, in a corner
        masks[5][:, 7:9, 7:9] = True  # small, in the middle
        masks[11][:5, 12:15, 12:15] = True  # in a corner, for half the clip
        self.items = {f"clip/{fid}": np.where(mask, 4.0, -4.0) for fid, mask in masks.items()}
        self.ids = [*self.items, "other/clip/1"]

    def read(self, name: str, item: str) -> np.ndarray:
        assert name == "logits"
        return self.items[item].astype(np.float16)


@pytest.fixture
def baselines():
    frames_keys = {"clip": "clip", "null_m-clip": "clip", "bare": "bare"}
    return ObjectBaselines(FakeStore(), frames_keys=frames_keys, seed=0)


def entry(row: int = 0, *, key: str = "clip", fid: int = 11, null: bool = False):
    return SimpleNamespace(row=row, key=key, fid=fid, null=null)


def test_choices(baselines):
    choices = baselines.choices(entry())
    assert set(choices) == set(NAMES)
    assert choices["every_object"] == (2, 5, 11)
    assert choices["largest"] == (2,)
    assert choices["central"] == (5,)
    assert choices["oracle_point"] == (11,)


def test_the_random_choice_is_drawn_per_row_and_reproducible(baselines):
    drawn = [baselines.choices(entry(row))["random"] for row in range(300)]
    assert drawn == [baselines.choices(entry(row))["random"] for row in range(300)]
    for fid in (2, 5, 11):
        assert 70 < drawn.count((fid,)) < 130
    other = ObjectBaselines(FakeStore(), frames_keys={"clip": "clip"}, seed=1)
    assert drawn != [other.choices(entry(row))["random"] for row in range(300)]


def test_a_null_row_has_the_objects_of_its_frames_but_no_target(baselines):
    choices = baselines.choices(entry(key="null_m-clip", fid=0, null=True))
    assert choices["every_object"] == (2, 5, 11)
    assert choices["oracle_point"] == ()


def test_the_oracle_shows_nothing_if_frame_0_hides_the_target(baselines):
    assert baselines.choices(entry(fid=7))["oracle_point"] == ()


def test_without_objects_nothing_is_shown(baselines):
    assert set(baselines.choices(entry(key="bare")).values()) == {()}
    assert (baselines.logits("bare", ()) == -1024).all()


def test_several_objects_are_shown_as_their_union(baselines):
    logits = baselines.logits("clip", (2, 11))
    assert logits.dtype == np.float32
    assert (logits > 0).sum() == 10 * 81 + 5 * 9


def test_centre_distance_by_hand():
    mask = np.zeros((3, 4, 8), bool)
    mask[0, :2, :4] = True  # centre at a quarter of either side
    mask[1, :, 4:] = True  # at a quarter to the right
    assert centre_distance(mask) == pytest.approx((np.hypot(0.25, 0.25) + 0.25) / 2)
    assert centre_distance(mask[2:]) == float("inf")
