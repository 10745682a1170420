"""Run every benchmark on the CPU and write benchmarks/results.json: `make bench`, ten minutes.

Figures are reliable only on an otherwise idle machine; the spread shows it.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import extraction, fusion, loader, memory, propagation, store, training
from benchmarks.machine import commit, processor
from benchmarks.timing import Leaf
from sam2love.params import load_params

RESULTS = Path("benchmarks/results.json")
PAPER = Path("profiles/paper.yaml")


def main() -> None:
    params, paper = load_params(), load_params(PAPER)
    torch.set_num_threads(params.runtime.threads)
    results: dict[str, Any] = {
        "commit": commit(),
        "processor": processor(),
        "threads": params.runtime.threads,
    }
    measurements: dict[str, Callable[[], dict[str, Leaf]]] = {
        "store": store.measure,
        "loader": lambda: loader.measure(paper.train),
        "extraction": extraction.measure,
        "memory": memory.measure,
        "propagation": lambda: (
            propagation.measure() | {"speedup_at_1024": propagation.measure_at_1024()}
        ),
        "fusion": lambda: (
            fusion.measure(params.fusion)
            | {"joint_over_token_at_paper_size": fusion.measure_joint(paper.fusion)}
        ),
        "training": lambda: (
            training.measure(params)
            | {"cached_speedup_at_paper_size": training.measure_at_paper_size(paper)}
        ),
    }
    for name, measure in measurements.items():
        print(f"{name} ...", flush=True)
        results[name] = measure()
        for figure, leaf in results[name].items():
            least, most = leaf["spread"]
            print(f"  {name}.{figure}: {leaf['ratio']} ({least} to {most})", flush=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(RESULTS)


if __name__ == "__main__":
    main()
