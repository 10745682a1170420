"""Stores of features and predictions: Zarr v3 groups that are written once and read often.

A store is a group of arrays that share their first axis, the items: item i of every array belongs
to ids[i]. A shard of many items is one file and the unit of writing and resuming. shards.py has
the layout of a shard, filling.py computes shards, staging.py holds a store until it is complete.

    group attributes: format_version, complete, provenance, ids
    array attributes: description
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from sam2love.stores.filling import Items, explain_write_errors, fill_shards
from sam2love.stores.shards import ArraySpec, StoredArray, create_array, shard_ranges
from sam2love.stores.shards import Empty as Empty
from sam2love.stores.shards import round_mantissa as round_mantissa
from sam2love.stores.staging import Staging, rank_and_world
from sam2love.work import work_digest

FORMAT_VERSION = 1
"""Increase it when the meaning of stored bytes changes; other versions are refused."""


# ---- writing ------------------------------------------------------------------------------------


def fill_store(
    out: str | Path,
    *,
    specs: Sequence[ArraySpec],
    ids: Sequence[str],
    provenance: Mapping[str, Any],
    encode: Callable[[Any], Items],
    batch_size: int,
    description: str,
    load: Callable[[list[str]], Any] = list,
) -> None:
    """Compute a store shard by shard, resuming an interrupted run of the same work.

    The store is filled in .staging/, next to `out`, under a lock, and moved to `out` when it is
    complete. The same arguments give the same bytes, however often the work was interrupted.

    Several processes, on machines that share the folder, can fill one store: started by torchrun
    or accelerate, rank r of n fills every n-th shard. The rank that finds all shards finished
    publishes the store; the others return before. The next run fills what a dead rank left.

    Args:
        ids: unique names of the items, in the order of the arrays.
        provenance: JSON values that the items depend on: encoder, digests, preprocessing. None is
            not recorded.
        encode: maps the output of `load` to the items of each array, stacked along the first
            axis; floats are cast to the array's dtype.
        batch_size: the most ids that are loaded and encoded at once.
        load: reads the inputs of some ids, ahead and in threads; by default returns the ids.

    Raises:
        ValueError: an id is repeated; `encode` returned other arrays or shapes than declared, or
            values that are not finite in the declared dtype.
        OSError: the disk is full or not writable; finished shards are kept.
    """
    out, ids, specs = Path(out), list(ids), list(specs)
    provenance = {name: value for name, value in provenance.items() if value is not None}
    _check_declaration(out, specs, ids)
    rank, world = rank_and_world()
    shards = list(shard_ranges(len(ids), specs[0].items_per_shard))
    own = shards[rank::world]
    if rank and not own:
        return
    # The batch size is part of the work: it can change the bits of the results.
    work = [FORMAT_VERSION, [vars(spec) for spec in specs], ids, provenance, batch_size]
    staging = Staging(out, work_digest(work))
    with staging.locked(rank):
        with staging.locked():
            if world > 1 and staging.is_done():
                return  # other ranks finished before this one started
            if not staging.is_begun():
                with explain_write_errors(out):
                    _begin(staging, specs, ids, provenance)
        fill_shards(
            staging,
            shards=own,
            specs=specs,
            ids=ids,
            load=load,
            encode=encode,
            batch_size=batch_size,
            description=description,
        )
        with staging.locked():
            if staging.is_done():
                return
            if left := len(shards) - len(staging.finished()):
                print(f"{out}: rank {rank} is done, other ranks have {left} shards left")
                return
            with explain_write_errors(out):
                zarr.open_group(staging.store, mode="r+").attrs.update({"complete": True})
                staging.publish()


def _check_declaration(out: Path, specs: list[ArraySpec], ids: list[str]) -> None:
    assert specs, "a store needs at least one array"
    assert len({spec.items_per_shard for spec in specs}) == 1, "shards are the unit of work"
    if len(set(ids)) < len(ids):
        repeated = next(name for i, name in enumerate(ids) if name in ids[:i])
        raise ValueError(f"{out}: the id {repeated!r} is repeated; ids must be unique")


def _begin(staging: Staging, specs: list[ArraySpec], ids: list[str], provenance: dict) -> None:
    staging.clear()
    state = {"format_version": FORMAT_VERSION, "complete": False}
    attributes = {**state, "provenance": provenance, "ids": ids}
    group = zarr.create_group(staging.store, attributes=attributes)
    for spec in specs:
        create_array(group, spec, count=len(ids))
    staging.mark_begun()


# ---- reading ------------------------------------------------------------------------------------


class FeatureStore:
    """A finished store, opened for reading by `FeatureStore.open`.

    No file stays open between reads, so a store can be passed to the workers of a DataLoader.
    """

    def __init__(self, path: str | Path) -> None:
        """Open without checks; use `FeatureStore.open` instead."""
        self.path = Path(path)
        self._group = zarr.open_group(path, mode="r")
        attributes: dict[str, Any] = self._group.attrs.asdict()
        self.ids: list[str] = attributes.get("ids", [])
        self.provenance: dict[str, Any] = attributes.get("provenance", {})
        self._position = {name: i for i, name in enumerate(self.ids)}
        self._arrays: dict[str, StoredArray] = {}

    @classmethod
    def open(cls, path: str | Path, provenance: Mapping[str, Any] | None = None) -> "FeatureStore":
        """Open a finished store.

        Args:
            provenance: entries that must equal the recorded ones; None for one that must not have
                been recorded.

        Raises:
            FileNotFoundError: there is no such store.
            ValueError: not a store of this format version, incomplete, or of other provenance.
            OSError: the store can't be read.
        """
        expected_stage = _stage_to_run(provenance or {})
        try:
            store = cls(path)
            attributes = store._group.attrs.asdict()
        except FileNotFoundError:
            raise FileNotFoundError(f"{path}: no such store; {expected_stage}") from None
        except OSError:
            raise
        except Exception as error:  # Zarr raises all kinds of errors on a file it can't parse
            raise ValueError(
                f"{path}: not readable as a store ({error}); {expected_stage} again"
            ) from None
        if (found := attributes.get("format_version")) != FORMAT_VERSION:
            raise ValueError(
                f"{path}: format version {found}, expected {FORMAT_VERSION}; {store._remedy}"
            )
        names = store._group.array_keys()
        complete = all(store._array(name).is_complete(len(store)) for name in names)
        if not complete or attributes.get("complete") is not True:
            raise ValueError(f"{path}: incomplete; {store._remedy}")
        for key, expected in (provenance or {}).items():
            if (found := store.provenance.get(key)) != expected:
                raise ValueError(
                    f"{path}: its provenance has {key} {found!r}, expected {expected!r}; "
                    f"{store._remedy}"
                )
        return store

    @property
    def _remedy(self) -> str:
        return f"{_stage_to_run(self.provenance)} again"

    def __len__(self) -> int:
        return len(self.ids)

    def has(self, item: str) -> bool:
        return item in self._position

    @property
    def specs(self) -> list[ArraySpec]:
        """The specs of its arrays, sorted by name."""
        return [self._array(name).spec for name in sorted(self._group.array_keys())]

    def read(self, name: str, item: str, *, first: int | None = None) -> np.ndarray:
        """Return a copy of one item of an array.

        Args:
            first: how many entries of the item's first axis to read; by default all.

        Raises:
            ValueError: no such array or item, or a missing or truncated shard.
            OSError: a shard can't be read.
        """
        return self.read_many(name, [item], first=first)[0]

    def read_many(
        self,
        name: str,
        items: Sequence[str],
        *,
        first: int | None = None,
        empty: Empty = np.empty,
    ) -> np.ndarray:
        """Return several items of an array, stacked in the given order; otherwise as `read`.

        Args:
            empty: allocates the array that is returned, for example in pinned memory.
        """
        for item in items:
            if item not in self._position:
                raise ValueError(f"{self.path}: no item {item!r}; {self._remedy}")
        positions = [self._position[item] for item in items]
        return self._array(name).read(positions, first=first, empty=empty)

    def read_all(self, name: str) -> np.ndarray:
        """Return all items of an array, in the order of `ids`, with checksums verified."""
        return self._array(name).read_verified(0, len(self.ids))

    def verify(self) -> list[str]:
        """Verify all checksums; return a line for each damaged shard."""
        faults = []
        for spec in self.specs:
            for _, start, stop in shard_ranges(len(self.ids), spec.items_per_shard):
                try:
                    self._array(spec.name).read_verified(start, stop)
                except ValueError as error:
                    faults.append(str(error))
        return faults

    def stored_bytes(self) -> int:
        """Return the size of its arrays' files."""
        return sum(self._array(spec.name).stored_bytes() for spec in self.specs)

    def _array(self, name: str) -> StoredArray:
        if name not in self._arrays:
            if name not in self._group:
                names = ", ".join(sorted(self._group.array_keys()))
                raise ValueError(f"{self.path}: no array {name!r}, found: {names}; {self._remedy}")
            array: Any = self._group[name]
            folder = self.path / name
            self._arrays[name] = StoredArray(array, folder=folder, remedy=self._remedy)
        return self._arrays[name]


def _stage_to_run(provenance: Mapping[str, Any]) -> str:
    stage = provenance.get("stage")
    return f"run the stage {stage!r}" if stage else "run the stage that writes it"
