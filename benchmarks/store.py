"""Random reads of clips from a store like features/vision.zarr against copies from np.memmap."""

import os
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from benchmarks.timing import Leaf, short, side_by_side, speedup
from sam2love.stores.store import ArraySpec, FeatureStore, fill_store

KEEP_BITS = 7


class Stored:
    """Clips of a store."""

    def __init__(self, folder: Path, shape: tuple[int, ...]) -> None:
        self._store = FeatureStore.open(folder / "vision.zarr")
        self._count = shape[0]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, clip: int) -> np.ndarray:
        return self._store.read("patches", str(clip))


class Mapped:
    """The same clips in a raw file."""

    def __init__(self, folder: Path, shape: tuple[int, ...]) -> None:
        self._raw = np.memmap(folder / "raw", np.float16, "r", shape=shape)

    def __len__(self) -> int:
        return len(self._raw)

    def __getitem__(self, clip: int) -> np.ndarray:
        return np.array(self._raw[clip])


WAYS: dict[str, Any] = {"store": Stored, "memmap": Mapped}


def measure(
    *, clips: int = 192, item: tuple[int, ...] = (10, 196, 768), reads: int = 200, rounds: int = 9
) -> dict[str, Leaf]:
    """Read whole clips in random order: from memory, from disk, by workers of a DataLoader.

    Cold reads include opening the files, whose pages the system has dropped from its cache. All
    stores, the rounded and compressed one too, hold normal deviates.

    Args:
        item: shape of a clip's float16 features; those of a ViT-B/16 are 3 MB.
    """
    shape = (clips, *item)
    order = np.random.default_rng(1).integers(clips, size=reads).tolist()
    every = np.random.default_rng(2).permutation(clips).tolist()
    with TemporaryDirectory() as name:
        folder = Path(name)
        _make(folder, shape)
        # Cold reads come first: pages of a file that is mapped anywhere are not dropped.
        cold = side_by_side(
            {name: partial(_open_and_read, name, folder, shape, every) for name in WAYS},
            rounds=rounds,
            before=partial(_forget, folder),
        )
        ways = {name: way(folder, shape) for name, way in WAYS.items()}
        for clip in range(clips):  # checks the bytes and loads both files into memory
            np.testing.assert_array_equal(ways["store"][clip], ways["memmap"][clip])
        hot = side_by_side(
            {name: partial(_read, way, order) for name, way in ways.items()}, rounds=rounds
        )
        loaders = {
            name: DataLoader(way, batch_size=None, sampler=order, num_workers=2)
            for name, way in ways.items()
        }
        loaded = side_by_side(
            {name: partial(list, loader) for name, loader in loaders.items()}, rounds=rounds
        )
        sizes = {"clips": clips, "clip_bytes": 2 * int(np.prod(item))}
        return {
            "read_over_memmap": speedup(hot, "store", "memmap", reads=reads, **sizes),
            "cold_read_over_memmap": speedup(cold, "store", "memmap", reads=clips, **sizes),
            "loader_read_over_memmap": speedup(loaded, "store", "memmap", reads=reads, **sizes),
            "bytes_over_raw": _size(folder / "vision.zarr", folder / "raw"),
            "rounded_bytes_over_raw": _size(folder / "rounded.zarr", folder / "raw")
            | {"keep_bits": KEEP_BITS, "relative_error": _rounding_error(folder)},
        }


def _read(clips: Stored | Mapped, order: list[int]) -> list[np.ndarray]:
    """Read clips and keep them until all are read, as for a batch."""
    return [clips[clip] for clip in order]


def _open_and_read(way: str, folder: Path, shape: tuple[int, ...], order: list[int]) -> None:
    _read(WAYS[way](folder, shape), order)


def _make(folder: Path, shape: tuple[int, ...]) -> None:
    """Write the same random clips as raw, vision.zarr, and rounded.zarr."""
    rng = np.random.default_rng(0)
    raw = np.memmap(folder / "raw", np.float16, "w+", shape=shape)
    for clip in raw:
        clip[:] = rng.standard_normal(shape[1:], dtype=np.float32)
    raw.flush()
    for name, keep_bits in (("vision", None), ("rounded", KEEP_BITS)):
        fill_store(
            folder / f"{name}.zarr",
            specs=[ArraySpec("patches", shape[1:], "float16", 32, "random patches", keep_bits)],
            ids=[str(clip) for clip in range(len(raw))],
            provenance={"stage": "benchmark"},
            encode=lambda ids: {"patches": raw[[int(clip) for clip in ids]]},
            batch_size=8,
            description=f"{name}.zarr of the benchmark",
        )


def _rounding_error(folder: Path) -> dict[str, float]:
    """Return the relative errors of float16's normal numbers, not of those near zero."""
    exact, rounded = (
        FeatureStore.open(folder / f"{name}.zarr").read_all("patches").astype(np.float32)
        for name in ("vision", "rounded")
    )
    normal = np.abs(exact) >= np.finfo(np.float16).smallest_normal
    errors = np.abs(rounded[normal] / exact[normal] - 1)
    return {"median": short(float(np.median(errors))), "most": short(float(errors.max()))}


def _size(store: Path, raw: Path) -> Leaf:
    files = [path for path in store.rglob("*") if path.is_file()]
    size, raw_bytes = sum(path.stat().st_size for path in files), raw.stat().st_size
    ratio = short(size / raw_bytes)
    leaf = {"store_bytes": size, "raw_bytes": raw_bytes, "files": len(files)}
    return {"ratio": ratio, "spread": [ratio, ratio], **leaf}


def _forget(folder: Path) -> None:
    """Have the system drop the pages of all files from its cache."""
    os.sync()  # unwritten pages would stay
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
