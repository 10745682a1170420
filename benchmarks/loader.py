"""Reading batches at the paper's size: a worker against a copy of the bytes, and time waiting.

A batch has eight rows of ViT-B/16, VGGish, DistilRoBERTa, SAM 2 large at 1024 and labels of
1280 x 720, from stores in the page cache.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks.timing import Leaf, short, summarise
from sam2love.dataset.index import Index
from sam2love.params import Train
from sam2love.stores.features import FeatureReader
from sam2love.stores.store import ArraySpec, fill_store
from sam2love.training.batches import PREFETCH, Batch, Batches, load

Arrays = dict[str, tuple[tuple[int, ...], str]]
"""Shape of an item and dtype, by name."""

WORKERS = 1
HEADROOM = 1.25
"""A step's length over a worker's time for a batch."""
LABEL = (720, 1280)
PAPER: dict[str, Arrays] = {
    "audio": {"audio": ((10, 128), "float32")},
    "vision": {"patches": ((10, 196, 768), "float16"), "cls": ((10, 768), "float16")},
    "text": {"tokens": ((25, 768), "float16"), "length": ((), "int32")},
    "sam2": {
        "embedding": ((256, 64, 64), "float16"),
        "high_res_0": ((32, 256, 256), "float16"),
        "high_res_1": ((64, 128, 128), "float16"),
    },
    "labels": {"bits": ((1, LABEL[0] * LABEL[1] // 8), "uint8"), "size": ((2,), "int32")},
}


def measure(
    train: Train,
    *,
    stores: dict[str, Arrays] = PAPER,
    rows: int = 32,
    batches: int = 8,
    rounds: int = 9,
) -> dict[str, Leaf]:
    """Alternate between reading batches of all frames by one worker and copying as many bytes.

    Args:
        train: the paper's section; a batch has its `batch_size` rows.
        stores: the arrays of each store.
        batches: number timed per round.
    """
    steps = 2 * rounds * (batches + WORKERS * PREFETCH + 1)
    train = train.model_copy(
        update={"grounding_steps": 0, "steps": steps, "accumulation": 1, "processes": 1}
    )
    with TemporaryDirectory() as folder:
        random_batches = Batches(*_random_stores(Path(folder), stores, rows=rows), train=train)
        # As many as the loader cycles through, else the sources would stay in the CPU's cache.
        distinct = max(1, rows // train.batch_size)
        sources = [[p.numpy() for p in tensors(random_batches.read(n))] for n in range(distinct)]
        buffers = [[np.ones_like(part) for part in sources[0]] for _ in range(PREFETCH + 1)]
        turns = count()
        steps_read = range(len(random_batches))
        loaded = load(random_batches, steps_read, workers=WORKERS, device=torch.device("cpu"))

        def copy() -> None:
            turn = next(turns)
            source, buffer = sources[turn % len(sources)], buffers[turn % len(buffers)]
            for to, part in zip(buffer, source, strict=True):
                np.copyto(to, part)

        def take(step: float = 0.0) -> None:
            next(loaded)
            time.sleep(step)

        reading, copying, waiting = [], [], []
        for _ in range(rounds):
            copying.append(_seconds(copy, times=batches))
            _drain(loaded)
            reading.append(_seconds(take, times=batches))
            step = HEADROOM * reading[-1]
            take(PREFETCH * step)  # the worker is ahead, as in mid-training
            waiting.append(1 - step / _seconds(partial(take, step), times=batches))
    sizes = {
        "rows": train.batch_size,
        "batch_bytes": sum(part.nbytes for part in sources[0]),
        "workers": WORKERS,
        "best_seconds": {"batch": short(min(reading)), "copy": short(min(copying))},
    }
    ratios = [own / copied for own, copied in zip(reading, copying, strict=True)]
    return {
        "batch_over_copy": summarise(ratios, **sizes),
        "share_waiting_at_paper_size": summarise(waiting, step_over_batch=HEADROOM, **sizes),
    }


def _seconds(work: Callable[[], object], *, times: int) -> float:
    """Return the mean seconds of one call."""
    start = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - start) / times


def _drain(loaded: Iterator[Batch]) -> None:
    """Take the prefetched batches, so that the next ones are timed from the start."""
    for _ in range(WORKERS * PREFETCH + 1):
        next(loaded)


def tensors(batch: Batch) -> list[Tensor]:
    return [*batch.features, *(batch.embeddings or ()), *batch.masks, batch.present]


def _random_stores(
    folder: Path, stores: dict[str, Arrays], *, rows: int
) -> tuple[pd.DataFrame, FeatureReader]:
    """Write stores of a clip, a sentence and an object per row; return the rows' table as well."""
    clips = [f"clip_{row}" for row in range(rows)]
    suffixes = {"sam2": "/0", "labels": "/1"}
    rng = np.random.default_rng(0)
    for name, arrays in stores.items():
        one = {key: rng.standard_normal(shape, np.float32) for key, (shape, _) in arrays.items()}
        one |= {"length": np.array(25), "size": np.array(LABEL)}

        def encode(ids: list[str], arrays: Arrays = arrays, one: dict = one) -> dict:
            return {
                key: np.stack([one[key].astype(dtype)] * len(ids))
                for key, (_, dtype) in arrays.items()
            }

        fill_store(
            folder / f"{name}.zarr",
            specs=[ArraySpec(key, *arrays[key], 16, "random") for key in arrays],
            ids=[clip + suffixes.get(name, "") for clip in clips],
            provenance={"stage": "benchmark"},
            encode=encode,
            batch_size=8,
            description=name,
        )
    table = pd.DataFrame({"key": clips, "exp": clips, "fid": 1, "null": False})
    keys = pd.DataFrame({"key": clips, "frames_key": clips})
    return table, FeatureReader(folder, Index(keys, table, pd.DataFrame(), pd.DataFrame()))
