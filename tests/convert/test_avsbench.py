"""AVSBench's three layouts, as its loaders and preprocessing scripts read and write them."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from sam2love.convert.writing import convert
from sam2love.dataset import refavs
from sam2love.dataset.check import examine
from sam2love.dataset.index import read_metadata
from tests.convert.made import scores

SPLITS = ("train", "val", "test")


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def frame(t: int) -> np.ndarray:
    return np.full((24, 32, 3), (20 * t, 200, 90), np.uint8)


def mask(t: int) -> np.ndarray:
    """A box in a colour of AVSS's palette, whose gray is below 128: (24, 32, 3)."""
    pixels = np.zeros((24, 32, 3), np.uint8)
    pixels[4 : 10 + t, 6:20] = (0, 0, 128)
    return pixels


def sound(path: Path, seconds: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(seconds * 16_000, 0.1), 16_000)


@pytest.fixture
def s4(tmp_path) -> Path:
    source = tmp_path / "Single-source"
    data = source / "s4_data"
    rows = ["name,start_time,category,split"]
    for split in SPLITS:
        name, folder = f"-{split}_v", Path(split, "race_car")
        rows.append(f"{name},0,race_car,{split}")
        for number in range(1, 6):
            save(data / "visual_frames" / folder / name / f"{name}_{number}.png", frame(number))
            if split != "train" or number == 1:
                shown = (mask(number).max(-1) > 0).astype(np.uint8) * 255
                save(data / "gt_masks" / folder / name / f"{name}_{number}.png", shown)
        sound(data / "audio_wav" / folder / f"{name}.wav", 5)
    (source / "s4_meta_data.csv").write_text("\n".join(rows) + "\n")
    return source


@pytest.fixture
def ms3(tmp_path) -> Path:
    source = tmp_path / "Multi-sources"
    data = source / "ms3_data"
    rows = ["video_id,split"]
    for split in SPLITS:
        name = f"{split}A"
        rows.append(f"{name},{split}")
        for number in range(1, 6):
            save(data / "visual_frames" / name / f"{name}.mp4_{number}.png", frame(number))
            save(data / "gt_masks" / split / name / f"{name}_{number}.png", mask(number))
        sound(data / "audio_wav" / split / f"{name}.wav", 5)
    (source / "ms3_meta_data.csv").write_text("\n".join(rows) + "\n")
    return source


@pytest.fixture
def avss(tmp_path) -> Path:
    source = tmp_path / "AVSS"
    rows = ["vid,uid,s_min,s_max,a_obj,split,label"]
    for label, split, count in [("v1s", "train", 5), *(("v2", split, 10) for split in SPLITS)]:
        uid = f"{label}{split}_0_{count}000"
        rows.append(f"x,{uid},0,{count},dog,{split},{label}")
        for t in range(count):
            path = source / label / uid / "frames" / f"{t}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(frame(t)).save(path)
            if label != "v1s" or t == 0:
                save(source / label / uid / "labels_rgb" / f"{t}.png", mask(t))
        sound(source / label / uid / "audio.wav", count)
    (source / "metadata.csv").write_text("\n".join(rows) + "\n")
    return source


def converted(source: Path, *, frames: int) -> tuple[Path, list[str]]:
    out = source.parent / "out"
    told = convert("avsbench", source, out, frames=frames)
    assert examine(out, write=lambda _: None, frames=frames)
    return out, told


def test_single_source(s4):
    out, told = converted(s4, frames=5)
    assert told == [f"{out}: 3 clips of 5 frames, 3 rows"]
    table = read_metadata(out)
    assert table["split"].tolist() == ["train", "val", "test_s"]
    assert table["key"].tolist() == [f"race_car_-{split}_v" for split in SPLITS]
    assert set(table["exp"]) == {"The sounding object."}
    train, _, test = (refavs.read_masks(out, key, 1, frames=5) for key in table["key"])
    expected = np.stack([mask(t).any(-1) for t in range(1, 6)])
    assert np.array_equal(test, expected)
    assert np.array_equal(train[0], expected[0])
    assert not train[1:].any()  # not annotated
    read = refavs.read_frame(out, table["key"][2], 1).astype(int)
    assert np.abs(read - frame(2)).max() <= 2
    samples, rate_hz = refavs.read_audio(out, table["key"][2])
    assert (len(samples), rate_hz) == (80_000, 16_000)
    assert samples.max() > 0.09


def test_multiple_sources(ms3):
    out, _ = converted(ms3, frames=5)
    masks = refavs.read_masks(out, "testA", 1, frames=5)
    assert np.array_equal(masks, np.stack([mask(t).any(-1) for t in range(1, 6)]))


def test_semantic(avss):
    out, told = converted(avss, frames=10)
    assert told == [
        "note: 1 videos left out: fewer than 10 frames",
        f"{out}: 3 clips of 10 frames, 3 rows",
    ]
    masks = refavs.read_masks(out, "v2test_0_10000", 1)
    assert np.array_equal(masks, np.stack([mask(t).any(-1) for t in range(10)]))
    frames = out / "media/v2test_0_10000/frames"
    original = avss / "v2/v2test_0_10000/frames"
    assert (frames / "7.jpg").read_bytes() == (original / "7.jpg").read_bytes()


def test_clips_of_five_seconds_are_the_first_ones(avss):
    out, told = converted(avss, frames=5)
    assert told == [f"{out}: 4 clips of 5 frames, 4 rows"]
    masks = refavs.read_masks(out, "v2test_0_10000", 1, frames=5)
    assert np.array_equal(masks, np.stack([mask(t).any(-1) for t in range(5)]))


@pytest.mark.parametrize(
    "gone",
    [
        "visual_frames/val/race_car/-val_v/-val_v_3.png",
        "gt_masks/val/race_car/-val_v/-val_v_5.png",
        "audio_wav/val/race_car/-val_v.wav",
    ],
)
def test_a_missing_file_is_named_and_nothing_is_left(s4, gone):
    path = s4 / "s4_data" / gone
    path.unlink()
    with pytest.raises(FileNotFoundError, match="no such file") as fault:
        converted(s4, frames=5)
    assert str(path) in str(fault.value)
    assert [found.name for found in s4.parent.iterdir()] == [s4.name]


def test_other_folders_and_splits_are_refused(s4):
    with pytest.raises(FileNotFoundError, match=r"s4_data: no s4_meta_data\.csv, ms3_meta_data"):
        converted(s4 / "s4_data", frames=5)
    table = s4 / "s4_meta_data.csv"
    table.write_text(table.read_text().replace(",val", ",dev"))
    with pytest.raises(ValueError, match=r"s4_meta_data\.csv: split 'dev', expected one of train"):
        converted(s4, frames=5)
    table.write_text(table.read_text().replace(",dev", ",val"))
    with pytest.raises(ValueError, match="note: 3 videos left out: fewer than 6 frames"):
        converted(s4, frames=6)


@pytest.mark.slow
def test_the_pipeline_trains_on_it_and_scores_it(s4, run_folder):
    out, _ = converted(s4, frames=5)
    assert "test_s" in scores(out, frames=5, modalities=["audio", "vision"])
