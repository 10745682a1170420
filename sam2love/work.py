"""Keep work in progress next to its output until it is done: in .staging/, under a lock.

The folder is named by a digest of everything the output depends on, so that a run resumes what a
killed run left of the same work and never of other work.
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
    """Yield the folder for work in progress on `out`; remove it once the work has succeeded.

    Args:
        work: JSON values that identify the work, for `work_digest`.
        owner: whether this process locks and cleans up; of several at the same work only one does.
    """
    folder = out.parent / ".staging" / out.name
    staging = folder / work_digest(work)
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
    """Yield a path to write to; move the file to `path` once it is complete.

    The old file may be a link into a cache, which writing in place would corrupt. Pipes and devices
    are written to directly.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")  # some writers go by the suffix
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def stamps(paths: list[Path]) -> list[tuple[str, int, int]]:
    """Return name, size and modification time of files, to detect changes without reading them.

    Args:
        paths: files, and folders that are listed recursively.
    """
    files = [file for path in paths for file in (sorted(path.rglob("*")) or [path])]
    stats = [(str(file), file.stat()) for file in files if file.is_file()]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def work_digest(work: list[Any]) -> str:
    """Return a short digest of JSON values and of the project's code loaded so far."""
    ours = ("sam2love", "stages", "__main__")
    loaded = [module for name, module in sys.modules.items() if name.partition(".")[0] in ours]
    files = {getattr(module, "__file__", None) for module in loaded}
    sources = [Path(file) for file in files if file and file.endswith(".py")]
    code = sorted(hashlib.sha256(source.read_bytes()).hexdigest() for source in sources)
    return hashlib.sha256(json.dumps([*work, code], sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock; a process left over from a killed run may still be writing."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        print(f"{path}: locked by another process; waiting for it", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
