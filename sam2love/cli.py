"""The command line: `sam2love --help`.

Commands import what they need when they run, so that the help is there at once.
"""

import io
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from sam2love.encoders.weights import DEFAULT

# Help is plain text: as markup, [demo] in it would be dropped as an unknown tag.
app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)

Model = Annotated[
    str,
    typer.Option(
        show_default=False,
        help="A folder that `sam2love export` wrote, or a hub id, owner/name or "
        "owner/name@revision; by default the mini model that comes with the package.",
    ),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        from sam2love.environment import installed_version

        typer.echo(f"sam2love {installed_version('sam2love')}")
        raise typer.Exit


@app.callback()
def _about(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Segment what a sentence means in a video with sound, and score such masks."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name may hold any bytes
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def _faults_in_a_line() -> Iterator[None]:
    """Around a command: report wrong input in one line, without a traceback, exit status 1."""
    try:
        yield
    except (ValueError, OSError) as error:
        line = str(error)
    except RuntimeError as error:
        from sam2love.environment import gpu_fault

        if not (line := gpu_fault(error)):
            raise
    else:
        return
    typer.echo(f"error: {line}", err=True)
    raise typer.Exit(1)


def _print_lines(lines: Iterable[str], *, well: bool = True) -> None:
    for line in lines:
        typer.echo(line)
    if not well:
        raise typer.Exit(1)


@app.command()
@_faults_in_a_line()
def check(
    root: Annotated[
        Path,
        typer.Argument(
            help="The data set: metadata.csv, media/, gt_mask/ as Ref-AVS's; or a store, or a "
            "folder of stores such as features/."
        ),
    ],
    every: Annotated[
        bool, typer.Option("--all", help="List every fault, not the first few of a kind.")
    ] = False,
) -> None:
    """Check a data set: every fault with its file or row, then what of it is usable.

    Every frame, sound and mask is read. Rows of metadata.csv count from 0 below the header. The
    exit status is 1 if anything is fatal or nothing is usable; fatal is what the pipeline would
    stop at, notes it would not. Of stores every checksum is verified; the exit status is 1 at any
    fault. Example: sam2love check mini/data
    """
    from sam2love.stores.inspection import find_stores, verify_stores

    if not root.is_dir():
        raise NotADirectoryError(
            f"{root}: no such folder; expected a data set, a store or a folder of stores"
        )
    if stores := find_stores(root):
        lines, usable = verify_stores(stores)
    else:
        from sam2love.dataset.doctor import examine

        lines, usable = examine(root, every=every, progress=True)
    _print_lines(lines, well=usable)


@app.command()
@_faults_in_a_line()
def inspect(
    store: Annotated[
        str, typer.Argument(help="A store: a folder, or an address such as s3://bucket/vision.zarr")
    ],
) -> None:
    """Show what is in a store, what it was made with, its size and its health.

    Every checksum is verified, which reads the whole store. The exit status is 1 if it is damaged.
    Example: sam2love inspect features/vision.zarr
    """
    from sam2love.stores.inspection import describe

    lines, sound = describe(store)
    _print_lines(lines, well=sound)


@app.command()
@_faults_in_a_line()
def score(
    masks: Annotated[
        Path,
        typer.Argument(
            help="MASKS/<uid>/00000.png to 00009.png, 8-bit gray, value / 255 the probability "
            "that a pixel is foreground, at any size; or a masks.zarr of ours."
        ),
    ],
    root: Annotated[
        Path, typer.Argument(help="The data set: metadata.csv and gt_mask/ in Ref-AVS's layout.")
    ],
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the scores there too, as in metrics.json.")
    ] = None,
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", help="Write each row's scores there, as in scores/expressions.csv."),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            help="Score a selection of rows: cleaned (no repeated, ambiguous or placeholder "
            "expressions) or unseen-expressions (texts that train lacks)."
        ),
    ] = None,
) -> None:
    """Score any system's masks: J, F, J&F on seen, unseen and mix, S on null; and of val, if there.

    By four protocols: refavs (the benchmark's own), frame, original, davis. A split without any
    masks is left out; masks missing in part are an error. Example:

    sam2love score my-masks mini/data --json scores.json
    """
    from sam2love.evaluation.scoring import score_masks

    score_masks(masks, root, json_file=json_file, csv_file=csv_file, only=only)


@app.command()
@_faults_in_a_line()
def weights(
    params: Annotated[
        Path, typer.Option(help="The file that names them, such as profiles/paper.yaml.")
    ] = Path("params.yaml"),
) -> None:
    """Fetch the weights that the parameters name and verify them; docs/weights.md says how to name.

    A line for each: found, fetched or missing, its SHA-256, and what to do if the parameters expect
    another. The exit status is 1 if any is missing or differs. Example:

    sam2love weights --params profiles/paper.yaml
    """
    from sam2love.encoders.weights import fetch_and_describe
    from sam2love.params import Encoder, load_params

    sections = [(name, part) for name, part in load_params(params) if isinstance(part, Encoder)]
    complete = True
    for name, section in sections:
        line, well = fetch_and_describe(section.weights, section.digest)
        typer.echo(f"{name}: {line}")
        complete &= well
    if not complete:
        raise typer.Exit(1)


@app.command()
@_faults_in_a_line()
def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN]...",
            show_default=False,
            help="Where the pipeline ran, here if not given: the folder with params.yaml, index/, "
            "predictions/, scores/, model/ and metrics.json. With --compare BASELINE any number of "
            "settings: folders with scores/, or with seed1/scores/ and so on.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; RUN/report if not given.")
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="BASELINE|JSON|-",
            help="Print tables instead. A folder: of the same shape, to be compared with row by "
            "row. A file, or - for a pipe: what `dvc exp show --json` gives.",
        ),
    ] = None,
) -> None:
    """Write index.html, a page about a run: scores, families, curves and film strips.

    The page holds its pictures and needs no network. Example: sam2love report . --out /tmp/page

    With --compare JSON: Markdown on stdout, a row a setting, seeds as mean and spread, the paper's
    ablations beside ours. Example: dvc exp show --json | sam2love report --compare -

    With --compare BASELINE: what each setting gains or loses on the same rows, by split and family,
    with 95 % intervals and a verdict. Example: sam2love report runs/none --compare runs/default
    """
    runs = runs or [Path(".")]
    if compare is not None:
        tables, notes = _compared(runs, compare)
        for note in notes:
            typer.echo(f"warning: {note}", err=True)
        typer.echo(tables)
        return
    if len(runs) > 1:
        raise ValueError(f"a page is about one run, found {len(runs)}; --compare takes several")
    run = runs[0]
    from sam2love.params import load_params
    from sam2love.report.page import write_report

    params = load_params(run / "params.yaml")
    folder = out or run / "report"
    write_report(
        folder,
        root=run / params.data.root,
        index_folder=run / "index",
        predictions=run / "predictions",
        scores=run / "scores",
        model=run / "model",
        metrics=run / "metrics.json",
        settings=params.model_dump(include={"fusion", "train"}),
    )
    typer.echo(folder / "index.html")


def _compared(runs: list[Path], baseline: Path) -> tuple[str, list[str]]:
    if baseline.is_dir():
        from sam2love.compare.paired import compare_settings

        return compare_settings(runs, baseline)
    from sam2love.compare.tables import compare_experiments

    if baseline == Path("-"):
        return compare_experiments(typer.get_text_stream("stdin", encoding="utf-8").read())
    if not baseline.is_file():
        raise FileNotFoundError(f"{baseline}: no folder of runs, and no file of experiments")
    return compare_experiments(baseline.read_text(encoding="utf-8"))


@app.command()
@_faults_in_a_line()
def predict(
    video: Annotated[Path, typer.Argument(help="Any video that FFmpeg reads.")],
    text: Annotated[
        list[str], typer.Option(help="A sentence that names the object; repeat it for several.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; VIDEO's name and '-masks' if not given.")
    ] = None,
    model: Model = DEFAULT,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:N; by default a GPU if there is one.")
    ] = None,
) -> None:
    """Segment what a sentence means in a video with sound.

    Writes masks/<n>-<sentence>/00000.png and so on (8-bit gray, value / 255 the probability),
    overlay.mp4, strip.png, and belief.json. Belief is SAM 2's score, for each frame, that an object
    is in view. It doesn't say whether the sentence fits: absent objects and unknown words can score
    1.00 too. Example:

    sam2love predict clip.mp4 --text "the object making the loudest sound" --out clip-masks
    """
    from sam2love.prediction.outcome import BELIEF_MEANS, check_request

    folder = out or Path(f"{video.stem}-masks")
    check_request(video, text, folder)  # before torch and the model are loaded, which takes seconds
    from sam2love.prediction.predictor import Predictor

    predictor = Predictor.from_pretrained(model, device=device)
    outcome = predictor.predict(video, text, out=folder, progress=True)
    _print_lines([*outcome.lines, f"note: {BELIEF_MEANS}", str(folder)])


@app.command()
@_faults_in_a_line()
def export(
    run: Annotated[
        Path, typer.Argument(help="Where the pipeline ran: the folder with params.yaml and model/.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write: a new one, or an empty one.")],
) -> None:
    """Write a run's trained model as a folder for `sam2love predict --model` and from_pretrained.

    Example: sam2love export . my-model
    """
    from sam2love.model import WEIGHTS, SAM2Love
    from sam2love.params import load_params
    from sam2love.prediction.outcome import whole_or_none

    params, trained = load_params(run / "params.yaml"), run / "model" / WEIGHTS
    if not trained.is_file():
        raise FileNotFoundError(f"{trained}: no such file; run the stage 'train'")
    with whole_or_none(out) as folder:
        SAM2Love.restore(params, trained).save_pretrained(folder)
    typer.echo(out)


@app.command()
@_faults_in_a_line()
def demo(
    model: Model = DEFAULT,
    host: Annotated[str, typer.Option(help="Address; the default is this machine only.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port, 1 to 65535.")] = 7860,
    password: Annotated[
        str | None,
        typer.Option(
            envvar="SAM2LOVE_PASSWORD",
            help="Ask for it, with any user name; as an option it shows in the list of processes.",
        ),
    ] = None,
) -> None:
    """Serve a page to try the model on a video: type sentences, watch the overlays.

    Needs the extra: pip install 'sam2love[demo]'. Uploads and results are removed when it ends.
    Example: sam2love demo --port 8000
    """
    try:
        from sam2love.prediction.demo import serve
    except ModuleNotFoundError as error:
        raise ValueError(f"{error}; pip install 'sam2love[demo]'") from None
    serve(model, host=host, port=port, password=password)


@app.command()
def env() -> None:
    """Print versions, devices, weights and stores found, for a bug report. Example: sam2love env"""
    from sam2love.environment import describe

    _print_lines(describe())


if __name__ == "__main__":
    app()
