"""Stage index: check and hash the data set once, and list its clips and expressions.

    python -m stages.index DATA_ROOT INDEX

Reads metadata.csv, media/ and gt_mask/; writes clips.csv, expressions.csv and families.csv. Every
frame and mask is decoded, so that a damaged file stops the run here: some ten minutes on the real
data set, seconds on the mini one. What follows depends on the index alone, by its digests.
"""

from pathlib import Path
from typing import Annotated

import typer

from sam2love import refavs
from stages import run


def main(
    data_root: Annotated[Path, typer.Argument(help="Folder with metadata.csv, media/, gt_mask/.")],
    index_folder: Annotated[Path, typer.Argument(help="Folder to write.")],
) -> None:
    index = refavs.build_index(data_root, progress=True)
    refavs.write_index(index, index_folder)
    counts = index.expressions["split"].value_counts()
    told = ", ".join(f"{split} {counts.get(split, 0)}" for split in refavs.SPLITS)
    pictures = index.clips["frames_key"].nunique()
    print(f"index: {len(index.clips)} clips ({pictures} of their own), expressions: {told}")


if __name__ == "__main__":
    run(main)
