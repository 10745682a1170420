"""Peak memory of filling and reading a store of many random clips over that of a few.

Each store is filled and read in a process of its own. The many clips are 123 MB, so holding all of
them in memory would show.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.timing import Leaf, short
from sam2love.stores.store import ArraySpec, FeatureStore, fill_store

ITEM = (10, 16, 96)


def measure(*, few: int = 400, many: int = 4000, rounds: int = 3) -> dict[str, Leaf]:
    """Measure the peak resident memory, mapped files included."""
    peaks = {clips: [_peak_of_process(clips) for _ in range(rounds)] for clips in (few, many)}
    ratios = [above / below for above, below in zip(peaks[many], peaks[few], strict=True)]
    return {
        "rss_4000_over_400": {
            "ratio": short(sorted(ratios)[len(ratios) // 2]),
            "spread": [short(min(ratios)), short(max(ratios))],
            "peak_kib": {str(clips): found for clips, found in peaks.items()},
            "clips": [few, many],
            "clip_bytes": 2 * int(np.prod(ITEM)),
        }
    }


def _peak_of_process(clips: int) -> int:
    command = [sys.executable, "-m", "benchmarks.memory", str(clips)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Fill and read a store of argv[1] clips; print the peak in KiB."""
    ids = [str(clip) for clip in range(int(sys.argv[1]))]
    rng = np.random.default_rng(0)
    with TemporaryDirectory() as folder:
        fill_store(
            Path(folder) / "vision.zarr",
            specs=[ArraySpec("patches", ITEM, "float16", 32, "random patches")],
            ids=ids,
            provenance={},
            encode=lambda batch: {"patches": rng.random((len(batch), *ITEM), np.float32)},
            batch_size=8,
            description="memory",
        )
        store = FeatureStore.open(Path(folder) / "vision.zarr")
        for clip in rng.permutation(ids):
            store.read("patches", str(clip))
        assert store.verify() == []
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    print(status.partition("VmHWM:")[2].split()[0])


if __name__ == "__main__":
    main()
