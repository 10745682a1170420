"""Ref-YouTube-VOS in its published folders, with palette masks of object ids."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2love.convert.writing import convert
from sam2love.dataset import refavs
from sam2love.dataset.check import examine
from sam2love.dataset.index import read_metadata
from tests.convert.made import box, scores, write_frames, write_json

NAMES = [f"{5 * t:05d}" for t in range(9)]
VIDEOS = [f"v{number:02d}" for number in range(12)]
TABLE = Path("meta_expressions/train/meta_expressions.json")


@pytest.fixture
def source(tmp_path) -> Path:
    """Objects 1 and 2 in each of twelve videos; the second is not there on the first frame."""
    root, videos = tmp_path / "rvos", {}
    for name in VIDEOS:
        write_frames(root / "train/JPEGImages" / name, NAMES)
        for t, stem in enumerate(NAMES):
            ids = box(t, left=2) * np.uint8(1) + (box(t, left=15) * np.uint8(2) if t else 0)
            picture = Image.fromarray(ids.astype(np.uint8), mode="P")
            picture.putpalette([0, 0, 0, 236, 95, 103, 249, 145, 87])
            path = root / "train/Annotations" / name / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
        expressions = {
            "0": {"exp": "a cat on the left", "obj_id": "1"},
            "1": {"exp": "a dog that appears", "obj_id": "2"},
            "2": {"exp": "the left animal", "obj_id": "1"},
        }
        videos[name] = {"expressions": expressions, "frames": NAMES}
    write_json(root / TABLE, {"videos": videos})
    hidden = {"w0": {"expressions": {"0": {"exp": "a bird"}}, "frames": NAMES}}
    write_json(root / "meta_expressions/valid/meta_expressions.json", {"videos": hidden})
    write_frames(root / "valid/JPEGImages/w0", NAMES)
    return root


def run(source: Path, *, frames: int = 5) -> tuple[Path, list[str]]:
    out = source.parent / "out"
    return out, convert("ref-youtube-vos", source, out, frames=frames)


def test_frames_masks_and_sentences(source):
    out, told = run(source)
    assert told == [
        "note: 1 videos left out: no masks in valid/Annotations",
        f"{out}: 12 clips of 5 frames, 36 rows",
    ]
    lines: list[str] = []
    assert examine(out, write=lines.append, frames=5)
    table = read_metadata(out)
    splits = table.groupby("key")["split"].first()
    assert splits[splits == "val"].index.tolist() == ["v00", "v10"]
    assert splits[splits == "test_s"].index.tolist() == ["v01", "v11"]
    assert (splits == "train").sum() == 8
    first = table[table["key"] == "v03"]
    assert first["exp"].tolist() == ["a cat on the left", "a dog that appears", "the left animal"]
    assert first["fid"].tolist() == ["1", "2", "1"]
    chosen = [0, 2, 4, 6, 8]  # five of nine, evenly spaced
    for fid, left in ((1, 2), (2, 15)):
        expected = np.stack([box(t, left=left) & (fid == 1 or t > 0) for t in chosen])
        assert np.array_equal(refavs.read_masks(out, "v03", fid, frames=5), expected)
    for t, number in enumerate(chosen):
        original = source / "train/JPEGImages/v03" / f"{NAMES[number]}.jpg"
        assert refavs.frame_path(out, "v03", t).read_bytes() == original.read_bytes()
    samples, rate_hz = refavs.read_audio(out, "v03")
    assert len(samples) == 5 * rate_hz
    assert not samples.any()


def test_masks_of_valid_are_read_if_there_are_any(source):
    table = source / "meta_expressions/valid/meta_expressions.json"
    content = json.loads(table.read_text())
    content["videos"]["w0"]["expressions"]["0"]["obj_id"] = "1"
    table.write_text(json.dumps(content))
    (source / "valid/Annotations").mkdir()
    (source / "train/Annotations/v05").rename(source / "valid/Annotations/w0")
    content = json.loads((source / TABLE).read_text())
    del content["videos"]["v05"]
    (source / TABLE).write_text(json.dumps(content))
    out, _ = run(source)
    assert read_metadata(out).set_index("key")["split"]["w0"] == "test_s"


def edit(source: Path, **changes: object) -> None:
    content = json.loads((source / TABLE).read_text())
    content["videos"]["v03"]["expressions"]["1"] |= changes
    (source / TABLE).write_text(json.dumps(content))


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: (s / TABLE).unlink(), r"train/meta_expressions\.json: no such file"),
        (lambda s: (s / TABLE).write_text("{"), r"train/meta_expressions\.json: not readable as"),
        (lambda s: (s / TABLE).write_text("{}"), r"meta_expressions\.json: no 'videos' in it"),
        (lambda s: edit(s, obj_id="7"), r"Annotations/v03: object 7 is in none of its masks, but"),
        (lambda s: edit(s, obj_id="cat"), r"video 'v03' has obj_id 'cat', expected a number"),
        (
            lambda s: (s / "train/Annotations/v03/00020.png").unlink(),
            r"Annotations/v03/00020\.png: no such file",
        ),
        (
            lambda s: damaged(s / "train/Annotations/v03/00020.png"),
            r"Annotations/v03/00020\.png: not a readable picture",
        ),
        (
            lambda s: Image.new("RGB", (32, 24)).save(s / "train/Annotations/v03/00020.png"),
            r"00020\.png: mode RGB, expected a palette picture",
        ),
        (
            lambda s: Image.new("P", (9, 9)).save(s / "train/Annotations/v03/00020.png"),
            r"Annotations/v03: its masks differ in size",
        ),
        (
            lambda s: (s / "train/JPEGImages/v03/00040.jpg").unlink(),
            r"JPEGImages/v03/00040\.jpg: no such file",
        ),
    ],
)
def test_a_fault_is_told_with_its_file_and_nothing_is_left(source, damage, message):
    damage(source)
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        run(source)
    assert [path.name for path in source.parent.iterdir()] == [source.name]


def test_an_object_may_be_on_no_chosen_frame(source):
    ids = np.zeros((24, 32), np.uint8)
    ids[:5, :5] = 9
    Image.fromarray(ids, mode="L").save(source / "train/Annotations/v03/00005.png")
    edit(source, obj_id="9")
    out, _ = run(source)
    assert not refavs.read_masks(out, "v03", 9, frames=5).any()


@pytest.mark.slow
def test_the_pipeline_trains_on_it_and_scores_it(source, run_folder):
    out, _ = run(source)
    assert "test_s" in scores(out, frames=5, modalities=["text", "vision"])
