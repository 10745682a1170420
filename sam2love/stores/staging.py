"""Keep a store in .staging/, next to its final path, while one or more processes fill it.

.staging/<store>.<rank>.lock    held by a rank while it fills its shards
.staging/<store>.lock           held briefly, to begin and to finish the work
.staging/<store>.done           digest of the last work that was finished
.staging/<store>/<digest>/
    store.zarr                  the unfinished store
    finished/<number>           an empty file per finished shard
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sam2love.work import locked


def rank_and_world() -> tuple[int, int]:
    """Return rank and world size as set by torchrun or accelerate; 0 and 1 without them.

    Raises:
        ValueError: RANK or WORLD_SIZE is invalid.
    """
    rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not (rank.isdecimal() and world.isdecimal() and int(rank) < int(world)):
        raise ValueError(
            f"RANK is {rank!r} and WORLD_SIZE {world!r}, expected 0 <= RANK < WORLD_SIZE; start "
            "the stage with torchrun or accelerate, or unset both"
        )
    return int(rank), int(world)


class Staging:
    """Work in progress on a store, identified by a digest of everything its bytes depend on."""

    def __init__(self, out: Path, digest: str) -> None:
        self.out = out
        self._digest = digest
        self._folder = out.parent / ".staging" / out.name
        self._work = self._folder / digest
        self.store = self._work / "store.zarr"

    @contextmanager
    def locked(self, rank: int | None = None) -> Iterator[None]:
        """Hold the exclusive lock of a rank, or by default that of the whole store."""
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(self._sibling(".lock" if rank is None else f".{rank}.lock")):
            yield

    def is_begun(self) -> bool:
        return self._finished.is_dir() and self.store.is_dir()

    def clear(self) -> None:
        """Discard earlier work with this digest."""
        self._sibling(".done").unlink(missing_ok=True)
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True)

    def mark_begun(self) -> None:
        """Record that the unfinished store exists with all its arrays."""
        self._finished.mkdir()

    def finished(self) -> set[int]:
        """Return the numbers of the finished shards."""
        return {int(marker.name) for marker in self._finished.iterdir()}

    def mark_finished(self, shard: int) -> None:
        (self._finished / str(shard)).touch()

    def publish(self) -> None:
        """Move the store to its final path and remove all work in progress on it."""
        for partial in self.store.rglob("*.partial"):  # left by Zarr when it is killed
            partial.unlink()
        if self.out.exists():
            self.out.rename(self._work / "replaced.zarr")
        self.store.rename(self.out)
        self._sibling(".done").write_text(self._digest)
        shutil.rmtree(self._folder)

    def is_done(self) -> bool:
        """Return whether this work was the last to be finished, and its store exists."""
        done = self._sibling(".done")
        return self.out.exists() and done.is_file() and done.read_text() == self._digest

    @property
    def _finished(self) -> Path:
        return self._work / "finished"

    def _sibling(self, suffix: str) -> Path:
        return self._folder.with_name(self.out.name + suffix)
