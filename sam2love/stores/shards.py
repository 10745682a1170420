"""The arrays of a store and their shard files.

An item is a chunk; a shard is a file of many chunks. A chunk is plain little-endian bytes followed
by their CRC32C, so it can be read with a single call and verified. An array can be rounded and
compressed instead (`keep_bits`); Zarr itself then reads it.

A shard ends with its index: offset and size of each chunk as 64-bit numbers, then a CRC32C.
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
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.codecs.numcodecs import BitRound

# BitRound warns at every use that other implementations of Zarr may not have it.
warnings.filterwarnings("ignore", "Numcodecs codecs are not in the Zarr version 3 specification")

_CHECKSUM_BYTES = 4

Empty = Callable[[tuple[int, ...], np.dtype], np.ndarray]
"""Allocates an array to read into, with the shape and dtype that `np.empty` takes."""


@dataclass(frozen=True)
class ArraySpec:
    """One array of a store, declared before anything is computed."""

    name: str
    item_shape: tuple[int, ...]
    dtype: str
    items_per_shard: int
    """The same for all arrays of a store."""
    description: str
    """Content, axes and units of an item."""
    keep_bits: int | None = None
    """Bits of a float's mantissa; the rest is rounded away and items are compressed with zstd:
    smaller files, slower reads. None keeps all bits, uncompressed."""

    @property
    def item_bytes(self) -> int:
        """The size of an item, uncompressed."""
        return math.prod(self.item_shape) * np.dtype(self.dtype).itemsize


def create_array(group: zarr.Group, spec: ArraySpec, *, count: int) -> None:
    """Add an array of `count` items to a group, without writing any."""
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


def round_mantissa(values: np.ndarray, keep_bits: int | None) -> np.ndarray:
    """Round floats as a store with `keep_bits` does; the largest ones become infinite."""
    if keep_bits is None:
        return values
    codec = numcodecs.BitRound(keepbits=keep_bits)
    return codec.encode(values).view(values.dtype)


def read_spec(array: zarr.Array) -> ArraySpec:
    """Return the spec that an array was created with."""
    rounding: list[Any] = list(array.filters)
    return ArraySpec(
        name=array.basename,
        item_shape=array.shape[1:],
        dtype=str(array.dtype),
        items_per_shard=(array.shards or array.chunks)[0],
        description=str(array.attrs.get("description", "")),
        keep_bits=rounding[0].codec_config["keepbits"] if rounding else None,
    )


def shard_ranges(count: int, items_per_shard: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and stop of each shard."""
    for start in range(0, count, items_per_shard):
        yield start // items_per_shard, start, min(start + items_per_shard, count)


class StoredArray:
    """Read the items of one array, directly from its files if these hold plain bytes.

    A file is open only while an item is read (2 µs on a local disk), so any number of files can be
    read by any number of processes. Only the path and index of each shard are kept in memory.

    Args:
        folder: where the array is.
        remedy: what to do about damage, for error messages.
    """

    def __init__(self, array: zarr.Array, *, folder: Path, remedy: str) -> None:
        self._array = array
        self._folder = folder
        self._remedy = remedy
        self._shards: dict[int, tuple[str, list[list[int]]]] = {}
        self.spec = read_spec(array)
        self.is_plain = self.spec.keep_bits is None
        """Whether items are read without Zarr."""

    def read(
        self, positions: Sequence[int], *, first: int | None = None, empty: Empty = np.empty
    ) -> np.ndarray:
        """Return copies of items, stacked; checksums are not verified.

        Args:
            first: how many entries of an item's first axis to read; by default all.
            empty: allocates the array that is returned.

        Raises:
            ValueError: a shard is missing, truncated or damaged.
            OSError: a shard can't be read; its content may be intact.
        """
        shape = self._array.shape[1:]
        if first is not None:
            shape = (min(first, shape[0]), *shape[1:])
        items = empty((len(positions), *shape), self._array.dtype)
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
        """Read items with Zarr, which verifies their checksums.

        Raises:
            ValueError: a shard is missing or damaged.
            OSError: a shard can't be read.
        """
        if self.is_plain:  # Zarr silently replaces missing shards with the fill value
            for position in range(start, stop):
                self._locate(position)
        try:
            return np.asarray(self._array[start:stop])
        except (OSError, MemoryError):
            raise
        except Exception as error:  # Zarr's codecs raise all kinds of errors on damaged bytes
            raise ValueError(
                f"{self._folder}: items {start} to {stop - 1} damaged ({error}); {self._remedy}"
            ) from None

    def stored_bytes(self) -> int:
        """Return the size of the array's files."""
        return self._array.nbytes_stored()

    def is_complete(self, count: int) -> bool:
        """Return whether all shards of `count` items exist.

        Raises:
            OSError: a folder can't be listed.
        """
        found = self._array.nchunks_initialized  # counts all chunks of an existing shard
        complete = self._array.shape[0] == count and found >= self._array.nchunks
        if not complete:  # Zarr skips folders that it is not allowed to list
            for _ in os.walk(self._folder, onerror=_raise):
                pass
        return complete

    def _locate(self, position: int) -> tuple[str, int]:
        """Return the shard file of an item and the item's offset in it."""
        shard, chunk = divmod(position, self.spec.items_per_shard)
        if shard not in self._shards:
            path = str(self._folder.joinpath("c", str(shard), *["0"] * (self._array.ndim - 1)))
            self._shards[shard] = path, self._read_index(path)
        path, index = self._shards[shard]
        offset, size = index[chunk]
        if size != self.spec.item_bytes + _CHECKSUM_BYTES:
            raise ValueError(f"{path}: damaged or truncated; {self._remedy}")
        return path, offset

    def _read_index(self, path: str) -> list[list[int]]:
        index_bytes = 16 * self.spec.items_per_shard
        with self._opened(path) as file:
            start = file.seek(0, os.SEEK_END) - index_bytes - _CHECKSUM_BYTES
            if start < 0:
                raise ValueError(f"{path}: truncated; {self._remedy}")
            file.seek(start)
            return np.frombuffer(file.read(index_bytes), "<u8").reshape(-1, 2).tolist()

    @contextmanager
    def _opened(self, path: str) -> Iterator[FileIO]:
        try:
            with FileIO(path) as file:
                yield file
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise ValueError(f"{path}: missing; {self._remedy}") from None
        except OSError as error:  # too many open files, no permission, a failing disk
            raise OSError(f"{path}: can't be read ({error.strerror or error})") from None


def _raise(error: OSError) -> None:
    raise error
