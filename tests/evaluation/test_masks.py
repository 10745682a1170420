"""Masks from stores and folders: what is read, and that nothing is skipped silently."""

import numpy as np
import pytest
from PIL import ExifTags, Image

from sam2love.dataset.selections import read_expressions
from sam2love.evaluation.masks import MaskFolder, Prediction, StoredMasks, scorable
from tests import tiny
from tests.dataset.test_pictures import STORED


@pytest.fixture
def expressions(refavs_root):
    return read_expressions(refavs_root, ["test_s", "test_u", "test_n"])


@pytest.fixture
def folder(expressions, tmp_path):
    """A folder with masks of every row: gray 51, a probability of 0.2."""
    for uid in set(expressions["uid"]):
        (tmp_path / "masks" / uid).mkdir(parents=True)
        for t in range(10):
            picture = Image.fromarray(np.full((4, 6), 51, np.uint8))
            picture.save(tmp_path / "masks" / uid / f"{t:05d}.png")
    return tmp_path / "masks"


class FakeStore:
    """The part of a store that StoredMasks uses."""

    def __init__(self, items: dict[str, tuple[float, float]], provenance: dict) -> None:
        self.items, self.provenance = items, provenance

    def has(self, item: str) -> bool:
        return item in self.items

    def read(self, name: str, item: str) -> np.ndarray:
        logit, presence = self.items[item]
        if name == "presence":
            return np.array(presence, np.float32)
        return np.full((10, 4, 4), logit, np.float16)


# ---- predictions --------------------------------------------------------------------------------


def test_a_gated_prediction_shows_nothing():
    prediction = Prediction(np.full((10, 4, 4), 3.0, np.float32), True, -1.0, gated=True)
    assert not prediction.probabilities((8, 8)).any()
    assert prediction.probabilities((8, 8), gate=False).min() > 0.95


# ---- stores -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provenance", "presence", "gated"),
    [
        ({"gate": True}, -0.1, True),
        ({"gate": True}, 0.0, True),  # SAM 2 requires a positive score
        ({"gate": True}, 0.1, False),
        ({"gate": False}, -9.0, False),
        ({}, -9.0, False),
    ],
)
def test_the_gate_hides_a_row_whose_object_is_not_present(expressions, provenance, presence, gated):
    entry = next(expressions.itertuples())
    store = FakeStore({str(entry.row): (2.0, presence)}, provenance)
    prediction = StoredMasks(store)(entry)
    assert prediction.gated is gated
    assert prediction.presence == pytest.approx(presence)
    assert prediction.logits
    assert prediction.values.dtype == np.float32


def test_logits_that_are_not_finite_are_reported_with_their_row(expressions):
    entry = next(expressions.itertuples())
    masks = StoredMasks(FakeStore({str(entry.row): (float("nan"), 0.0)}, {}))
    with pytest.raises(ValueError, match=rf"row {entry.row} .*finite.*'propagate'"):
        masks(entry)


def test_a_store_without_some_rows_of_a_split_is_refused(expressions):
    rows = [str(row) for row in expressions["row"]]
    masks = StoredMasks(FakeStore(dict.fromkeys(rows[:-1], (0.0, 0.0)), {}))
    with pytest.raises(ValueError, match=rf"masks of 1 rows are missing.*row {rows[-1]} "):
        scorable(expressions, masks)


# ---- folders ------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_of_a_folder_are_upright(expressions, folder, orientation):
    entry = next(expressions.itertuples())
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    upright = np.zeros((4, 6), np.uint8)
    upright[0, :2] = 255
    for path in (folder / entry.uid).iterdir():
        stored = Image.fromarray(upright)
        if orientation > 1:
            stored = stored.transpose(STORED[orientation])
        stored.save(path, exif=exif)
    np.testing.assert_array_equal(MaskFolder(folder)(entry).values[3], upright / 255)


def test_ignored_pictures_are_noted(expressions, folder):
    uids = expressions["uid"].unique()
    assert MaskFolder(folder).ignored(uids) == []
    for uid in uids[:2]:
        for name in ("00010.png", "00011.png", "notes.txt"):
            (folder / uid / name).write_bytes((folder / uid / "00009.png").read_bytes())
    assert MaskFolder(folder).ignored(uids) == [
        "2 folders have pictures other than 00000.png to 00009.png, which are ignored; the first "
        f"folder is {uids[0]}"
    ]


def test_a_folder_holds_probabilities(expressions, folder):
    entry = next(expressions.itertuples())
    prediction = MaskFolder(folder)(entry)
    assert prediction.values.shape == (10, 4, 6)
    assert prediction.values == pytest.approx(0.2)
    assert not prediction.logits
    assert prediction.presence is None


def test_every_row_of_a_complete_folder_is_scored(expressions, folder):
    kept, notes = scorable(expressions, MaskFolder(folder))
    assert kept["row"].tolist() == expressions["row"].tolist()
    assert notes == []


def test_a_split_without_any_masks_is_left_out_with_a_note(expressions, folder):
    for uid in set(expressions.loc[expressions["split"] == "test_u", "uid"]):
        (folder / uid).rename(folder / f"other {uid}")
    kept, notes = scorable(expressions, MaskFolder(folder))
    assert set(kept["split"]) == {"test_s", "test_n"}
    assert notes == ["test_u is left out: no masks for any of its 3 rows"]


def test_an_empty_folder_is_an_error(expressions, tmp_path):
    with pytest.raises(ValueError, match="no masks for any row of test_s, test_u, test_n"):
        scorable(expressions, MaskFolder(tmp_path))


def spoil_by_removing(path):
    path.unlink()


def spoil_by_colour(path):
    Image.new("RGB", (6, 4)).save(path)


def spoil_by_two_levels(path):
    Image.new("1", (6, 4)).save(path)


def spoil_by_size(path):
    Image.new("L", (7, 4)).save(path)


def spoil_by_text(path):
    path.write_text("text")


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (spoil_by_removing, "00003.png is missing"),
        (spoil_by_colour, r"00003.png is not 8-bit gray \(mode RGB\)"),
        (spoil_by_two_levels, r"00003.png is not 8-bit gray \(mode 1\)"),
        (spoil_by_size, "has frames of several sizes"),
        (spoil_by_text, "00003.png is not a picture"),
    ],
)
def test_missing_or_malformed_masks_are_named(expressions, folder, spoil, fault):
    uid = expressions["uid"].iloc[-1]
    spoil(folder / uid / "00003.png")
    with pytest.raises(
        ValueError, match=f"masks of 1 rows are missing or malformed: {uid}.*{fault}"
    ):
        scorable(expressions, MaskFolder(folder))


def test_all_faults_are_counted_and_a_few_listed(expressions, folder):
    kept = set(expressions["uid"].iloc[:1]) | set(expressions["uid"].iloc[-1:])
    for uid in set(expressions["uid"]) - kept:
        for t in range(5):
            (folder / uid / f"0000{t}.png").unlink()
    with pytest.raises(ValueError, match="masks of 6 rows") as caught:
        scorable(expressions, MaskFolder(folder))
    assert str(caught.value).count("is missing") == 5
    assert str(caught.value).endswith("; ...")


def test_a_damaged_picture_is_named(expressions, folder):
    entry = next(expressions.itertuples())
    path = folder / entry.uid / "00007.png"
    noise = np.random.default_rng(0).integers(0, 256, (40, 60)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(ValueError, match=r"00007\.png: not a readable picture"):
        MaskFolder(folder)(entry)


def test_the_tiny_data_set_has_a_uid_twice():
    """The tests of shared folders rely on it."""
    uids = [row[1] + row[2] for row in tiny.ROWS if row[0] == "test_s"]
    assert len(set(uids)) < len(uids)
