"""The arrays of a store, and the shard files in which each keeps its items.

An item is a chunk, a shard is a file of many. Items are plain little-endian bytes with a CRC32C
behind each, so that a flipped bit raises and a read is one call on the file. An array may be
rounded and compressed instead (`keep_bits`); then Zarr itself reads it.

A shard ends in its index: offset and size of each chunk as 64-bit numbers, then a CRC32C.
"""

import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, ZstdCodec
from zarr.codecs.numcodecs import BitRound

# Said of BitRound at every turn: it is numcodecs', which reads it wherever Zarr for Python runs.
warnings.filterwarnings("ignore", "Numcodecs codecs are not in the Zarr version 3 specification")

_CHECKSUM_BYTES = 4

Empty = Callable[[tuple[int, ...], np.dtype], np.ndarray]
"""Makes room for numbers that are read: shape and dtype, as `np.empty` takes them."""


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
    keep_bits: int | None = None
    """Of a float's mantissa; the rest is rounded away and the items are compressed by zstd, which
    makes the files smaller and reading slower. None keeps all bits, uncompressed."""


def create_array(group: zarr.Group, spec: ArraySpec, *, count: int) -> None:
    """Add an array of `count` items, none of them written, to a group."""
    dtype = np.dtype(spec.dtype)
    rounded = spec.keep_bits is not None
    group.create_array(
        spec.name,
        shape=(count, *spec.item_shape),
        chunks=(1, *spec.item_shape),
        shards=(spec.items_per_shard, *spec.item_shape),
        dtype=dtype,
        filters=[BitRound(keepbits=spec.keep_bits)] if rounded else None,
        compressors=[*([ZstdCodec()] if rounded else []), Crc32cCodec()],
        fill_value=np.nan if dtype.kind == "f" else 0,
        attributes={"description": spec.description},
    )


def rounded(values: np.ndarray, keep_bits: int | None) -> np.ndarray:
    """Floats as a store with `keep_bits` holds them; those near the largest become infinite."""
    if keep_bits is None:
        return values
    codec = numcodecs.BitRound(keepbits=keep_bits)
    return codec.encode(values).view(values.dtype)


def read_spec(array: zarr.Array) -> ArraySpec:
    """What an array was declared as."""
    inside = [part for codec in _codecs(array) for part in getattr(codec, "codecs", [codec])]
    rounding: list[Any] = [part for part in inside if isinstance(part, BitRound)]
    return ArraySpec(
        name=array.basename,
        item_shape=array.shape[1:],
        dtype=str(array.dtype),
        items_per_shard=(array.shards or array.chunks)[0],
        description=str(array.attrs.get("description", "")),
        keep_bits=rounding[0].codec_config["keepbits"] if rounding else None,
    )


def shard_ranges(count: int, items_per_shard: int) -> Iterator[tuple[int, int, int]]:
    """Number, first item and end of each shard."""
    for start in range(0, count, items_per_shard):
        yield start // items_per_shard, start, min(start + items_per_shard, count)


class StoredArray:
    """Items of one array, read straight from its files where these hold plain bytes.

    A file is open only while an item is read (2 µs on a local disk), so that a store of any number
    of files can be read, by any number of processes. What is kept of each shard is its index.

    Args:
        folder: where the array's files lie; None if that is no folder of this machine.
        remedy: what to do about damage, for messages.
    """

    def __init__(self, array: zarr.Array, *, folder: Path | None, remedy: str) -> None:
        self._array = array
        self._folder = folder
        self._remedy = remedy
        self._item_bytes = math.prod(array.shape[1:]) * array.dtype.itemsize
        self._indexes: dict[int, list[list[int]]] = {}
        self.spec = read_spec(array)
        self.is_plain = folder is not None and _holds_plain_bytes(array)
        """Whether items are read without Zarr."""

    def read(
        self, positions: Sequence[int], *, first: int | None = None, empty: Empty = np.empty
    ) -> np.ndarray:
        """Copies of items, stacked, or of the first entries of their first axis.

        Checksums are not read.

        Args:
            empty: makes the array that is returned.

        Raises:
            ValueError: a shard is missing, truncated or damaged.
            OSError: the system doesn't let it be read, which says nothing of its content.
        """
        shape = self._array.shape[1:]
        if first is not None:
            shape = (min(first, shape[0]), *shape[1:])
        items = empty((len(positions), *shape), self.dtype)
        flat = items.reshape(len(positions), math.prod(shape))
        for item, position in zip(flat, positions, strict=True):
            if self.is_plain:
                self._read_into(item, position)
            else:
                item[:] = self.read_verified(position, position + 1).reshape(-1)[: item.size]
        return items

    def _read_into(self, item: np.ndarray, position: int) -> None:
        buffer: Any = item.view(np.uint8)
        path, offset = self._locate(position)
        with self._opened(path) as file:
            file.seek(offset)
            if file.readinto(buffer) != item.nbytes:
                raise ValueError(f"{path}: truncated; {self._remedy}")

    def read_verified(self, start: int, stop: int) -> np.ndarray:
        """The reference reader: Zarr's own, which verifies the checksums of what it reads.

        Raises:
            ValueError: a shard is missing or damaged.
            OSError: the system doesn't let it be read.
        """
        if self.is_plain:  # Zarr takes what is missing for the fill value without a word
            for position in range(start, stop):
                self._locate(position)
        try:
            return np.asarray(self._array[start:stop])
        except (OSError, MemoryError):
            raise
        except Exception as error:  # Zarr's codecs raise of every kind
            raise ValueError(
                f"{self._folder or self._array.store_path}: items {start} to {stop - 1} damaged "
                f"({error}); {self._remedy}"
            ) from None

    @property
    def dtype(self) -> np.dtype:
        return self._array.dtype

    def stored_bytes(self) -> int:
        """Size of the array's files."""
        return self._array.nbytes_stored()

    def is_whole(self, count: int) -> bool:
        """Whether all shards of `count` items are there.

        Raises:
            OSError: a folder can't be listed.
        """
        found = self._array.nchunks_initialized  # counts all chunks of a shard that is there
        whole = self._array.shape[0] == count and found >= self._array.nchunks
        if not whole and self._folder:  # Zarr passes over folders that it may not list
            for _ in os.walk(self._folder, onerror=_raise):
                pass
        return whole

    def _locate(self, position: int) -> tuple[Path, int]:
        """The file that holds an item, and where in it the item begins."""
        assert self._folder is not None
        shard, place = divmod(position, self.spec.items_per_shard)
        path = self._folder.joinpath("c", str(shard), *["0"] * (self._array.ndim - 1))
        if shard not in self._indexes:
            self._indexes[shard] = self._read_index(path)
        offset, size = self._indexes[shard][place]
        if size != self._item_bytes + _CHECKSUM_BYTES:
            raise ValueError(f"{path}: damaged or truncated; {self._remedy}")
        return path, offset

    def _read_index(self, path: Path) -> list[list[int]]:
        index_bytes = 16 * self.spec.items_per_shard
        with self._opened(path) as file:
            begin = file.seek(0, os.SEEK_END) - index_bytes - _CHECKSUM_BYTES
            if begin < 0:
                raise ValueError(f"{path}: truncated; {self._remedy}")
            file.seek(begin)
            return np.frombuffer(file.read(index_bytes), "<u8").reshape(-1, 2).tolist()

    @contextmanager
    def _opened(self, path: Path) -> Iterator[FileIO]:
        try:
            with FileIO(path) as file:
                yield file
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise ValueError(f"{path}: missing; {self._remedy}") from None
        except OSError as error:  # too many open files, no permission, a disk that fails
            raise OSError(f"{path}: can't be read ({error.strerror or error})") from None


def _raise(error: OSError) -> None:
    raise error


def _holds_plain_bytes(array: zarr.Array) -> bool:
    """Whether an item lies in its shard as it lies in memory, with four bytes of CRC32C behind."""
    match _codecs(array):
        case (ShardingCodec(codecs=(BytesCodec() as plain, Crc32cCodec())) as sharding,):
            whole_items = tuple(sharding.chunk_shape) == (1, *array.shape[1:])
            at_end = sharding.index_location.value == "end"
            return (
                whole_items and at_end and (plain.endian is None or plain.endian.value == "little")
            )
    return False


def _codecs(array: zarr.Array) -> tuple[Any, ...]:
    return getattr(array.metadata, "codecs", ())
