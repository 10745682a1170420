"""Stores of features and predictions: the one module that touches Zarr.

A store is a Zarr v3 group of arrays that share their first axis, the items: item i of every array
belongs to ids[i]. An item is a chunk, and shards of many items are the unit of writing, of
resuming and of a file. Items are plain little-endian bytes with a CRC32C behind each, so that a
flipped bit raises and a read is a copy from the mapped file.

    group attributes: format_version, complete, provenance, ids, attrs
    array attributes: description
"""

import hashlib
import json
import math
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from filelock import FileLock, Timeout
from tqdm import tqdm
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec

FORMAT_VERSION = 1
"""Raise it when the meaning of stored bytes changes: stores of another version are refused."""

_CHECKSUM_BYTES = 4

Items = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class ArraySpec:
    """One array of a store, declared before anything is computed."""

    name: str
    item_shape: tuple[int, ...]
    dtype: str
    items_per_shard: int
    """The same for all arrays of a store."""
    description: str
    """What an item is, with its axes and units."""


# ---- writing ------------------------------------------------------------------------------------


def fill_store(
    out: str | Path,
    *,
    specs: Sequence[ArraySpec],
    ids: Sequence[str],
    provenance: Mapping[str, Any],
    encode: Callable[[list[str]], Items],
    batch_size: int,
    description: str,
    attrs: Mapping[str, Any] | Callable[["FeatureStore"], Mapping[str, Any]] | None = None,
) -> None:
    """Compute a store shard by shard, going on where a killed run of the same work stopped.

    The work goes on beside `out`, in .staging/, under a lock; `out` appears, or is replaced, when
    everything is there. The same arguments give the same bytes, however often it was interrupted.

    Args:
        ids: names of the items, each once; their order is the arrays'.
        provenance: JSON values that say what made the items: encoder, digests, preprocessing.
        encode: given some of the ids, in order, returns for each array name the items stacked
            along the first axis; floats are cast to the array's dtype.
        batch_size: the most ids that `encode` is given at once.
        attrs: more JSON values to keep with the store; a function is given the filled store.

    Raises:
        ValueError: an id twice, or `encode` returned other arrays, shapes or counts than declared,
            or numbers that are not finite in the declared dtype.
    """
    out, ids, specs = Path(out), list(ids), list(specs)
    _check_declaration(specs, ids)
    work = out.parent / ".staging" / out.name
    work.mkdir(parents=True, exist_ok=True)
    with _locked(work.with_name(f"{out.name}.lock")):
        staging = work / _digest_of_work(specs, ids, provenance, batch_size)
        group = _create_or_reopen(staging, specs, ids, provenance)
        finished = {int(marker.name) for marker in (staging / "finished").iterdir()}
        shards = list(_shards(len(ids), specs[0].items_per_shard))
        done = sum(stop - start for shard, start, stop in shards if shard in finished)
        with tqdm(total=len(ids), initial=done, desc=description, unit="item") as bar:
            for shard, start, stop in shards:
                if shard not in finished:
                    _write_shard(group, specs, ids[start:stop], start, encode, batch_size, bar)
                    (staging / "finished" / str(shard)).touch()
        if callable(attrs):
            attrs = attrs(FeatureStore(staging / "store.zarr"))
        group.attrs.update({"attrs": dict(attrs or {}), "complete": True})
        for torn in (staging / "store.zarr").rglob("*.partial"):
            torn.unlink()
        if out.exists():
            out.rename(staging / "replaced.zarr")
        (staging / "store.zarr").rename(out)
        shutil.rmtree(work)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone, even if a killed run's process still writes."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        print(f"{path}: another process is at work; waiting for it", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _check_declaration(specs: list[ArraySpec], ids: list[str]) -> None:
    assert specs, "a store needs an array"
    assert len({spec.items_per_shard for spec in specs}) == 1, "shards are the unit of work"
    if len(set(ids)) < len(ids):
        twice = next(name for i, name in enumerate(ids) if name in ids[:i])
        raise ValueError(f"the id {twice!r} stands twice; every item of a store has its own")


def _digest_of_work(specs: list, ids: list, provenance: Mapping, batch_size: int) -> str:
    """Names what is being computed, so that only the same work is gone on with.

    That takes in the project's code, as far as it is loaded, and the number of items at once:
    either may change bits.
    """
    ours = ("sam2love", "stages", "__main__")
    loaded = [module for name, module in sys.modules.items() if name.partition(".")[0] in ours]
    files = {getattr(module, "__file__", None) for module in loaded}
    sources = [Path(file) for file in files if file and file.endswith(".py")]
    code = sorted(hashlib.sha256(source.read_bytes()).hexdigest() for source in sources)
    declared = [vars(spec) for spec in specs]
    parts = [FORMAT_VERSION, declared, ids, dict(provenance), batch_size, code]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _create_or_reopen(
    staging: Path, specs: list[ArraySpec], ids: list[str], provenance: Mapping
) -> zarr.Group:
    path = staging / "store.zarr"
    if (staging / "finished").is_dir():  # made last, so the arrays are all there
        return zarr.open_group(path, mode="r+")
    shutil.rmtree(path, ignore_errors=True)
    group = zarr.create_group(
        path,
        attributes={
            "format_version": FORMAT_VERSION,
            "complete": False,
            "provenance": dict(provenance),
            "ids": ids,
        },
    )
    for spec in specs:
        _create_array(group, spec, len(ids))
    (staging / "finished").mkdir()
    return group


def _create_array(group: zarr.Group, spec: ArraySpec, count: int) -> None:
    dtype = np.dtype(spec.dtype)
    group.create_array(
        spec.name,
        shape=(count, *spec.item_shape),
        chunks=(1, *spec.item_shape),
        shards=(spec.items_per_shard, *spec.item_shape),
        dtype=dtype,
        filters=None,
        compressors=[Crc32cCodec()],
        fill_value=np.nan if dtype.kind == "f" else 0,
        attributes={"description": spec.description},
    )


def _shards(count: int, items_per_shard: int) -> Iterator[tuple[int, int, int]]:
    """Number, first item and end of each shard."""
    for start in range(0, count, items_per_shard):
        yield start // items_per_shard, start, min(start + items_per_shard, count)


def _write_shard(
    group: zarr.Group,
    specs: list[ArraySpec],
    ids: list[str],
    start: int,
    encode: Callable[[list[str]], Items],
    batch_size: int,
    bar: tqdm,
) -> None:
    """Compute the items of one shard and write each array's share of it in one piece."""
    buffers = {spec.name: np.empty((len(ids), *spec.item_shape), spec.dtype) for spec in specs}
    for first in range(0, len(ids), batch_size):
        batch = ids[first : first + batch_size]
        items = encode(batch)
        _check_items(items, specs, batch)
        for spec in specs:
            with np.errstate(over="ignore"):  # told below, by the item's name
                buffers[spec.name][first : first + len(batch)] = items[spec.name]
        bar.update(len(batch))
    for spec in specs:
        _check_finite(buffers[spec.name], spec, ids)
        array: Any = group[spec.name]
        # An all-zero item is an item: Zarr would leave out what equals the fill value.
        array = array.with_config({"write_empty_chunks": True})
        array[start : start + len(ids)] = buffers[spec.name]


def _check_items(items: Items, specs: list[ArraySpec], batch: list[str]) -> None:
    if set(items) != {spec.name for spec in specs}:
        declared = sorted(spec.name for spec in specs)
        raise ValueError(f"encode returned the arrays {sorted(items)}, declared are {declared}")
    for spec in specs:
        expected = (len(batch), *spec.item_shape)
        if items[spec.name].shape != expected:
            raise ValueError(
                f"encode returned {spec.name} of shape {items[spec.name].shape} for the items "
                f"{batch[0]!r} to {batch[-1]!r}, expected {expected}"
            )


def _check_finite(values: np.ndarray, spec: ArraySpec, ids: list[str]) -> None:
    if values.dtype.kind == "f":
        finite = np.isfinite(values).reshape(len(ids), -1).all(axis=1)
        if not finite.all():
            name = ids[int(np.argmin(finite))]
            raise ValueError(f"{spec.name} of item {name!r} is not finite as {spec.dtype}")


# ---- reading ------------------------------------------------------------------------------------


class FeatureStore:
    """A finished store, opened for reading; `FeatureStore.open` is the way in.

    Files are opened at the first read of a shard in each process, so a store may be handed to the
    workers of a DataLoader.
    """

    def __init__(self, path: Path) -> None:
        """Open without checks: only for a store that is being filled."""
        self.path = path
        self._group = zarr.open_group(path, mode="r")
        attributes: dict[str, Any] = self._group.attrs.asdict()
        self.ids: list[str] = attributes.get("ids", [])
        self.provenance: dict[str, Any] = attributes.get("provenance", {})
        self.attrs: dict[str, Any] = attributes.get("attrs", {})
        self._position = {name: i for i, name in enumerate(self.ids)}
        self._arrays: dict[str, _MappedArray] = {}

    @classmethod
    def open(cls, path: str | Path, provenance: Mapping[str, Any] | None = None) -> "FeatureStore":
        """Open a finished store.

        Args:
            provenance: what it must have been made with: each value given is compared.

        Raises:
            FileNotFoundError: there is no such store.
            ValueError: it is no store of this format's version, or incomplete, or made otherwise.
        """
        path = Path(path)
        if not (path / "zarr.json").is_file():
            raise FileNotFoundError(f"{path}: no such store; `dvc repro` makes what is missing")
        try:
            store = cls(path)
            attributes = store._group.attrs.asdict()
        except Exception as error:  # whatever Zarr makes of a file that is not its own
            raise ValueError(f"{path}: not readable as a store ({error})") from None
        if attributes.get("format_version") != FORMAT_VERSION:
            found = attributes.get("format_version")
            raise ValueError(
                f"{path}: format version {found}, expected {FORMAT_VERSION}; {store._remedy}"
            )
        store._check_complete(attributes.get("complete") is True)
        for key, expected in (provenance or {}).items():
            if store.provenance.get(key) != expected:
                found = store.provenance.get(key)
                raise ValueError(
                    f"{path}: made with {key} {found!r}, expected {expected!r}; {store._remedy}"
                )
        return store

    @property
    def _remedy(self) -> str:
        stage = self.provenance.get("stage")
        if stage is None:
            return "run the stage that writes it again"
        return f"run the stage again: dvc repro --force --single-item {stage}"

    def _check_complete(self, marked: bool) -> None:
        for name, array in self._group.arrays():
            shards = math.ceil(array.shape[0] / array.shards[0]) if array.shards else 0
            found = sum(path.is_file() for path in (self.path / name / "c").rglob("*"))
            if array.shape[0] != len(self.ids) or found < shards:
                marked = False
        if not marked:
            raise ValueError(f"{self.path}: incomplete; {self._remedy}")

    def __len__(self) -> int:
        return len(self.ids)

    def __getstate__(self) -> dict:
        return vars(self) | {"_arrays": {}}  # mapped files are opened again where it arrives

    def has(self, item: str) -> bool:
        return item in self._position

    def read(self, name: str, item: str) -> np.ndarray:
        """One item of an array: a copy, of the shape and dtype it was declared with.

        Raises:
            ValueError: no such array or item, or its bytes are damaged.
        """
        if item not in self._position:
            raise ValueError(f"{self.path}: no item {item!r}; {self._remedy}")
        return self._array(name).read(self._position[item])

    def read_all(self, name: str) -> np.ndarray:
        """All items of an array, in the order of `ids`, checksums verified."""
        return self._array(name).read_verified(0, len(self.ids))

    def verify(self) -> list[str]:
        """Read everything against its checksums: a line for each damaged shard."""
        faults = []
        for name in sorted(self._group.array_keys()):
            array = self._array(name)
            for _, start, stop in _shards(len(self.ids), array.items_per_shard):
                try:
                    array.read_verified(start, stop)
                except ValueError as error:
                    faults.append(str(error))
        return faults

    def _array(self, name: str) -> "_MappedArray":
        if name not in self._arrays:
            if name not in self._group:
                names = ", ".join(sorted(self._group.array_keys()))
                raise ValueError(f"{self.path}: no array {name!r}, there are: {names}")
            array: Any = self._group[name]
            self._arrays[name] = _MappedArray(array, self.path / name, self._remedy)
        return self._arrays[name]


class _MappedArray:
    """Items of one array, copied from mapped shard files where these hold plain bytes.

    A shard ends in its index: offset and size of each chunk as 64-bit numbers, then a CRC32C.
    """

    def __init__(self, array: zarr.Array, folder: Path, remedy: str) -> None:
        self._array = array
        self._folder = folder
        self._remedy = remedy
        self._item_bytes = math.prod(array.shape[1:]) * array.dtype.itemsize
        self._plain = _holds_plain_bytes(array)
        self._maps: dict[int, tuple[np.memmap, np.ndarray]] = {}
        self.items_per_shard = array.shards[0] if array.shards else array.chunks[0]

    def read(self, position: int) -> np.ndarray:
        if not self._plain:
            return self.read_verified(position, position + 1)[0]
        stored = self._stored(position)
        return np.array(stored).view(self._array.dtype).reshape(self._array.shape[1:])

    def read_verified(self, start: int, stop: int) -> np.ndarray:
        """The reference reader: Zarr's own, which verifies the checksums of what it reads."""
        if self._plain:  # Zarr takes what is missing for the fill value without a word
            for position in range(start, stop):
                self._stored(position)
        try:
            return np.asarray(self._array[start:stop])
        except Exception as error:  # Zarr's codecs raise of every kind
            raise ValueError(f"{self._folder}: damaged ({error}); {self._remedy}") from None

    def _stored(self, position: int) -> np.ndarray:
        """The mapped bytes of an item, without their checksum."""
        shard, place = divmod(position, self.items_per_shard)
        if shard not in self._maps:
            self._maps[shard] = self._map(shard)
        mapped, index = self._maps[shard]
        offset, size = index[place].tolist()
        if size != self._item_bytes + _CHECKSUM_BYTES or offset + size > len(mapped):
            raise ValueError(f"{self._path(shard)}: damaged or truncated; {self._remedy}")
        return mapped[offset : offset + self._item_bytes]

    def _map(self, shard: int) -> tuple[np.memmap, np.ndarray]:
        path = self._path(shard)
        index_bytes = 16 * self.items_per_shard
        try:
            mapped = np.memmap(path, np.uint8, mode="r")
            end = len(mapped) - _CHECKSUM_BYTES
            index = np.frombuffer(mapped[end - index_bytes : end].tobytes(), "<u8").reshape(-1, 2)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: not readable ({error}); {self._remedy}") from None
        return mapped, index

    def _path(self, shard: int) -> Path:
        return self._folder.joinpath("c", str(shard), *["0"] * (self._array.ndim - 1))


def _holds_plain_bytes(array: zarr.Array) -> bool:
    """Whether an item lies in its shard as it lies in memory, with four bytes of CRC32C behind."""
    codecs: tuple[Any, ...] = getattr(array.metadata, "codecs", ())
    match codecs:
        case (ShardingCodec(codecs=(BytesCodec() as plain, Crc32cCodec())) as sharding,):
            whole_items = tuple(sharding.chunk_shape) == (1, *array.shape[1:])
            at_end = sharding.index_location.value == "end"
            return (
                whole_items and at_end and (plain.endian is None or plain.endian.value == "little")
            )
    return False
