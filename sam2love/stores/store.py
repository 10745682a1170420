"""Stores of features and predictions: Zarr v3 groups that are filled once and read often.

A store is a group of arrays that share their first axis, the items: item i of every array belongs
to ids[i]. Shards of many items are the unit of writing, of resuming and of a file; shards.py says
how an item lies in one, filling.py how they are made, staging.py where a store grows before it
appears.

    group attributes: format_version, complete, provenance, ids
    array attributes: description
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from sam2love.stores.filling import Items, fill_shards, told_of_disk
from sam2love.stores.shards import ArraySpec, StoredArray, create_array, shard_ranges
from sam2love.stores.shards import Empty as Empty
from sam2love.stores.shards import rounded as rounded
from sam2love.stores.staging import Staging, rank_and_world
from sam2love.work import digest_of

FORMAT_VERSION = 1
"""Raise it when the meaning of stored bytes changes: stores of another version are refused."""


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
    """Compute a store shard by shard, going on where a killed run of the same work stopped.

    The work goes on beside `out`, in .staging/, under a lock; `out` appears, or is replaced, when
    everything is there. The same arguments give the same bytes, however often it was interrupted.

    Several processes, on machines that share the folder, may fill one store: started by torchrun or
    accelerate, rank r of n makes every n-th shard. Who finds all shards there finishes the store;
    the others leave. What a rank that died has not made, the next run makes.

    Args:
        ids: names of the items, each once; their order is the arrays'.
        provenance: JSON values that say what made the items: encoder, digests, preprocessing. What
            is None is not recorded.
        encode: given what `load` made of some of the ids, in order, returns for each array name
            the items stacked along the first axis; floats are cast to the array's dtype.
        batch_size: the most ids that are loaded and encoded at once.
        load: reads what some ids need, ahead and in threads; without it `encode` gets the ids.

    Raises:
        ValueError: an id twice, or `encode` returned other arrays, shapes or counts than declared,
            or numbers that are not finite in the declared dtype.
        OSError: the disk is full or not to be written; finished shards are kept.
    """
    out, ids, specs = Path(out), list(ids), list(specs)
    provenance = {name: value for name, value in provenance.items() if value is not None}
    _check_declaration(specs, ids)
    rank, world = rank_and_world()
    shards = list(shard_ranges(len(ids), specs[0].items_per_shard))
    own = shards[rank::world]
    if rank and not own:
        return
    # The number of items at once counts as work: it may change bits.
    work = [FORMAT_VERSION, [vars(spec) for spec in specs], ids, provenance, batch_size]
    staging = Staging(out, digest_of(work))
    with staging.locked(rank):
        with staging.locked():
            if world > 1 and staging.is_done():
                return  # by ranks that had less to do than this one to start
            if not staging.is_begun():
                with told_of_disk(out):
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
                print(f"{out}: rank {rank} is done, others have {left} shards left to write")
                return
            with told_of_disk(out):
                _finish(staging)


def _check_declaration(specs: list[ArraySpec], ids: list[str]) -> None:
    assert specs, "a store needs an array"
    assert len({spec.items_per_shard for spec in specs}) == 1, "shards are the unit of work"
    if len(set(ids)) < len(ids):
        twice = next(name for i, name in enumerate(ids) if name in ids[:i])
        raise ValueError(f"the id {twice!r} stands twice; every item of a store has its own")


def _begin(staging: Staging, specs: list[ArraySpec], ids: list[str], provenance: dict) -> None:
    staging.clear()
    state = {"format_version": FORMAT_VERSION, "complete": False}
    made = {"provenance": provenance, "ids": ids}
    group = zarr.create_group(staging.store, attributes={**state, **made})
    for spec in specs:
        create_array(group, spec, count=len(ids))
    staging.begin()


def _finish(staging: Staging) -> None:
    group = zarr.open_group(staging.store, mode="r+")
    group.attrs.update({"complete": True})
    staging.publish()


# ---- reading ------------------------------------------------------------------------------------


class FeatureStore:
    """A finished store, opened for reading; `FeatureStore.open` is the way in.

    No file stays open between reads, so a store may be handed to the workers of a DataLoader.
    """

    def __init__(self, path: str | Path) -> None:
        """Open without checks: only for a store that is being filled."""
        self.path = path if "://" in str(path) else Path(path)
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
            path: a folder, or an address that fsspec knows, such as s3://bucket/vision.zarr; what
                is not on this machine's disks is read by Zarr.
            provenance: what it must have been made with: each value given is compared; None stands
                for what must not have been recorded.

        Raises:
            FileNotFoundError: there is no such store.
            ValueError: it is no store of this format's version, or incomplete, or made otherwise.
            OSError: the system doesn't let it be read.
        """
        try:
            store = cls(path)
            attributes = store._group.attrs.asdict()
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{path}: no such store; `dvc repro` makes what is missing"
            ) from None
        except OSError:
            raise
        except Exception as error:  # whatever Zarr makes of a file that is not its own
            raise ValueError(f"{path}: not readable as a store ({error})") from None
        if (found := attributes.get("format_version")) != FORMAT_VERSION:
            raise ValueError(
                f"{path}: format version {found}, expected {FORMAT_VERSION}; {store._remedy}"
            )
        whole = all(store._array(name).is_whole(len(store)) for name in store._group.array_keys())
        if not whole or attributes.get("complete") is not True:
            raise ValueError(f"{path}: incomplete; {store._remedy}")
        for key, expected in (provenance or {}).items():
            if (found := store.provenance.get(key)) != expected:
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

    def __len__(self) -> int:
        return len(self.ids)

    def has(self, item: str) -> bool:
        return item in self._position

    @property
    def specs(self) -> list[ArraySpec]:
        """What its arrays were declared as, by name."""
        return [self._array(name).spec for name in sorted(self._group.array_keys())]

    def read(self, name: str, item: str, *, first: int | None = None) -> np.ndarray:
        """One item of an array: a copy, of the shape and dtype it was declared with.

        Args:
            first: read only so many entries of the item's first axis, the first ones.

        Raises:
            ValueError: no such array or item, or its bytes are damaged.
            OSError: the system doesn't let them be read.
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
        """Several items of an array, stacked in the order asked for; otherwise as `read`.

        Args:
            empty: makes the array that is returned, where it is to lie in memory of its own.
        """
        for item in items:
            if item not in self._position:
                raise ValueError(f"{self.path}: no item {item!r}; {self._remedy}")
        positions = [self._position[item] for item in items]
        return self._array(name).read(positions, first=first, empty=empty)

    def read_all(self, name: str) -> np.ndarray:
        """All items of an array, in the order of `ids`, checksums verified."""
        return self._array(name).read_verified(0, len(self.ids))

    def verify(self) -> list[str]:
        """Read everything against its checksums: a line for each damaged shard."""
        faults = []
        for spec in self.specs:
            for _, start, stop in shard_ranges(len(self.ids), spec.items_per_shard):
                try:
                    self._array(spec.name).read_verified(start, stop)
                except ValueError as error:
                    faults.append(str(error))
        return faults

    def stored_bytes(self) -> int:
        """Size of its arrays' files."""
        return sum(self._array(spec.name).stored_bytes() for spec in self.specs)

    def _array(self, name: str) -> StoredArray:
        if name not in self._arrays:
            if name not in self._group:
                names = ", ".join(sorted(self._group.array_keys()))
                raise ValueError(f"{self.path}: no array {name!r}, there are: {names}")
            array: Any = self._group[name]
            folder = self.path / name if isinstance(self.path, Path) else None
            self._arrays[name] = StoredArray(array, folder=folder, remedy=self._remedy)
        return self._arrays[name]
