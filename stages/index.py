"""Check and hash the data set, and index its clips and expressions.

Reads metadata.csv, media/, gt_mask/ and, if present, families.csv and kinds.csv; writes clips.csv,
expressions.csv, families.csv and kinds.csv into index/. The checks are those of `sam2love check`: a
fatal fault stops the run, other faults are printed as notes. Every frame and mask is decoded, which
takes about half a minute for the mini set on two cores. Later stages depend on the digests in the
index, not on the data set.

    dvc repro index
"""

from pathlib import Path

from sam2love.dataset.faults import listing
from sam2love.dataset.index import SPLITS, write_index
from sam2love.dataset.survey import checked, survey
from sam2love.params import load_params
from stages import run


def main(root: Path, out: Path) -> None:
    """Index a data set in the layout of Ref-AVS."""
    found = survey(root, frames=load_params().data.frames)
    index = checked(found)
    write_index(index, out)
    for line in listing(found.faults):
        print(line)
    counts = index.expressions["split"].value_counts()
    rows = ", ".join(f"{split} {counts.get(split, 0)}" for split in SPLITS)
    distinct = index.clips["frames_key"].nunique()
    print(f"{out}: {len(index.clips)} clips ({distinct} with distinct frames), expressions: {rows}")


if __name__ == "__main__":
    run(main, root=True)
