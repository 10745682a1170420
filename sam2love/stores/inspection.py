"""Report what a store contains and whether it is intact, as lines of text."""

import math
from collections.abc import Iterable
from pathlib import Path

from sam2love.stores.shards import ArraySpec
from sam2love.stores.store import FORMAT_VERSION, FeatureStore


def find_stores(folder: str | Path) -> list[Path]:
    """Return the folder itself if it is a store, else the stores directly in it."""
    folder = Path(folder)
    if (folder / "zarr.json").is_file():
        return [folder]
    return sorted(path.parent for path in folder.glob("*/zarr.json"))


def verify_stores(paths: Iterable[Path]) -> tuple[list[str], bool]:
    """Verify every checksum of some stores.

    Returns:
        A line for each fault and each intact store, and whether all are intact.
    """
    lines, intact = [], True
    for path in paths:
        try:
            store = FeatureStore.open(path)
            faults = store.verify()
        except (ValueError, OSError) as error:
            faults = [str(error)]
        intact = intact and not faults
        lines += [f"fatal: {fault}" for fault in faults] or [f"{path}: {_healthy(store)}"]
    return lines, intact


def describe_store(path: Path) -> tuple[list[str], bool]:
    """Describe a store: arrays, provenance, size and health; and whether it is intact.

    Raises:
        FileNotFoundError, ValueError: see `FeatureStore.open`; or a folder of stores, which are
            named.
    """
    if (stores := find_stores(path)) and stores != [path]:
        expected = ", ".join(map(str, stores))
        raise ValueError(f"{path}: a folder of stores, expected one of them: {expected}")
    store = FeatureStore.open(path)
    raw = sum(spec.item_bytes for spec in store.specs) * len(store)
    faults = store.verify()
    lines = [
        f"{path}: format version {FORMAT_VERSION}, {len(store)} items",
        *(f"  {_declared(spec, len(store))}" for spec in store.specs),
        *(f"  {name}: {value}" for name, value in store.provenance.items()),
        f"  size: {_megabytes(store.stored_bytes())} on disk, {_megabytes(raw)} uncompressed",
        *(f"  fatal: {fault}" for fault in faults),
    ]
    return lines if faults else [*lines, f"  health: {_healthy(store)}"], not faults


def _healthy(store: FeatureStore) -> str:
    return f"complete, checksums of {len(store)} items in {len(store.specs)} arrays verified"


def _declared(spec: ArraySpec, count: int) -> str:
    kept = f", {spec.keep_bits} bits of mantissa, zstd" if spec.keep_bits else ""
    shards = math.ceil(count / spec.items_per_shard)
    return (
        f"{spec.name}: {spec.item_shape} {spec.dtype} per item, {spec.description}; "
        f"{shards} shards of {spec.items_per_shard}{kept}"
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
