"""Write a self-contained HTML page about the run, with film strips.

Reads the index, the masks, the scores, the training curves, the diagnostics, and the clips shown as
film strips; writes report/index.html. Takes seconds, whatever the size of the data set.

    dvc repro report
"""

from pathlib import Path

from sam2love.params import load_params
from sam2love.report.page import write_report
from stages import run


def main(
    root: Path,
    index_folder: Path,
    predictions: Path,
    scores: Path,
    model: Path,
    metrics: Path,
    diagnostics: Path,
    out: Path,
) -> None:
    """Write the page of a run, which shows the parameters of the sections fusion and train."""
    params = load_params()
    strips = write_report(
        out,
        root=root,
        index_folder=index_folder,
        predictions=predictions,
        scores=scores,
        model=model,
        metrics=metrics,
        diagnostics=diagnostics,
        settings=params.model_dump(include={"fusion", "train"}),
        frames=params.data.frames,
    )
    print(f"report: {out / 'index.html'}, {strips} film strips")


if __name__ == "__main__":
    run(main, root=True)
