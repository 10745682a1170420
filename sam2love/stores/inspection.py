"""What is in a store and whether it can be trusted, in lines for a person."""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from sam2love.stores.shards import ArraySpec
from sam2love.stores.store import FORMAT_VERSION, FeatureStore


def find_stores(folder: str | Path) -> list[Path]:
    """The folder itself if it is a store, or the stores in it; a data set has none."""
    folder = Path(folder)
    if (folder / "zarr.json").is_file():
        return [folder]
    return sorted(path.parent for path in folder.glob("*/zarr.json"))


def verify_stores(paths: Iterable[Path]) -> tuple[list[str], bool]:
    """Read every byte of some stores against its checksum.

    Returns:
        A line for each fault, or for a store without; and whether there are none.
    """
    lines, sound = [], True
    for path in paths:
        try:
            store = FeatureStore.open(path)
            faults = store.verify()
        except (ValueError, OSError) as error:
            faults = [str(error)]
        sound = sound and not faults
        lines += [f"fatal: {fault}" for fault in faults] or [f"{path}: {_healthy(store)}"]
    return lines, sound


def describe(path: str) -> tuple[list[str], bool]:
    """All about one store: arrays, provenance, size and health; and whether it is undamaged.

    Raises:
        FileNotFoundError, ValueError: it can't be opened as a finished store.
    """
    store = FeatureStore.open(path)
    raw = sum(_item_bytes(spec) for spec in store.specs) * len(store)
    told = store.provenance
    faults = store.verify()
    lines = [
        f"{path}: format version {FORMAT_VERSION}, {len(store)} items",
        *(f"  {_declared(spec, len(store))}" for spec in store.specs),
        *(f"  {name}: {value}" for name, value in told.items()),
        f"  size: {_megabytes(store.stored_bytes())}, the numbers alone {_megabytes(raw)}",
        *(f"  fatal: {fault}" for fault in faults),
    ]
    return lines if faults else [*lines, f"  health: {_healthy(store)}"], not faults


def _healthy(store: FeatureStore) -> str:
    return f"complete, checksums of {len(store)} items in {len(store.specs)} arrays verified"


def _declared(spec: ArraySpec, count: int) -> str:
    kept = f", {spec.keep_bits} bits of mantissa kept, zstd" if spec.keep_bits else ""
    shards = math.ceil(count / spec.items_per_shard)
    return (
        f"{spec.name}: {spec.item_shape} {spec.dtype} an item, {spec.description}; {shards} shards "
        f"of {spec.items_per_shard}{kept}"
    )


def _item_bytes(spec: ArraySpec) -> int:
    return math.prod(spec.item_shape) * np.dtype(spec.dtype).itemsize


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
