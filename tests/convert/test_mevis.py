"""MeViS in its published folders, with COCO's run lengths and several objects per sentence."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco

from sam2love.convert.writing import convert
from sam2love.dataset import refavs
from sam2love.dataset.check import examine
from sam2love.dataset.index import read_metadata
from tests.convert.made import box, scores, write_frames, write_json

NAMES = [f"{t:05d}" for t in range(7)]
LEFT = {0: 2, 1: 12, 2: 22}
TABLE, MASKS = Path("train/meta_expressions.json"), Path("train/mask_dict.json")


def rle(mask: np.ndarray) -> dict:
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


@pytest.fixture
def source(tmp_path) -> Path:
    """Videos of three objects, annotations of their own each; the last is gone on odd frames."""
    root = tmp_path / "MeViS"
    for split, names in (("train", ["a", "b"]), ("valid_u", ["c"])):
        videos, masks = {}, {}
        for number, name in enumerate(names):
            write_frames(root / split / "JPEGImages" / name, NAMES)
            for thing, left in LEFT.items():
                masks[str(3 * number + thing)] = [
                    None if thing == 2 and t % 2 else rle(box(t, left=left))
                    for t in range(len(NAMES))
                ]
            first = 3 * number
            expressions = {
                "0": {"exp": "The bird that flies", "obj_id": [0], "anno_id": [first]},
                "1": {"exp": "All that move", "obj_id": [0, 2], "anno_id": [first, first + 2]},
                "2": {"exp": "The moving ones", "obj_id": [2, 0], "anno_id": [first + 2, first]},
            }
            videos[name] = {"expressions": expressions, "vid_id": number, "frames": NAMES}
        write_json(root / split / "meta_expressions.json", {"videos": videos})
        write_json(root / split / "mask_dict.json", masks)
    return root


def run(source: Path, *, frames: int = 4) -> tuple[Path, list[str]]:
    out = source.parent / "out"
    return out, convert("mevis", source, out, frames=frames)


def test_frames_masks_and_sentences(source):
    out, told = run(source)
    assert told == [f"{out}: 3 clips of 4 frames, 9 rows"]
    assert examine(out, write=lambda _: None, frames=4)
    table = read_metadata(out)
    assert table["split"].tolist() == ["val"] * 3 + ["train"] * 3 + ["test_s"] * 3
    assert table["fid"].tolist() == ["1", "2", "2"] * 3  # the same objects in any order
    chosen = [0, 2, 4, 6]
    one = np.stack([box(t, left=2) for t in chosen])
    both = one | np.stack([box(t, left=22) for t in chosen])
    assert np.array_equal(refavs.read_masks(out, "b", 1, frames=4), one)
    assert np.array_equal(refavs.read_masks(out, "b", 2, frames=4), both)


def test_an_absent_object_has_no_mask(source):
    out, _ = run(source, frames=7)
    both = refavs.read_masks(out, "c", 2, frames=7)
    assert np.array_equal(both[3], box(3, left=2))


def change(path: Path, edit) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def anno(ids: list[int]):
    return lambda content: content["videos"]["b"]["expressions"]["0"].update(anno_id=ids)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: (s / MASKS).unlink(), r"train/mask_dict\.json: no such file"),
        (lambda s: (s / TABLE).unlink(), r"train/meta_expressions\.json: no such file"),
        (
            lambda s: change(s / TABLE, anno([99])),
            r"mask_dict\.json: no annotation 99, which video 'b' refers to",
        ),
        (
            lambda s: change(s / TABLE, anno([])),
            r"meta_expressions\.json: an expression of video 'b' has no anno_id",
        ),
        (
            lambda s: change(s / MASKS, lambda content: content["3"].pop()),
            r"mask_dict\.json: annotation 3 has 6 frames, video 'b' has 7",
        ),
        (
            lambda s: change(s / MASKS, lambda content: content.update({"3": [None] * 7})),
            r"mask_dict\.json: annotations 3 are empty on every frame",
        ),
        (
            lambda s: change(s / MASKS, lambda content: content["3"][2].update(size=[24, 33])),
            r"mask_dict\.json: annotations of video 'b' differ in size",
        ),
        (
            lambda s: change(s / MASKS, lambda content: content["3"][2].pop("counts")),
            r"mask_dict\.json: an annotation of video 'b' is not a COCO RLE",
        ),
    ],
)
def test_a_fault_is_told_with_its_file_and_nothing_is_left(source, damage, message):
    damage(source)
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        run(source)
    assert [path.name for path in source.parent.iterdir()] == [source.name]


def test_short_videos_are_left_out(source):
    with pytest.raises(ValueError, match=r"no clip of 8 frames.*\nnote: 3 videos left out: fewer"):
        run(source, frames=8)


def test_a_name_that_leads_out_of_the_folder_is_refused(source):
    change(source / TABLE, lambda c: c["videos"].update({"../x": c["videos"]["b"]}))
    (source / "train/x").mkdir()
    with pytest.raises(ValueError, match=r"video '\.\./x': not the name of a folder"):
        run(source)


@pytest.mark.slow
def test_the_pipeline_trains_on_it_and_scores_it(source, run_folder):
    out, _ = run(source)
    assert "test_s" in scores(out, frames=4, modalities=["text", "vision"])
