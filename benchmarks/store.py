"""Random reads of clips from a store like features/vision.zarr, against copies from np.memmap."""

import os
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from torch.utils.data import DataLoader

from benchmarks.timing import Leaf, short, side_by_side, speedup
from sam2love.store import ArraySpec, FeatureStore, fill_store

KEEP_BITS = 7


class Stored:
    """Clips of a store, opened when it is made."""

    def __init__(self, folder: Path, shape: tuple[int, ...]) -> None:
        self._store = FeatureStore.open(folder / "vision.zarr")
        self._count = shape[0]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, clip: int) -> np.ndarray:
        return self._store.read("patches", str(clip))


class Mapped:
    """The same clips in a file of their numbers alone."""

    def __init__(self, folder: Path, shape: tuple[int, ...]) -> None:
        self._raw = np.memmap(folder / "raw", np.float16, "r", shape=shape)

    def __len__(self) -> int:
        return len(self._raw)

    def __getitem__(self, clip: int) -> np.ndarray:
        return np.array(self._raw[clip])


WAYS = {"store": Stored, "memmap": Mapped}


def measure(
    *, clips: int = 64, item: tuple[int, ...] = (10, 196, 768), reads: int = 200, rounds: int = 9
) -> dict[str, Leaf]:
    """Read whole clips in random order: from memory, from the disk, by workers of a DataLoader.

    Cold is cold to this system: files are opened anew after their pages were given up. The store
    that is rounded and compressed holds normal deviates, as the others do.

    Args:
        item: shape of a clip's float16 features; those of a ViT-B/16 are 3 MB.
    """
    shape = (clips, *item)
    with TemporaryDirectory() as name:
        folder = Path(name)
        raw = _made_up(folder / "raw", shape)
        store = _stored(folder / "vision.zarr", raw)
        hot = {name: way(folder, shape) for name, way in WAYS.items()}
        for clip in range(clips):  # the same bytes, and both files in memory
            np.testing.assert_array_equal(hot["store"][clip], raw[clip])
        order = np.random.default_rng(1).integers(clips, size=reads).tolist()
        every = np.random.default_rng(2).permutation(clips).tolist()
        loaders = {
            name: DataLoader(way, batch_size=None, sampler=order, num_workers=2)
            for name, way in hot.items()
        }
        seconds = {
            "": side_by_side(
                {name: partial(_read, way, order) for name, way in hot.items()}, rounds=rounds
            ),
            "cold_": side_by_side(
                {name: partial(_open_and_read, name, folder, shape, every) for name in WAYS},
                rounds=rounds,
                before=partial(_forget, folder),
            ),
            "loader_": side_by_side(
                {name: partial(list, loader) for name, loader in loaders.items()}, rounds=rounds
            ),
        }
        rounded = _stored(folder / "rounded.zarr", raw, keep_bits=KEEP_BITS)
        exact = np.asarray(raw, np.float32)
        errors = np.abs(rounded.read_all("patches") / np.where(exact, exact, 1) - 1)[exact != 0]
        bytes_over_raw = {
            "bytes_over_raw": _size(store, raw),
            "rounded_bytes_over_raw": _size(rounded, raw)
            | {
                "keep_bits": KEEP_BITS,
                "relative_error": {"median": short(np.median(errors)), "most": short(errors.max())},
            },
        }
    sizes = {"clips": clips, "clip_bytes": raw[0].nbytes}
    return {
        f"{kind}read_over_memmap": speedup(
            found, "store", "memmap", reads=clips if kind == "cold_" else reads, **sizes
        )
        for kind, found in seconds.items()
    } | bytes_over_raw


def _read(clips: Stored | Mapped, order: list[int]) -> None:
    for clip in order:
        clips[clip]


def _open_and_read(way: str, folder: Path, shape: tuple[int, ...], order: list[int]) -> None:
    _read(WAYS[way](folder, shape), order)


def _made_up(path: Path, shape: tuple[int, ...]) -> np.memmap:
    rng = np.random.default_rng(0)
    raw = np.memmap(path, np.float16, "w+", shape=shape)
    for clip in raw:
        clip[:] = rng.standard_normal(shape[1:], dtype=np.float32)
    raw.flush()
    return np.memmap(path, np.float16, "r", shape=shape)


def _stored(path: Path, raw: np.memmap, *, keep_bits: int | None = None) -> FeatureStore:
    fill_store(
        path,
        specs=[ArraySpec("patches", raw.shape[1:], "float16", 32, "made-up patches", keep_bits)],
        ids=[str(clip) for clip in range(len(raw))],
        provenance={"stage": "benchmark"},
        encode=lambda ids: {"patches": raw[[int(clip) for clip in ids]]},
        batch_size=8,
        description="store of the benchmark",
    )
    return FeatureStore.open(path)


def _size(store: FeatureStore, raw: np.memmap) -> Leaf:
    files = [path for path in Path(store.path).rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    ratio = short(size / raw.nbytes)
    leaf = {"store_bytes": size, "raw_bytes": raw.nbytes, "files": len(files)}
    return {"ratio": ratio, "spread": [ratio, ratio], **leaf}


def _forget(folder: Path) -> None:
    """Have the system give up the pages of all files."""
    os.sync()  # what is not yet on the disk would stay
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
