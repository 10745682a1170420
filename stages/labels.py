"""Store the ground-truth masks of train and val, the labels of training, at one bit per pixel.

Reads the index and the masks of train and val; writes features/labels.zarr by "<key>/<fid>": `bits`
(n, P) uint8, of each frame row-major, eight pixels per byte, zero-padded, and `size` (2,) int32,
height and width. n is 1, frame 0, or N if `fusion.frame` is any.
Decoding the PNGs in training would take longer than reading everything else of a step.

    dvc repro labels
"""

from pathlib import Path

import numpy as np

from sam2love.dataset import refavs
from sam2love.dataset.index import Index, read_index
from sam2love.params import load_params
from sam2love.stores import provenance
from sam2love.stores.names import item_name, split_name
from sam2love.stores.store import ArraySpec, fill_store
from stages import run


def main(root: Path, index_folder: Path, out: Path) -> None:
    """Pack the masks of each object that is annotated or that an expression refers to."""
    params = load_params()
    frames, index = params.labelled_frames, read_index(index_folder)
    sizes = index.clips.set_index("key")[["height", "width"]]

    def load(ids: list[str]) -> list[np.ndarray]:
        return [masks_of(*split_name(name)) for name in ids]

    def masks_of(key: str, fid: int) -> np.ndarray:
        masks = refavs.read_masks(root, key, fid, frames=frames)
        return np.zeros((frames, *sizes.loc[key]), dtype=bool) if masks is None else masks

    def encode(masks: list[np.ndarray]) -> dict[str, np.ndarray]:
        bits = np.zeros((len(masks), frames, most_bytes), np.uint8)
        for item, of_frames in zip(bits, masks, strict=True):
            packed = np.packbits(of_frames.reshape(frames, -1), axis=1)
            item[:, : packed.shape[1]] = packed
        return {"bits": bits, "size": np.array([mask.shape[1:] for mask in masks], np.int32)}

    objects = objects_to_keep(root, index)
    ids = [item_name(key, fid) for key, fid in objects]
    # The index has only the frames' size, and a mask may be larger.
    mask_pixels = [refavs.mask_pixels(root, key, fid, 0) for key, fid in objects]
    most_bytes = -(-max(*mask_pixels, int(sizes.prod(axis=1).max())) // 8)
    fill_store(
        out,
        specs=[
            ArraySpec("bits", (frames, most_bytes), "uint8", 64, "pixels, eight a byte"),
            ArraySpec("size", (2,), "int32", 64, "height and width in pixels"),
        ],
        ids=ids,
        provenance=provenance.of_features("labels", params, index),
        load=load,
        encode=encode,
        batch_size=8,
        description="labels",
    )
    print(f"{out}: masks of {len(ids)} objects, at most {most_bytes} bytes a frame")


def objects_to_keep(root: Path, index: Index) -> list[tuple[str, int]]:
    """Return key and fid of the objects that train and val annotate or refer to, sorted."""
    rows = index.expressions[index.expressions["split"].isin(["train", "val"])]
    referred = set(zip(rows["key"], rows["fid"], strict=True))
    return sorted(
        referred | {(key, fid) for key in set(rows["key"]) for fid in refavs.objects(root, key)}
    )


if __name__ == "__main__":
    run(main, root=True)
