"""Where a store is filled before it appears: beside it, in .staging/, by one process or several.

.staging/<store>.<rank>.lock    held by the process that does a rank's share
.staging/<store>.lock           held for a moment, to begin the work and to finish it
.staging/<store>.done           digest of the work that was finished last
.staging/<store>/<digest>/
    store.zarr                  the store to be
    finished/<number>           empty files: the shards that are whole
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sam2love.work import locked


def rank_and_world() -> tuple[int, int]:
    """This process's number among those at the same work, and how many they are.

    As torchrun and accelerate tell it to each process they start; 0 of 1 without them.

    Raises:
        ValueError: RANK and WORLD_SIZE don't make sense.
    """
    told = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not all(text.isdecimal() for text in told) or not int(told[0]) < int(told[1]):
        raise ValueError(f"RANK is {told[0]!r} and WORLD_SIZE {told[1]!r}, expected 0 <= RANK < it")
    return int(told[0]), int(told[1])


class Staging:
    """The work on one store, named by a digest of everything that its bytes depend on."""

    def __init__(self, out: Path, digest: str) -> None:
        self.out = out
        self._digest = digest
        self._all_work = out.parent / ".staging" / out.name
        self._work = self._all_work / digest
        self.store = self._work / "store.zarr"

    @contextmanager
    def locked(self, rank: int | None = None) -> Iterator[None]:
        """Alone as a rank or, without one, alone altogether, even if a killed run still writes."""
        self._all_work.parent.mkdir(parents=True, exist_ok=True)
        with locked(self._beside(".lock" if rank is None else f".{rank}.lock")):
            yield

    def is_begun(self) -> bool:
        return self._finished.is_dir() and self.store.is_dir()

    def clear(self) -> None:
        """Make room to begin anew."""
        self._beside(".done").unlink(missing_ok=True)
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True)

    def begin(self) -> None:
        """The store to be stands there, all its arrays declared."""
        self._finished.mkdir()

    def finished(self) -> set[int]:
        """Numbers of the shards that are whole."""
        return {int(marker.name) for marker in self._finished.iterdir()}

    def mark_finished(self, shard: int) -> None:
        (self._finished / str(shard)).touch()

    def publish(self) -> None:
        """Put the store in its place, and forget all work on it."""
        for torn in self.store.rglob("*.partial"):
            torn.unlink()
        if self.out.exists():
            self.out.rename(self._work / "replaced.zarr")
        self.store.rename(self.out)
        self._beside(".done").write_text(self._digest)
        shutil.rmtree(self._all_work)

    def is_done(self) -> bool:
        """Whether this very work was the last to be finished, and its store is there."""
        done = self._beside(".done")
        return self.out.exists() and done.is_file() and done.read_text() == self._digest

    @property
    def _finished(self) -> Path:
        return self._work / "finished"

    def _beside(self, suffix: str) -> Path:
        return self._all_work.with_name(self.out.name + suffix)
