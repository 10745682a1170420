"""Work in progress on an output, kept beside it until it is done: in .staging/, under a lock.

The work's folder is named by a digest of all that it follows from, so that a run goes on with what
a killed one left of the same work, and never with that of another.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout


@contextmanager
def staged(out: Path, work: list[Any], *, owner: bool = True) -> Iterator[Path]:
    """The folder of some work on `out`, taken away once the work is done.

    Args:
        work: what is being computed, for `digest_of`.
        owner: of several processes at the same work one waits for the lock and cleans up.
    """
    folder = out.parent / ".staging" / out.name
    staging = folder / digest_of(work)
    if not owner:
        yield staging
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(f"{out.name}.lock")):
        staging.mkdir(parents=True, exist_ok=True)
        yield staging
        shutil.rmtree(folder)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write a file, beside the one that it replaces once it is whole.

    What DVC has cached is linked to from the working folder: written to in place, a file would
    change in the cache too. Pipes and devices are written to as they are.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")  # its suffix counts for some
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def stamps(paths: list[Path]) -> list[tuple[str, int, int]]:
    """What tells at once that a file was written again: its name, size and time, without reading.

    Args:
        paths: files, and folders with all that is in them.
    """
    files = [file for path in paths for file in (sorted(path.rglob("*")) or [path])]
    found = [(str(file), file.stat()) for file in files if file.is_file()]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in found]


def digest_of(work: list[Any]) -> str:
    """Names some work by JSON values and by the project's code, as far as it is loaded."""
    ours = ("sam2love", "stages", "__main__")
    loaded = [module for name, module in sys.modules.items() if name.partition(".")[0] in ours]
    files = {getattr(module, "__file__", None) for module in loaded}
    sources = [Path(file) for file in files if file and file.endswith(".py")]
    code = sorted(hashlib.sha256(source.read_bytes()).hexdigest() for source in sources)
    return hashlib.sha256(json.dumps([*work, code], sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def locked(path: Path) -> Iterator[None]:
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
