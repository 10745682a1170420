"""Stage report: one self-contained HTML page about the run, film strips included.

    python -m stages.report INDEX PREDICTIONS SCORES MODEL METRICS REPORT

Reads the index, the masks, the scores, the curves of the training, and of the data set what the
film strips show; writes REPORT/index.html. Seconds, whatever the size of the data set.
"""

from pathlib import Path
from typing import Annotated

import typer

from sam2love.params import load_params
from sam2love.report.page import write_report
from stages import run


def main(
    data_root: Annotated[Path, typer.Argument(help="Folder with media/ and gt_mask/.")],
    index_folder: Annotated[Path, typer.Argument(help="What the stage 'index' wrote.")],
    predictions: Annotated[Path, typer.Argument(help="Folder with masks.zarr.")],
    scores: Annotated[Path, typer.Argument(help="Folder with expressions.csv.")],
    model: Annotated[Path, typer.Argument(help="Folder with loss.csv and validation.csv.")],
    metrics: Annotated[Path, typer.Argument(help="metrics.json.")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
) -> None:
    params = load_params()
    strips = write_report(
        out,
        root=data_root,
        index_folder=index_folder,
        predictions=predictions,
        scores=scores,
        model=model,
        metrics=metrics,
        settings=params.model_dump(include={"fusion", "train"}),
    )
    print(f"report: {out / 'index.html'}, {strips} film strips")


if __name__ == "__main__":
    run(main, root=True)
