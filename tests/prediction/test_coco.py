"""masks.json against counts worked out by hand, and as pycocotools reads it."""

import json
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
from pycocotools.coco import COCO

from sam2love.prediction.coco import CocoMasks


def test_counts_worked_out_by_hand():
    # Column by column: 3 pixels off, 2 on, 2 off, 1 on, 1 off. Each count is a digit from "0"; from
    # the fourth on, the difference from the count two before: 1 - 2 = -1, which is "O" (31), and
    # 1 - 2 again.
    mask = np.array([[0, 1, 0], [0, 1, 1], [0, 0, 0]], bool)
    masks = CocoMasks(["x"])
    masks.add(37, "00037.png", [mask])
    (annotation,) = masks.content()["annotations"]
    assert annotation["segmentation"] == {"size": [3, 3], "counts": "322OO"}
    assert annotation["area"] == 3
    assert annotation["bbox"] == [1, 0, 2, 2]


def test_pycocotools_reads_the_masks_back(tmp_path):
    texts = ["The red object.", "错误"]
    drawn = np.random.default_rng(0).random((3, 2, 5, 7)) < 0.4
    drawn[1, 0] = False  # an empty mask
    masks = CocoMasks(texts)
    for frame, pair in enumerate(drawn):
        masks.add(10 * frame, f"{10 * frame:05d}.png", list(pair))
    path = tmp_path / "masks.json"
    path.write_text(json.dumps(masks.content()))
    with redirect_stdout(StringIO()):
        coco = COCO(path)
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == texts
    assert [image["file_name"] for image in coco.loadImgs([0, 10, 20])][2] == "00020.png"
    found = np.zeros_like(drawn)
    for annotation in coco.loadAnns(coco.getAnnIds()):
        read = coco.annToMask(annotation).astype(bool)
        found[annotation["image_id"] // 10, annotation["category_id"] - 1] = read
        assert annotation["area"] == read.sum()
    assert len(coco.anns) == 5
    np.testing.assert_array_equal(found, drawn)
