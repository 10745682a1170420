"""Random reads of clips from a store like features/vision.zarr, against copies from np.memmap."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.timing import Leaf, short, side_by_side, speedup
from sam2love.store import ArraySpec, FeatureStore, fill_store


def measure(
    *, clips: int = 64, item: tuple[int, ...] = (10, 196, 768), reads: int = 200, rounds: int = 9
) -> dict[str, Leaf]:
    """Read whole clips in random order, from files that are in memory already.

    Args:
        item: shape of a clip's float16 features; those of a ViT-B/16 are 3 MB.
    """
    with TemporaryDirectory() as folder:
        raw = _made_up(Path(folder) / "raw", (clips, *item))
        store = _stored(Path(folder) / "vision.zarr", raw)
        for clip in range(clips):  # the same bytes, and both files in memory
            np.testing.assert_array_equal(store.read("patches", str(clip)), raw[clip])
        order = np.random.default_rng(1).integers(clips, size=reads).tolist()
        seconds = side_by_side(
            {
                "store": lambda: [store.read("patches", str(clip)) for clip in order],
                "memmap": lambda: [np.array(raw[clip]) for clip in order],
            },
            rounds=rounds,
        )
        files = [path for path in store.path.rglob("*") if path.is_file()]
        store_bytes = sum(path.stat().st_size for path in files)
    sizes = {"clips": clips, "clip_bytes": raw[0].nbytes}
    over_raw = short(store_bytes / raw.nbytes)
    return {
        "read_over_memmap": speedup(seconds, "store", "memmap", reads=reads, **sizes),
        "bytes_over_raw": {
            "ratio": over_raw,
            "spread": [over_raw, over_raw],
            "store_bytes": store_bytes,
            "raw_bytes": raw.nbytes,
            "files": len(files),
            **sizes,
        },
    }


def _made_up(path: Path, shape: tuple[int, ...]) -> np.memmap:
    rng = np.random.default_rng(0)
    raw = np.memmap(path, np.float16, "w+", shape=shape)
    for clip in raw:
        clip[:] = rng.standard_normal(shape[1:], dtype=np.float32)
    raw.flush()
    return np.memmap(path, np.float16, "r", shape=shape)


def _stored(path: Path, raw: np.memmap) -> FeatureStore:
    fill_store(
        path,
        specs=[ArraySpec("patches", raw.shape[1:], "float16", 32, "made-up patches")],
        ids=[str(clip) for clip in range(len(raw))],
        provenance={"stage": "benchmark"},
        encode=lambda ids: {"patches": raw[[int(clip) for clip in ids]]},
        batch_size=8,
        description="store of the benchmark",
    )
    return FeatureStore.open(path)
