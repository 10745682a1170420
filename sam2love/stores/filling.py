"""Fill a store shard by shard: loading, encoding and writing run concurrently."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from tqdm import tqdm

from sam2love.stores.shards import ArraySpec, round_mantissa
from sam2love.stores.staging import Staging

LOADERS = min(8, os.cpu_count() or 1)
"""Threads that load the next batches; results don't depend on their number."""

Items = Mapping[str, np.ndarray]


def fill_shards(
    staging: Staging,
    *,
    shards: list[tuple[int, int, int]],
    specs: list[ArraySpec],
    ids: list[str],
    load: Callable[[list[str]], Any],
    encode: Callable[[Any], Items],
    batch_size: int,
    description: str,
) -> None:
    """Compute and write those of the given shards that are not finished.

    While a batch is encoded, the next ones are loaded and the previous shard is written. Neither
    the batches nor their order depend on timing.

    Args:
        shards: number, start and stop of each.
        specs, ids, load, encode, batch_size: see `fill_store`.

    Raises:
        ValueError, OSError: see `fill_store`.
    """
    finished = staging.finished()
    todo = [(number, ids[start:stop]) for number, start, stop in shards if number not in finished]
    batches = [
        names[first : first + batch_size]
        for _, names in todo
        for first in range(0, len(names), batch_size)
    ]
    count = sum(stop - start for _, start, stop in shards)
    done = count - sum(map(len, batches))
    with (
        tqdm(total=count, initial=done, desc=description, unit="item") as bar,
        ThreadPoolExecutor(LOADERS) as loaders,
        ThreadPoolExecutor(1) as writer,
    ):
        loaded = _load_ahead(loaders, load, batches)
        written: Future | None = None
        for number, names in todo:
            buffers = _encode_shard(names, loaded, specs, encode, bar)
            if written:
                written.result()
            written = writer.submit(_write_shard, staging, number, names, buffers, specs)
        if written:
            written.result()


def _load_ahead(
    pool: ThreadPoolExecutor, load: Callable[[list[str]], Any], batches: Iterable[list[str]]
) -> Iterator[tuple[list[str], Any]]:
    """Yield each batch of ids with its loaded inputs, in order, loading a few batches ahead."""
    waiting: deque[tuple[list[str], Future]] = deque()
    for batch in batches:
        waiting.append((batch, pool.submit(load, batch)))
        if len(waiting) > LOADERS:
            names, loaded = waiting.popleft()
            yield names, loaded.result()
    for names, loaded in waiting:
        yield names, loaded.result()


def _encode_shard(
    names: list[str],
    loaded: Iterator[tuple[list[str], Any]],
    specs: list[ArraySpec],
    encode: Callable[[Any], Items],
    bar: tqdm,
) -> dict[str, np.ndarray]:
    """Encode the next batches into the arrays of one shard."""
    buffers = {spec.name: np.empty((len(names), *spec.item_shape), spec.dtype) for spec in specs}
    first = 0
    while first < len(names):
        batch, inputs = next(loaded)
        items = encode(inputs)
        _check_items(items, specs, batch)
        for spec in specs:
            with np.errstate(over="ignore"):  # _check_finite reports it, with the item's name
                buffers[spec.name][first : first + len(batch)] = items[spec.name]
        first += len(batch)
        bar.update(len(batch))
    return buffers


def _write_shard(
    staging: Staging,
    number: int,
    names: list[str],
    buffers: dict[str, np.ndarray],
    specs: list[ArraySpec],
) -> None:
    """Write a shard of every array, each with a single call."""
    arrays = {spec.name: round_mantissa(buffers[spec.name], spec.keep_bits) for spec in specs}
    for spec in specs:
        _check_finite(arrays[spec.name], spec, names, staging.out)
    start = number * specs[0].items_per_shard
    with explain_write_errors(staging.out):
        group = zarr.open_group(staging.store, mode="r+")
        for spec in specs:
            array: Any = group[spec.name]
            # By default Zarr leaves out chunks equal to the fill value, such as all-zero items.
            array = array.with_config({"write_empty_chunks": True})
            array[start : start + len(names)] = arrays[spec.name]
        staging.mark_finished(number)


@contextmanager
def explain_write_errors(out: Path) -> Iterator[None]:
    """Raise an OSError again as one line that names the store and says what to do."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{out}: can't be written ({error}); finished shards are kept: put that right, then "
            "run the stage again"
        ) from None


def _check_items(items: Items, specs: list[ArraySpec], batch: list[str]) -> None:
    if set(items) != {spec.name for spec in specs}:
        declared = sorted(spec.name for spec in specs)
        raise ValueError(f"encode returned the arrays {sorted(items)}, expected {declared}")
    for spec in specs:
        expected = (len(batch), *spec.item_shape)
        if items[spec.name].shape != expected:
            raise ValueError(
                f"encode returned {spec.name} of shape {items[spec.name].shape} for the items "
                f"{batch[0]!r} to {batch[-1]!r}, expected {expected}"
            )


def _check_finite(values: np.ndarray, spec: ArraySpec, names: list[str], out: Path) -> None:
    if values.dtype.kind == "f":
        finite = np.isfinite(values).reshape(len(names), -1).all(axis=1)
        if not finite.all():
            name = names[int(np.argmin(finite))]
            kept = f" with {spec.keep_bits} bits of mantissa" if spec.keep_bits else ""
            raise ValueError(
                f"{out}: {spec.name} of item {name!r} is not finite as {spec.dtype}{kept}"
            )
