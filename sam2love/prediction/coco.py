"""Masks in COCO's format for instances, which annotation tools import.

Source: cocodataset.org, 'Data format'; masks are compressed run-length encodings (RLE).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as rle


class CocoMasks:
    """Collects masks frame by frame.

    Args:
        texts: the sentences, which become the categories 1, 2 and so on.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = list(texts)
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, frame: int, name: str, masks: Sequence[np.ndarray]) -> None:
        """Add a frame's masks, (H, W) bool, one per sentence; an empty one is no annotation."""
        height, width = masks[0].shape
        image = {"id": frame, "file_name": name, "width": width, "height": height}
        self._images.append(image)
        for category, mask in enumerate(masks, 1):
            if mask.any():
                encoded = rle.encode(np.asfortranarray(mask, np.uint8))
                annotation = {
                    "id": len(self._annotations) + 1,
                    "image_id": frame,
                    "category_id": category,
                    "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode()},
                    "area": int(rle.area(encoded)),
                    "bbox": rle.toBbox(encoded).tolist(),
                    "iscrowd": 0,
                }
                self._annotations.append(annotation)

    def content(self) -> dict[str, Any]:
        """Return the content of the JSON file."""
        categories = [{"id": number, "name": text} for number, text in enumerate(self._texts, 1)]
        return {
            "images": self._images,
            "categories": categories,
            "annotations": self._annotations,
        }
